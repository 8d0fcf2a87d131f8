//! Owns what all Kafka clients share: their settings, the classes of their errors, the topics
//! that must exist. Must not know of tasks or of records.

mod objections;
mod client;
mod embedded;
mod error;
mod group;
mod linger;
mod members;
mod message;
mod offsets;
mod partition;
mod removal;
mod topics;
mod watermarks;

pub(crate) use client::create_with;
pub use client::{ClientLog, Clients};
pub use embedded::{EmbeddedBroker, Feeder, Seen, Tail};
pub use error::{classify, classify_question, is_record_error};
pub use group::{GroupConsumer, Membership, Rebalance, Waker, from_list, is_incremental, number, to_list};
pub use linger::send_now;
pub use members::{GroupMember, member_id, members, present};
pub use message::push;
pub use objections::{Objection, Objections};
pub use offsets::{GroupOffsets, Progress};
pub use partition::PartitionReader;
pub use removal::remove_members;
pub use topics::Topics;
pub use watermarks::last_seen_end;
