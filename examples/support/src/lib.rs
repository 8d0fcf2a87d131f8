//! A join of streams, and tables made of tables: which questions are answered within the hour, and how much each agent has to
//! do. `questions` and `answers` have the question as their key, `tickets` the ticket and `agents` the agent; those of a join
//! have as many partitions.

use std::time::Duration;

use millrace::prelude::*;

pub(crate) fn topology(builder: &mut StreamsBuilder) {
    let texts = || Consumed::with(StringSerde, StringSerde);

    // Each question with its answer, or alone when the hour is over; in two topics.
    let (questions, answers) = (builder.stream("questions", texts()), builder.stream("answers", texts()));
    let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3_600)).before(Duration::ZERO);
    let branches = questions
        .left_join(
            &answers,
            |question, answer| (question.clone(), answer.cloned()),
            hour,
            StreamJoined::as_("in-time").with_store_name("in-time"),
        )
        .named("questions-")
        .split()
        .branch(|_, joined| joined.is_some_and(|(_, answer)| answer.is_some()), Branched::as_("answered"))
        .default_branch(Branched::as_("late"));
    branches["questions-answered"]
        .map_values(|(question, answer)| format!("{question} {}", answer.as_deref().unwrap_or_default()))
        .to("answered", Produced::with(StringSerde, StringSerde));
    branches["questions-late"]
        .map_values(|(question, _)| question.clone())
        .to("late", Produced::with(StringSerde, StringSerde));

    // The value of a ticket is its agent. One that is closed is deleted, one that is handed on counts for the other agent.
    let agents = builder.table("agents", texts(), Materialized::as_("agents"));
    let workload = builder
        .table("tickets", texts(), Materialized::as_("tickets"))
        .group_by(
            |ticket, agent| (Some(agent.clone()), Some(ticket.clone())),
            Grouped::with(StringSerde, StringSerde).with_name("by-agent"),
        )
        .count(Materialized::as_("workload"));
    agents
        .left_join(&workload, |name, tickets| format!("{name} has {} tickets", tickets.unwrap_or(&0)))
        .to_stream()
        .to("workloads", Produced::with(StringSerde, StringSerde));
}

millrace::export!(topology);

#[cfg(test)]
mod tests {
    use millrace::TopologyTestDriver;

    use super::*;

    #[test]
    fn questions_are_answered_or_late_and_agents_have_tickets() {
        let mut builder = StreamsBuilder::new();
        topology(&mut builder);
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let input = |topic| driver.create_input_topic(topic, StringSerde, StringSerde);
        let output = |topic| driver.create_output_topic(topic, StringSerde, StringSerde);

        let (questions, answers) = (input("questions"), input("answers"));
        questions.pipe_input_at("q1", "Where?", 0);
        questions.pipe_input_at("q2", "When?", 1_000);
        answers.pipe_input_at("q1", "Here.", 60_000);
        assert_eq!(output("answered").read_lines(), ["q1:Where? Here."]);
        // What waits is looked through once a second.
        driver.advance_wall_clock_time(Duration::from_secs(2));
        questions.pipe_input_at("q3", "Why?", 3_602_000);
        assert_eq!(output("late").read_lines(), ["q2:When?"]);

        let (agents, tickets) = (input("agents"), input("tickets"));
        agents.pipe_key_values([("a1", "Ada"), ("a2", "Bob")]);
        tickets.pipe_key_values([("t1", "a1"), ("t2", "a1"), ("t1", "a2")]);
        let told = output("workloads").read_key_values_to_map();
        let told: Vec<String> = told.into_values().flatten().collect();
        assert_eq!(told, ["Ada has 1 tickets", "Bob has 1 tickets"]);
    }
}
