//! What the values of a feature mean, and how a configuration says so.
//!
//! A [`Kind`] belongs to a schema and is complete: a categorical feature has its categories. A [`Wish`] is what a person
//! wrote, which may leave the kind to strayd; categories are always learnt, never written.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize, de};

use super::schema::{SchemaError, check_names};

/// Most categories of one feature that get an input of their own; all others share one. MODEL 2.2.
pub const CATEGORIES_MAX: usize = 32;

/// What the values of a feature mean, which decides how they become inputs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A number; one input by its z-score.
    #[default]
    Numeric,
    /// A number over orders of magnitude; one input by the z-score of sign(v)·ln(1+|v|).
    Log,
    /// One of a few names; one input for each of `categories` and one for all others, which share one weight.
    Categorical {
        /// The known ones, most frequent first; a row holds the index, and their number for any other.
        categories: Vec<String>,
    },
    /// Yes or no; one input, 0 or 1 in a row.
    Boolean,
    /// A number that comes round, as the hour of a day; two inputs, sine and cosine, which share one weight.
    Cyclic {
        /// After how much it comes round; above 0.
        period: f64,
    },
}

/// The name of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindName {
    /// [`Kind::Numeric`].
    #[default]
    Numeric,
    /// [`Kind::Log`].
    Log,
    /// [`Kind::Categorical`].
    Categorical,
    /// [`Kind::Boolean`].
    Boolean,
    /// [`Kind::Cyclic`].
    Cyclic,
}

/// The kind of a feature as a configuration says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WishedKind {
    /// Decided by what a sample holds: text is categorical, `true` and `false` boolean, everything else numeric.
    #[default]
    Auto,
    /// [`Kind::Numeric`].
    Numeric,
    /// [`Kind::Log`].
    Log,
    /// [`Kind::Categorical`].
    Categorical,
    /// [`Kind::Boolean`].
    Boolean,
    /// [`Kind::Cyclic`].
    Cyclic,
}

/// A feature as a configuration says it: `"temp"`, or `{ name = "hour", kind = "cyclic", period = 24.0 }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "Said")]
pub struct Wish {
    /// Name under which records carry it.
    pub name: String,
    /// What its values mean. Default `auto`.
    pub kind: WishedKind,
    /// After how much a cyclic value comes round; above 0. Only for `cyclic`, which must have it.
    pub period: Option<f64>,
}

/// The two ways of writing a wish.
#[derive(Serialize)]
#[serde(untagged)]
enum Said {
    Name(String),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    #[serde(default)]
    kind: WishedKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<f64>,
}

impl Kind {
    /// Makes a kind of its parts.
    ///
    /// Errors: what is missing, out of range, or of no use to this kind.
    pub(super) fn new(name: KindName, period: Option<f64>, categories: Option<Vec<String>>) -> Result<Self, String> {
        if period.is_some() && name != KindName::Cyclic {
            return Err("only a cyclic feature has a period".to_owned());
        }
        if categories.is_some() && name != KindName::Categorical {
            return Err("only a categorical feature has categories".to_owned());
        }
        Ok(match name {
            KindName::Numeric => Self::Numeric,
            KindName::Log => Self::Log,
            KindName::Boolean => Self::Boolean,
            KindName::Cyclic => Self::Cyclic { period: check_period(period)? },
            KindName::Categorical => {
                let categories = categories.ok_or("a categorical feature has a list of categories")?;
                let n_different = categories.iter().collect::<HashSet<_>>().len();
                if n_different != categories.len() || n_different > CATEGORIES_MAX {
                    return Err(format!("its categories must be at most {CATEGORIES_MAX} and differ"));
                }
                Self::Categorical { categories }
            }
        })
    }

    pub(super) fn name(&self) -> KindName {
        match self {
            Self::Numeric => KindName::Numeric,
            Self::Log => KindName::Log,
            Self::Categorical { .. } => KindName::Categorical,
            Self::Boolean => KindName::Boolean,
            Self::Cyclic { .. } => KindName::Cyclic,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numeric => f.write_str("numeric"),
            Self::Log => f.write_str("log"),
            Self::Categorical { categories } => write!(f, "categorical with {} known values", categories.len()),
            Self::Boolean => f.write_str("boolean"),
            Self::Cyclic { period } => write!(f, "cyclic with period {period}"),
        }
    }
}

