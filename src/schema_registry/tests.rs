//! Tests of what is remembered of a registry. What it says over HTTP is `tests/formats.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::decode::WrittenIn;

/// A registry that knows even ids, and is away while told so.
#[derive(Clone, Default)]
struct Scripted {
    n_asked: Arc<AtomicUsize>,
    is_away: Arc<Mutex<bool>>,
}

impl SchemaRegistry for Scripted {
    fn schema(&self, id: u32) -> Result<Written, SchemaError> {
        self.n_asked.fetch_add(1, Ordering::Relaxed);
        self.ping()?;
        match id % 2 {
            0 => Ok(Written { kind: WrittenIn::Avro, text: id.to_string(), references: Vec::new() }),
            _ => Err(SchemaError::Unknown("there is none".into())),
        }
    }

    fn register(&self, _: &str, _: &Written) -> Result<u32, SchemaError> {
        Err(SchemaError::Unknown("nothing is taken".into()))
    }

    fn ping(&self) -> Result<(), SchemaError> {
        let is_away = *self.is_away.lock().expect("not poisoned");
        if is_away { Err(SchemaError::Unreachable("it is away".into())) } else { Ok(()) }
    }
}

#[test]
fn a_schema_is_asked_for_once_whether_it_is_there_or_not() {
    let registry = Scripted::default();
    let schemas = Schemas::new(Box::new(registry.clone()));
    for _ in 0..3 {
        assert_eq!(schemas.get(4).expect("known").text, "4");
        assert_eq!(schemas.get(5), Err(SchemaError::Unknown("there is none".into())));
    }
    assert_eq!(registry.n_asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_registry_that_is_away_is_asked_seldom_and_forgiven() {
    let registry = Scripted::default();
    let schemas = Schemas::new(Box::new(registry.clone()));
    *registry.is_away.lock().expect("not poisoned") = true;
    for id in 0..1000 {
        assert_eq!(schemas.get(id), Err(SchemaError::Unreachable("it is away".into())));
    }
    assert!(registry.n_asked.load(Ordering::Relaxed) < 10);
    assert_eq!(schemas.trouble().as_deref(), Some("it is away"));
    *registry.is_away.lock().expect("not poisoned") = false;
    let deadline = Instant::now() + Duration::from_secs(10);
    while schemas.get(2).is_err() {
        assert!(Instant::now() < deadline, "the registry is asked again");
    }
    assert_eq!(schemas.trouble(), None);
}

#[test]
fn without_a_registry_every_schema_is_unknown() {
    assert!(matches!(Schemas::default().get(1), Err(SchemaError::Unknown(_))));
}

#[test]
fn rubbish_does_not_fill_the_memory() {
    let schemas = Schemas::new(Box::new(Scripted::default()));
    (0..3 * SCHEMAS_MAX as u32).for_each(|id| drop(schemas.get(id)));
    let known = schemas.0.as_ref().expect("a registry").state.lock().expect("not poisoned");
    assert!(known.schemas.len() <= SCHEMAS_MAX && known.unknown.len() <= SCHEMAS_MAX);
}

#[test]
fn keys_that_do_not_fit_together_are_named() {
    let check = |config: Config| config.check().err().unwrap_or_default().join("; ");
    let url = |url: &str| Config { url: Some(url.into()), ..Config::default() };
    assert_eq!(check(url("http://localhost:8081/")), "");
    assert!(check(url("localhost:8081")).starts_with("url "));
    assert!(check(url("https://me:secret@registry")).contains("password_file"));
    assert!(!check(url("https://me:secret@registry")).contains("secret@"));
    assert!(check(Config { username: Some("me".into()), ..Config::default() }).contains("belong together"));
    assert!(check(Config { timeout: Duration::ZERO, ..Config::default() }).starts_with("timeout"));
}
