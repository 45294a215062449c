//! Why one record scored as it did: features by their share of the residual, and latents that are out of the usual.
//!
//! Two scales, each of shares. A feature's contribution is the share of its inputs in the record's weighted squared
//! residual: the contributions of *all* features sum to 1, so those of the listed ones and `unexplained` (the rest) do. A pattern's contribution is
//! its share of the squared deviation of all latents from their usual activation, (f−usual)²·‖d‖²; patterns describe how
//! the record was encoded and never add to the features' sum. No number here is NaN or infinite.

use std::cmp::Reverse;
use std::ops::Range;

use ndarray::ArrayView1;
use serde::Serialize;

use super::cards::{Cards, LatentCard};
use crate::record::Value;

/// A latent whose usual activation is below this is usually silent.
const SILENT: f32 = 0.05;

/// What an explanation is made of; all of one record.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Standardised values, `[n_inputs]`.
    pub x: ArrayView1<'a, f32>,
    /// 1 observed, 0 missing, `[n_inputs]`.
    pub mask: ArrayView1<'a, f32>,
    /// Reconstruction, `[n_inputs]`.
    pub recons: ArrayView1<'a, f32>,
    /// Latents, `[n_latents]`.
    pub latents: ArrayView1<'a, f32>,
    /// Weights of the inputs in the score, `[n_inputs]`.
    pub weights: &'a [f32],
    /// The inputs of each feature, `[n_features]`; the first is missing where the value is.
    pub columns: &'a [Range<usize>],
    /// Values as they came, `[n_features]`, raw units; `None` where missing.
    pub actual: &'a [Option<Value>],
    /// Reconstruction in raw units, `[n_features]`.
    pub expected: &'a [Value],
}

/// Why a record scored as it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The features with the largest contributions, largest first.
    pub features: Vec<FeatureReason>,
    /// The latents furthest from their usual activation, largest contribution first.
    pub patterns: Vec<PatternReason>,
    /// Share of the squared residual in features that are not listed, from 0 to 1.
    pub unexplained: f64,
}

/// One feature's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureReason {
    /// Name of the feature.
    pub name: String,
    /// Its value, raw units; `None` where missing.
    pub actual: Option<Value>,
    /// What the autoencoder made of the record, raw units.
    pub expected: Value,
    /// Residual in units of this feature's usual residual; positive above the expectation, and always positive where
    /// the feature has several inputs.
    pub residual_z: f32,
    /// Share of the squared residual, from 0 to 1.
    pub contribution: f64,
    /// Whether the value was missing: it then has no part in the score, but by its missing indicator.
    pub missing: bool,
}

/// One latent's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatternReason {
    /// Id of the latent, kept from model to model.
    pub latent: u64,
    /// Its label if people gave it one, else its name from its decoder loadings.
    pub name: String,
    /// Activation in this record.
    pub activation: f32,
    /// Mean activation on held-out rows.
    pub usual: f32,
    /// 99th percentile of its activation on held-out rows.
    pub p99: f32,
    /// How the activation differs from the usual.
    pub role: Role,
    /// Share of all latents' squared deviation, from 0 to 1.
    pub contribution: f64,
}

/// How a latent's activation differs from the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Active, usually silent.
    Unexpected,
    /// More active than usual.
    Stronger,
    /// Less active than usual.
    Weaker,
    /// Silent, usually active.
    Missing,
}

impl Explanation {
    /// Explains a record by its `top_n` features and patterns; `names` are those of the features.
    pub fn new(evidence: &Evidence<'_>, cards: &Cards, names: &[&str], top_n: usize) -> Self {
        let features = features(evidence, cards, names, top_n);
        let listed: f64 = features.iter().map(|feature| feature.contribution).sum();
        Self { features, patterns: patterns(evidence, cards, top_n), unexplained: (1.0 - listed).max(0.0) }
    }

    /// One sentence for a person.
    pub fn summary(&self) -> String {
        let Some(feature) = self.features.first().filter(|feature| feature.contribution > 0.0) else {
            return "no single feature stands out".into();
        };
        let (name, expected) = (&feature.name, words(&feature.expected));
        let size = feature.residual_z.abs();
        let mut sentence = match &feature.actual {
            None => format!("{name} is missing where it seldom is"),
            // In a unit of its own only a number has a distance that says something.
            Some(Value::Number(actual)) => {
                format!("{name} is {} where {expected} was expected ({size:.1} \u{3c3})", number(*actual))
            }
            Some(actual) if *actual == feature.expected => format!("{name} is {expected}, which does not fit the rest"),
            Some(actual) => format!("{name} is {} where {expected} was expected", words(actual)),
        };
        if let Some(pattern) = self.patterns.first() {
            sentence.push_str(&format!("; pattern '{}' {}", pattern.name, pattern.role.words()));
        }
        sentence
    }
}

