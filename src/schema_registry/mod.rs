//! Where writers keep the schemas of their records: a schema registry with Confluent's API, over HTTP. strayd's own are
//! registered there when it starts.
//!
//! [`Schemas`] remembers what it has fetched, and how a registry that is away behaves: it is asked again after a pause that
//! grows, however many records wait for it.

mod http;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use http::HttpRegistry;

use crate::decode::Written;

/// Pauses between two attempts to reach a registry that is away.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long an id that the registry doesn't know is not asked for again: a replica of the registry may lag behind.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);
/// Most ids that are remembered: a topic has a few, and rubbish may name any.
const SCHEMAS_MAX: usize = 1000;

/// How to reach the schema registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the registry, `http://` or `https://`, for `decode.format` and `output.format` `avro` and `protobuf`;
    /// any with Confluent's API, such as Apicurio's under `/apis/ccompat/v7`.
    pub url: Option<String>,
    /// User of basic authentication.
    pub username: Option<String>,
    /// File with that user's password; a trailing line break is dropped.
    pub password_file: Option<PathBuf>,
    /// File with a bearer token, instead of a user.
    pub token_file: Option<PathBuf>,
    /// File with the trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let timeout = Duration::from_secs(5);
        Self { url: None, username: None, password_file: None, token_file: None, ca_file: None, timeout }
    }
}

impl Config {
    /// Checks what goes beyond types.
    ///
    /// Errors: one sentence for each key that is wrong, which begins with the key.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Some(url) = &self.url {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
                problems.push("url must be http://host:port or https://host:port".to_owned());
            }
            if host.is_some_and(|host| host.split('/').next().is_some_and(|host| host.contains('@'))) {
                problems.push("url holds a user; username and password_file are the place for it".to_owned());
            }
        }
        if self.username.is_some() != self.password_file.is_some() {
            problems.push("username and password_file belong together".to_owned());
        }
        if self.username.is_some() && self.token_file.is_some() {
            problems.push("token_file can't be used beside username".to_owned());
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(60) {
            problems.push("timeout must be from 1 ms to 1 min: a lane waits so long".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Why a schema can't be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// The registry answers, and has none that can be used.
    #[error("{0}")]
    Unknown(String),
    /// The registry can't be asked at the moment; trying again is right.
    #[error("{0}")]
    Unreachable(String),
}

/// A schema registry.
pub trait SchemaRegistry: Send + Sync {
    /// The schema `id`, with those that it refers to.
    ///
    /// Errors: see [`SchemaError`].
    fn schema(&self, id: u32) -> Result<Written, SchemaError>;

    /// The id of `schema` as a version of `subject`; it is registered where it isn't one yet.
    ///
    /// Errors: see [`SchemaError`]; `Unknown` where the registry refuses it.
    fn register(&self, subject: &str, schema: &Written) -> Result<u32, SchemaError>;

    /// Asks whether the registry answers.
    ///
    /// Errors: see [`SchemaError`].
    fn ping(&self) -> Result<(), SchemaError>;
}

/// The schemas that were met, for all lanes and the trainer. A clone is the same.
#[derive(Clone, Default)]
pub struct Schemas(Option<Arc<Known>>);

struct Known {
    registry: Box<dyn SchemaRegistry>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    schemas: HashMap<u32, Arc<Written>>,
    unknown: HashMap<u32, (Instant, String)>,
    away: Option<Away>,
}

/// A registry that is away.
struct Away {
    reason: String,
    pause: Duration,
    until: Instant,
}

impl Schemas {
    /// Schemas of `registry`.
    pub fn new(registry: Box<dyn SchemaRegistry>) -> Self {
        Self(Some(Arc::new(Known { registry, state: Mutex::default() })))
    }

    /// The registry, where there is one.
    pub fn registry(&self) -> Option<&dyn SchemaRegistry> {
        self.0.as_ref().map(|known| &*known.registry)
    }

    /// Why the registry is waited for, if it is.
    pub fn trouble(&self) -> Option<String> {
        let state = self.0.as_ref()?.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.away.as_ref().map(|away| away.reason.clone())
    }

    /// The schema `id`. Asks the registry where it isn't known yet, unless that was away a moment ago. One asks at a time:
    /// the others wait for the same answer.
    ///
    /// Errors: see [`SchemaError`].
    pub fn get(&self, id: u32) -> Result<Arc<Written>, SchemaError> {
        let Some(known) = &self.0 else {
            return Err(SchemaError::Unknown("schema_registry.url is not set".to_owned()));
        };
        known.state.lock().unwrap_or_else(PoisonError::into_inner).get(id, &*known.registry)
    }
}

impl State {
    fn get(&mut self, id: u32, registry: &dyn SchemaRegistry) -> Result<Arc<Written>, SchemaError> {
        if let Some(schema) = self.schemas.get(&id) {
            return Ok(Arc::clone(schema));
        }
        let now = Instant::now();
        if let Some((until, message)) = self.unknown.get(&id)
            && now < *until
        {
            return Err(SchemaError::Unknown(message.clone()));
        }
        if let Some(away) = &self.away
            && now < away.until
        {
            return Err(SchemaError::Unreachable(away.reason.clone()));
        }
        let answer = registry.schema(id);
        let now = Instant::now();
        self.away = match &answer {
            Err(SchemaError::Unreachable(reason)) => {
                let pause = self.away.as_ref().map_or(PAUSE_MIN, |away| (away.pause * 2).min(PAUSE_MAX));
                Some(Away { reason: reason.clone(), pause, until: now + pause })
            }
            _ => None,
        };
        if let Err(SchemaError::Unknown(message)) = &answer {
            if self.unknown.len() >= SCHEMAS_MAX {
                self.unknown.clear();
            }
            self.unknown.insert(id, (now + UNKNOWN_TIME, message.clone()));
        }
        let schema = Arc::new(answer?);
        if self.schemas.len() >= SCHEMAS_MAX {
            self.schemas.clear();
        }
        self.schemas.insert(id, Arc::clone(&schema));
        Ok(schema)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
