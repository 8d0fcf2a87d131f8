//! The W3C's trace context: what `traceparent` says, and ids. Must not know what a span is about.

use std::fmt;

/// Lower-case hexadecimal, as in the header and in OTLP's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceId(pub(super) u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanId(pub(super) u64);

impl TraceId {
    pub(super) fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }
}

impl SpanId {
    pub(super) fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().1)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The span that a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) is_sampled: bool,
    flags: u8,
}

impl Parent {
    /// `None`: the header is none of the version that everybody knows, nor of a later one that begins like it.
    pub(super) fn parse(header: &[u8]) -> Option<Self> {
        let text = str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let legal = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            legal.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace == 0 || span == 0 {
            return None;
        }
        let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()?);
        Some(Self { trace: TraceId(trace), span: SpanId(span), is_sampled: flags & 1 == 1, flags })
    }

    /// The header of a span that has this one as its parent.
    pub(super) fn child(&self, span: SpanId) -> String {
        format!("00-{}-{span}-{:02x}", self.trace, self.flags)
    }
}