impl Role {
    /// By how far from 0 both are: the codes of `dense` and `pca` have two signs.
    fn of(activation: f32, usual: f32) -> Self {
        let (activation, usual) = (activation.abs(), usual.abs());
        match (activation > 0.0, activation > usual) {
            (true, _) if usual < SILENT => Self::Unexpected,
            (_, true) => Self::Stronger,
            (true, false) => Self::Weaker,
            (false, false) => Self::Missing,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Unexpected => "is active, usually silent",
            Self::Stronger => "is stronger than usual",
            Self::Weaker => "is weaker than usual",
            Self::Missing => "is silent, usually active",
        }
    }
}

fn features(evidence: &Evidence<'_>, cards: &Cards, names: &[&str], top_n: usize) -> Vec<FeatureReason> {
    let residual = |j: usize| (evidence.x[j] - evidence.recons[j]) * evidence.mask[j];
    let weighted = |j: usize, size: f32| f64::from(evidence.weights[j]) * f64::from(size).powi(2);
    let sum = |i: usize, size: &dyn Fn(usize) -> f32| -> f64 {
        evidence.columns[i].clone().map(|j| weighted(j, size(j))).sum()
    };
    let squares: Vec<f64> = (0..names.len()).map(|i| sum(i, &residual)).collect();
    let total: f64 = squares.iter().sum();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    let residual_z = |i: usize| match evidence.columns[i].clone() {
        columns if columns.len() == 1 => residual(columns.start) / cards.residual_scale[columns.start],
        _ => (squares[i] / sum(i, &|j| cards.residual_scale[j])).sqrt() as f32,
    };
    let reason = |i: usize| FeatureReason {
        name: names[i].to_owned(),
        actual: evidence.actual[i].clone(),
        expected: evidence.expected[i].clone(),
        residual_z: residual_z(i),
        contribution: if total > 0.0 { squares[i] / total } else { 0.0 },
        missing: evidence.actual[i].is_none(),
    };
    order.into_iter().take(top_n).map(reason).filter(|reason| reason.missing || reason.contribution > 0.0).collect()
}

fn patterns(evidence: &Evidence<'_>, cards: &Cards, top_n: usize) -> Vec<PatternReason> {
    let deviation = |(card, f): (&LatentCard, &f32)| f64::from((f - card.usual) * card.norm).powi(2);
    let squares: Vec<f64> = cards.latents.iter().zip(evidence.latents).map(deviation).collect();
    let total: f64 = squares.iter().sum();
    let mut order: Vec<usize> = (0..squares.len()).filter(|&i| squares[i] > 0.0).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]).then(Reverse(b).cmp(&Reverse(a))));
    let reason = |i: usize| PatternReason {
        latent: cards.latents[i].id,
        name: cards.latents[i].title().to_owned(),
        activation: evidence.latents[i],
        usual: cards.latents[i].usual,
        p99: cards.latents[i].p99,
        role: Role::of(evidence.latents[i], cards.latents[i].usual),
        contribution: squares[i] / total,
    };
    order.into_iter().take(top_n).map(reason).collect()
}

/// Writes a value for a person: a category in quotes.
fn words(value: &Value) -> String {
    match value {
        Value::Number(value) => number(*value),
        Value::Text(category) => format!("\"{category}\""),
        Value::Boolean(value) => value.to_string(),
    }
}

