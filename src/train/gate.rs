//! Whether a challenger takes the champion's place: judged on held-out rows that neither was trained on.
//!
//! MODEL 3.5. Harm comes first: a challenger that is not sound, has lost sensitivity to planted anomalies, no longer
//! flags what was confirmed or quarantined, or is plainly worse is rejected. One that does no harm is promoted when it is
//! plainly better; a tie keeps the champion. Under drift no loss suffices, and so it does for a model that settles.
//! Every number that was looked at is in the decision. Pure and seeded; it neither trains nor stores.

mod bootstrap;
mod corrupt;
mod live;
mod units;
mod view;

use std::fmt;

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::Rows;
use super::holdout::is_holdout;
use super::learn::rng;
use crate::model::Model;
use crate::sae::Kind;
use crate::score::ranking;
use crate::turn::give_way;
use bootstrap::mean_interval;
pub use live::planted;
use units::CommonUnits;
use view::{Health, View};

/// Newest rows whose quarantined ones must stay flagged. Older ones may be of a regime that has since been admitted.
const QUARANTINE_SPAN: usize = 2048;
/// With a larger share of quarantined rows the stream itself has changed, and what the champion says of them means
/// nothing.
const SHIFT_SHARE: f64 = 0.5;
/// Fewest held-out rows that anything can be said of.
const ROWS_MIN: usize = 16;
/// Fewest planted anomalies of a kind: a short holdout is corrupted several times.
const CORRUPTED_MIN: usize = 512;
/// One-sided level of the bootstrap.
const LEVEL: f64 = 0.05;

/// What a challenger must show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// Whether challengers are judged; false: every round's model goes live unjudged.
    pub enabled: bool,
    /// Share of the mean residual by which a challenger must be better; 0 to 1.
    pub improvement: f64,
    /// Share of the variance by which the mean residual may surely rise; 0 to 1.
    ///
    /// Beyond it the challenger is rejected. 0.01 kept KDD from learning its bursts: .90 for .985.
    pub harm: f64,
    /// Draws of the bootstrap; at least 100.
    pub resamples: usize,
    /// Share of the champion's sensitivity to planted anomalies that a challenger must have; 0 to 1.
    ///
    /// AUC-ROC of planted anomalies over held-out rows.
    pub sensitivity: f64,
    /// Share of confirmed and quarantined anomalies that must stay flagged; 0 to 1.
    pub canaries: f64,
    /// Least rank correlation of the scores; below, they mean something else, which needs drift or a person; 0 to 1.
    pub correlation: f64,
    /// Newest held-out rows that are looked at.
    ///
    /// More of them are older, and a champion is good at what is gone.
    pub holdout_rows: usize,
    /// Held-out rows below which a challenger that does no harm is promoted.
    pub settling_rows: usize,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            improvement: 0.01,
            harm: 0.03,
            resamples: 500,
            sensitivity: 0.95,
            canaries: 0.9,
            correlation: 0.5,
            holdout_rows: 512,
            settling_rows: 1000,
        }
    }
}

impl GateConfig {
    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let shares = [
            ("improvement", self.improvement),
            ("harm", self.harm),
            ("sensitivity", self.sensitivity),
            ("canaries", self.canaries),
            ("correlation", self.correlation),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                problems.push(format!("{name} is {share}, it must be from 0 to 1"));
            }
        }
        if self.resamples < 100 {
            problems.push(format!("resamples is {}, it must be at least 100", self.resamples));
        }
        if self.holdout_rows < ROWS_MIN {
            problems.push(format!("holdout_rows is {}, it must be at least {ROWS_MIN}", self.holdout_rows));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// What a decision rests on.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Admitted held-out rows that there were, those not looked at included.
    pub n_held_out: usize,
    /// Held-out raw rows that the champion admitted, in time order, `[rows, n_features]`.
    pub holdout: Array2<f32>,
    /// Raw rows that people confirmed as anomalies, `[rows, n_features]`.
    pub canaries: Array2<f32>,
    /// Newest rows among which quarantined ones were looked for.
    pub n_newest: usize,
    /// Newest raw rows that were not admitted and that nobody called normal, `[rows, n_features]`.
    pub quarantine: Array2<f32>,
    /// Whether a drift was found: then no loss suffices.
    pub drift: bool,
    /// The share of records that may alert, q.
    pub target_alert_rate: f64,
    /// Seed of corruption and bootstrap.
    pub seed: u64,
}

/// How a judgement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The challenger takes the champion's place.
    Promote,
    /// The champion stays; the challenger does no harm, and the next round may go on from it.
    Keep,
    /// The champion stays; the challenger is thrown away.
    Reject,
}

