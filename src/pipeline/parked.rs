//! Records that wait in a lane for the schema that they were written by, and those that were read with them.
//!
//! They are copies, at most a batch of them: nothing is read while some wait. They are not settled, so that a process that
//! ends meanwhile loses none of them; and what belongs to a partition that has left meanwhile is dropped, since its next
//! owner reads it again.

use std::collections::VecDeque;

use crate::record::RecordId;
use crate::source::{Headers, Raw};

/// A copy of a record.
pub struct Parked {
    /// Where it stands.
    pub id: RecordId,
    time_ms: i64,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    /// Epoch of the partition's assignment in which it was read.
    pub epoch: u64,
}

/// The records that wait, oldest first.
pub type Waiting = VecDeque<Parked>;

impl Parked {
    /// Copies `raw`, read in `epoch`.
    pub fn new(raw: &Raw<'_>, epoch: u64) -> Self {
        let mut headers = Vec::new();
        if let Some(borrowed) = raw.headers {
            borrowed.each(&mut |name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        }
        let [key, payload] = [raw.key, raw.payload].map(|bytes| bytes.map(<[u8]>::to_vec));
        Self { id: raw.id, time_ms: raw.time_ms, key, payload, headers, epoch }
    }

    /// The record as it was read.
    pub fn raw(&self) -> Raw<'_> {
        let (key, payload) = (self.key.as_deref(), self.payload.as_deref());
        Raw { id: self.id, time_ms: self.time_ms, key, payload, headers: Some(self) }
    }
}

impl Headers for Parked {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in &self.headers {
            visit(name, value.as_deref());
        }
    }
}
