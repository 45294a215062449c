//! Speaks to the daemon: requests with the token, and the stream of events, which comes back by itself.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::Sender;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, RequestBuilder};

use super::state::{Change, Happened};
use super::told::{Anomaly, Beat, Entry, Partition, listed, parsed};
use crate::admin::{COMMANDS, FEEDBACK};
use crate::cli::shown::clean;
use crate::shutdown::Shutdown;

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// A status comes every second: who hears nothing for so long has lost the daemon.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The pause before it is tried again grows by this, up to [`PAUSE_MAX`].
const PAUSE_STEP: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Bytes of an answer, and of an event: the daemon keeps anomalies of 8 MiB at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Anomalies that are asked for at first: all that the daemon keeps.
const ANOMALIES: &str = "/api/v1/anomalies?limit=200";

/// Why a request has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The daemon won't: its status, and what it says.
    Refused(u16, String),
    /// It can't be reached, or isn't strayd.
    Gone(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_, said) => f.write_str(said),
            Self::Gone(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// What is read when the daemon is there: everything that was before.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Newest first.
    pub anomalies: Vec<Anomaly>,
    /// Oldest first.
    pub beats: Vec<Beat>,
    /// Oldest first.
    pub models: Vec<Entry>,
    pub partitions: Vec<Partition>,
    /// Whether changes need a token.
    pub wants_token: bool,
}

/// A daemon's admin server.
#[derive(Clone, Debug)]
pub struct Link {
    base: String,
    token: Option<String>,
    agent: Agent,
}

impl Link {
    /// The server at `base`, as `http://localhost:8790`.
    pub fn new(base: &str, token: Option<String>) -> Self {
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder().http_status_as_error(false).tls_config(tls);
        let agent = agent.timeout_connect(Some(REQUEST_MAX)).timeout_recv_response(Some(REQUEST_MAX));
        // Redirections could lead the token elsewhere.
        let agent = agent.timeout_per_read(Some(SILENCE_MAX)).max_redirects(0);
        // This machine is not asked through a proxy that the environment names for others.
        let is_own = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|own| base.starts_with(own));
        let agent = if is_own { agent.proxy(None).build() } else { agent.build() };
        Self { base: base.trim_end_matches('/').to_owned(), token, agent: agent.into() }
    }

    /// Gets the page at `path`.
    pub fn get(&self, path: &str) -> Result<String, Failure> {
        let mut answer = self.send(self.agent.get(self.at(path)), RequestBuilder::call)?;
        answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(gone)
    }

    /// Hands in what a person wants changed.
    pub fn send_change(&self, change: &Change) -> Result<(), Failure> {
        let (path, body) = match change {
            Change::Command(order) => (COMMANDS, serde_json::to_string(order)),
            Change::Feedback(feedback) => (FEEDBACK, serde_json::to_string(feedback)),
        };
        let body = body.expect("what is meant for JSON becomes JSON");
        let request = self.agent.post(self.at(path)).header("Content-Type", "application/json");
        self.send(request, |request| request.send(body)).map(drop)
    }

    /// Gets a list.
    pub fn list<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        listed(&self.get(path)?).map_err(|error| Failure::Gone(format!("{path} is not what strayd says: {error}")))
    }

    /// Gets a document.
    pub fn document<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parsed(&self.get(path)?).map_err(|error| Failure::Gone(format!("{path} is not what strayd says: {error}")))
    }

    /// Reads everything that was before.
    pub fn look(&self) -> Result<Look, Failure> {
        let config: Value = self.document("/api/v1/config")?;
        Ok(Look {
            anomalies: self.list(ANOMALIES)?,
            beats: self.list("/api/v1/samples")?,
            models: self.list("/api/v1/models")?,
            partitions: self.list("/api/v1/partitions")?,
            wants_token: !config["admin"]["token_file"].is_null(),
        })
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn send<B>(
        &self,
        request: RequestBuilder<B>,
        send: impl FnOnce(RequestBuilder<B>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let request = match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let mut answer = send(request).map_err(gone)?;
        let status = answer.status().as_u16();
        if status < 300 {
            return Ok(answer);
        }
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let document: Option<Value> = serde_json::from_str(&text).ok();
        let said = document.as_ref().and_then(|document| document["error"].as_str());
        let said = said.map_or_else(|| format!("it answers {status}, which is not as strayd does"), clean);
        Err(Failure::Refused(status, said))
    }

    fn events(&self, last: Option<&str>) -> Result<Events<impl BufRead + use<>>, Failure> {
        let request = self.agent.get(self.at("/api/v1/events"));
        let request = match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        };
        let answer = self.send(request, RequestBuilder::call)?;
        Ok(Events { lines: BufReader::new(answer.into_body().into_reader()) })
    }
}

