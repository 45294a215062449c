//! `GET /api/v1/events`: server-sent events, `status` with each second's sample and `anomaly` for each one that is published.
//!
//! An anomaly's event has an id; a client that comes again with `Last-Event-ID` gets what it has missed, as far as it is still
//! kept. The status a second is the heartbeat: who hears nothing for some seconds has lost the server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::api::Seer;
use super::{Admin, pulse};

/// How often is looked for anomalies, and for a new sample.
const LOOK: Duration = Duration::from_millis(200);
/// After how long a client that has lost the server is to try again, milliseconds.
const RETRY: Duration = Duration::from_secs(1);

/// One client's place.
struct Place {
    admin: Admin,
    /// Number of the last anomaly that was told.
    number: u64,
    /// How many samples there were when the status was told last.
    n_samples: Option<u64>,
    waiting: VecDeque<Event>,
}

/// Tells what happens until the client goes.
pub async fn events(_: Seer, State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let number = last.map_or_else(|| admin.view.n_published(), |id| missed_since(id, admin.pulse.started_ms));
    let place = Place { admin, number, n_samples: None, waiting: VecDeque::new() };
    let told = stream::unfold(place, |mut place| async {
        let event = place.next().await;
        Some((Ok::<_, Infallible>(event), place))
    });
    Sse::new(told).into_response()
}

impl Place {
    /// The next thing to tell.
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            if self.n_samples.is_some() {
                tokio::time::sleep(LOOK).await;
            }
            for one in self.admin.view.since(self.number) {
                self.number = one.number;
                // Between the tokens of a record there may be line ends, of which this one ends an event's line.
                let json = one.json.replace('\r', " ");
                let id = format!("{}-{}", self.admin.pulse.started_ms, one.number);
                self.waiting.push_back(Event::default().event("anomaly").id(id).data(json));
            }
            // With each sample and not by a clock of its own, which would miss some.
            let n_samples = self.admin.pulse.n_beats();
            if self.n_samples != Some(n_samples) {
                self.n_samples = Some(n_samples);
                let status = serde_json::to_string(&pulse::status(&self.admin)).expect("a status is always JSON");
                self.waiting.push_back(Event::default().event("status").retry(RETRY).data(status));
            }
        }
    }
}

/// The number after which a client has missed something; of another process it has missed everything.
fn missed_since(last_event_id: &str, started_ms: i64) -> u64 {
    let number = last_event_id.split_once('-').filter(|(started, _)| *started == started_ms.to_string());
    number.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_gets_what_was_missed_and_all_of_it_after_a_restart() {
        assert_eq!(missed_since("1700-12", 1700), 12);
        for other in ["1600-12", "12", "", "1700-x", "-1"] {
            assert_eq!(missed_since(other, 1700), 0, "{other}");
        }
    }
}
