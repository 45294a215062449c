//! Everything that standardises and explains scores, measured on held-out rows.
//!
//! Location and scale come from the newest admitted held-out rows, as the stream is now. The tail must not be cut by
//! the admission (MODEL 4.1: leaving flagged rows out of a quantile gives 5 to 22 times too many alerts), nor hold
//! what is grossly anomalous: it grows from the ordinary rows outward while the next is plausible under the tail so far.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::drift::n_clipped;
use super::holdout::is_holdout;
use super::members::{follow, measure, remember, unit, with_units};
use super::{Fitted, Report, Rows, Selection};
use crate::model::{AdmissionScale, BATCH_ROWS, Lineage, Model, Reference};
use crate::preprocess::{Preprocessor, Schema};
use crate::record::RecordId;
use crate::sae::{Autoencoder, Forward, Shape};
use crate::score::{Cards, FIRES, HeldOut, MembersConfig, Unit, mean_squared_residuals};
use crate::threshold::{Calibration, Tail};
use crate::turn::give_way;

/// Newest admitted held-out rows that set location and scale.
const RING: usize = 512;
/// With fewer admitted held-out rows than this, all admitted rows are taken: residuals a little small beat none.
const HOLDOUT_MIN: usize = 16;

/// Rows after preprocessing.
pub(super) struct Standardised {
    /// Standardised values, `[rows, n_inputs]`.
    pub x: Array2<f32>,
    /// 1 observed, 0 missing, `[rows, n_inputs]`.
    pub mask: Array2<f32>,
}

impl Standardised {
    /// Standardises raw rows `[rows, n_features]`.
    pub(super) fn new(preprocessor: &Preprocessor, raw: ArrayView2<'_, f32>) -> Self {
        let zeros = || Array2::zeros((raw.nrows(), preprocessor.n_inputs()));
        let mut rows = Self { x: zeros(), mask: zeros() };
        preprocessor.transform(raw, rows.x.view_mut(), rows.mask.view_mut());
        rows
    }
}

/// A batch of rows as an autoencoder sees it.
pub(super) struct Reconstruction<'a> {
    /// The rows after preprocessing.
    standardised: &'a Standardised,
    forward: &'a Forward<f32>,
    /// Mean squared residual of each row, `[rows]`; NaN where under half of its weight is observed.
    pub raw: &'a [f64],
}

/// Takes raw rows `[rows, n_features]` through preprocessor and autoencoder, a batch at a time, and hands each batch over
/// with the place of its first row.
pub(super) fn each_batch(
    preprocessor: &Preprocessor,
    autoencoder: &Autoencoder<f32>,
    rows: ArrayView2<'_, f32>,
    mut on_batch: impl FnMut(usize, Reconstruction<'_>),
) {
    let (mut forward, mut raw) = (Forward::default(), Vec::new());
    for (i, batch) in rows.axis_chunks_iter(Axis(0), BATCH_ROWS).enumerate() {
        let standardised = &Standardised::new(preprocessor, batch);
        let (x, mask) = (standardised.x.view(), standardised.mask.view());
        autoencoder.forward(x, mask, &mut forward);
        mean_squared_residuals(x, forward.recons(), mask, preprocessor.column_weights(), &mut raw);
        on_batch(i * BATCH_ROWS, Reconstruction { standardised, forward: &forward, raw: &raw });
        give_way();
    }
}

/// Rows as an autoencoder sees them.
struct Reconstructed {
    standardised: Standardised,
    /// `[rows, n_inputs]`.
    recons: Array2<f32>,
    /// `[rows, n_latents]`.
    latents: Array2<f32>,
    /// Mean squared residual of each row, `[rows]`.
    raw: Vec<f64>,
}

impl Reconstructed {
    fn new(preprocessor: &Preprocessor, autoencoder: &Autoencoder<f32>, rows: ArrayView2<'_, f32>) -> Self {
        let zeros = |width| Array2::zeros((rows.nrows(), width));
        let Shape { n_inputs, n_latents, .. } = autoencoder.shape();
        let [mut x, mut mask, mut recons] = [(); 3].map(|()| zeros(n_inputs));
        let (mut latents, mut raw) = (zeros(n_latents), Vec::with_capacity(rows.nrows()));
        each_batch(preprocessor, autoencoder, rows, |first, batch| {
            let part = s![first..first + batch.raw.len(), ..];
            x.slice_mut(part).assign(&batch.standardised.x);
            mask.slice_mut(part).assign(&batch.standardised.mask);
            recons.slice_mut(part).assign(&batch.forward.recons());
            latents.slice_mut(part).assign(&batch.forward.latents());
            raw.extend_from_slice(batch.raw);
        });
        Self { standardised: Standardised { x, mask }, recons, latents, raw }
    }
}

/// Rows that new weights are calibrated on.
#[derive(Clone, Copy)]
pub(super) struct Material<'a> {
    /// All rows, in time order.
    pub rows: &'a Rows,
    /// What each of them may be used for.
    pub selection: &'a Selection,
    /// The members beside the autoencoder.
    pub members: &'a MembersConfig,
    /// The model that this one carries on, whose units it keeps; none where weights or scaler are new.
    pub parent: Option<&'a Model>,
}

