//! The ordered list of features that a model was fitted on, with its fingerprint.
//!
//! Two schemas are the same exactly when their fingerprints are; where they differ, [`Schema::difference`] says in words
//! which feature does. A schema never holds two features of one name, and a categorical feature knows its categories.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::kind::{Kind, KindName};

/// One feature of the features topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Feature {
    /// Name under which records carry it; unique in its schema.
    pub name: String,
    /// What its values mean.
    pub kind: Kind,
}

/// The features of a topic, in the order of the columns of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Schema {
    features: Vec<Feature>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missing_indicator: bool,
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
    /// A feature's kind lacks something or has what it can't use.
    #[error("feature `{name}`: {problem}")]
    Kind {
        /// The feature.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// A feature as it is written down; kinds without settings write none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    kind: KindName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
}

/// What serde reads before the checks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    features: Vec<Feature>,
    #[serde(default)]
    missing_indicator: bool,
}

impl From<Feature> for Written {
    fn from(feature: Feature) -> Self {
        let (kind, period, categories) = match feature.kind {
            Kind::Cyclic { period } => (KindName::Cyclic, Some(period), None),
            Kind::Categorical { categories } => (KindName::Categorical, None, Some(categories)),
            kind => (kind.name(), None, None),
        };
        Self { name: feature.name, kind, period, categories }
    }
}

impl TryFrom<Written> for Feature {
    type Error = SchemaError;

    fn try_from(written: Written) -> Result<Self, SchemaError> {
        let name = written.name;
        match Kind::new(written.kind, written.period, written.categories) {
            Ok(kind) => Ok(Self { name, kind }),
            Err(problem) => Err(SchemaError::Kind { name, problem }),
        }
    }
}

impl TryFrom<Unchecked> for Schema {
    type Error = SchemaError;

    fn try_from(unchecked: Unchecked) -> Result<Self, SchemaError> {
        let schema = Self::from_features(unchecked.features)?;
        Ok(if unchecked.missing_indicator { schema.with_missing_indicator() } else { schema })
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
        check_names(features.iter().map(|feature| feature.name.as_str()))?;
        Ok(Self { features, missing_indicator: false })
    }

    /// Adds an input to every feature that says whether its value is missing.
    #[must_use]
    pub fn with_missing_indicator(self) -> Self {
        Self { missing_indicator: true, ..self }
    }

    /// The features in column order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Number of raw values in a row.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }

    /// Whether every feature has an input that says whether its value is missing.
    pub fn missing_indicator(&self) -> bool {
        self.missing_indicator
    }

    /// The names in column order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(|feature| feature.name.as_str())
    }

    /// SHA-256 over names, kinds, periods and categories in order, in hexadecimal: equal for equal schemas only.
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
        let names: Vec<&str> = topic.names().collect();
        if let Some(difference) = self.difference_of_names(&names) {
            return Some(difference);
        }
        let pairs = self.features.iter().zip(&topic.features);
        let kinds = pairs.filter(|(model, topic)| model.kind != topic.kind).map(|(model, topic)| {
            let (name, model, topic) = (&model.name, &model.kind, &topic.kind);
            match (model, topic) {
                (Kind::Categorical { categories: known }, Kind::Categorical { categories }) => {
                    difference_of_categories(name, known, categories)
                }
                _ => format!("feature `{name}` is {model} in the model and {topic} in the topic"),
            }
        });
        let indicator = || {
            let words = |has: bool| if has { "has" } else { "lacks" };
            let (model, topic) = (words(self.missing_indicator), words(topic.missing_indicator));
            format!("the model {model} schema.missing_indicator and the topic {topic} it")
        };
        kinds.into_iter().next().or((self.missing_indicator != topic.missing_indicator).then(indicator))
    }

    /// Says which of `topic`'s names differs from this schema of a model, or `None` when they are equal.
    pub fn difference_of_names(&self, topic: &[&str]) -> Option<String> {
        let (n_model, n_topic) = (self.n_features(), topic.len());
        let missing = self.names().find(|name| !topic.contains(name));
        let extra = topic.iter().find(|name| !self.names().any(|known| known == **name));
        if n_model != n_topic {
            let which = match (missing, extra) {
                (Some(missing), Some(extra)) => {
                    format!("the topic lacks `{missing}`, the model doesn't know `{extra}`")
                }
                (Some(missing), None) => format!("the topic lacks `{missing}`"),
                (None, Some(extra)) => format!("the model doesn't know `{extra}`"),
                (None, None) => "a name stands twice".to_owned(),
            };
            return Some(format!("the model has {n_model} features and the topic {n_topic}: {which}"));
        }
        let (i, (model, topic)) = self.names().zip(topic).enumerate().find(|(_, (model, topic))| model != *topic)?;
        Some(format!("feature {} is `{model}` in the model and `{topic}` in the topic", i + 1))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// Refuses lists without a name, with an empty one, or with one that occurs twice.
pub(super) fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    for (i, name) in names.into_iter().enumerate() {
        if name.is_empty() {
            return Err(SchemaError::Unnamed { position: i + 1 });
        }
        if !seen.insert(name) {
            return Err(SchemaError::Duplicate { name: name.to_owned() });
        }
    }
    if seen.is_empty() { Err(SchemaError::Empty) } else { Ok(()) }
}

