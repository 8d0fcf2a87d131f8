//! `millrace check`: says whether an application could start, and what it would be; without a broker, unless its module
//! is there. Must not know how it is run.

use std::fmt::Write as _;

use anyhow::Context;
use millrace_engine::topology::{Layout, Plan, Store, Subtopology};

use crate::app::{Application, refuse};
use crate::config::{Config, Guarantee, ModuleSource};
use crate::guest::CONTRACT;

pub(super) fn run(config: &Config) -> anyhow::Result<()> {
    let application = Application::load(config)?;
    application.check_offered()?;
    super::print(&report(config, &application))?;
    let state = config.state_dir.join(&config.application_id);
    let found = application.differences_from_state(&state);
    if !found.is_empty() {
        super::print(&format!(
            "\nsince the state in {} was made:\n{}",
            state.display(),
            super::module::report(&found)
        ))?;
    }
    if config.module.source != ModuleSource::Uploaded {
        refuse(&found, &config.module.allow).context("the state does not fit; accept what is named in module.allow")?;
    }
    super::print(match config.module.source {
        ModuleSource::File(_) | ModuleSource::Artifact(_) => {
            "\nconfiguration and module are sound; brokers and topics were not asked\n"
        }
        ModuleSource::Uploaded => "\nconfiguration and active version are sound; source topics were not asked for\n",
    })
}

fn report(config: &Config, application: &Application) -> String {
    let guarantee = match config.guarantee {
        Guarantee::AtLeastOnce => "at_least_once",
        Guarantee::ExactlyOnce => "exactly_once_v2",
    };
    let mut text = format!("application      {}, {guarantee}\n", config.application_id);
    let _ = writeln!(text, "module           {}", config.module.source);
    let _ = writeln!(text, "digest           {}", application.module().digest());
    let _ = writeln!(text, "contract         millrace:streams@{CONTRACT}");
    let _ = writeln!(text, "brokers          {}", config.kafka.bootstrap_servers);
    let _ = writeln!(text, "state            {}", config.state_dir.join(&config.application_id).display());
    text.push_str(&topology(application.plan()));
    text
}

/// What the module brings with it.
fn topology(plan: &Plan) -> String {
    let mut text = String::new();
    for subtopology in plan.subtopologies() {
        let _ = writeln!(text, "\nsubtopology {}", subtopology.id);
        let reads = reads(subtopology).map(|topic| plan.full_name(topic).to_owned()).collect::<Vec<_>>();
        let _ = writeln!(text, "  reads          {}", reads.join(", "));
        let writes = subtopology.sinks.iter().map(|sink| match &sink.topic {
            Some(topic) => plan.full_name(topic).to_owned(),
            None => format!("what the module names ({})", sink.name),
        });
        let writes: Vec<String> = writes.collect();
        if !writes.is_empty() {
            let _ = writeln!(text, "  writes         {}", writes.join(", "));
        }
        for each in &subtopology.stores {
            let _ = writeln!(text, "  store          {}", store(plan, each));
        }
    }
    for global in plan.global_stores() {
        let _ = writeln!(text, "\nglobal store     {} from {}", global.store.name, global.filled.topic);
    }
    for repartition in plan.repartitions() {
        let partitions =
            repartition.partitions.map_or_else(|| "as many as its sources have".to_owned(), |n| n.to_string());
        let _ = writeln!(text, "\ninternal topic   {}, partitions: {partitions}", plan.full_name(&repartition.topic));
    }
    text
}

fn reads(subtopology: &Subtopology) -> impl Iterator<Item = &String> {
    subtopology.sources.iter().flat_map(|source| source.topics.iter().chain(&source.pattern))
}

fn store(plan: &Plan, store: &Store) -> String {
    let layout = match &store.layout {
        Layout::KeyValue => "key-value".to_owned(),
        Layout::Window(windows) => format!("windows of {} ms, kept {} ms", windows.size_ms, windows.retention_ms),
        Layout::Session(retention_ms) => format!("sessions, kept {retention_ms} ms"),
        Layout::Versioned(history_ms) => format!("versioned, history of {history_ms} ms"),
    };
    let place = if store.persistent { "on disk" } else { "in memory" };
    let format = &store.format;
    let types = if format.key.is_empty() { String::new() } else { format!(", {} to {}", format.key, format.value) };
    let changelog = plan.changelog(store).unwrap_or_else(|| "no changelog".to_owned());
    let cached = if store.cached { ", cached" } else { "" };
    format!("{}: {layout}{types}, {place}, {changelog}{cached}", store.name)
}
