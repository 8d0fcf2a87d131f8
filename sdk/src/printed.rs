//! Owns what can be said of how a stream is printed: the label, and what a record looks like. Must not know where it is.

use std::fmt;
use std::sync::Arc;

/// What a printed record looks like.
pub(crate) type Shown<K, V> = Arc<dyn Fn(Option<&K>, Option<&V>) -> String + Send + Sync>;

/// How the records of a stream are printed, see [`crate::KStream::print`].
pub struct Printed<K, V> {
    pub(crate) label: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) mapper: Shown<K, V>,
}

impl<K, V> fmt::Debug for Printed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printed").field("label", &self.label).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> Printed<K, V> {
    /// To the standard output as `[label]: key, value`, where key and value look as `{:?}` has them. The host makes a line
    /// of its log of it, with the task.
    #[must_use]
    pub fn to_sys_out() -> Self {
        fn show(shown: Option<&impl fmt::Debug>) -> String {
            shown.map_or_else(|| "null".to_owned(), |shown| format!("{shown:?}"))
        }
        Self::to_sys_out_as(|key, value| format!("{}, {}", show(key), show(value)))
    }
}

impl<K, V> Printed<K, V> {
    /// To the standard output as `[label]: ` and what `mapper` makes of the record.
    #[must_use]
    pub fn to_sys_out_as(mapper: impl Fn(Option<&K>, Option<&V>) -> String + Send + Sync + 'static) -> Self {
        Self { label: None, name: None, mapper: Arc::new(mapper) }
    }

    /// The same with this label; else it is the name of the node before.
    #[must_use]
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// The same with this name for its node.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}
