//! Windows and joins: how often each user clicked in each minute and in each session, and what is known of who clicked.
//! The topics `clicks` and `users` have the user as their key, and as many partitions.

use std::time::Duration;

use millrace::prelude::*;

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let clicks = builder.stream("clicks", Consumed::with(StringSerde, StringSerde));
    let users = builder.table("users", Consumed::with(StringSerde, StringSerde), Materialized::as_("users"));

    let by_user = clicks.group_by_key(Grouped::default());

    // A minute takes what is up to five seconds late. The keys of its topic are a user and the minute's start.
    let per_minute = by_user
        .windowed_by(TimeWindows::of_size_and_grace(Duration::from_secs(60), Duration::from_secs(5)))
        .count(Materialized::as_("clicks-per-minute"));
    per_minute
        .to_stream()
        .map_values(|count| count.to_string())
        .to("clicks-per-minute", Produced::default().with_value_serde(StringSerde));

    // The last count of each minute alone, once it can't change any more.
    per_minute
        .suppress(Suppressed::until_window_closes(BufferConfig::unbounded()).with_name("closed-minutes"))
        .to_stream()
        .map_values(|count| count.to_string())
        .to("clicks-per-closed-minute", Produced::default().with_value_serde(StringSerde));

    // A session ends when there was no click for half a minute. Its keys are a user, its end and its start; when it grows,
    // the one it was is deleted.
    by_user
        .windowed_by(SessionWindows::of_inactivity_gap_and_grace(Duration::from_secs(30), Duration::from_secs(5)))
        .count(Materialized::as_("clicks-per-session"))
        .to_stream()
        .map_values(|count| count.to_string())
        .to("clicks-per-session", Produced::default().with_value_serde(StringSerde));

    clicks
        .left_join_table(
            &users,
            |page, name| format!("{} visits {page}", name.map_or("somebody", String::as_str)),
            Joined::default(),
        )
        .to("visits", Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::{TestRecord, TopologyTestDriver};

    use super::*;

    fn click(user: &str, page: &str, second: i64) -> TestRecord<String, String> {
        TestRecord::new(Some(user.to_owned()), Some(page.to_owned()), second * 1_000)
    }

    #[test]
    fn counts_per_minute_and_session_and_names() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        driver.create_input_topic("users", StringSerde, StringSerde).pipe_input("u1", "Ada");
        let clicks = driver.create_input_topic("clicks", StringSerde, StringSerde);
        clicks.pipe_records(vec![
            click("u1", "home", 10),
            click("u1", "help", 59),
            click("u2", "home", 64),
            // Late, and in time: the grace period ends at 65 s.
            click("u1", "news", 58),
            click("u2", "help", 65),
            click("u1", "late", 59),
        ]);
        let keys = TimeWindowedSerde::new(StringSerde, 60_000);
        let counts = driver.create_output_topic("clicks-per-minute", keys, StringSerde).read_key_values_to_list();
        let counts: Vec<(String, i64, String)> = counts
            .into_iter()
            .map(|(key, count)| (key.unwrap(), count.unwrap()))
            .map(|(key, count)| (key.key, key.window.start, count))
            .collect();
        let expected = [("u1", 0, "1"), ("u1", 0, "2"), ("u2", 60_000, "1"), ("u1", 0, "3"), ("u2", 60_000, "2")];
        assert_eq!(counts, expected.map(|(user, start, count)| (user.to_owned(), start, count.to_owned())));
        let keys = TimeWindowedSerde::new(StringSerde, 60_000);
        let closed = driver.create_output_topic("clicks-per-closed-minute", keys, StringSerde);
        let (key, count) = closed.read_key_value().expect("a minute was closed");
        assert_eq!((key.unwrap().key, count.unwrap()), ("u1".to_owned(), "3".to_owned()));
        assert!(closed.is_empty());
        let keys = SessionWindowedSerde::new(StringSerde);
        let sessions = driver.create_output_topic("clicks-per-session", keys, StringSerde).read_key_values_to_list();
        let last = sessions.into_iter().filter_map(|(key, count)| Some((key?, count?))).next_back();
        let (key, count) = last.expect("the last click made or changed a session");
        assert_eq!((key.key.as_str(), key.window.start, key.window.end, count.as_str()), ("u1", 58_000, 59_000, "3"));
        let visits = driver.create_output_topic("visits", StringSerde, StringSerde).read_key_values_to_list();
        let visits: Vec<String> = visits.into_iter().filter_map(|(_, visit)| visit).collect();
        assert_eq!(visits[0], "Ada visits home");
        assert_eq!(visits[2], "somebody visits home");
        assert_eq!(visits.len(), 6, "a join leaves nothing out that is late");
    }
}
