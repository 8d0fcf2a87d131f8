//! Owns the kinds of windows and which of them a time falls into. Must not know what is done with them.

use std::fmt;
use std::time::Duration;

/// A span of time. The end is not in a tumbling or hopping window, and is in a sliding window or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Milliseconds since the Unix epoch.
    pub start: i64,
    /// Milliseconds since the Unix epoch.
    pub end: i64,
}

/// A key in a window: the key of windowed tables. [`crate::TimeWindowedSerde`] and [`crate::SessionWindowedSerde`] write
/// it to topics; such a topic is partitioned by the key alone.
///
/// ```
/// use millrace::{Window, Windowed};
///
/// let key = Windowed { key: "ann", window: Window { start: 0, end: 60_000 } };
/// assert_eq!(key.to_string(), "[ann@0/60000]");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K> {
    /// What was grouped by.
    pub key: K,
    /// When.
    pub window: Window,
}

/// As Kafka Streams writes it: `[key@start/end]`.
impl<K: fmt::Display> fmt::Display for Windowed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}@{}/{}]", self.key, self.window.start, self.window.end)
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When the results of windows go on, see [`crate::TimeWindowedKStream::emit_strategy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmitStrategy {
    /// Each update goes on.
    #[default]
    OnWindowUpdate,
    /// Each window goes on once, when it is closed.
    OnWindowClose,
}

/// Windows of one size that begin at regular times, counted from 1970 on: tumbling windows follow each other, hopping ones
/// overlap.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// let hourly = TimeWindows::of_size_with_no_grace(Duration::from_secs(3600));
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .windowed_by(hourly.advance_by(Duration::from_secs(1800)))
///     .count(Materialized::as_("counts"));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// clicks.pipe_input_at("ann", "home", 2_000_000);
/// let counts = driver.get_window_store::<String, i64>("counts").unwrap();
/// assert_eq!(counts.fetch_range(&"ann".to_owned(), ..), [(0, 1), (1_800_000, 1)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    size_ms: i64,
    advance_ms: i64,
    grace_ms: i64,
}

impl TimeWindows {
    /// Tumbling windows, each of which takes records until the grace period after its end is over: by the highest
    /// timestamp seen before, not by the clock.
    #[must_use]
    pub fn of_size_and_grace(size: Duration, grace: Duration) -> Self {
        Self { size_ms: millis(size), advance_ms: millis(size), grace_ms: millis(grace) }
    }

    /// Tumbling windows that take no record that comes after one from beyond their end.
    #[must_use]
    pub fn of_size_with_no_grace(size: Duration) -> Self {
        Self::of_size_and_grace(size, Duration::ZERO)
    }

    /// Hopping windows: one begins each `advance`, which is at most the size.
    #[must_use]
    pub fn advance_by(self, advance: Duration) -> Self {
        Self { advance_ms: millis(advance), ..self }
    }
}

/// One window from a time on, for ever. Earlier records are in none.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .windowed_by(UnlimitedWindows::of().start_on(1_000))
///     .count(Materialized::as_("counts"));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// clicks.pipe_input_at("ann", "home", 999);
/// clicks.pipe_input_at("ann", "help", 2_000);
/// assert_eq!(driver.get_window_store("counts").unwrap().fetch(&"ann".to_owned(), 1_000), Some(1_i64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnlimitedWindows {
    start_ms: i64,
}

impl UnlimitedWindows {
    /// From 1970 on.
    #[must_use]
    pub fn of() -> Self {
        Self::default()
    }

    /// From that time on, in milliseconds since the Unix epoch. Earlier records are in no window.
    #[must_use]
    pub fn start_on(self, start_ms: i64) -> Self {
        Self { start_ms }
    }
}

/// Windows of one size that end or begin at a record: for each set of records that lie no further apart than the time
/// difference there is one window.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// let ten_seconds = Duration::from_secs(10);
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .windowed_by(SlidingWindows::of_time_difference_and_grace(ten_seconds, ten_seconds))
///     .count(Materialized::as_("counts"));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// clicks.pipe_input_at("ann", "home", 20_000);
/// clicks.pipe_input_at("ann", "help", 25_000);
/// let counts = driver.get_window_store::<String, i64>("counts").unwrap();
/// // Each ends at a record, but the last, which begins just after the first one.
/// assert_eq!(counts.fetch_range(&"ann".to_owned(), ..), [(10_000, 1), (15_000, 2), (20_001, 1)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(crate) difference_ms: i64,
    pub(crate) grace_ms: i64,
}

impl SlidingWindows {
    /// Windows in which records are no further apart than `difference`; for `grace` see
    /// [`TimeWindows::of_size_and_grace`].
    #[must_use]
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        Self { difference_ms: millis(difference), grace_ms: millis(grace) }
    }

    /// The same without a grace period.
    #[must_use]
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    pub(crate) fn check(self) -> Result<(), String> {
        if self.difference_ms < 0 { Err("sliding windows need a time difference".to_owned()) } else { Ok(()) }
    }
}

/// Sessions: records of a key belong to the same one if no gap between them is longer than the inactivity gap. A record
/// between two sessions makes one of them. A session lasts from its first to its last record, both included.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// builder
///     .stream("clicks", Consumed::with(StringSerde, StringSerde))
///     .group_by_key(Grouped::default())
///     .windowed_by(SessionWindows::of_inactivity_gap_and_grace(Duration::from_secs(30), Duration::from_secs(60)))
///     .count(Materialized::as_("visits"));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
/// clicks.pipe_input_at("ann", "home", 0);
/// clicks.pipe_input_at("ann", "help", 30_000);
/// clicks.pipe_input_at("ann", "home", 60_001);
/// let visits = driver.get_session_store::<String, i64>("visits").unwrap();
/// let visits: Vec<String> = visits.all().iter().map(|(visit, count)| format!("{visit} {count}")).collect();
/// assert_eq!(visits, ["[ann@0/30000] 2", "[ann@60001/60001] 1"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(crate) gap_ms: i64,
    pub(crate) grace_ms: i64,
}

impl SessionWindows {
    /// Sessions that end after `gap` without a record; for `grace` see [`TimeWindows::of_size_and_grace`].
    #[must_use]
    pub fn of_inactivity_gap_and_grace(gap: Duration, grace: Duration) -> Self {
        Self { gap_ms: millis(gap), grace_ms: millis(grace) }
    }

    /// The same without a grace period.
    #[must_use]
    pub fn of_inactivity_gap_with_no_grace(gap: Duration) -> Self {
        Self::of_inactivity_gap_and_grace(gap, Duration::ZERO)
    }

    pub(crate) fn check(self) -> Result<(), String> {
        if self.gap_ms <= 0 { Err("sessions need an inactivity gap of at least 1 ms".to_owned()) } else { Ok(()) }
    }
}

/// How far apart in time records of two streams may be to be joined, see [`crate::KStream::join`].
///
/// A record of the right stream joins one of the left stream if it is at most `before` earlier and at most `after` later
/// than that. How long non-joined records are waited for, and how late a record may be, the grace period says.
///
/// ```
/// # use millrace::{TopologyTestDriver, prelude::*};
/// # use std::time::Duration;
/// # let mut builder = StreamsBuilder::new();
/// let orders = builder.stream("orders", Consumed::with(StringSerde, StringSerde));
/// let parcels = builder.stream("parcels", Consumed::with(StringSerde, StringSerde));
/// // What is sent after an order, within a day.
/// let day = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(86_400)).before(Duration::ZERO);
/// orders
///     .join(&parcels, |order, parcel| format!("{order} in {parcel}"), day, StreamJoined::default())
///     .to("sent", Produced::with(StringSerde, StringSerde));
/// # let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
/// # let orders = driver.create_input_topic("orders", StringSerde, StringSerde);
/// # let parcels = driver.create_input_topic("parcels", StringSerde, StringSerde);
/// # let sent = driver.create_output_topic("sent", StringSerde, StringSerde);
/// parcels.pipe_input_at("o1", "the past", 999);
/// orders.pipe_input_at("o1", "tea", 1_000);
/// parcels.pipe_input_at("o1", "a box", 2_000);
/// assert_eq!(sent.read_lines(), ["o1:tea in a box"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    pub(crate) before_ms: i64,
    pub(crate) after_ms: i64,
    pub(crate) grace_ms: i64,
}