/// One condition with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// The champion's figure.
    #[serde(deserialize_with = "nan_for_null")]
    pub champion: f64,
    /// The challenger's figure; not finite where it diverged.
    #[serde(deserialize_with = "nan_for_null")]
    pub challenger: f64,
    /// What the challenger's figure is held to.
    #[serde(deserialize_with = "nan_for_null")]
    pub limit: f64,
    /// Whether it holds.
    pub passed: bool,
}

/// A judgement, with every number it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// How it ends.
    pub outcome: Outcome,
    /// Why, in words.
    pub reason: String,
    /// Every condition, whether it decided or not.
    pub checks: Vec<Check>,
    /// Whether the challenger ranks records so differently that its scores mean something else.
    pub semantic_change: bool,
    /// Held-out rows that were looked at.
    pub n_holdout: usize,
}

/// JSON has no NaN: what is not finite is written as null.
fn nan_for_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, champion, challenger, limit, passed } = self;
        let mark = if *passed { "" } else { " (fails)" };
        write!(f, "{name} {challenger:.4} (champion {champion:.4}, limit {limit:.4}){mark}")
    }
}

impl Evidence {
    /// Sorts a round's rows into evidence; `admitted` says of each, in the same order, whether the champion admitted it.
    pub fn new(rows: &Rows, admitted: &[bool], target_alert_rate: f64, seed: u64, config: &GateConfig) -> Self {
        let held: Vec<usize> = (0..rows.len()).filter(|&i| admitted[i] && is_holdout(rows.ids[i])).collect();
        let n_held_out = held.len();
        let held = &held[n_held_out.saturating_sub(config.holdout_rows)..];
        let newest = rows.len().saturating_sub(QUARANTINE_SPAN)..rows.len();
        let n_newest = newest.len();
        let mut quarantined: Vec<usize> = newest.filter(|&i| !admitted[i]).collect();
        if quarantined.len() as f64 > SHIFT_SHARE * n_newest as f64 {
            quarantined.clear();
        }
        Self {
            n_held_out,
            holdout: rows.values.select(Axis(0), held),
            canaries: Array2::zeros((0, rows.values.ncols())),
            n_newest,
            quarantine: rows.values.select(Axis(0), &quarantined),
            drift: false,
            target_alert_rate,
            seed,
        }
    }
}

/// What randomness is for: independent streams (MODEL 3.9).
#[derive(Clone, Copy)]
enum Purpose {
    Bootstrap = 64,
    Corruption = 65,
}

/// Both models, and what each makes of the held-out rows.
struct Pair<'a> {
    champion: &'a Model,
    challenger: &'a Model,
    before: View,
    after: View,
}

/// Judges `challenger` against `champion`; both must have the same schema.
pub fn judge(champion: &Model, challenger: &Model, evidence: &Evidence, config: &GateConfig) -> Decision {
    let (holdout, n_holdout) = (evidence.holdout.view(), evidence.holdout.nrows());
    let units = CommonUnits::of(champion, holdout);
    let [before, after] = [champion, challenger].map(|model| View::by(model, holdout, &units));
    let pair = Pair { champion, challenger, before, after };
    let mut checks = pair.sound();
    let decided = |outcome, reason: String, checks, semantic_change| Decision {
        outcome,
        reason,
        checks,
        semantic_change,
        n_holdout,
    };
    if n_holdout < ROWS_MIN {
        let reason = format!("{n_holdout} held-out rows are too few to judge by");
        return decided(Outcome::Keep, reason, checks, false);
    }
    if checks.iter().any(|check| !check.passed) {
        let reason = failed(&checks);
        return decided(Outcome::Reject, reason, checks, false);
    }
    checks.extend(pair.sensitivity(evidence, config));
    checks.extend(pair.stays_flagged(evidence, config));
    let comparison = pair.residuals(&units, evidence, config);
    checks.push(comparison.not_worse.clone());
    let correlation = pair.correlation(config);
    let semantic_change = !correlation.passed;
    let harmed = checks.iter().any(|check| !check.passed);
    let reason = failed(&checks);
    checks.extend([comparison.improvement.clone(), comparison.certainty.clone(), correlation]);
    if harmed {
        return decided(Outcome::Reject, reason, checks, semantic_change);
    }
    if semantic_change && !evidence.drift {
        let reason = "its scores mean something else, which needs drift or a person".to_owned();
        return decided(Outcome::Keep, reason, checks, semantic_change);
    }
    let (outcome, reason) = match () {
        () if comparison.improvement.passed && comparison.certainty.passed => (Outcome::Promote, "it is better"),
        () if evidence.drift && comparison.improvement.challenger >= 0.0 => {
            (Outcome::Promote, "the stream drifts and it is no worse")
        }
        () if evidence.n_held_out < config.settling_rows => (Outcome::Promote, "the model settles and it does no harm"),
        () => (Outcome::Keep, "it is no better"),
    };
    decided(outcome, reason.to_owned(), checks, semantic_change)
}

