//! Owns the way through the columns of an input, run by run. Must not know their types.

use std::rc::Rc;

use crate::contract::{Column, Header, index};
use crate::rows::{Col, Headers, Meta, Raw};

/// Goes through a batch once.
pub(crate) struct Reader<'a> {
    keys: Rc<Column>,
    values: Rc<Column>,
    timestamps: &'a [i64],
    headers: &'a [Header],
    row: usize,
    /// Where the next key and the next value begin.
    offsets: (usize, usize),
}

/// Records of one source.
pub(crate) struct Chunk {
    pub(crate) keys: Raw,
    pub(crate) values: Raw,
    pub(crate) meta: Meta,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(keys: Rc<Column>, values: Rc<Column>, timestamps: &'a [i64], headers: &'a [Header]) -> Self {
        Self { keys, values, timestamps, headers, row: 0, offsets: (0, 0) }
    }

    /// The next record to read.
    pub(crate) fn row(&self) -> usize {
        self.row
    }

    /// The next `count` records.
    pub(crate) fn take(&mut self, count: usize) -> Chunk {
        let start = self.row;
        self.row += count;
        let keys = Raw::new(Rc::clone(&self.keys), start, count, self.offsets.0);
        let values = Raw::new(Rc::clone(&self.values), start, count, self.offsets.1);
        self.offsets = (keys.end(), values.end());
        let meta = Meta {
            timestamps: Rc::new(self.timestamps[start..self.row].to_vec()),
            origins: Rc::new((start..self.row).map(index).collect()),
            headers: self.headers(start),
        };
        Chunk { keys, values, meta }
    }

    /// The next `count` records, each on the side that its position in the input belongs to.
    pub(crate) fn take_sides(&mut self, count: usize, is_second: impl Fn(usize) -> bool) -> [Chunk; 2] {
        let all = self.take(count);
        [false, true].map(|second| {
            let rows = all.meta.origins.iter().enumerate().filter(|(_, origin)| is_second(**origin as usize) == second);
            let rows: Rc<Vec<u32>> = Rc::new(rows.map(|(row, _)| index(row)).collect());
            let (keys, values) = (all.keys.select(&rows), all.values.select(&rows));
            Chunk { keys, values, meta: all.meta.select(&rows) }
        })
    }

    fn headers(&mut self, start: usize) -> Option<Col<Rc<Headers>>> {
        let count = self.headers.iter().take_while(|header| (header.index as usize) < self.row).count();
        if count == 0 {
            return None;
        }
        let (taken, rest) = self.headers.split_at(count);
        self.headers = rest;
        let mut rows: Vec<Option<Headers>> = (start..self.row).map(|_| None).collect();
        for header in taken {
            if let Some(row) = (header.index as usize).checked_sub(start).and_then(|row| rows.get_mut(row)) {
                row.get_or_insert_default().push(header.key.clone(), header.value.clone());
            }
        }
        Some(Col::new(rows.into_iter().map(|headers| headers.map(Rc::new)).collect()))
    }
}
