//! The ordered list of features that a model was fitted on, with its fingerprint.
//!
//! Two schemas are the same exactly when their fingerprints are; where they differ, [`Schema::difference`] says in words
//! which feature does. A schema never holds two features of one name.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the values of a feature mean, which decides how they become inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A number; becomes one input by its z-score.
    #[default]
    Numeric,
}

/// One feature of the features topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Name under which records carry it; unique in its schema.
    pub name: String,
    /// What its values mean.
    #[serde(default)]
    pub kind: Kind,
}

/// The features of a topic, in the order of the columns of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Schema {
    features: Vec<Feature>,
}

/// Why a list of features is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There is not one feature.
    #[error("a schema has at least one feature, got none")]
    Empty,
    /// A feature has an empty name.
    #[error("feature {position} of the schema has an empty name")]
    Unnamed {
        /// Place in the list, from 1.
        position: usize,
    },
    /// Two features have one name.
    #[error("feature name `{name}` occurs twice in the schema, names must be unique")]
    Duplicate {
        /// The name.
        name: String,
    },
}

/// What serde reads before the checks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    features: Vec<Feature>,
}

impl TryFrom<Unchecked> for Schema {
    type Error = SchemaError;

    fn try_from(unchecked: Unchecked) -> Result<Self, SchemaError> {
        Self::from_features(unchecked.features)
    }
}

impl Schema {
    /// Makes a schema of numeric features from their names.
    ///
    /// # Errors
    /// When there is no name, an empty one, or one that occurs twice.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self, SchemaError> {
        let feature = |name: S| Feature { name: name.into(), kind: Kind::Numeric };
        Self::from_features(names.into_iter().map(feature).collect())
    }

    /// Makes a schema from its features.
    ///
    /// # Errors
    /// When there is no feature, an empty name, or one that occurs twice.
    pub fn from_features(features: Vec<Feature>) -> Result<Self, SchemaError> {
        if features.is_empty() {
            return Err(SchemaError::Empty);
        }
        let mut seen = HashSet::new();
        for (i, feature) in features.iter().enumerate() {
            if feature.name.is_empty() {
                return Err(SchemaError::Unnamed { position: i + 1 });
            }
            if !seen.insert(feature.name.as_str()) {
                return Err(SchemaError::Duplicate { name: feature.name.clone() });
            }
        }
        Ok(Self { features })
    }

    /// The features in column order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Number of raw values in a row.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }

    /// The names in column order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(|feature| feature.name.as_str())
    }

    /// SHA-256 over names and kinds in order, in hexadecimal: equal for equal schemas only.
    pub fn fingerprint(&self) -> String {
        let canonical = serde_json::to_vec(self).expect("names and kinds are always JSON");
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(canonical) {
            write!(hex, "{byte:02x}").expect("a string takes every write");
        }
        hex
    }

    /// Says which feature of `topic` differs from this schema of a model, or `None` when they are equal.
    pub fn difference(&self, topic: &Self) -> Option<String> {
        let pairs = self.features.iter().zip(&topic.features).enumerate();
        let (n_model, n_topic) = (self.n_features(), topic.n_features());
        let missing = self.features.iter().find(|feature| !topic.names().any(|name| name == feature.name));
        let extra = topic.features.iter().find(|feature| !self.names().any(|name| name == feature.name));
        if n_model != n_topic {
            let which = match (missing, extra) {
                (Some(missing), Some(extra)) => {
                    format!("the topic lacks `{}`, the model doesn't know `{}`", missing.name, extra.name)
                }
                (Some(missing), None) => format!("the topic lacks `{}`", missing.name),
                (None, Some(extra)) => format!("the model doesn't know `{}`", extra.name),
                (None, None) => unreachable!("lists of unique names and different lengths differ in a name"),
            };
            return Some(format!("the model has {n_model} features and the topic {n_topic}: {which}"));
        }
        for (i, (model, topic)) in pairs {
            if model.name != topic.name {
                let (i, model, topic) = (i + 1, &model.name, &topic.name);
                return Some(format!("feature {i} is `{model}` in the model and `{topic}` in the topic"));
            }
            if model.kind != topic.kind {
                let (name, model, topic) = (&model.name, model.kind, topic.kind);
                return Some(format!("feature `{name}` is {model:?} in the model and {topic:?} in the topic"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> Schema {
        Schema::new(names.iter().copied()).unwrap()
    }

    #[test]
    fn bad_lists_of_names_are_refused() {
        assert_eq!(Schema::new(Vec::<String>::new()), Err(SchemaError::Empty));
        assert_eq!(Schema::new(["a", ""]), Err(SchemaError::Unnamed { position: 2 }));
        assert_eq!(Schema::new(["a", "b", "a"]), Err(SchemaError::Duplicate { name: "a".into() }));
        assert!(serde_json::from_str::<Schema>(r#"{"features":[{"name":"a"},{"name":"a"}]}"#).is_err());
    }

    #[test]
    fn difference_names_the_feature() {
        let model = schema(&["temp", "flow", "load"]);
        assert_eq!(model.difference(&model), None);
        let renamed = model.difference(&schema(&["temp", "flow", "speed"])).unwrap();
        assert_eq!(renamed, "feature 3 is `load` in the model and `speed` in the topic");
        let shorter = model.difference(&schema(&["temp", "flow"])).unwrap();
        assert_eq!(shorter, "the model has 3 features and the topic 2: the topic lacks `load`");
        let longer = model.difference(&schema(&["temp", "flow", "load", "x"])).unwrap();
        assert!(longer.contains("the model doesn't know `x`"), "{longer}");
    }

    #[test]
    fn fingerprint_tells_schemas_apart_and_survives_json() {
        let model = schema(&["a", "b"]);
        let back: Schema = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
        assert_eq!(model.fingerprint(), back.fingerprint());
        assert_eq!(model.fingerprint().len(), 64);
        assert_ne!(model.fingerprint(), schema(&["b", "a"]).fingerprint());
        assert_ne!(model.fingerprint(), schema(&["a", "b", "c"]).fingerprint());
    }
}
