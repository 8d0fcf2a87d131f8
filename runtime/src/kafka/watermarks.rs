//! Where partitions end, as a consumer has seen it last: nobody is asked. Must not know what that is needed for.
//!
//! The client library has this only as a C function.
#![allow(unsafe_code, reason = "the only way to the client's C function; the block says why it is sound")]

use std::ffi::CString;

use millrace_engine::record::{Offset, TopicPartition};
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use super::number;

/// The end of a partition in the latest answer of its broker; `None`: nothing was fetched from it yet.
#[must_use]
pub fn last_seen_end<C: ConsumerContext>(consumer: &BaseConsumer<C>, partition: &TopicPartition) -> Option<Offset> {
    let client = consumer.client().native_ptr();
    let topic = CString::new(&*partition.topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: the client lives as long as `consumer`, and may be asked from any thread. The name and the numbers
    // outlive the call, which waits for nobody.
    let code = unsafe {
        c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), number(partition), &raw mut low, &raw mut high)
    };
    // Below zero: not known.
    (code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(Offset(high))
}
