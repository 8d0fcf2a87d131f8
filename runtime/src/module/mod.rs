//! Where a module comes from that is no file: the versions that were pushed to the application's own topic, which of
//! them is active, and who runs what. Must not know how a module is run.
//!
//! The topic `<application.id>-modules` is compacted and has two partitions. The first one is small and is read whole:
//! a record for each version, one that says which is active, one for each instance. The second one has the components
//! in chunks; of it only what is needed is read, by the offsets that stand in the record of a version. So an instance
//! gets what it runs from Kafka alone, and fast.
//!
//! Who pushes or activates does so under one transactional id for all: registering it fences who had it before, and
//! what is then read is what the change is made to. So of two pushes at once one fails, and nothing of it is left but
//! chunks that no version names.

mod catalogue;
mod recorded;
mod topic;
mod writer;

pub use catalogue::{Activation, Catalogue, Instance, Reason, Version};
pub use recorded::Recorded;
pub use topic::Reader;
pub use writer::{COMPONENT_MAX_BYTES, Writer, announce};

use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal, as it stands in records of versions.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
