//! What a round remembers, and what is usual of each member of the score.
//!
//! The memory is of admitted rows alone, for what is remembered is ordinary for ever after; what is usual is measured on
//! held-out rows, which are not in it. It never decides which rows are admitted.

use ndarray::Axis;

use super::Selection;
use super::calibrate::{Material, Standardised};
use super::holdout::is_holdout;
use crate::model::{BATCH_ROWS, Model};
use crate::preprocess::Preprocessor;
use crate::score::{MemberScores, Members, Unit, Units};
use crate::threshold::median_and_mad;
use crate::turn::give_way;

/// The memory of the newest admitted rows that are not held out; none where the configuration or the rows are too few.
pub(super) fn remember(preprocessor: &Preprocessor, material: Material<'_>) -> Option<Members> {
    const ROWS_MIN: usize = 16;
    let Material { rows, selection, members, .. } = material;
    let Selection { admitted, told, .. } = selection;
    let told_ordinary = (0..rows.len()).rev().filter(|&i| told[i]).take(members.memory_rows / 2);
    let learnt = (0..rows.len()).rev().filter(|&i| admitted[i] && !told[i] && !is_holdout(rows.ids[i]));
    let newest: Vec<usize> = told_ordinary.chain(learnt).take(members.memory_rows).collect();
    (newest.len() >= ROWS_MIN).then(|| {
        let remembered = Standardised::new(preprocessor, rows.values.select(Axis(0), &newest).view());
        Members::new(members, remembered.x, preprocessor.column_weights())
    })
}

/// What is usual of a member's logs.
pub(super) fn unit(mut logs: Vec<f64>) -> Unit {
    /// Least scale: a member that is the same on every row would else outvote the others.
    const SCALE_MIN: f64 = 0.05;
    let (location, scale) = median_and_mad(&mut logs);
    Unit { location, scale: scale.max(SCALE_MIN) }
}

/// The units after a round: the location follows slowly and the scale stays, since a scale of some hundred rows jumps
/// from round to round, and with it the rank of records scored by different versions (.003 and .001 AUC).
pub(super) fn follow(parent: Option<Unit>, measured: Unit) -> Unit {
    /// Share of the way that the location goes in a round.
    const PACE: f64 = 0.3;
    parent.map_or(measured, |before| Unit {
        location: before.location + PACE * (measured.location - before.location),
        scale: before.scale,
    })
}

/// What memory and tails say of held-out rows.
pub(super) fn measure(members: &Members, held: &Standardised, weights: &[f32]) -> MemberScores {
    let (mut scores, mut batch) = (MemberScores::default(), MemberScores::default());
    let batches = held.x.axis_chunks_iter(Axis(0), BATCH_ROWS).zip(held.mask.axis_chunks_iter(Axis(0), BATCH_ROWS));
    for (x, mask) in batches {
        members.measure(x, mask, weights, &mut batch);
        scores.memory.extend_from_slice(&batch.memory);
        scores.tails.extend_from_slice(&batch.tails);
        give_way();
    }
    scores
}

/// The members with what is usual of them on the `newest` of the held-out rows that `scores` are of.
pub(super) fn with_units(
    mut members: Members,
    residual: Unit,
    scores: &MemberScores,
    newest: &[usize],
    parent: Option<&Model>,
) -> Members {
    let usual = |raw: &[f64]| unit(newest.iter().map(|&i| Unit::log(raw[i])).collect());
    let before = parent.and_then(|model| model.members.as_ref()).map(|members| members.units);
    members.units = Units {
        residual,
        memory: follow(before.map(|units| units.memory), usual(&scores.memory)),
        tails: follow(before.map(|units| units.tails), usual(&scores.tails)),
    };
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_follows_slowly_and_the_scale_stays() {
        let (before, measured) = (Unit { location: 1.0, scale: 0.5 }, Unit { location: 2.0, scale: 9.0 });
        assert_eq!(follow(None, measured), measured);
        assert_eq!(follow(Some(before), measured), Unit { location: 1.3, scale: 0.5 });
    }

    #[test]
    fn a_member_that_never_varies_has_a_scale() {
        assert_eq!(unit(vec![2.0; 9]), Unit { location: 2.0, scale: 0.05 });
    }
}
