//! Successive halving under gates, and the choice at the end.
//!
//! η = 3 (Jamieson and Talwalkar 2016): all candidates with a ninth of the steps, the best third with a third, the best
//! third of those with all. The default climbs along beside them, so that every rung is judged in its own terms.

use std::cmp::Ordering;

use super::space::LR_FACTORS;
use super::{Candidate, Criterion, LEAD_MIN, Measure, Measured, Outcome, SEEDS, STEPS, Summary, TIE, Trial};
use crate::score::ranking::spearman;
use crate::train::{Config, TrainError};

/// Explained variance that a candidate must have, trimmed, unless the default itself is beyond: less knows nothing, more
/// copies everything.
const EXPLAINED: (f64, f64) = (0.3, 0.995);
/// Share of latents that may be dead.
const DEAD_MAX: f64 = 0.5;
/// How much worse than the default a candidate may tell corrupted rows, AUROC.
const CORRUPTION_SLACK: f64 = 0.05;
/// One in this many candidates climbs a rung.
const ETA: usize = 3;
/// How much smaller a validation loss must be before another learning rate is taken.
const LOSS_GAIN: f64 = 0.01;

/// Searches `candidates` for one that is clearly better than `default` for rows of `n_inputs` inputs. Seeds of trainings
/// count from `seed` on.
///
/// # Errors
/// When the default can't be trained, or a training was stopped.
pub fn search(
    default: &Config,
    candidates: Vec<Config>,
    n_inputs: usize,
    seed: u64,
    measure: Measure<'_>,
) -> Result<Outcome, TrainError> {
    let mut default = Candidate::new(default.clone(), n_inputs);
    let mut drawn: Vec<Candidate> = candidates.into_iter().map(|config| Candidate::new(config, n_inputs)).collect();
    let mut climbing: Vec<usize> = (0..drawn.len()).collect();
    let mut criterion = Criterion::Stability;
    for rung in 0..STEPS.len() {
        // The default is what the gates measure by: it passes none itself.
        let reference = default.measured(rung, seed, measure)?;
        (default.rungs, default.summary) = (rung + 1, Some(reference));
        criterion = match reference.average_precision {
            Some(_) => Criterion::AveragePrecision,
            None => Criterion::Stability,
        };
        for &i in &climbing {
            drawn[i].climb(rung, seed, measure)?;
            drawn[i].gate(&reference);
        }
        climbing.retain(|&i| drawn[i].dropped.is_none());
        if rung + 1 < STEPS.len() {
            let value = |i: usize| drawn[i].value(criterion);
            climbing.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(drawn[a].size().cmp(&drawn[b].size())));
            climbing.truncate(climbing.len().div_ceil(ETA));
        }
    }
    let mut chosen = choose(&drawn, &climbing, &default, criterion);
    if let Some(winner) = chosen {
        chosen = Some(try_rates(winner, &mut drawn, &default, criterion, seed, measure)?);
    }
    mark_pareto(&mut default, &mut drawn);
    Ok(Outcome { criterion, default, candidates: drawn, chosen })
}

impl Candidate {
    fn new(config: Config, n_inputs: usize) -> Self {
        let shape = config.sae.shape(n_inputs);
        let (n_latents, k) = (shape.n_latents, shape.k);
        Self { config, n_latents, k, rungs: 0, summary: None, dropped: None, pareto: false }
    }

    /// Trains it with the seeds of a rung.
    fn measured(&self, rung: usize, seed: u64, measure: Measure<'_>) -> Result<Summary, TrainError> {
        let trial = |i: u64| Trial { config: &self.config, share: STEPS[rung], seed: seed.wrapping_add(i) };
        let measured = (0..SEEDS[rung]).map(|i| measure(trial(i))).collect::<Result<Vec<Measured>, TrainError>>()?;
        Ok(summarise(&measured))
    }

    /// Takes it up a rung. A training that fails drops it; only being stopped is an error.
    fn climb(&mut self, rung: usize, seed: u64, measure: Measure<'_>) -> Result<(), TrainError> {
        match self.measured(rung, seed, measure) {
            Ok(summary) => (self.rungs, self.summary) = (rung + 1, Some(summary)),
            Err(TrainError::Stopped) => return Err(TrainError::Stopped),
            Err(error) => (self.summary, self.dropped) = (None, Some(error.to_string())),
        }
        Ok(())
    }

    /// Drops it where it must not be chosen, however stable it is: a model that says nothing is perfectly stable.
    fn gate(&mut self, default: &Summary) {
        let Some(of) = self.summary else { return };
        let explained = EXPLAINED.0.min(default.explained_variance)..=EXPLAINED.1.max(default.explained_variance);
        let reason = match () {
            () if !explained.contains(&of.explained_variance) => {
                format!("explained variance {:.3}", of.explained_variance)
            }
            () if of.latents_dead_ratio > DEAD_MAX => format!("{:.0} % dead", 100.0 * of.latents_dead_ratio),
            () if of.auc_swapped < default.auc_swapped - CORRUPTION_SLACK => {
                format!("swapped rows {:.3}, default {:.3}", of.auc_swapped, default.auc_swapped)
            }
            () if of.auc_shifted < default.auc_shifted - CORRUPTION_SLACK => {
                format!("shifted rows {:.3}, default {:.3}", of.auc_shifted, default.auc_shifted)
            }
            () => return,
        };
        self.dropped = Some(reason);
    }

