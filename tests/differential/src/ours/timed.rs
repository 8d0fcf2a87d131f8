//! Owns the fixed processors of the Processor API with window and session stores: `Processors.java` says what they do.

use millrace::{LongSerde, ProcessResult, Processor, ProcessorContext, Record, StoreBuilder, Stores, Window, Windowed};

use super::processors::kept;
use super::serdes::{Cell, Typed};
use super::windows::ms;
use crate::case::Store;
use crate::value::{Type, Value, text, weight};

/// Sums the weights of each key in windows, and tells what the store has around the record.
#[derive(Debug, Clone)]
pub(super) struct Minutes {
    pub(super) store: String,
    pub(super) size: i64,
    pub(super) duplicates: bool,
}

impl Minutes {
    /// The store that it needs.
    pub(super) fn store(
        store: &Store,
        key: Type,
        (size, retention): (i64, i64),
        duplicates: bool,
    ) -> Result<StoreBuilder<Windowed<Value>, i64>, String> {
        let name = store.name.as_deref().ok_or("a processor's store has a name")?;
        let builder = Stores::window_store(name, ms(retention), ms(size), duplicates, Typed(key), LongSerde);
        Ok(kept(builder, store))
    }
}

/// One entry after the other.
fn told<T>(
    entries: impl Iterator<Item = ProcessResult<(T, i64)>>,
    tell: impl Fn(T) -> String,
    sorts: bool,
) -> ProcessResult<String> {
    let told = entries.map(|entry| entry.map(|(at, sum)| format!("{}={sum}", tell(at))));
    let mut told: Vec<String> = told.collect::<ProcessResult<_>>()?;
    if sorts {
        told.sort();
    }
    Ok(told.join(" "))
}

fn windowed(key: Windowed<Value>) -> String {
    format!("{}@{}/{}", text(Some(&key.key)), key.window.start, key.window.end)
}

impl<V: Cell> Processor<Value, V, Value, Value> for Minutes {
    fn process(&mut self, context: &mut ProcessorContext<'_, Value, Value>, record: Record<Value, V>) -> ProcessResult {
        let Some(key) = record.key.clone() else {
            context.forward(record.with_value(None));
            return Ok(());
        };
        let (time, size) = (record.timestamp, self.size);
        let start = time - time % size;
        let mut store = context.window_store::<Value, i64>(&self.store)?;
        match &record.value {
            None => store.delete(&key, start)?,
            Some(value) => {
                let old = if self.duplicates { None } else { store.fetch(&key, start)? };
                store.put(&key, old.unwrap_or(0).wrapping_add(weight(Some(&value.to_value()))), start)?;
            }
        }
        let near = start - 3 * size..=start + size;
        let start = |start: i64| start.to_string();
        let parts = [
            told(store.fetch_range(&key, near.clone()), start, false)?,
            told(store.backward_fetch(&key, near.clone()), start, false)?,
            told(store.fetch_keys(key.clone().., near.clone()), windowed, true)?,
            told(store.fetch_keys(..=key.clone(), near.clone()), windowed, true)?,
            told(store.fetch_all(near), windowed, true)?,
            told(store.all(), windowed, true)?,
        ];
        context.forward(record.with_value(Some(Value::String(parts.join("|")))));
        Ok(())
    }
}

/// Sums the weights of each key in sessions, and tells which those are.
#[derive(Debug, Clone)]
pub(super) struct Visits {
    pub(super) store: String,
    pub(super) gap: i64,
}

impl Visits {
    /// The store that it needs.
    pub(super) fn store(
        store: &Store,
        key: Type,
        retention: i64,
    ) -> Result<StoreBuilder<Windowed<Value>, i64>, String> {
        let name = store.name.as_deref().ok_or("a processor's store has a name")?;
        Ok(kept(Stores::session_store(name, ms(retention), Typed(key), LongSerde), store))
    }
}

impl<V: Cell> Processor<Value, V, Value, Value> for Visits {
    fn process(&mut self, context: &mut ProcessorContext<'_, Value, Value>, record: Record<Value, V>) -> ProcessResult {
        let Some(key) = record.key.clone() else {
            context.forward(record.with_value(None));
            return Ok(());
        };
        let (time, gap) = (record.timestamp, self.gap);
        let mut store = context.session_store::<Value, i64>(&self.store)?;
        let near: Vec<(Windowed<Value>, i64)> =
            store.find_sessions(&key, time - gap, time + gap).collect::<ProcessResult<_>>()?;
        let mut window = Window { start: time, end: time };
        let mut sum = weight(record.value.as_ref().map(Cell::to_value).as_ref());
        for (session, part) in near {
            store.remove(&session)?;
            let Window { start, end } = session.window;
            window = Window { start: window.start.min(start), end: window.end.max(end) };
            sum = sum.wrapping_add(part);
        }
        if record.value.is_some() {
            store.put(&Windowed { key: key.clone(), window }, sum)?;
        }
        let found = store.fetch_session(&key, window.start, window.end)?;
        let parts = [
            found.map_or_else(|| "~".to_owned(), |sum| sum.to_string()),
            told(store.fetch(&key), windowed, false)?,
            told(store.backward_find_sessions(&key, time - 3 * gap, time), windowed, false)?,
            told(store.find_sessions_of_keys(key.clone().., time - gap, time + gap), windowed, true)?,
            told(store.fetch_keys(..=key.clone()), windowed, true)?,
        ];
        context.forward(record.with_value(Some(Value::String(parts.join("|")))));
        Ok(())
    }
}