/// The first of the conditions that don't hold, in words; empty when all do.
fn failed(checks: &[Check]) -> String {
    let words = |check: &Check| format!("{} is {:.4}, the limit is {:.4}", check.name, check.challenger, check.limit);
    checks.iter().find(|check| !check.passed).map(words).unwrap_or_default()
}

/// How the residuals of both compare.
struct Comparison {
    not_worse: Check,
    improvement: Check,
    certainty: Check,
}

impl Pair<'_> {
    /// Whether the challenger is a working autoencoder: finite, explains something, neither silent nor dense nor dead. Where
    /// the champion is beyond a limit itself, the challenger must be no worse.
    fn sound(&self) -> Vec<Check> {
        let (before, after) = (&self.before.health, &self.after.health);
        let check = |name: &str, of: fn(&Health) -> f64, limit: f64, passed: fn(f64, f64) -> bool| {
            let (champion, challenger) = (of(before), of(after));
            Check { name: name.to_owned(), champion, challenger, limit, passed: passed(challenger, limit) }
        };
        let (least, most) = (0.5, 1.5);
        let mut checks = vec![
            check("share of finite scores", |health| health.finite, 1.0, |value, limit| value >= limit),
            check(
                "explained variance",
                |health| health.explained,
                before.explained.min(0.0),
                |value, limit| value > limit,
            ),
            check("share of dead latents", |health| health.dead, before.dead.max(0.5), |value, limit| value <= limit),
        ];
        if matches!(self.challenger.autoencoder.kind, Kind::SatTopk | Kind::Topk | Kind::Batchtopk | Kind::Jumprelu) {
            let least = least * before.active.min(1.0);
            let most = most * before.active.max(1.0);
            checks.push(check("active latents per k", |health| health.active, least, |value, limit| value >= limit));
            checks.push(check(
                "active latents per k, at most",
                |health| health.active,
                most,
                |value, limit| value <= limit,
            ));
        }
        checks
    }

    /// Condition 2: the trimmed mean residual in common units, and how sure the difference is.
    fn residuals(&self, units: &CommonUnits, evidence: &Evidence, config: &GateConfig) -> Comparison {
        let pairs = trimmed(finite(&self.before.residuals, &self.after.residuals).collect());
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len().max(1) as f64;
        let (champion, challenger) = (mean(|pair| pair.0), mean(|pair| pair.1));
        give_way();
        let gains: Vec<f64> = pairs.iter().map(|(before, after)| before - after).collect();
        let mut rng = rng(evidence.seed, Purpose::Bootstrap as u64);
        let (low, high) = mean_interval(&gains, config.resamples, LEVEL, &mut rng);
        let whole = champion.max(f64::MIN_POSITIVE);
        give_way();
        let limit = champion + config.harm * units.variance(self.champion, evidence.holdout.view());
        let (gain, low, high) = ((champion - challenger) / whole, low / whole, high / whole);
        let check = |name: &str, champion, challenger, limit, passed| Check {
            name: name.to_owned(),
            champion,
            challenger,
            limit,
            passed,
        };
        Comparison {
            // Against what there is to explain: where hardly anything is left unexplained, twice that is still little.
            not_worse: check("mean residual", champion, challenger, limit, high >= 0.0 || challenger <= limit),
            improvement: check("improvement", 0.0, gain, config.improvement, gain >= config.improvement),
            certainty: check("improvement, at least", 0.0, low, 0.0, low > 0.0),
        }
    }

    /// Condition 3: how well planted anomalies are told from the held-out rows, as an AUC-ROC.
    ///
    /// Recall at an alert level would favour the champion, which chose the held-out rows: it finds none of them
    /// remarkable. A rank over all of them hardly feels that their last few hundredths are cut off.
    fn sensitivity(&self, evidence: &Evidence, config: &GateConfig) -> [Check; 2] {
        let holdout = evidence.holdout.view();
        let n = holdout.nrows().max(CORRUPTED_MIN);
        let mut rng = rng(evidence.seed, Purpose::Corruption as u64);
        let scales = live::scales(holdout);
        give_way();
        let swapped = corrupt::swapped(holdout, n, &mut rng);
        give_way();
        let shifted = corrupt::shifted(holdout, &scales, n, &mut rng);
        give_way();
        let check = |name: &str, rows: &Array2<f32>| {
            let champion = separation(&self.before.z, &z_scores(self.champion, rows.view()));
            give_way();
            let challenger = separation(&self.after.z, &z_scores(self.challenger, rows.view()));
            give_way();
            let limit = config.sensitivity * champion;
            Check { name: name.to_owned(), champion, challenger, limit, passed: challenger >= limit }
        };
        [check("sensitivity to swapped values", &swapped), check("sensitivity to shifted values", &shifted)]
    }

    /// Condition 4: of what the champion flags among confirmed and quarantined rows, what the challenger flags.
    fn stays_flagged(&self, evidence: &Evidence, config: &GateConfig) -> [Check; 2] {
        let q = evidence.target_alert_rate;
        // An ordinary stream is flagged at this rate, by each of two models at other rows.
        let by_chance = 2.0 * q * evidence.n_newest as f64 + 2.0;
        let check = |name: &str, rows: &Array2<f32>, allowed: f64| {
            let (before, after) = (below(self.champion, rows, q), below(self.challenger, rows, q));
            let pairs = before.iter().zip(after);
            let of_flagged: Vec<bool> = pairs.filter(|(before, _)| **before).map(|(_, after)| after).collect();
            let stays = if of_flagged.is_empty() { 1.0 } else { share(&of_flagged) };
            let n_lost = of_flagged.iter().filter(|flagged| !**flagged).count() as f64;
            let (champion, limit) = (share(&before), config.canaries);
            Check {
                name: name.to_owned(),
                champion,
                challenger: stays,
                limit,
                passed: stays >= limit || n_lost <= allowed,
            }
        };
        [
            check("share of canaries that stay flagged", &evidence.canaries, 0.0),
            check("share of quarantined rows that stay flagged", &evidence.quarantine, by_chance),
        ]
    }

    /// Condition 5: the rank correlation of both models' scores.
    fn correlation(&self, config: &GateConfig) -> Check {
        let (before, after): (Vec<f64>, Vec<f64>) = finite(&self.before.z, &self.after.z).unzip();
        let correlation = ranking::spearman(&before, &after).unwrap_or(0.0);
        let (limit, passed) = (config.correlation, correlation >= config.correlation);
        Check { name: "rank correlation".to_owned(), champion: 1.0, challenger: correlation, limit, passed }
    }
}

