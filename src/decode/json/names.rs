//! What the names of a record's fields mean.

use std::collections::HashMap;

use super::super::Config;
use super::super::field::Field;

/// What the names of an object's fields mean.
pub(super) struct Names {
    /// The features, in the order of the schema.
    pub(super) features: Vec<Field>,
    index: HashMap<String, usize>,
    /// The field that holds the vector, where the record isn't the vector itself.
    pub(super) field: Option<String>,
    /// The field that holds the event time.
    pub(super) time: Option<String>,
    /// Fields that are copied unread.
    pub(super) passthrough: Vec<Carried>,
}

/// A field that is copied unread.
pub(super) struct Carried {
    name: String,
    /// The name as JSON, with the colon.
    key: String,
}

impl Carried {
    /// Adds the field to the object under construction in `out`, which still lacks its closing brace.
    pub(super) fn append(&self, raw: &str, out: &mut Vec<u8>) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(raw.as_bytes());
    }
}

/// Meaning of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Feature(usize),
    Vector,
    Time,
    Passthrough(usize),
    Unknown,
}

/// Whether the record itself or the vector inside it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Outer,
    Vector,
}

impl Names {
    pub(super) fn new(config: &Config, fields: &[Field]) -> Self {
        let carried = |name: &String| Carried { name: name.clone(), key: format!("{}:", serde_json::json!(name)) };
        Self {
            features: fields.to_vec(),
            index: fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect(),
            field: config.field.clone(),
            time: config.time_field.clone(),
            passthrough: config.passthrough.iter().map(carried).collect(),
        }
    }

    /// What the field `name` means at this level.
    pub(super) fn role(&self, level: Level, name: &str) -> Role {
        let holds_features = level == Level::Vector || self.field.is_none();
        if let (true, Some(&i)) = (holds_features, self.index.get(name)) {
            return Role::Feature(i);
        }
        if level == Level::Vector {
            return Role::Unknown;
        }
        if self.field.as_deref() == Some(name) {
            return Role::Vector;
        }
        if self.time.as_deref() == Some(name) {
            return Role::Time;
        }
        let carried = self.passthrough.iter().position(|carried| carried.name == name);
        carried.map_or(Role::Unknown, Role::Passthrough)
    }
}