fn difference_of_categories(name: &str, known: &[String], topic: &[String]) -> String {
    let lacks = known.iter().find(|category| !topic.contains(category));
    let extra = topic.iter().find(|category| !known.contains(category));
    match (lacks, extra) {
        (Some(category), _) => format!("`{name}` has the category `{category}` in the model only"),
        (None, Some(category)) => format!("`{name}` has the category `{category}` in the topic only"),
        (None, None) => format!("`{name}` has its categories in another order"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> Schema {
        Schema::new(names.iter().copied()).unwrap()
    }

    fn of(kind: Kind) -> Schema {
        Schema::from_features(vec![Feature { name: "x".into(), kind }]).unwrap()
    }

    fn categories(list: &[&str]) -> Kind {
        Kind::Categorical { categories: list.iter().map(|category| (*category).to_owned()).collect() }
    }

    #[test]
    fn bad_lists_of_names_are_refused() {
        assert_eq!(Schema::new(Vec::<String>::new()), Err(SchemaError::Empty));
        assert_eq!(Schema::new(["a", ""]), Err(SchemaError::Unnamed { position: 2 }));
        assert_eq!(Schema::new(["a", "b", "a"]), Err(SchemaError::Duplicate { name: "a".into() }));
        for text in [
            r#"{"features":[{"name":"a"},{"name":"a"}]}"#,
            r#"{"features":[{"name":"a","kind":"cyclic"}]}"#,
            r#"{"features":[{"name":"a","kind":"cyclic","period":0.0}]}"#,
            r#"{"features":[{"name":"a","kind":"numeric","period":1.0}]}"#,
            r#"{"features":[{"name":"a","kind":"categorical"}]}"#,
            r#"{"features":[{"name":"a","kind":"categorical","categories":["x","x"]}]}"#,
        ] {
            assert!(serde_json::from_str::<Schema>(text).is_err(), "{text}");
        }
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
    fn difference_and_fingerprint_know_kinds_periods_and_categories() {
        let schemas = [
            of(Kind::Numeric),
            of(Kind::Log),
            of(Kind::Boolean),
            of(Kind::Cyclic { period: 24.0 }),
            of(Kind::Cyclic { period: 7.0 }),
            of(categories(&["tcp", "udp"])),
            of(categories(&["udp", "tcp"])),
            of(categories(&["tcp"])),
            of(Kind::Numeric).with_missing_indicator(),
        ];
        for (i, a) in schemas.iter().enumerate() {
            for (j, b) in schemas.iter().enumerate() {
                assert_eq!(a.difference(b).is_none(), i == j, "{a:?} {b:?}");
                assert_eq!(a.fingerprint() == b.fingerprint(), i == j, "{a:?} {b:?}");
            }
            let back: Schema = serde_json::from_str(&serde_json::to_string(a).unwrap()).unwrap();
            assert_eq!(&back, a);
        }
        let period = schemas[3].difference(&schemas[4]).unwrap();
        assert_eq!(period, "feature `x` is cyclic with period 24 in the model and cyclic with period 7 in the topic");
        let category = schemas[5].difference(&schemas[7]).unwrap();
        assert_eq!(category, "`x` has the category `udp` in the model only");
    }

    #[test]
    fn numeric_schemas_are_written_as_ever() {
        let written = serde_json::to_string(&schema(&["a", "b"])).unwrap();
        assert_eq!(written, r#"{"features":[{"name":"a","kind":"numeric"},{"name":"b","kind":"numeric"}]}"#);
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