/// What both say of each row of which both say something.
fn finite<'a>(before: &'a [f64], after: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let pairs = before.iter().copied().zip(after.iter().copied());
    pairs.filter(|(before, after)| before.is_finite() && after.is_finite())
}

/// AUC-ROC of `planted` over `ordinary` scores; NaN are left out.
fn separation(ordinary: &[f64], planted: &[f64]) -> f64 {
    let both = || ordinary.iter().map(|z| (*z, false)).chain(planted.iter().map(|z| (*z, true)));
    let (scores, labels): (Vec<f64>, Vec<bool>) = both().filter(|(z, _)| !z.is_nan()).unzip();
    ranking::auc_roc(&scores, &labels).unwrap_or(0.5)
}

/// Whether each row's p-value under `model` is at most `p`.
fn below(model: &Model, rows: &Array2<f32>, p: f64) -> Vec<bool> {
    let limit = model.calibration.tail.z_at(p);
    z_scores(model, rows.view()).into_iter().map(|z| z >= limit).collect()
}

/// The standardised scores of raw rows.
fn z_scores(model: &Model, rows: ArrayView2<'_, f32>) -> Vec<f64> {
    let mut scores = Vec::with_capacity(rows.nrows());
    model.score_all(rows, |_, workspace| scores.extend_from_slice(workspace.z()));
    scores
}

/// The pairs, in their order, without the hundredth with the largest sums: the same rows go for both.
fn trimmed(pairs: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const TRIM: f64 = 0.01;
    let mut sums: Vec<f64> = pairs.iter().map(|(before, after)| before + after).collect();
    sums.sort_by(f64::total_cmp);
    let n_kept = sums.len() - (TRIM * sums.len() as f64).ceil() as usize;
    let Some(limit) = n_kept.checked_sub(1).map(|last| sums[last]) else { return pairs };
    pairs.into_iter().filter(|(before, after)| before + after <= limit).collect()
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}
