//! The brokers and the faults they go through.

use std::time::Duration;

use anyhow::{Context, Result};
use millrace_e2e::kafka::OwnKafka;

use crate::fault::{Fault, Faults, Step};
use crate::journal::Journal;
use crate::network::Member;

pub(crate) struct Brokers<'a> {
    pub(crate) kafka: &'a OwnKafka,
    pub(crate) member: Option<&'a Member>,
    pub(crate) journal: &'a Journal,
}

impl Brokers<'_> {
    /// Goes through faults as long as they are made. Afterwards all brokers run.
    pub(crate) fn live(&self, faults: Faults, until: Duration) -> Result<()> {
        for step in faults {
            if !self.journal.wait(step.pause, || Ok(()))? || self.journal.elapsed() > until {
                break;
            }
            self.journal.say(&format!("broker {}: {}, {:.1} s", step.node, step.fault, step.lasts.as_secs_f64()));
            self.suffer(step)?;
            self.journal.say("brokers: back");
            self.journal.survived(step.fault);
        }
        Ok(())
    }

    fn suffer(&self, Step { fault, lasts, node, .. }: Step) -> Result<()> {
        let pass = |time: Duration| self.journal.wait(time, || Ok(()));
        match fault {
            Fault::FreezeBroker => {
                self.kafka.freeze(node)?;
                pass(lasts)?;
                self.kafka.thaw(node)
            }
            Fault::CutBroker => {
                let member = self.member.context("cut brokers that have no network of their own")?;
                member.cut()?;
                pass(lasts)?;
                member.mend()
            }
            _ => {
                self.kafka.kill(node)?;
                pass(lasts)?;
                self.kafka.start()
            }
        }
    }
}
