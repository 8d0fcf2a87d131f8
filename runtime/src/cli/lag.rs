//! `millrace lag`: how far the application's group is in what it reads.

use millrace_engine::record::TopicPartition;
use serde_json::{Value, json};

use super::group::Group;
use super::table::{known, table};
use super::{ConfigArgs, LogArgs, print};
use crate::kafka::Progress;

#[derive(Debug, clap::Args)]
pub(super) struct LagArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(log: &LogArgs, args: &LagArgs) -> anyhow::Result<()> {
    let group = Group::connect(log, &args.config)?;
    let members = group.offsets.members()?;
    let reader = |partition: &TopicPartition| {
        members.iter().find(|member| member.partitions.contains(partition)).map(|member| member.name.as_str())
    };
    let progress = group.offsets.progress(&group.inputs())?;
    if args.json {
        let object = |row: &Progress| {
            json!({
                "topic": &*row.partition.topic,
                "partition": row.partition.partition,
                "committed": row.committed.map(|committed| committed.0),
                "end": row.end.0,
                "lag": row.lag(),
                "instance": reader(&row.partition),
            })
        };
        return print(&format!("{}\n", Value::from_iter(progress.iter().map(object))));
    }
    let row = |row: &Progress| {
        vec![
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            known(row.committed),
            row.end.to_string(),
            row.lag().to_string(),
            reader(&row.partition).unwrap_or("(nobody)").to_owned(),
        ]
    };
    let rows: Vec<_> = progress.iter().map(row).collect();
    print(&table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "INSTANCE"], &rows))
}