/// Calibrates new weights on the held-out ones of the rows.
pub(super) fn calibrate(
    schema: Arc<Schema>,
    preprocessor: Preprocessor,
    autoencoder: Autoencoder<f32>,
    material: Material<'_>,
) -> Fitted {
    let Material { rows, selection: Selection { admitted, countable, .. }, parent, .. } = material;
    let held = held_out(rows, admitted);
    let Reconstructed { standardised, recons, latents, mut raw } =
        Reconstructed::new(&preprocessor, &autoencoder, rows.values.select(Axis(0), &held).view());
    let weights = preprocessor.column_weights();

    let ordinary: Vec<usize> = (0..held.len()).filter(|&i| admitted[held[i]] && raw[i].is_finite()).collect();
    let newest = &ordinary[ordinary.len().saturating_sub(RING)..];
    let before = parent.map(|model| (model.calibration.location, model.calibration.scale));
    let measured = unit(newest.iter().map(|&i| Calibration::log(raw[i])).collect());
    let residual = follow(before.map(|(location, scale)| Unit { location, scale }), measured);
    let members = remember(&preprocessor, material).map(|members| {
        let scores = measure(&members, &standardised, weights);
        let members = with_units(members, residual, &scores, newest, parent);
        members.combine(&scores, &mut raw);
        members
    });
    give_way();
    let z: Vec<f64> = raw.iter().map(|raw| (Calibration::log(*raw) - residual.location) / residual.scale).collect();
    let countable = (0..held.len()).filter(|&i| countable[held[i]]).map(|i| z[i]);
    let tail = grow(ordinary.iter().map(|&i| z[i]).collect(), countable.collect());
    give_way();
    let of = |matrix: ArrayView2<'_, f32>, rows: &[usize]| matrix.select(Axis(0), rows);
    let (x, mask) = (of(standardised.x.view(), newest), of(standardised.mask.view(), newest));
    let (recons, latents) = (of(recons.view(), newest), of(latents.view(), newest));
    let (names, ids) = (preprocessor.input_names(&schema), newest.iter().map(|&i| rows.ids[held[i]]));
    let since_fired = since_fired(&latents);
    give_way();
    let report = Report {
        n_holdout: ordinary.len(),
        explained_variance: explained_variance(&x, &(&x - &recons), &mask, weights),
        latents_active_mean: latents.iter().filter(|f| **f != 0.0).count() as f64 / newest.len().max(1) as f64,
        latents_dead_ratio: dead_ratio(&since_fired, newest.len()),
        ..counts(admitted)
    };
    give_way();
    Fitted {
        cards: Cards::new(&HeldOut {
            names: &names.iter().map(String::as_str).collect::<Vec<_>>(),
            w_enc: autoencoder.hidden.is_empty().then(|| autoencoder.w_enc.view()),
            w_dec: autoencoder.w_dec.view(),
            x: x.view(),
            mask: mask.view(),
            weights,
            recons: recons.view(),
            latents: latents.view(),
            ids: &ids.collect::<Vec<_>>(),
        }),
        admission: AdmissionScale::fit(x.view(), recons.view(), mask.view(), weights),
        reference: reference(rows, &standardised, &held, &ordinary),
        since_fired,
        calibration: Calibration { location: residual.location, scale: residual.scale, tail },
        members,
        lineage: Lineage { n_rows_holdout: ordinary.len() as u64, ..Lineage::default() },
        schema,
        preprocessor,
        autoencoder,
        report,
        rejected: rejected(rows, admitted),
        selection: material.selection.clone(),
    }
}

