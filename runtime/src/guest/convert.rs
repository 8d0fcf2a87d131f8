//! Owns the way between the contract's types and the engine's: buffers are moved, never copied,
//! and what came from the module is checked. Must not know wasmtime.

use millrace_engine::context::{Entries, Found, Versions};
use millrace_engine::ports::FaultKind;
use millrace_engine::record::{Batch, Changes, Column, Header, Input, Output};

use super::bindings::exports::millrace::streams::module as exported;
use super::bindings::millrace::streams::{records, state};

impl From<records::Column> for Column {
    fn from(records::Column { bytes, lengths }: records::Column) -> Self {
        Self { bytes, lengths }
    }
}

impl From<Column> for records::Column {
    fn from(Column { bytes, lengths }: Column) -> Self {
        Self { bytes, lengths }
    }
}

impl From<records::Header> for Header {
    fn from(records::Header { index, key, value }: records::Header) -> Self {
        Self { index, key, value }
    }
}

impl From<Header> for records::Header {
    fn from(Header { index, key, value }: Header) -> Self {
        Self { index, key, value }
    }
}

pub(super) fn all<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}

impl From<records::Batch> for Batch {
    fn from(records::Batch { keys, values, timestamps, headers }: records::Batch) -> Self {
        Self { keys: keys.into(), values: values.into(), timestamps, headers: all(headers) }
    }
}

impl From<Batch> for records::Batch {
    fn from(Batch { keys, values, timestamps, headers }: Batch) -> Self {
        Self { keys: keys.into(), values: values.into(), timestamps, headers: all(headers) }
    }
}

impl From<state::Entries> for Entries {
    fn from(state::Entries { keys, values, timestamps }: state::Entries) -> Self {
        Self { keys: keys.into(), values: values.into(), timestamps }
    }
}

impl From<Versions> for state::Versions {
    fn from(Versions { values, valid_from, valid_to }: Versions) -> Self {
        Self { values: values.into(), valid_from, valid_to }
    }
}

impl From<Entries> for state::Entries {
    fn from(Entries { keys, values, timestamps }: Entries) -> Self {
        Self { keys: keys.into(), values: values.into(), timestamps }
    }
}

impl From<Found> for state::Found {
    fn from(Found { counts, entries }: Found) -> Self {
        Self { counts, entries: entries.into() }
    }
}

impl From<exported::Input> for Input {
    fn from(exported::Input { topics, offsets, records }: exported::Input) -> Self {
        Self { topics, offsets, records: records.into() }
    }
}

impl From<Input> for exported::Input {
    fn from(Input { topics, offsets, records }: Input) -> Self {
        Self { topics, offsets, records: records.into() }
    }
}

impl From<exported::Changes> for Changes {
    fn from(changes: exported::Changes) -> Self {
        let exported::Changes { keys, old_values, new_values, timestamps, headers } = changes;
        Self {
            keys: keys.into(),
            old_values: old_values.into(),
            new_values: new_values.into(),
            timestamps,
            headers: all(headers),
        }
    }
}

impl From<Changes> for exported::Changes {
    fn from(changes: Changes) -> Self {
        let Changes { keys, old_values, new_values, timestamps, headers } = changes;
        Self {
            keys: keys.into(),
            old_values: old_values.into(),
            new_values: new_values.into(),
            timestamps,
            headers: all(headers),
        }
    }
}

/// Why outputs of a module are not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unacceptable {
    pub(super) kind: FaultKind,
    pub(super) message: String,
}

/// The outputs of a call, checked: `rows` records or changes went in, and at most `bytes_max` of
/// keys, values and headers may come out.
pub(super) fn outputs(
    outputs: Vec<exported::Output>,
    rows: Option<usize>,
    bytes_max: usize,
) -> Result<Vec<Output>, Unacceptable> {
    let mut bytes = 0_usize;
    let mut accepted = Vec::with_capacity(outputs.len());
    for exported::Output { topic, records, partitions, origins } in outputs {
        let output = Output { topic, records: records.into(), partitions, origins };
        bytes = bytes.saturating_add(size(&output.records));
        if bytes > bytes_max {
            let message = format!("it handed back more than the {bytes_max} bytes of output allowed to one call");
            return Err(Unacceptable { kind: FaultKind::Flood, message });
        }
        if let Err(what) = check(&output, rows) {
            let message = format!("its output for topic `{}` is malformed: {what}", output.topic);
            return Err(Unacceptable { kind: FaultKind::Trap, message });
        }
        accepted.push(output);
    }
    Ok(accepted)
}

