//! What people say to strayd: short logs of keyed entries that every replica reads whole, and of which the last of a key counts.
//!
//! Operator's commands are one, feedback on anomalies is another. A log is a compacted topic, or a file beside the models
//! for a single replica. A journal never interprets what it holds.

mod feedback;
mod file;
mod memory;
mod order;
mod topic;

use serde::{Deserialize, Serialize};

pub use feedback::{Feedback, Opinion, Place};
pub use file::FileJournal;
pub use memory::MemoryJournal;
pub use order::{Desk, Order, check_label};
pub use topic::TopicJournal;

/// Where journals are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Topic of the operators' commands; none: `commands.jsonl` beside the models.
    pub commands: Option<String>,
    /// Topic of the feedback on anomalies; none: `feedback.jsonl` beside the models.
    pub feedback: Option<String>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is about; a later entry of the same key takes its place.
    pub key: String,
    /// What is said, JSON; none takes back what was said before.
    pub value: Option<serde_json::Value>,
    /// When it was said, milliseconds since the epoch.
    pub time_ms: i64,
}

/// A log of keyed entries.
pub trait Journal: Send {
    /// The entries that are new since the last call, oldest first; all of them at the first.
    ///
    /// Errors: what is wrong, in words for the user; trying again may help.
    fn poll(&mut self) -> Result<Vec<Entry>, String>;

    /// Appends an entry, and returns when it is stored; the next poll hands it over, too.
    ///
    /// Errors: as [`Journal::poll`].
    fn append(&mut self, entry: &Entry) -> Result<(), String>;
}