/// The held-out rows; all rows where too few of them were admitted.
fn held_out(rows: &Rows, admitted: &[bool]) -> Vec<usize> {
    let held: Vec<usize> = (0..rows.len()).filter(|&i| is_holdout(rows.ids[i])).collect();
    let n_admitted = held.iter().filter(|&&i| admitted[i]).count();
    if n_admitted < HOLDOUT_MIN { (0..rows.len()).collect() } else { held }
}

/// How the features of the ordinary held-out rows were distributed; `ordinary` are places in `held`.
fn reference(rows: &Rows, standardised: &Standardised, held: &[usize], ordinary: &[usize]) -> Reference {
    let raw = rows.values.select(Axis(0), &ordinary.iter().map(|&i| held[i]).collect::<Vec<_>>());
    let n_clipped: u32 = ordinary.iter().map(|&i| n_clipped(standardised.x.row(i))).sum();
    let n_inputs = (ordinary.len() * standardised.x.ncols()).max(1);
    Reference::fit(raw.view(), f64::from(n_clipped) / n_inputs as f64)
}

fn rejected(rows: &Rows, admitted: &[bool]) -> Vec<RecordId> {
    rows.ids.iter().zip(admitted).filter(|(_, admitted)| !**admitted).map(|(id, _)| *id).collect()
}

/// How many rows there were and how many were admitted.
fn counts(admitted: &[bool]) -> Report {
    let n_admitted = admitted.iter().filter(|admitted| **admitted).count();
    let n_rows = admitted.len();
    Report { n_rows, n_admitted, n_dropped: n_rows - n_admitted, ..Report::default() }
}

/// The tail of `all` standardised scores without what is grossly anomalous; `ordinary` are those of admitted rows.
///
/// The core is every score up to three upper standard deviations above the median, both taken from the core itself:
/// admission cuts the ordinary rows, so the limit is moved out until it stands still. If no more rows lie beyond than
/// a heavy tail would put there, they join one by one while at least a 50th of a row is expected that far out, by a tail
/// that is not shortened by the limit itself: it could be so short that no row beyond ever joined, and each of them
/// alerted. A contaminated holdout has more beyond: then none of them joins.
fn grow(mut ordinary: Vec<f64>, mut all: Vec<f64>) -> Tail {
    const ROWS_BEYOND: f64 = 3.0;
    const SHARE_BEYOND: f64 = 0.1;
    const EXPECTED_MIN: f64 = 0.02;
    give_way();
    ordinary.sort_by(f64::total_cmp);
    give_way();
    all.retain(|z| !z.is_nan());
    all.sort_by(f64::total_cmp);
    if ordinary.is_empty() {
        return Tail::fit(all);
    }
    let mut n = n_ordinary(three_deviations(&ordinary), &all);
    let n_beyond = (all.len() - n) as f64;
    if n_beyond > ROWS_BEYOND + SHARE_BEYOND * all.len() as f64 {
        return Tail::fit(all[..n].to_vec());
    }
    give_way();
    while n < all.len() && Tail::cut(all[..n].to_vec()).p_value(all[n]) * n as f64 >= EXPECTED_MIN {
        n += 1;
        give_way();
    }
    // That a tail ends is believed only where nothing was left out beyond it.
    let ended = n == all.len();
    all.truncate(n);
    Tail::with_end(all, ended)
}

