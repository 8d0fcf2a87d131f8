//! `/v1/topology`: the graph, its subtopologies and what connects them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Served;
use super::refusal::Refusal;
use super::stores::layout;

#[derive(Serialize, ToSchema)]
pub(super) struct TopologyOverview {
    application_id: String,
    /// As Kafka Streams prints it.
    description: String,
    subtopologies: Vec<Subtopology>,
}

#[derive(Serialize, ToSchema)]
struct Subtopology {
    id: u32,
    /// One for each partition.
    tasks: u32,
    sources: Vec<Source>,
    processors: Vec<Processor>,
    sinks: Vec<Sink>,
    stores: Vec<Store>,
}

#[derive(Serialize, ToSchema)]
struct Source {
    name: String,
    /// As in Kafka.
    topics: Vec<String>,
    pattern: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Processor {
    name: String,
    parents: Vec<String>,
    stores: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Sink {
    name: String,
    parents: Vec<String>,
    /// As in Kafka; null: the module names it with each record.
    topic: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Store {
    name: String,
    layout: &'static str,
    /// As in Kafka; null: it has none.
    changelog: Option<String>,
}

/// The topology of the application.
#[utoipa::path(get, path = "/v1/topology", responses(
    (status = 200, description = "The topology", body = TopologyOverview),
    (status = 503, description = "Not yet: the instance is starting", body = Refusal),
))]
pub(super) async fn show(State(served): State<Served>) -> Result<Json<TopologyOverview>, Refusal> {
    let catalog = served.catalog()?;
    let plan = &catalog.plan;
    let subtopologies = plan.subtopologies().iter().map(|subtopology| {
        let mut partitioned = catalog.partitioning.subtopologies().iter();
        Subtopology {
            id: subtopology.id,
            tasks: partitioned.find(|of| of.subtopology == subtopology.id).map_or(0, |of| of.tasks),
            sources: (subtopology.sources.iter())
                .map(|source| Source {
                    name: source.name.clone(),
                    topics: source.topics.iter().map(|topic| plan.full_name(topic).to_owned()).collect(),
                    pattern: source.pattern.clone(),
                })
                .collect(),
            processors: (subtopology.processors.iter())
                .map(|node| Processor {
                    name: node.name.clone(),
                    parents: node.parents.clone(),
                    stores: node.stores.clone(),
                })
                .collect(),
            sinks: (subtopology.sinks.iter())
                .map(|sink| Sink {
                    name: sink.name.clone(),
                    parents: sink.parents.clone(),
                    topic: sink.topic.as_ref().map(|topic| plan.full_name(topic).to_owned()),
                })
                .collect(),
            stores: (subtopology.stores.iter())
                .map(|store| Store {
                    name: store.name.clone(),
                    layout: layout(&store.layout),
                    changelog: plan.changelog(store),
                })
                .collect(),
        }
    });
    Ok(Json(TopologyOverview {
        application_id: plan.application_id().to_owned(),
        description: plan.describe(),
        subtopologies: subtopologies.collect(),
    }))
}