impl JoinWindows {
    /// How far apart in time records may be that the join takes together: what any of them meets is kept for longer than
    /// that after the last of them.
    pub(crate) fn span_ms(&self) -> i64 {
        self.before_ms.min(self.after_ms).saturating_add(self.grace_ms)
    }

    /// Records join that are no further apart than `difference`; for `grace` see [`TimeWindows::of_size_and_grace`].
    #[must_use]
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        Self { before_ms: millis(difference), after_ms: millis(difference), grace_ms: millis(grace) }
    }

    /// The same without a grace period.
    #[must_use]
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    /// The same with another bound for records of the right stream that are earlier.
    #[must_use]
    pub fn before(self, difference: Duration) -> Self {
        Self { before_ms: millis(difference), ..self }
    }

    /// The same with another bound for records of the right stream that are later.
    #[must_use]
    pub fn after(self, difference: Duration) -> Self {
        Self { after_ms: millis(difference), ..self }
    }

    /// As [`Self::before`], in milliseconds, which may be negative: then a record of the right stream is at least so much
    /// later.
    #[must_use]
    pub fn before_ms(self, difference_ms: i64) -> Self {
        Self { before_ms: difference_ms, ..self }
    }

    /// As [`Self::after`], in milliseconds, which may be negative: then a record of the right stream is at least so much
    /// earlier.
    ///
    /// ```
    /// use millrace::prelude::*;
    /// use std::time::Duration;
    ///
    /// // From one to three minutes earlier than the record of the left stream.
    /// let window = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(180)).after_ms(-60_000);
    /// ```
    #[must_use]
    pub fn after_ms(self, difference_ms: i64) -> Self {
        Self { after_ms: difference_ms, ..self }
    }

    pub(crate) fn size_ms(self) -> i64 {
        self.before_ms.saturating_add(self.after_ms)
    }

    pub(crate) fn check(self) -> Result<(), String> {
        if self.size_ms() < 0 {
            let Self { before_ms, after_ms, .. } = self;
            return Err(format!("no time is both {before_ms} ms before or later and {after_ms} ms after or earlier"));
        }
        Ok(())
    }
}

