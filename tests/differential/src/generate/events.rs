//! Owns what is fed to a generated case: few keys, nulls, headers, and time that goes back and forth.

use super::SourceTopic;
use crate::bytes;
use crate::case::{Event, Header, Record};
use crate::random::Random;
use crate::value::{Type, Value, Weighed};

pub(super) fn events(random: &mut Random, topics: &[SourceTopic]) -> Vec<Event> {
    let mut now = i64::try_from(random.below(1000)).unwrap_or_default();
    let count = 8 + random.below(25);
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        if random.chance(10) {
            events.push(Event::AdvanceWallClock { ms: *random.pick(&[1, 40, 100, 1000]) });
            continue;
        }
        let (topic, key, value) = random.pick(topics);
        now += *random.pick(&[0, 1, 7, 50, 400]);
        let late = if random.chance(25) { *random.pick(&[1, 30, 500]) } else { 0 };
        events.push(Event::Record(Record {
            topic: topic.clone(),
            key: if random.chance(6) { None } else { Some(bytes::write(&one_key(random, *key))) },
            value: if random.chance(12) { None } else { Some(bytes::write(&one_value(random, *value))) },
            timestamp: (now - late).max(0),
            headers: headers(random),
        }));
    }
    events
}

fn one_key(random: &mut Random, ty: Type) -> Value {
    match ty {
        Type::String => Value::String((*random.pick(&["a", "b", "cc", "ü"])).to_owned()),
        _ => one_value(random, ty),
    }
}

fn one_value(random: &mut Random, ty: Type) -> Value {
    let text = *random.pick(&["", "x", "ab", "foo bar", "a b a", "größe", "long enough", "7"]);
    match ty {
        Type::String => Value::String(text.to_owned()),
        Type::Long => Value::Long(*random.pick(&[-3, 0, 1, 2, 9, i64::MAX])),
        Type::Integer => Value::Integer(*random.pick(&[-1, 0, 3, 4, i32::MIN])),
        Type::Double => Value::Double(*random.pick(&[-1.5, 0.0, 0.1, 2.0, 1e300])),
        Type::Json => Value::Json(Weighed { text: text.to_owned(), weight: *random.pick(&[-2, 0, 1, 6]) }),
    }
}

pub(super) fn headers(random: &mut Random) -> Vec<Header> {
    if !random.chance(25) {
        return Vec::new();
    }
    (0..1 + random.below(2))
        .map(|_| Header {
            key: (*random.pick(&["h", "trace", ""])).to_owned(),
            value: if random.chance(20) { None } else { Some(vec![0, u8::try_from(random.below(256)).unwrap_or(0)]) },
        })
        .collect()
}