    /// What it is chosen by; the lowest of all without measurements.
    fn value(&self, criterion: Criterion) -> f64 {
        let value = self.summary.and_then(|of| match criterion {
            Criterion::Stability => Some(of.stability),
            Criterion::AveragePrecision => of.average_precision,
        });
        value.unwrap_or(f64::NEG_INFINITY)
    }

    /// What ties are settled by: the smaller, the better.
    fn size(&self) -> (usize, usize) {
        (self.n_latents, self.k)
    }

    fn leads(&self, default: &Candidate, criterion: Criterion) -> bool {
        self.value(criterion) >= default.value(criterion) + LEAD_MIN
    }
}

/// The best of the finalists if it leads the default: of those within a tie of it the smallest.
fn choose(drawn: &[Candidate], finalists: &[usize], default: &Candidate, criterion: Criterion) -> Option<usize> {
    let value = |i: &usize| drawn[*i].value(criterion);
    let best = finalists.iter().map(value).max_by(f64::total_cmp)?;
    let near = finalists.iter().copied().filter(|i| value(i) > best - TIE && drawn[*i].leads(default, criterion));
    let smaller = |a: &usize, b: &usize| -> Ordering {
        drawn[*a].size().cmp(&drawn[*b].size()).then(value(b).total_cmp(&value(a))).then(a.cmp(b))
    };
    near.min_by(smaller)
}

/// Tries the winner with other learning rates, which validation loss may compare: form, sizes and sparsity are equal.
fn try_rates(
    winner: usize,
    drawn: &mut Vec<Candidate>,
    default: &Candidate,
    criterion: Criterion,
    seed: u64,
    measure: Measure<'_>,
) -> Result<usize, TrainError> {
    let reference = default.summary.expect("the default was measured");
    let loss = |candidate: &Candidate| candidate.summary.map_or(f64::INFINITY, |of| of.loss);
    let mut best = winner;
    for factor in LR_FACTORS {
        let mut other = drawn[winner].clone();
        other.config.sae.lr = (factor * default.config.sae.lr).min(1.0);
        if (other.config.sae.lr / drawn[winner].config.sae.lr - 1.0).abs() < 1e-9 {
            continue;
        }
        other.climb(STEPS.len() - 1, seed, measure)?;
        other.gate(&reference);
        let is_better = loss(&other) < (1.0 - LOSS_GAIN) * loss(&drawn[best]);
        drawn.push(other);
        let last = &drawn[drawn.len() - 1];
        if is_better && last.dropped.is_none() && last.leads(default, criterion) {
            best = drawn.len() - 1;
        }
    }
    Ok(best)
}

/// Marks what no other fully trained candidate beats in both explained variance and active latents.
fn mark_pareto(default: &mut Candidate, drawn: &mut [Candidate]) {
    let point = |of: &Candidate| {
        let full = of.summary.filter(|_| of.rungs == STEPS.len());
        full.map(|summary| (summary.explained_variance, summary.latents_active_mean))
    };
    let points: Vec<(f64, f64)> = drawn.iter().chain([&*default]).filter_map(point).collect();
    for candidate in drawn.iter_mut().chain([default]) {
        let beaten = |(ev, l0): (f64, f64)| {
            points
                .iter()
                .any(|&(other_ev, other_l0)| other_ev >= ev && other_l0 <= l0 && (other_ev > ev || other_l0 < l0))
        };
        candidate.pareto = point(candidate).is_some_and(|point| !beaten(point));
    }
}

fn summarise(measured: &[Measured]) -> Summary {
    let mean = |of: fn(&Measured) -> f64| measured.iter().map(of).sum::<f64>() / measured.len().max(1) as f64;
    let pairs = (0..measured.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    // Scores that are all equal correlate with nothing, and rank nothing.
    let correlations = pairs.map(|(a, b)| spearman(&measured[a].scores, &measured[b].scores).unwrap_or(0.0));
    let correlations: Vec<f64> = correlations.collect();
    let precisions: Option<Vec<f64>> = measured.iter().map(|of| of.average_precision).collect();
    Summary {
        stability: correlations.iter().sum::<f64>() / correlations.len().max(1) as f64,
        explained_variance: mean(|of| of.explained_variance),
        latents_active_mean: mean(|of| of.latents_active_mean),
        latents_dead_ratio: mean(|of| of.latents_dead_ratio),
        loss: mean(|of| of.loss),
        auc_swapped: mean(|of| of.auc_swapped),
        auc_shifted: mean(|of| of.auc_shifted),
        average_precision: precisions.map(|all| all.iter().sum::<f64>() / all.len().max(1) as f64),
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