/// Windows that begin whether there are records or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FixedWindows {
    pub(crate) size_ms: i64,
    pub(crate) grace_ms: i64,
    /// None: there is but one, which begins at `start_ms`.
    advance_ms: Option<i64>,
    start_ms: i64,
}

impl From<TimeWindows> for FixedWindows {
    fn from(TimeWindows { size_ms, advance_ms, grace_ms }: TimeWindows) -> Self {
        Self { size_ms, grace_ms, advance_ms: Some(advance_ms), start_ms: 0 }
    }
}

impl From<UnlimitedWindows> for FixedWindows {
    fn from(UnlimitedWindows { start_ms }: UnlimitedWindows) -> Self {
        Self { size_ms: i64::MAX, grace_ms: 0, advance_ms: None, start_ms }
    }
}

impl FixedWindows {
    pub(crate) fn check(self) -> Result<(), String> {
        match self.advance_ms {
            None if self.start_ms < 0 => Err("an unlimited window begins in 1970 or later".to_owned()),
            None => Ok(()),
            Some(_) if self.size_ms <= 0 => Err("windows need a size of at least 1 ms".to_owned()),
            Some(advance) if advance <= 0 || advance > self.size_ms => Err(format!(
                "windows of {} ms can't advance by {advance} ms: take at least 1 ms and at most their size",
                self.size_ms
            )),
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn is_unlimited(self) -> bool {
        self.advance_ms.is_none()
    }

    /// Those that a time falls into, the earliest first.
    pub(crate) fn of(self, time: i64) -> impl Iterator<Item = Window> {
        let (first, step) = match self.advance_ms {
            Some(advance) => {
                let earliest = time.saturating_sub(self.size_ms).saturating_add(advance).max(0);
                (earliest / advance * advance, advance)
            }
            None => (self.start_ms, i64::MAX),
        };
        let size = self.size_ms;
        let starts = std::iter::successors(Some(first), move |start| start.checked_add(step));
        starts
            .take_while(move |&start| start <= time)
            .map(move |start| Window { start, end: start.saturating_add(size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(windows: impl Into<FixedWindows>, time: i64, expected: &[(i64, i64)]) {
        let found: Vec<(i64, i64)> = windows.into().of(time).map(|window| (window.start, window.end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_time_falls_into_the_windows_of_kafka_streams() {
        let tumbling = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        check(tumbling, 0, &[(0, 10)]);
        check(tumbling, 9, &[(0, 10)]);
        check(tumbling, 10, &[(10, 20)]);
        let hopping = tumbling.advance_by(Duration::from_millis(4));
        check(hopping, 3, &[(0, 10)]);
        check(hopping, 8, &[(0, 10), (4, 14), (8, 18)]);
        check(hopping, 13, &[(4, 14), (8, 18), (12, 22)]);
        check(UnlimitedWindows::of().start_on(5), 4, &[]);
        check(UnlimitedWindows::of().start_on(5), 6, &[(5, i64::MAX)]);
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        let of = |size, advance| {
            let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(size));
            FixedWindows::from(windows.advance_by(Duration::from_millis(advance))).check()
        };
        assert_eq!(of(10, 10), Ok(()));
        assert!(of(0, 1).is_err());
        assert!(of(10, 0).is_err());
        assert!(of(10, 11).is_err());
    }
}
