//! What a lane makes of the rows of a scored batch: a verdict each, and what is published of it.
//!
//! An ordinary row costs its verdict and a few additions: what belongs to a partition is looked up once for each run of
//! its rows, what a record says is put into words only when there is one, and nothing is allocated.

use ndarray::Axis;

use super::Shared;
use super::alerting::{Alerting, Outcome};
use super::judge::Judge;
use super::lane::LaneError;
use super::parked::Parked;
use super::publish::{Judged, Occasion, Publisher};
use crate::model::Model;
use crate::record::RecordId;
use crate::sink::anomaly::Score;
use crate::source::{Headers, Source};
use crate::threshold::Severity;
use crate::train;

/// A threshold in the units of the records: an exponential, so it is worked out when the threshold moves only.
struct Limit<'a> {
    model: &'a Model,
    z: f64,
    raw: f64,
}

impl Limit<'_> {
    fn at(&mut self, z: f64) -> f64 {
        if self.z != z {
            (self.z, self.raw) = (z, self.model.calibration.raw(z));
        }
        self.raw
    }
}

/// The headers of a row's record, which are looked up when it is published.
struct Came<'a> {
    source: &'a dyn Source,
    waited: &'a [Parked],
    id: RecordId,
}

impl Headers for Came<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        match self.waited.iter().find(|parked| parked.id == self.id) {
            Some(parked) => parked.each(visit),
            None => self.source.headers(self.id, visit),
        }
    }
}

/// Judges the rows of the batch that `judge` has scored, in their order, publishes, and counts. `source` is where they came
/// from.
///
/// Errors: something can't be handed to the producer.
pub fn judge(
    shared: &Shared,
    publisher: &Publisher,
    alerting: &mut Alerting,
    judge: &mut Judge,
    source: &dyn Source,
) -> Result<(), LaneError> {
    let Judge { model, partitions, workspace, intake, live } = judge;
    let (batch, counts, receipt, waited) = (&intake.batch, &mut intake.counts, &intake.receipt, &*intake.waited);
    let (occasion, target) = (Occasion::new(model), shared.target(model));
    let mut limit = Limit { model, z: f64::NAN, raw: f64::NAN };
    let mut i = 0;
    live.clear();
    for run in batch.rows().chunk_by(|row, next| row.id.partition == next.id.partition) {
        let place = run[0].id.partition;
        let partition = partitions.get_mut(&place).expect("the batch's partitions are taken up");
        let mut is_active = alerting.is_active(place);
        for (row, i) in run.iter().zip(i..) {
            let (raw, z) = (workspace.raw()[i], workspace.z()[i]);
            let silent = partition.is_silent(row.id);
            live.extend((!silent).then_some(i));
            if z.is_nan() {
                counts.n_insufficient += u64::from(!silent);
                continue;
            }
            let learnt = silent && train::may_have_learnt(model, row.id);
            let Some(verdict) = partition.judge(row.id, z, learnt) else { continue };
            let severity = verdict.anomalous.then(|| Severity::of(verdict.p_value, target));
            let score = Score::new(raw, limit.at(verdict.z_at_alert), z, &verdict, severity);
            let came = Came { source, waited, id: row.id };
            let judged = Judged { batch, workspace, at: i, score, headers: Some(&came), occasion: &occasion };
            if !silent {
                counts.n_scored += 1;
                counts.n_alerts += u64::from(verdict.anomalous);
                publisher.metrics().judged(score.ratio, verdict.p_value);
                publisher.score(&judged, receipt)?;
            }
            if verdict.anomalous || verdict.shifted || is_active {
                let outcome = Outcome { verdict: &verdict, target, receipt };
                let why = || model.explain(batch.values().row(i), workspace, i, shared.output.features_max);
                if silent {
                    alerting.silent(&judged, outcome, why);
                } else {
                    alerting.row(publisher, &judged, outcome, counts, why)?;
                }
                is_active = alerting.is_active(place);
            }
        }
        i += run.len();
    }
    alerting.sweep(publisher, receipt)?;
    if limit.raw.is_finite() {
        publisher.metrics().all.threshold.set(limit.raw);
    }
    // What is scored again was counted when it came.
    let of_live = if live.len() == batch.len() {
        workspace.counts()
    } else {
        model.preprocessor.count(batch.values().select(Axis(0), live).view())
    };
    (counts.n_missing, counts.n_clipped) = (of_live.missing, of_live.clipped);
    Ok(())
}
