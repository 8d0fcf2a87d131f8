//! Owns the way through the columns of an input, record by record. Must not know their types.

use std::rc::Rc;

use crate::contract::{Batch, Cursor, index};
use crate::rows::{Col, Headers, Meta};

/// A record as it came.
pub(crate) struct Raw<'a> {
    pub(crate) row: usize,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// Goes through a batch once.
pub(crate) struct Reader<'a> {
    batch: &'a Batch,
    row: usize,
    keys: Cursor,
    values: Cursor,
    header: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(batch: &'a Batch) -> Self {
        Self { batch, row: 0, keys: Cursor::default(), values: Cursor::default(), header: 0 }
    }

    /// The next record to read.
    pub(crate) fn row(&self) -> usize {
        self.row
    }

    pub(crate) fn next(&mut self) -> Raw<'a> {
        let row = self.row;
        self.row += 1;
        Raw { row, key: self.keys.next(&self.batch.keys), value: self.values.next(&self.batch.values) }
    }

    /// What the records of `start..self.row()` carry beside key and value. To be asked in order.
    pub(crate) fn meta(&mut self, start: usize) -> Meta {
        Meta {
            timestamps: Rc::new(self.batch.timestamps[start..self.row].to_vec()),
            origins: Rc::new((start..self.row).map(index).collect()),
            headers: self.headers(start),
        }
    }

    fn headers(&mut self, start: usize) -> Option<Col<Rc<Headers>>> {
        let rest = &self.batch.headers[self.header..];
        let count = rest.iter().take_while(|header| (header.index as usize) < self.row).count();
        if count == 0 {
            return None;
        }
        self.header += count;
        let mut rows: Vec<Option<Headers>> = (start..self.row).map(|_| None).collect();
        for header in &rest[..count] {
            if let Some(row) = (header.index as usize).checked_sub(start).and_then(|row| rows.get_mut(row)) {
                row.get_or_insert_default().push(header.key.clone(), header.value.clone());
            }
        }
        Some(Col::new(rows.into_iter().map(|headers| headers.map(Rc::new)).collect()))
    }
}