fn gone(error: ureq::Error) -> Failure {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    // Its number says nothing to people.
    Failure::Gone(clean(text.split(" (os error").next().unwrap_or(text)))
}

/// Tells what happens until nobody hears it, and comes back by itself when the daemon was away, with what was missed.
pub fn listen(link: &Link, tell: &Sender<Happened>, end: &Shutdown) {
    let (mut last, mut pause) = (None, PAUSE_STEP);
    while !tell.is_closed() {
        let why = match heard(link, tell, &mut last, &mut pause) {
            Ok(()) => "the connection has ended".to_owned(),
            Err(Failure::Gone(why)) if why.contains("timeout") => "it is silent".to_owned(),
            Err(failure) => failure.to_string(),
        };
        if tell.blocking_send(Happened::Lost(why)).is_err() || end.sleep(pause) {
            return;
        }
        pause = (pause + PAUSE_STEP).min(PAUSE_MAX);
    }
}

/// Tells what one connection says, until it ends.
fn heard(link: &Link, tell: &Sender<Happened>, last: &mut Option<String>, pause: &mut Duration) -> Result<(), Failure> {
    let mut events = link.events(last.as_deref())?;
    // After the stream was opened, so that nothing falls between the two; what comes twice is known by its id.
    let look = link.look()?;
    if tell.blocking_send(Happened::Looked(Box::new(look))).is_err() {
        return Ok(());
    }
    *pause = PAUSE_STEP;
    while let Some(event) = events.next().map_err(|error| Failure::Gone(clean(&error.to_string())))? {
        *last = event.id.or(last.take());
        let happened = match event.kind.as_str() {
            "status" => parsed(&event.data).map(|status| Happened::Status(Box::new(status))),
            "anomaly" => parsed(&event.data).map(|anomaly| Happened::Anomaly(Box::new(anomaly))),
            _ => continue,
        };
        let happened = happened.map_err(|error| Failure::Gone(format!("an event is not what strayd says: {error}")))?;
        if tell.blocking_send(happened).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    kind: String,
    id: Option<String>,
    data: String,
}

/// The events of a stream (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
struct Events<R> {
    lines: R,
}

impl<R: BufRead> Events<R> {
    /// The next one; none at the end.
    fn next(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if (&mut self.lines).take(ANSWER_BYTES_MAX).read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if !event.data.is_empty() {
                    return Ok(Some(event));
                }
                event = Event::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.kind),
                "id" => event.id = Some(value.to_owned()),
                "data" => event.data.push_str(value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_their_lines() {
        let text = ": hello\n\nevent: status\nretry: 1000\ndata: {\"a\":\ndata: 1}\n\nevent: anomaly\r\nid: 17-4\r\ndata:x\r\n\r\ndata: cut";
        let mut events = Events { lines: text.as_bytes() };
        let mut next = || events.next().expect("text");
        let event = |kind: &str, id: Option<&str>, data: &str| {
            Some(Event { kind: kind.into(), id: id.map(str::to_owned), data: data.into() })
        };
        assert_eq!(next(), event("status", None, "{\"a\":1}"));
        assert_eq!(next(), event("anomaly", Some("17-4"), "x"));
        assert_eq!(next(), None, "what was cut off is no event");
    }
}
