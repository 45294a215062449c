//! A sink in memory: for evaluating a table, and for tests that decide when a delivery is acknowledged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Channel, Outgoing, Receipt, Sink, SinkError};

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where it went.
    pub channel: Channel,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Keeps what is sent, and acknowledges at once or when told to.
#[derive(Debug, Default)]
pub struct MemorySink {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<Sent>,
    withheld: Option<Vec<Receipt>>,
}

impl MemorySink {
    /// A sink that acknowledges nothing before [`MemorySink::release`].
    pub fn withholding() -> Self {
        Self { state: Mutex::new(State { withheld: Some(Vec::new()), ..State::default() }) }
    }

    /// Takes the messages sent since the last call.
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state().sent)
    }

    /// Acknowledges what has been withheld so far.
    pub fn release(&self) {
        self.state().withheld.iter_mut().flat_map(|withheld| withheld.drain(..)).for_each(|r| r.acknowledge());
    }

    /// Fails what has been withheld so far.
    pub fn fail(&self, reason: &str) {
        let mut state = self.state();
        state.withheld.iter_mut().flat_map(|withheld| withheld.drain(..)).for_each(|r| r.fail(reason.to_owned()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for MemorySink {
    fn send(&self, message: &Outgoing<'_>, receipt: &Receipt) -> Result<(), SinkError> {
        let mut state = self.state();
        state.sent.push(Sent {
            channel: message.channel,
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.to_vec(),
            headers: message
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        });
        if let Some(withheld) = &mut state.withheld {
            receipt.expect();
            withheld.push(receipt.clone());
        }
        Ok(())
    }

    fn poll(&self, _: Duration) {}

    fn flush(&self, _: Duration) -> bool {
        self.state().withheld.as_ref().is_none_or(Vec::is_empty)
    }
}
