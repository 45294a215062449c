//! What the names of a record's fields mean.

use std::collections::HashMap;

use super::super::Config;
use super::super::field::Field;

/// What the names of an object's fields mean.
pub(in crate::decode) struct Names {
    /// The features, in the order of the schema.
    pub(in crate::decode) features: Vec<Field>,
    index: HashMap<String, usize>,
    /// The field that holds the vector, where the record isn't the vector itself.
    pub(in crate::decode) field: Option<String>,
    /// The field that holds the event time.
    pub(in crate::decode) time: Option<String>,
    /// Fields that are copied unread.
    pub(in crate::decode) passthrough: Vec<Carried>,
    /// Features inside inner records, by dotted names: for each inner record its own path, empty where names aren't
    /// taken apart (JSON, where a dot is a letter as any other).
    inner: Vec<String>,
}

/// A field that is copied unread.
pub(in crate::decode) struct Carried {
    name: String,
    /// The name as JSON, with the colon.
    key: String,
}

impl Carried {
    /// Adds the field to the object under construction in `out`, which still lacks its closing brace.
    pub(in crate::decode) fn append(&self, raw: &str, out: &mut Vec<u8>) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(raw.as_bytes());
    }
}

/// Meaning of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum Role {
    Feature(usize),
    Vector,
    Time,
    Passthrough(usize),
    /// An inner record that holds features under dotted names.
    Inner(usize),
    Unknown,
}

/// Whether the record itself or the vector inside it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum Level {
    Outer,
    Vector,
    /// An inner record, by its number.
    Inner(usize),
}

impl Names {
    pub(in crate::decode) fn new(config: &Config, fields: &[Field]) -> Self {
        let carried = |name: &String| Carried { name: name.clone(), key: format!("{}:", serde_json::json!(name)) };
        Self {
            features: fields.to_vec(),
            index: fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect(),
            field: config.field.clone(),
            time: config.time_field.clone(),
            passthrough: config.passthrough.iter().map(carried).collect(),
            inner: Vec::new(),
        }
    }

    /// Takes names with dots apart: `a.b` is the field `b` of the record `a`.
    pub(in crate::decode) fn with_inner_records(mut self) -> Self {
        for field in &self.features {
            for (at, _) in field.name.match_indices('.') {
                let path = field.name[..at].to_owned();
                if !self.inner.contains(&path) {
                    self.inner.push(path);
                }
            }
        }
        self
    }

    /// What the field `name` means at this level.
    pub(in crate::decode) fn role(&self, level: Level, name: &str) -> Role {
        if let Level::Inner(parent) = level {
            return self.role_inside(&self.inner[parent], name);
        }
        let holds_features = level == Level::Vector || self.field.is_none();
        if let (true, Some(&i)) = (holds_features, self.index.get(name)) {
            return Role::Feature(i);
        }
        if level == Level::Vector {
            return self.inner(name);
        }
        if self.field.as_deref() == Some(name) {
            return Role::Vector;
        }
        if self.time.as_deref() == Some(name) {
            return Role::Time;
        }
        let carried = self.passthrough.iter().position(|carried| carried.name == name);
        let inner = || if holds_features { self.inner(name) } else { Role::Unknown };
        carried.map_or_else(inner, Role::Passthrough)
    }

    /// The dotted path of inner record `i`.
    pub(in crate::decode) fn inner_name(&self, i: usize) -> &str {
        &self.inner[i]
    }

    fn inner(&self, path: &str) -> Role {
        self.inner.iter().position(|inner| inner == path).map_or(Role::Unknown, Role::Inner)
    }

    /// What the field `name` means in the inner record `parent`: there are few, so they are looked through.
    fn role_inside(&self, parent: &str, name: &str) -> Role {
        let is_it = |path: &str| path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.')) == Some(name);
        if let Some(i) = self.features.iter().position(|field| is_it(&field.name)) {
            return Role::Feature(i);
        }
        self.inner.iter().position(|path| is_it(path)).map_or(Role::Unknown, Role::Inner)
    }
}
