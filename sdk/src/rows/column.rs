//! Owns columns of keys or values: shared, cut without copying, read from their bytes when somebody
//! asks and written by copying those bytes where that gives the same.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::contract::{Column, empty_column, push, push_bytes};
use crate::serdes::{SerdeError, SharedSerde};

/// Nullable values of one type: some or all of a shared list.
pub(crate) struct Col<T> {
    data: Rc<Data<T>>,
    /// The positions that belong to this column; none: all.
    selected: Option<Rc<Vec<u32>>>,
}

struct Data<T> {
    len: usize,
    items: OnceCell<Vec<Option<T>>>,
    /// Where the items come from; none: they were made here.
    source: Option<Source<T>>,
}

struct Source<T> {
    raw: Raw,
    serde: SharedSerde<T>,
    /// Whether the serde would write all of it as it is, once somebody asked.
    canonical: OnceCell<bool>,
}

impl<T: 'static> Source<T> {
    fn is_canonical(&self) -> bool {
        *self.canonical.get_or_init(|| self.serde.are_canonical(self.raw.bytes(), self.raw.lengths()))
    }
}

/// Consecutive strings of a column as the host gave it.
pub(crate) struct Raw {
    column: Rc<Column>,
    first: usize,
    /// Where each string begins, and where the last one ends.
    offsets: Vec<usize>,
}

impl Raw {
    /// The `count` strings from `first` on, the first of which begins at `offset`.
    pub(crate) fn new(column: Rc<Column>, first: usize, count: usize, offset: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        let mut end = offset;
        offsets.push(end);
        for &length in &column.lengths[first..first + count] {
            end += usize::try_from(length).unwrap_or(0);
            offsets.push(end);
        }
        Self { column, first, offsets }
    }

    /// A copy of these strings.
    pub(crate) fn select(&self, rows: &[u32]) -> Self {
        let mut column = empty_column();
        rows.iter().for_each(|&row| push_bytes(&mut column, self.get(row as usize)));
        Self::new(Rc::new(column), 0, rows.len(), 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the string after these begins.
    pub(crate) fn end(&self) -> usize {
        self.offsets[self.len()]
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.column.lengths[self.first + row] < 0
    }

    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        (!self.is_null(row)).then(|| &self.column.bytes[self.offsets[row]..self.offsets[row + 1]])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|row| self.get(row))
    }

    fn bytes(&self) -> &[u8] {
        &self.column.bytes[self.offsets[0]..self.end()]
    }

    fn lengths(&self) -> &[i32] {
        &self.column.lengths[self.first..self.first + self.len()]
    }
}

impl<T> Clone for Col<T> {
    fn clone(&self) -> Self {
        Self { data: Rc::clone(&self.data), selected: self.selected.clone() }
    }
}

