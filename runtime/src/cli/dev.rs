//! `millrace dev`: a topology on an embedded broker, fed from the terminal or a pipe.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};

use super::embedded::{Embedded, parse_line, show};
use crate::app::Running;
use crate::config::Config;
use crate::kafka::Tail;

#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    /// The topic that lines are written to; needed where the topology reads several
    #[arg(long)]
    topic: Option<String>,
    /// Partitions of each topic on the embedded broker
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    partitions: u32,
}

/// Runs until the input ends.
pub(super) fn run(config: Config, args: &DevArgs) -> anyhow::Result<()> {
    let state = tempfile::tempdir().context("make a directory for the state of this run")?;
    let embedded = Embedded::start(config, state.path(), args.partitions)?;
    let topic = input_topic(embedded.inputs(), args.topic.as_deref())?;
    eprintln!(
        "embedded broker on {}: in memory, some 5 MB a partition, no transactions,",
        embedded.config().kafka.bootstrap_servers
    );
    eprintln!("gone when this process ends; for anything else there is a real Kafka: ./mill kafka start");
    eprintln!("state in {}", state.path().display());
    let running = embedded.run()?;
    if let Some(address) = running.http() {
        eprintln!("page on http://{address}, metrics on http://{address}/metrics");
    }
    let finish = Arc::new(AtomicBool::new(false));
    let printer = print_outputs(embedded.tail()?, Arc::clone(&finish))?;
    if std::io::stdin().is_terminal() {
        eprintln!("type key:value lines for {topic}; Ctrl-D ends");
    }
    let fed = feed(&embedded, &running, &topic);
    // Everything fed is processed and its output read before anything is stopped.
    finish.store(true, Ordering::Relaxed);
    let printed = printer.join().unwrap_or_else(|_| bail!("the reader of the output topics panicked"));
    let stopped = running.stop();
    stopped.and(fed).and(printed)
}

fn input_topic(inputs: &[String], asked: Option<&str>) -> anyhow::Result<String> {
    match (inputs, asked) {
        (_, Some(asked)) if inputs.iter().any(|topic| topic == asked) => Ok(asked.to_owned()),
        ([only], None) => Ok(only.clone()),
        ([], None) => bail!("the topology reads no topic by name, so there is nothing to feed"),
        (_, Some(asked)) => bail!("the topology does not read topic {asked}; it reads {}", inputs.join(", ")),
        (_, None) => bail!("the topology reads several topics: name one with --topic ({})", inputs.join(", ")),
    }
}

/// Feeds what is typed or piped in, until it ends or the application does.
fn feed(embedded: &Embedded, running: &Running, topic: &str) -> anyhow::Result<()> {
    let mut feeder = embedded.feeder()?;
    let alive = || !running.is_finished();
    let lines = read_lines()?;
    while alive() {
        let line = match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => line.context("read a line of input")?,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if !line.is_empty() {
            let (key, value) = parse_line(&line);
            feeder.feed(topic, key, value, &alive)?;
        }
    }
    feeder.drain(0, &alive)?;
    Ok(())
}

/// Reads standard input on a thread of its own: a read can't be interrupted when the application
/// fails meanwhile. The channel is short, so a large file waits in the pipe.
fn read_lines() -> anyhow::Result<Receiver<std::io::Result<String>>> {
    let (sender, lines) = sync_channel(1);
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(read).context("start the reader of standard input")?;
    Ok(lines)
}

/// Prints what arrives in the output topics until asked to finish and nothing more comes.
fn print_outputs(
    mut tail: Tail,
    finish: Arc<AtomicBool>,
) -> anyhow::Result<std::thread::JoinHandle<anyhow::Result<()>>> {
    const QUIET: Duration = Duration::from_millis(300);
    let print = move || {
        loop {
            let finishing = finish.load(Ordering::Relaxed);
            match tail.next(QUIET)? {
                Some(seen) => writeln!(std::io::stdout(), "{}", show(&seen)).context("print a record")?,
                None if finishing => return Ok(()),
                None => {}
            }
        }
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(print).context("start the reader of the output topics")
}