impl Wish {
    /// A feature whose kind is left to strayd.
    pub fn auto(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: WishedKind::Auto, period: None }
    }

    /// Refuses a list of wishes that no schema can follow.
    ///
    /// # Errors
    /// When there is no wish, an empty name or one that occurs twice, or a period is missing, out of range or of no use.
    pub fn check(wishes: &[Self]) -> Result<(), SchemaError> {
        check_names(wishes.iter().map(|wish| wish.name.as_str()))?;
        for Self { name, kind, period } in wishes {
            let problem = match kind {
                WishedKind::Cyclic => check_period(*period).err(),
                _ => period.map(|_| "only a cyclic feature has a period".to_owned()),
            };
            if let Some(problem) = problem {
                return Err(SchemaError::Kind { name: name.clone(), problem });
            }
        }
        Ok(())
    }

    /// Whether `kind` is what was wished.
    pub fn is_met_by(&self, kind: &Kind) -> bool {
        match (self.kind, kind) {
            (WishedKind::Auto, _)
            | (WishedKind::Numeric, Kind::Numeric)
            | (WishedKind::Log, Kind::Log)
            | (WishedKind::Categorical, Kind::Categorical { .. })
            | (WishedKind::Boolean, Kind::Boolean) => true,
            (WishedKind::Cyclic, Kind::Cyclic { period }) => self.period == Some(*period),
            _ => false,
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.period) {
            (WishedKind::Cyclic, Some(period)) => write!(f, "cyclic with period {period}"),
            (kind, _) => write!(f, "{}", format!("{kind:?}").to_lowercase()),
        }
    }
}

/// By hand, since an untagged enum would not say which kinds there are.
impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> de::Visitor<'de> for Reading {
    type Value = Wish;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or { name = …, kind = …, period = … }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Wish, E> {
        Ok(Wish::auto(name))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Wish, A::Error> {
        let Table { name, kind, period } = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Wish { name, kind, period })
    }
}

impl From<Wish> for Said {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish { name, kind: WishedKind::Auto, period: None } => Self::Name(name),
            Wish { name, kind, period } => Self::Table(Table { name, kind, period }),
        }
    }
}

fn check_period(period: Option<f64>) -> Result<f64, String> {
    let period = period.ok_or("a cyclic feature needs a period")?;
    if period.is_finite() && period > 0.0 { Ok(period) } else { Err(format!("period {period} must be above 0")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(text: &str) -> Result<Vec<Wish>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_tables_may_be_mixed() {
        let text = r#"["a",{"name":"b","kind":"categorical"},{"name":"h","kind":"cyclic","period":24.0}]"#;
        let read = wishes(text).expect("right");
        assert_eq!(read[0], Wish::auto("a"));
        assert_eq!((read[2].kind, read[2].period), (WishedKind::Cyclic, Some(24.0)));
        assert_eq!(Wish::check(&read), Ok(()));
        assert_eq!(serde_json::to_string(&read).expect("plain"), text);
    }

    #[test]
    fn wishes_that_cannot_be_followed_are_refused() {
        let problem = |text: &str| Wish::check(&wishes(text).expect("readable")).expect_err("refused").to_string();
        assert_eq!(problem("[]"), "a schema has at least one feature, got none");
        assert_eq!(problem(r#"[{"name":"h","kind":"cyclic"}]"#), "feature `h`: a cyclic feature needs a period");
        assert_eq!(problem(r#"[{"name":"h","kind":"cyclic","period":-1}]"#), "feature `h`: period -1 must be above 0");
        assert_eq!(problem(r#"[{"name":"h","period":5}]"#), "feature `h`: only a cyclic feature has a period");
        let octal = wishes(r#"[{"name":"h","kind":"octal"}]"#).expect_err("no kind");
        assert!(octal.contains("unknown variant `octal`, expected one of `auto`, `numeric`"), "{octal}");
        assert!(wishes("[1]").expect_err("no name").contains("expected a name, or {"));
    }

    #[test]
    fn a_wish_is_met_by_its_kind_alone() {
        let cyclic = Wish { name: "h".into(), kind: WishedKind::Cyclic, period: Some(24.0) };
        assert!(cyclic.is_met_by(&Kind::Cyclic { period: 24.0 }));
        assert!(!cyclic.is_met_by(&Kind::Cyclic { period: 12.0 }));
        assert!(!cyclic.is_met_by(&Kind::Numeric));
        assert!(Wish::auto("h").is_met_by(&Kind::Boolean));
    }
}