impl<T> Col<T> {
    pub(crate) fn new(items: Vec<Option<T>>) -> Self {
        let data = Data { len: items.len(), items: OnceCell::from(items), source: None };
        Self { data: Rc::new(data), selected: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.selected.as_ref().map_or(self.data.len, |selected| selected.len())
    }

    fn position(&self, row: usize) -> usize {
        self.selected.as_ref().map_or(row, |selected| selected[row] as usize)
    }

    /// The rows given, which may repeat.
    pub(crate) fn select(&self, rows: &Rc<Vec<u32>>) -> Self {
        let selected = match &self.selected {
            None => Rc::clone(rows),
            Some(selected) => Rc::new(rows.iter().map(|&row| selected[row as usize]).collect()),
        };
        Self { data: Rc::clone(&self.data), selected: Some(selected) }
    }
}

impl<T: 'static> Col<T> {
    /// The values of these bytes. What can't be read is told with its row.
    pub(crate) fn read(raw: Raw, serde: &SharedSerde<T>) -> Result<Self, (usize, SerdeError)> {
        if serde.are_readable(raw.bytes(), raw.lengths()) {
            let source = Source { raw, serde: SharedSerde::clone(serde), canonical: OnceCell::new() };
            let data = Data { len: source.raw.len(), items: OnceCell::new(), source: Some(source) };
            return Ok(Self { data: Rc::new(data), selected: None });
        }
        let read = |(row, bytes): (usize, Option<&[u8]>)| {
            bytes.map(|bytes| serde.deserialize(bytes)).transpose().map_err(|error| (row, error))
        };
        Ok(Self::new(raw.iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }

    fn items(&self) -> &[Option<T>] {
        self.data.items.get_or_init(|| {
            let Some(Source { raw, serde, .. }) = &self.data.source else { return Vec::new() };
            let read = |bytes| serde.deserialize(bytes).expect("the serde said that these bytes are readable");
            raw.iter().map(|bytes| bytes.map(read)).collect()
        })
    }

    pub(crate) fn get(&self, row: usize) -> Option<&T> {
        self.items()[self.position(row)].as_ref()
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        let position = self.position(row);
        match &self.data.source {
            Some(source) => source.raw.is_null(position),
            None => self.items()[position].is_none(),
        }
    }

    pub(crate) fn has_nulls(&self) -> bool {
        match &self.data.source {
            Some(source) if self.selected.is_none() => source.raw.lengths().iter().any(|&length| length < 0),
            _ => (0..self.len()).any(|row| self.is_null(row)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&T>> {
        let items = self.items();
        (0..self.len()).map(move |row| items[self.position(row)].as_ref())
    }

    /// Writes the values with a serde.
    pub(crate) fn writer<'a>(&'a self, serde: &'a SharedSerde<T>) -> Writer<'a, T> {
        let same = |source: &&Source<T>| {
            source.serde.identity().is_some_and(|identity| serde.identity() == Some(identity))
                || SharedSerde::ptr_eq(&source.serde, serde)
        };
        Writer { column: self, serde, source: self.data.source.as_ref().filter(same) }
    }
}

/// See [`Col::writer`].
pub(crate) struct Writer<'a, T> {
    column: &'a Col<T>,
    serde: &'a SharedSerde<T>,
    /// Bytes that were written with the same serde.
    source: Option<&'a Source<T>>,
}

impl<T: 'static> Writer<'_, T> {
    /// The bytes of a row, where they are there already. Within: null.
    fn written(&self, row: usize) -> Option<Option<&[u8]>> {
        let source = self.source?;
        let bytes = source.raw.get(self.column.position(row));
        (source.is_canonical() || bytes.is_none_or(|bytes| self.serde.is_canonical(bytes))).then_some(bytes)
    }

    /// Appends the bytes of a row.
    pub(crate) fn write(&self, row: usize, out: &mut Column) -> Result<(), SerdeError> {
        if let Some(bytes) = self.written(row) {
            push_bytes(out, bytes);
            return Ok(());
        }
        push(out, self.column.get(row).map(|value| |bytes: &mut Vec<u8>| self.serde.serialize(value, bytes)))
    }

    /// Appends the bytes of all rows. What can't be written is told with its row.
    pub(crate) fn write_all(&self, out: &mut Column) -> Result<(), (usize, SerdeError)> {
        if let Some(source) = self.source.filter(|source| self.column.selected.is_none() && source.is_canonical()) {
            out.bytes.extend_from_slice(source.raw.bytes());
            out.lengths.extend_from_slice(source.raw.lengths());
            return Ok(());
        }
        out.lengths.reserve(self.column.len());
        (0..self.column.len()).try_for_each(|row| self.write(row, out).map_err(|error| (row, error)))
    }

    /// The bytes of a row that is not null; `spare` is there to write them to.
    pub(crate) fn bytes<'a>(&'a self, row: usize, spare: &'a mut Vec<u8>) -> Result<&'a [u8], SerdeError> {
        if let Some(bytes) = self.written(row) {
            return Ok(bytes.unwrap_or_default());
        }
        spare.clear();
        if let Some(value) = self.column.get(row) {
            self.serde.serialize(value, spare)?;
        }
        Ok(spare)
    }
}
