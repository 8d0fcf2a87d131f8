//! Ends the wait for more records that a producer makes before it sends (`linger.ms`), at a commit: there are no more.
//!
//! The client's own `flush` tells its threads so for the moment of a call that does not wait, which is over before they
//! have seen it.
#![allow(unsafe_code, reason = "the only way to the client's C function; the block says why it is sound")]

use rdkafka::bindings::rd_kafka_flush;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

/// Long enough for the client's threads to be woken and to look.
const MOMENT_MS: i32 = 1;

pub fn send_now<C: ProducerContext>(producer: &BaseProducer<C>) {
    if producer.in_flight_count() > 0 {
        // SAFETY: the client lives as long as `producer`, and may be asked from any thread. As it tells acknowledgements
        // by events, this waits and touches nothing of ours.
        unsafe { rd_kafka_flush(producer.client().native_ptr(), MOMENT_MS) };
    }
}
