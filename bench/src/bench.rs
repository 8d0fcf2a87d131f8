//! What all scenarios have in common: the broker, the loads, how often and on which sides they run, and who carries a
//! scenario out.

use std::cell::OnceCell;
use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context, Result};
use millrace_e2e::app::App;
use millrace_e2e::counts::Load;
use millrace_e2e::kafka::{Kafka, OwnKafka};
use millrace_e2e::topics;
use serde_json::json;

use crate::load::{Inputs, Keys, Records};
use crate::report::{self, Facts, Measurement};
use crate::scenario::{Kind, Scenario};
use crate::side::{Instance, Side};

/// How much there is to do. What was not asked for, the scenario decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub quick: bool,
    pub records: Option<u64>,
    pub keys: Option<u64>,
    pub value_size: usize,
    pub partitions: i32,
}

impl Sizes {
    pub(crate) fn records(&self, full: u64, quick: u64) -> u64 {
        self.records.unwrap_or(if self.quick { quick } else { full })
    }

    pub(crate) fn keys(&self, full: u64, quick: u64) -> u64 {
        self.keys.unwrap_or(if self.quick { quick } else { full })
    }

    pub(crate) fn load(&self, records: u64, keys: u64) -> Load {
        Load { records, keys, value_size: self.value_size, seed: 1 }
    }

    /// The load of most scenarios.
    pub(crate) fn drained(&self) -> Records {
        let load = self.load(self.records(2_000_000, 200_000), self.keys(100_000, 10_000));
        Records { load, keys: Keys::Uniform, filled: false, pairs: false, partitions: self.partitions }
    }

    /// The same in two topics, which have each key once.
    fn joined(&self) -> Records {
        let pairs = self.records(2_000_000, 200_000) / 2;
        Records { load: self.load(pairs, pairs), pairs: true, ..self.drained() }
    }
}

pub(crate) struct Bench {
    pub kafka: Kafka,
    pub inputs: Inputs,
    pub sizes: Sizes,
    pub rounds: usize,
    pub sides: Vec<Side>,
    /// Of Millrace, over those of a scenario.
    pub settings: Vec<(String, String)>,
    /// Where the plots of how cost grows go.
    pub plots: Option<PathBuf>,
    /// A broker with the defaults that the shared one does without.
    pub default_kafka: OnceCell<OwnKafka>,
}

impl Bench {
    pub(crate) fn measure(&self, scenario: &Scenario) -> Result<()> {
        match scenario.kind {
            Kind::Drain | Kind::Windows | Kind::Join => {
                let records = if scenario.kind == Kind::Join { self.sizes.joined() } else { self.sizes.drained() };
                let input = self.inputs.topic(&records)?;
                self.compare(scenario, &facts(&records), |side| self.drain(scenario, side, &input, &records, &[]))
            }
            Kind::LargeState(keys) => self.measure_large_state(scenario, keys),
            Kind::Latency => self.measure_latency(scenario),
            Kind::Restart => {
                let records = self.sizes.records(2_000_000, 600_000);
                // Every key once: it is the state that counts.
                let load = self.sizes.load(records / 2, self.sizes.keys.unwrap_or(records / 2));
                let facts = vec![("keys", json!(load.keys)), ("value_size", json!(load.value_size))];
                self.compare(scenario, &facts, |side| self.restart(scenario, side, &load))
            }
            Kind::Restore => {
                let keys = self.sizes.keys(1_000_000, 100_000);
                self.compare(scenario, &vec![("keys", json!(keys))], |side| self.restore(scenario, side, keys))
            }
            Kind::Start(waits) => self.compare(scenario, &vec![], |side| self.first_output(scenario, side, waits)),
            Kind::ManyTasks(partitions) => self.measure_many_tasks(scenario, partitions),
            Kind::Growth => self.measure_growth(scenario),
            Kind::Queries => self.measure_queries(scenario),
        }
    }

    pub(crate) fn compare<M: Measurement + Display>(
        &self,
        scenario: &Scenario,
        facts: &Facts,
        run: impl Fn(Side) -> Result<M>,
    ) -> Result<()> {
        report::print(scenario, facts, &self.alternate(scenario, run)?);
        Ok(())
    }

    /// Each side in turn, again and again, so that what changes on the machine meanwhile changes for all.
    pub(crate) fn alternate<M: Display>(
        &self,
        scenario: &Scenario,
        run: impl Fn(Side) -> Result<M>,
    ) -> Result<Vec<(Side, M)>> {
        let mut results = Vec::new();
        for round in 1..=self.rounds {
            for &side in self.sides.iter().filter(|&&side| scenario.has(side)) {
                let result = run(side).with_context(|| format!("{}, {side}, round {round}", scenario.name))?;
                eprintln!("{}, round {round}: {side}: {result}", scenario.name);
                results.push((side, result));
            }
        }
        Ok(results)
    }

    pub(crate) fn instance<'a>(&'a self, scenario: &'a Scenario, side: Side) -> Instance<'a> {
        Instance::new(scenario, side, &self.settings)
    }

    /// Deletes the topics of an application that is not needed any more: a long run must not fill the disk.
    pub(crate) fn forget(&self, app: &App) -> Result<()> {
        let names = topics::names(&app.kafka, &app.id)?;
        topics::delete(&app.kafka, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

pub(crate) fn facts(records: &Records) -> Facts {
    let Records { load, partitions, .. } = records;
    vec![
        ("records", json!(records.read())),
        ("keys", json!(load.keys)),
        ("value_size", json!(load.value_size)),
        ("partitions", json!(partitions)),
    ]
}
