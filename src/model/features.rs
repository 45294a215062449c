//! From what was configured and what a sample holds to a schema, and from a schema to what a decoder needs.
//!
//! `auto` is conservative: it never takes a logarithm, never guesses a cycle, and numbers stay numbers however few of
//! them differ. What it chose and what it would suggest is said, so that a person can overrule it.

use crate::decode::{self, Field, Hints, Holds, InferError, Inferred, Observed};
use crate::preprocess::{CATEGORIES_MAX, Feature, Kind, Schema, SchemaError, Wish, WishedKind};

/// A schema, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The schema.
    pub schema: Schema,
    /// Fields that are not features, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Features for which another kind might be better, with the reason.
    pub suggestions: Vec<(String, String)>,
}

/// Why there is no schema.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ResolveError {
    /// The sample can't be read as vectors.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The features are no schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A categorical feature without a category.
    #[error("`{0}` is categorical and none of the sampled records holds it; wait for some that do, or take it out")]
    NoCategory(String),
}

/// What a decoder needs to know of the features of `schema`.
pub fn fields(schema: &Schema) -> Vec<Field> {
    let field = |Feature { name, kind }: &Feature| match kind {
        Kind::Categorical { categories } => Field::category(name, categories),
        Kind::Boolean => Field::boolean(name),
        _ => Field::number(name),
    };
    schema.features().iter().map(field).collect()
}

/// Whether the schema of `wishes` depends on a sample: packed values are numbers, so that `auto` is settled there.
pub fn needs_sample(wishes: &[Wish], format: decode::Format) -> bool {
    let open = |wish: &Wish| match wish.kind {
        WishedKind::Auto => format != decode::Format::Packed,
        kind => kind == WishedKind::Categorical,
    };
    wishes.is_empty() || wishes.iter().any(open)
}

/// The schema of `wishes`, or of what the sample shows where there are none.
///
/// # Errors
/// When the sample shows no features, or not what was wished.
pub fn resolve(wishes: &[Wish], config: &decode::Config, sample: &[Vec<u8>]) -> Result<Resolved, ResolveError> {
    if !wishes.is_empty() {
        Wish::check(wishes)?;
    }
    let names: Vec<String> = wishes.iter().map(|wish| wish.name.clone()).collect();
    let categorical = wishes.iter().filter(|wish| wish.kind == WishedKind::Categorical);
    let categorical: Vec<String> = categorical.map(|wish| wish.name.clone()).collect();
    let hints = Hints { names: &names, categorical: &categorical, categories_max: CATEGORIES_MAX };
    let Inferred { fields, left_out } = decode::infer(config, hints, sample)?;
    let mut features = Vec::with_capacity(fields.len());
    let mut suggestions = Vec::new();
    for (i, Observed { name, holds, categories }) in fields.into_iter().enumerate() {
        let (kind, period) = wishes.get(i).map_or((WishedKind::Auto, None), |wish| (wish.kind, wish.period));
        if kind == WishedKind::Auto && holds == (Holds::Numbers { skewed: true }) {
            let why = "its values are never negative and have a long tail; try kind = \"log\"";
            suggestions.push((name.clone(), why.to_owned()));
        }
        let kind = match (kind, holds) {
            (WishedKind::Categorical, _) | (WishedKind::Auto, Holds::Texts) => Kind::Categorical { categories },
            (WishedKind::Boolean, _) | (WishedKind::Auto, Holds::Booleans) => Kind::Boolean,
            (WishedKind::Log, _) => Kind::Log,
            (WishedKind::Cyclic, _) => Kind::Cyclic { period: period.unwrap_or(f64::NAN) },
            (WishedKind::Numeric | WishedKind::Auto, _) => Kind::Numeric,
        };
        if matches!(&kind, Kind::Categorical { categories } if categories.is_empty()) {
            return Err(ResolveError::NoCategory(name));
        }
        features.push(Feature { name, kind });
    }
    Ok(Resolved { schema: Schema::from_features(features)?, left_out, suggestions })
}

/// Says which feature of a stored model is not as wished, or `None` when all are.
pub fn difference(schema: &Schema, wishes: &[Wish]) -> Option<String> {
    let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
    schema.difference_of_names(&names).or_else(|| {
        let pairs = schema.features().iter().zip(wishes);
        let (feature, wish) = pairs.into_iter().find(|(feature, wish)| !wish.is_met_by(&feature.kind))?;
        Some(format!("feature `{}` is {} in the model and {wish} in schema.features", feature.name, feature.kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(text: &str) -> Vec<Wish> {
        serde_json::from_str(text).expect("wishes")
    }

    fn sample() -> Vec<Vec<u8>> {
        let record = |i: usize| {
            let proto = ["tcp", "tcp", "udp"][i % 3];
            let bytes = (i as f64 / 8.0).exp().powi(2);
            format!(
                r#"{{"proto": "{proto}", "up": {}, "port": {}, "bytes": {bytes}}}"#,
                i.is_multiple_of(2),
                [80, 22][i % 2]
            )
        };
        (0..99).map(|i| record(i).into_bytes()).collect()
    }

    #[test]
    fn auto_chooses_by_type_and_suggests_a_logarithm_at_most() {
        let resolved = resolve(&[], &decode::Config::default(), &sample()).expect("a schema");
        let kinds: Vec<String> = resolved.schema.features().iter().map(ToString::to_string).collect();
        let wanted = ["proto (categorical with 2 known values)", "up (boolean)", "port (numeric)", "bytes (numeric)"];
        assert_eq!(kinds, wanted);
        assert_eq!(resolved.suggestions.len(), 1);
        assert_eq!(resolved.suggestions[0].0, "bytes");
    }

    #[test]
    fn what_was_wished_is_kept() {
        let text = r#"["up",{"name":"port","kind":"categorical"},{"name":"bytes","kind":"log"},
                      {"name":"hour","kind":"cyclic","period":24}]"#;
        let wishes = wishes(text);
        let schema = resolve(&wishes, &decode::Config::default(), &sample()).expect("a schema").schema;
        let kinds: Vec<&Kind> = schema.features().iter().map(|feature| &feature.kind).collect();
        let port = Kind::Categorical { categories: vec!["80".into(), "22".into()] };
        assert_eq!(kinds, [&Kind::Boolean, &port, &Kind::Log, &Kind::Cyclic { period: 24.0 }]);
        assert_eq!(difference(&schema, &wishes), None);
        let mut other = wishes.clone();
        other[3].period = Some(12.0);
        let said = difference(&schema, &other).expect("another period");
        assert_eq!(
            said,
            "feature `hour` is cyclic with period 24 in the model and cyclic with period 12 in schema.features"
        );
        let gone = resolve(
            &[Wish { kind: WishedKind::Categorical, ..Wish::auto("x") }],
            &decode::Config::default(),
            &sample(),
        );
        assert_eq!(gone, Err(ResolveError::NoCategory("x".into())));
    }

    #[test]
    fn packed_names_need_no_sample() {
        let names = wishes(r#"["a","b"]"#);
        assert!(!needs_sample(&names, decode::Format::Packed));
        assert!(needs_sample(&names, decode::Format::Json));
        assert!(needs_sample(&wishes(r#"[{"name":"a","kind":"categorical"}]"#), decode::Format::Packed));
        assert!(!needs_sample(&wishes(r#"[{"name":"a","kind":"log"}]"#), decode::Format::Json));
    }
}