/// Writes a raw value with about three digits: 91.0, 0.0421, 1.2e7.
fn number(value: f32) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1e6.. | ..1e-3 => format!("{value:.1e}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::aview1;

    use super::*;

    fn card(name: &str, usual: f32) -> LatentCard {
        LatentCard { name: name.into(), usual, frequency: 0.1, norm: 1.0, ..LatentCard::default() }
    }

    fn numbers(values: &[f32]) -> Vec<Value> {
        values.iter().copied().map(Value::Number).collect()
    }

    fn example(top_n: usize) -> Explanation {
        labelled(top_n, BTreeMap::new())
    }

    fn labelled(top_n: usize, labels: BTreeMap<u64, String>) -> Explanation {
        let mut cards = Cards {
            residual_scale: vec![0.5, 1.0, 1.0],
            latents: vec![card("+temp", 0.4), card("+load \u{2212}flow", 0.01)],
            next_id: 2,
        };
        cards.number_from(30);
        cards.set_labels(&labels);
        let evidence = Evidence {
            x: aview1(&[4.0, -1.0, 0.0]),
            mask: aview1(&[1.0, 1.0, 0.0]),
            recons: aview1(&[1.0, 0.0, 3.0]),
            latents: aview1(&[0.0, 0.9]),
            weights: &[1.0; 3],
            columns: &[0..1, 1..2, 2..3],
            actual: &[Some(Value::Number(91.0)), Some(Value::Number(2.0)), None],
            expected: &numbers(&[62.4, 3.0, 7.0]),
        };
        Explanation::new(&evidence, &cards, &["temp", "flow", "load"], top_n)
    }

    #[test]
    fn contributions_of_listed_features_and_the_rest_sum_to_one() {
        for top_n in 0..5 {
            let explanation = example(top_n);
            let listed: f64 = explanation.features.iter().map(|feature| feature.contribution).sum();
            assert!((listed + explanation.unexplained - 1.0).abs() < 1e-12, "{top_n}");
        }
        let all = example(3);
        assert_eq!(all.features[0].contribution, 0.9);
        assert_eq!((all.features[0].residual_z, all.features[1].residual_z), (6.0, -1.0));
        assert_eq!((all.features[2].missing, &all.features[2].actual), (true, &None));
        assert!((all.patterns.iter().map(|p| p.contribution).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!((all.patterns[0].role, all.patterns[1].role), (Role::Unexpected, Role::Missing));
    }

    #[test]
    fn the_summary_reads_like_a_sentence() {
        let wanted = "temp is 91.0 where 62.4 was expected (6.0 \u{3c3}); \
                      pattern '+load \u{2212}flow' is active, usually silent";
        assert_eq!(example(3).summary(), wanted);
        assert_eq!(example(0).summary(), "no single feature stands out");
    }

    #[test]
    fn a_pattern_has_the_id_of_its_latent_and_its_label_as_name() {
        let explanation = labelled(3, BTreeMap::from([(31, "start-up".into())]));
        let patterns: Vec<(u64, &str)> = explanation.patterns.iter().map(|p| (p.latent, p.name.as_str())).collect();
        assert_eq!(patterns, [(31, "start-up"), (30, "+temp")]);
        assert!(explanation.summary().ends_with("pattern 'start-up' is active, usually silent"));
    }

    #[test]
    fn an_exact_reconstruction_has_no_reasons() {
        let x = aview1(&[1.0, 2.0]);
        let evidence = Evidence {
            x,
            mask: aview1(&[1.0, 1.0]),
            recons: x,
            latents: aview1(&[]),
            weights: &[1.0; 2],
            columns: &[0..1, 1..2],
            actual: &[Some(Value::Number(1.0)), Some(Value::Number(2.0))],
            expected: &numbers(&[1.0, 2.0]),
        };
        let cards = Cards { residual_scale: vec![1.0, 1.0], latents: vec![], next_id: 0 };
        let explanation = Explanation::new(&evidence, &cards, &["a", "b"], 5);
        assert_eq!((explanation.features.len(), explanation.unexplained), (0, 1.0));
    }

    #[test]
    fn roles_go_by_the_size_of_an_activation() {
        let cases = [(0.9, 0.0, Role::Unexpected), (0.9, 0.5, Role::Stronger), (0.2, 0.5, Role::Weaker)];
        for (activation, usual, role) in cases {
            assert_eq!(Role::of(activation, usual), role);
            assert_eq!(Role::of(-activation, -usual), role);
        }
        assert_eq!(Role::of(0.0, 0.5), Role::Missing);
    }

    #[test]
    fn the_inputs_of_a_category_are_one_feature() {
        let cards = Cards { residual_scale: vec![0.5; 4], latents: vec![], next_id: 0 };
        let text = |category: &str| Value::Text(category.into());
        let evidence = Evidence {
            x: aview1(&[-1.0, 3.0, 0.0, 1.0]),
            mask: aview1(&[1.0; 4]),
            recons: aview1(&[1.0, 0.0, 0.0, 0.0]),
            latents: aview1(&[]),
            weights: &[0.25, 0.25, 0.5, 1.0],
            columns: &[0..2, 2..4],
            actual: &[Some(text("icmp")), Some(Value::Boolean(true))],
            expected: &[text("tcp"), Value::Boolean(false)],
        };
        let why = Explanation::new(&evidence, &cards, &["proto", "up"], 5);
        // Σ c r²: (4 + 9)/4 of proto and 1 of up; usual Σ c s²: ½·¼ of proto.
        assert!((why.features[0].contribution - 3.25 / 4.25).abs() < 1e-9);
        assert!((f64::from(why.features[0].residual_z) - (3.25f64 / 0.125).sqrt()).abs() < 1e-5);
        assert!((why.features.iter().map(|f| f.contribution).sum::<f64>() + why.unexplained - 1.0).abs() < 1e-12);
        assert_eq!(why.summary(), r#"proto is "icmp" where "tcp" was expected"#);
        let written = serde_json::to_value(&why.features).expect("plain");
        assert_eq!((&written[0]["actual"], &written[1]["expected"]), (&"icmp".into(), &false.into()));
    }
}
