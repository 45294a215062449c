//! A source without Kafka that hands over the same records for ever, and a sink that acknowledges at once: what a lane
//! costs without its client.

use std::time::Duration;

use strayd::record::RecordId;
use strayd::sink::{Outgoing, Receipt, Sink, SinkError};
use strayd::source::{Polled, Position, Raw, Source, SourceError};

/// The same payloads over and over.
pub struct Looped {
    payloads: Vec<Vec<u8>>,
    next: usize,
    left: u64,
}

impl Looped {
    /// `n` records of these payloads in one partition.
    pub fn new(payloads: Vec<Vec<u8>>, n: u64) -> Self {
        Self { payloads, next: 0, left: n }
    }
}

impl Source for Looped {
    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, SourceError> {
        let n = (max as u64).min(self.left);
        for _ in 0..n {
            let payload = self.payloads[self.next % self.payloads.len()].as_slice();
            let id = RecordId { partition: 0.into(), offset: self.next as i64 };
            take(Raw { id, time_ms: 1_700_000_000_000, key: None, payload: Some(payload), headers: None });
            self.next += 1;
        }
        self.left -= n;
        Ok(if n == 0 { Polled::End } else { Polled::Records(n as usize) })
    }

    fn store(&mut self, _: &[Position]) -> Result<usize, SourceError> {
        Ok(0)
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn send(&self, _: &Outgoing<'_>, _: &Receipt) -> Result<(), SinkError> {
        Ok(())
    }

    fn poll(&self, _: Duration) {}

    fn flush(&self, _: Duration) -> bool {
        true
    }
}