fn size(batch: &Batch) -> usize {
    let headers = batch.headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Vec::len));
    headers.fold(batch.keys.bytes.len() + batch.values.bytes.len(), usize::saturating_add)
}

fn check(Output { topic, records, partitions, origins }: &Output, rows: Option<usize>) -> Result<(), String> {
    let count = records.len();
    if topic.is_empty() {
        return Err("the topic has no name".to_owned());
    }
    for (column, name) in [(&records.keys, "keys"), (&records.values, "values")] {
        if !column.check() {
            return Err(format!("the lengths of its {name} do not add up to their bytes"));
        }
        if column.len() != count {
            return Err(format!("{count} timestamps and {} {name}", column.len()));
        }
    }
    let ordered = records.headers.is_sorted_by_key(|header| header.index);
    if !ordered || records.headers.last().is_some_and(|header| header.index as usize >= count) {
        return Err(format!("headers are out of order, or of records beyond its {count}"));
    }
    if let Some(partitions) = partitions {
        if partitions.len() != count {
            return Err(format!("{count} timestamps and {} partitions", partitions.len()));
        }
        if let Some(partition) = partitions.iter().find(|&&partition| partition < -1) {
            return Err(format!("there is no partition {partition}"));
        }
    }
    if origins.is_empty() {
        return Ok(());
    }
    if origins.len() != count {
        return Err(format!("{count} timestamps and {} origins", origins.len()));
    }
    match rows {
        Some(rows) if origins.iter().any(|&origin| origin as usize >= rows) => {
            Err(format!("origins beyond the {rows} records of the call"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(lengths: &[i32]) -> records::Column {
        let total = lengths.iter().filter_map(|&n| usize::try_from(n).ok()).sum();
        records::Column { bytes: vec![b'x'; total], lengths: lengths.to_vec() }
    }

    fn header(index: u32) -> records::Header {
        records::Header { index, key: "h".to_owned(), value: None }
    }

    /// Two records, of inputs 0 and 2.
    fn sample() -> exported::Output {
        let records = records::Batch {
            keys: column(&[1, -1]),
            values: column(&[0, 3]),
            timestamps: vec![5, 6],
            headers: vec![header(0), header(1), header(1)],
        };
        exported::Output { topic: "t".to_owned(), records, partitions: Some(vec![-1, 0]), origins: vec![0, 2] }
    }

    type Spoil = fn(&mut exported::Output);

    #[test]
    fn accepts_what_the_contract_allows() {
        let accepted = outputs(vec![sample()], Some(3), 100).unwrap();
        assert_eq!(accepted[0].records.timestamps, [5, 6]);
        let spoil: [Spoil; 3] = [|o| o.partitions = None, |o| o.origins.clear(), |o| o.records.headers.clear()];
        for spoil in spoil {
            let mut output = sample();
            spoil(&mut output);
            assert!(outputs(vec![output], Some(3), 100).is_ok());
        }
        // A punctuation has no records to stem from, so any number is as good as none.
        assert!(outputs(vec![sample()], None, 100).is_ok());
    }

    #[test]
    fn refuses_what_would_be_read_out_of_bounds() {
        let cases: [(&str, Spoil); 11] = [
            ("no name", |o| o.topic.clear()),
            ("lengths of its keys", |o| o.records.keys.lengths[0] = 2),
            ("lengths of its values", |o| o.records.values.lengths[0] = -2),
            ("2 timestamps and 3 keys", |o| o.records.keys.lengths.push(-1)),
            ("2 timestamps and 1 values", |o| o.records.values = column(&[3])),
            ("headers", |o| o.records.headers[2].index = 2),
            ("headers", |o| o.records.headers[0].index = 1_000_000),
            ("partitions", |o| o.partitions = Some(vec![0])),
            ("partition -2", |o| o.partitions = Some(vec![0, -2])),
            ("origins", |o| o.origins.push(0)),
            ("origins", |o| o.origins[1] = 3),
        ];
        for (expected, spoil) in cases {
            let mut output = sample();
            spoil(&mut output);
            let refused = outputs(vec![sample(), output], Some(3), 100).unwrap_err();
            assert_eq!(refused.kind, FaultKind::Trap, "{expected}");
            assert!(refused.message.contains(expected), "{expected:?} is missing in: {}", refused.message);
        }
    }

    #[test]
    fn counts_the_output_of_a_call_together() {
        // 1 byte of key, 3 of values, 3 of header keys.
        assert!(outputs(vec![sample(), sample()], Some(3), 14).is_ok());
        let refused = outputs(vec![sample(), sample()], Some(3), 13).unwrap_err();
        assert_eq!(refused.kind, FaultKind::Flood);
    }
}