/// How many of the ascending scores are ordinary, starting from those up to `limit`: the limit is moved to three upper
/// deviations of what it takes in until it stands still.
fn n_ordinary(limit: f64, all: &[f64]) -> usize {
    const MOVES_MAX: usize = 8;
    let mut n = all.partition_point(|z| *z <= limit);
    for _ in 0..MOVES_MAX {
        let further = all.partition_point(|z| *z <= three_deviations(&all[..n.max(1)]));
        if further <= n {
            break;
        }
        n = further;
    }
    n
}

/// Median plus three upper standard deviations of ascending, not empty scores, by the 90th percentile.
pub(super) fn three_deviations(sorted: &[f64]) -> f64 {
    let at = |share: f64| sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)];
    at(0.5) + 3.0 * (at(0.9) - at(0.5)) / 1.2816
}

/// 1 − Σ c·residual² / Σ c·(x − column mean)² over observed values, c the weight of the input; 0 where nothing varies.
fn explained_variance(x: &Array2<f32>, residuals: &Array2<f32>, mask: &Array2<f32>, weights: &[f32]) -> f64 {
    let (mut unexplained, mut total) = (0.0, 0.0);
    let columns = x.columns().into_iter().zip(residuals.columns()).zip(mask.columns());
    for (((x, residuals), mask), weight) in columns.zip(weights) {
        let weight = f64::from(*weight);
        let observed = || x.iter().zip(residuals).zip(mask).filter(|(_, m)| **m > 0.0).map(|(pair, _)| pair);
        let mean = observed().map(|(x, _)| f64::from(*x)).sum::<f64>() / observed().count().max(1) as f64;
        total += weight * observed().map(|(x, _)| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        unexplained += weight * observed().map(|(_, residual)| f64::from(*residual).powi(2)).sum::<f64>();
    }
    if total > 0.0 { 1.0 - unexplained / total } else { 0.0 }
}

fn since_fired(latents: &Array2<f32>) -> Vec<u64> {
    let column =
        |column: ndarray::ArrayView1<'_, f32>| column.iter().rev().take_while(|f| f.abs() <= FIRES).count() as u64;
    latents.columns().into_iter().map(column).collect()
}

fn dead_ratio(since_fired: &[u64], n_rows: usize) -> f64 {
    let n_dead = since_fired.iter().filter(|since| **since == n_rows as u64).count();
    n_dead as f64 / since_fired.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_a_core_that_was_cut_short_belong_to_the_tail() {
        // As a round once saw them: what admission left ends at 2.8, and five ordinary rows of a rarer mode lie beyond.
        let below = (0..269).map(|i| -1.5 + 2.35 * f64::from(i) / 269.0);
        let above = (0..50).map(|i| 0.85 + 1.94 * (1.0 - (1.0 - (f64::from(i) + 0.5) / 50.0).sqrt()));
        let core: Vec<f64> = below.chain(above).collect();
        let ordinary = core.iter().copied().filter(|z| *z < 2.5).collect();
        let all = [core, vec![3.7, 3.9, 4.0, 4.4, 4.7]].concat();
        let tail = grow(ordinary, all);
        assert!(tail.ended(), "all of them joined");
        assert!(tail.z_at(1e-3) > 4.7, "the threshold is {}", tail.z_at(1e-3));
    }

    #[test]
    fn gross_faults_do_not_join() {
        let ordinary: Vec<f64> = (0..400).map(|i| -(1.0 - (f64::from(i) + 0.5) / 400.0).ln()).collect();
        let all = [ordinary.clone(), vec![25.0, 30.0]].concat();
        let tail = grow(ordinary, all);
        assert!(!tail.ended() && tail.z_at(1e-3) < 12.0, "the threshold is {}", tail.z_at(1e-3));
    }
}
