//! Who is in the consumer group, and what each member was assigned: asked of the group's coordinator. Must not know
//! what that is asked for.
//!
//! The client library has this only as C functions. Group listing, which it has in Rust, shows neither the instance
//! ids of members nor groups of the newer protocol (KIP-848).
#![allow(unsafe_code, reason = "the only way to the client's C functions; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use millrace_engine::ports::Error;
use millrace_engine::record::TopicPartition;
use rdkafka::bindings as c;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use super::{GroupConsumer, classify};

const DOING: &str = "ask for the members of the group";

/// A member as the coordinator sees it.
#[derive(Debug)]
pub struct GroupMember {
    /// Its `group.instance.id`, else what the coordinator calls it.
    pub name: String,
    /// Whether that is its own.
    pub is_static: bool,
    pub partitions: Vec<TopicPartition>,
}

/// What this consumer is called in its group; `None` before it has joined.
#[must_use]
pub fn member_id(consumer: &GroupConsumer) -> Option<String> {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as `consumer`, and may be asked from any thread. What it returns is null or a
    // string that is ours to free.
    unsafe {
        let id = c::rd_kafka_memberid(client);
        let copy = text(id);
        c::rd_kafka_mem_free(client, id.cast());
        copy.filter(|id| !id.is_empty())
    }
}

/// The members of a group; `None` while it is being rebalanced, when nobody knows who will have what.
pub fn members(consumer: &GroupConsumer, group: &str, timeout: Duration) -> Result<Option<Vec<GroupMember>>, Error> {
    let described = described(consumer, group, timeout)?;
    Ok(described.and_then(|(stable, members)| stable.then_some(members)))
}

/// The members of a group, also of one that is being rebalanced; what they were assigned may be missing then. `None`: the
/// broker doesn't know who is in a group, as the embedded one.
pub fn present(consumer: &GroupConsumer, group: &str, timeout: Duration) -> Result<Option<Vec<GroupMember>>, Error> {
    Ok(described(consumer, group, timeout)?.map(|(_, members)| members))
}

/// Whether the group is stable, and its members.
fn described(
    consumer: &GroupConsumer,
    group: &str,
    timeout: Duration,
) -> Result<Option<(bool, Vec<GroupMember>)>, Error> {
    let answer = Answer::ask(consumer, group, timeout)?;
    // SAFETY: the event is there, and `answer` owns it.
    let whole = unsafe { c::rd_kafka_event_error(answer.event) };
    if is_unknown_question(whole) {
        return Ok(None);
    }
    check(whole)?;
    let mut count = 0;
    // SAFETY: `answer` owns what is read here, and outlives it. The event is of the kind that was asked for, or
    // `result` is null. Groups and members are asked for below their counts.
    unsafe {
        let result = c::rd_kafka_event_DescribeConsumerGroups_result(answer.event);
        if result.is_null() {
            return Err(Error::Retry(format!("{DOING}: the client answered something else")));
        }
        let groups = c::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count == 0 {
            return Ok(Some((false, Vec::new())));
        }
        let group = *groups;
        let code = c::rd_kafka_error_code(c::rd_kafka_ConsumerGroupDescription_error(group));
        if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND {
            // Nobody has joined it yet, or it was deleted.
            return Ok(Some((false, Vec::new())));
        }
        if is_unknown_question(code) {
            return Ok(None);
        }
        check(code)?;
        let state = c::rd_kafka_ConsumerGroupDescription_state(group);
        let stable = state == c::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        let members = 0..c::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = members.map(|index| member(c::rd_kafka_ConsumerGroupDescription_member(group, index)));
        Ok(Some((stable, members.collect())))
    }
}

/// # Safety
/// `described` is a member of a description that is alive.
unsafe fn member(described: *const c::rd_kafka_MemberDescription_t) -> GroupMember {
    // SAFETY: what a member's description points to lives as long as it does.
    unsafe {
        let own = text(c::rd_kafka_MemberDescription_group_instance_id(described));
        let is_static = own.is_some();
        let name = own.or_else(|| text(c::rd_kafka_MemberDescription_consumer_id(described)));
        let list = c::rd_kafka_MemberAssignment_partitions(c::rd_kafka_MemberDescription_assignment(described));
        let mut partitions = Vec::new();
        if let Some(list) = list.as_ref() {
            for index in 0..usize::try_from(list.cnt).unwrap_or(0) {
                let element = &*list.elems.add(index);
                if let (Some(topic), Ok(number)) = (text(element.topic), u32::try_from(element.partition)) {
                    partitions.push(TopicPartition::new(topic, number));
                }
            }
        }
        GroupMember { name: name.unwrap_or_default(), is_static, partitions }
    }
}

/// # Safety
/// `string` is null or ends with a null byte.
unsafe fn text(string: *const c_char) -> Option<String> {
    // SAFETY: just that.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned())
}

/// The broker can't be asked for members at all.
fn is_unknown_question(code: c::rd_kafka_resp_err_t) -> bool {
    matches!(
        code,
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
            | c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION
    )
}

fn check(code: c::rd_kafka_resp_err_t) -> Result<(), Error> {
    match code {
        c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(classify(DOING, &KafkaError::AdminOp(code.into()))),
    }
}

/// What the client answered, with all that has to be freed after it.
struct Answer {
    queue: *mut c::rd_kafka_queue_t,
    event: *mut c::rd_kafka_event_t,
}

impl Answer {
    fn ask(consumer: &GroupConsumer, group: &str, timeout: Duration) -> Result<Self, Error> {
        let client = consumer.client().native_ptr();
        let group = CString::new(group).map_err(|_| Error::Fatal(format!("{DOING}: its name has a null byte")))?;
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: client, names and options outlive the call, which copies what it needs. The queue is new, and only
        // this request answers there.
        let answer = unsafe {
            let queue = c::rd_kafka_queue_new(client);
            let any = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
            let options = c::rd_kafka_AdminOptions_new(client, any);
            let mut why: [c_char; 256] = [0; 256];
            c::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, why.as_mut_ptr(), why.len());
            let mut groups = [group.as_ptr()];
            c::rd_kafka_DescribeConsumerGroups(client, groups.as_mut_ptr(), groups.len(), options, queue);
            c::rd_kafka_AdminOptions_destroy(options);
            // The request ends by its own timeout; this one is a bound should the client not keep to it.
            Self { queue, event: c::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000)) }
        };
        if answer.event.is_null() {
            return Err(Error::Retry(format!("{DOING}: no answer in {timeout_ms} ms")));
        }
        Ok(answer)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: both are ours, and freed once. The event may be null.
        unsafe {
            c::rd_kafka_event_destroy(self.event);
            c::rd_kafka_queue_destroy(self.queue);
        }
    }
}
