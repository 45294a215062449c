//! Which rows a training uses, and for what.
//!
//! The champion scores the rows of a round once, which is a third of what a round costs; admission and the defence of the
//! threshold decide by that, and people have the last word. It learns nothing but admission's threshold.

use super::admission::{Admission, inverse_variances, log_scores};
use super::config::Config;
use super::episodes::countable;
use super::{Opinions, Rows};
use crate::model::Model;
use crate::turn::give_way;

/// What each of a training's rows may be used for, in their order; each `[rows]`.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Which are ordinary: what is learnt and remembered, and what units are measured on.
    pub admitted: Vec<bool>,
    /// Which may set the threshold.
    pub countable: Vec<bool>,
    /// Which people have called ordinary: they are remembered whatever their age.
    pub told: Vec<bool>,
}

impl Selection {
    /// Of rows that no model has scored: those `admitted`, and a threshold that is set by all.
    pub fn of_history(admitted: Vec<bool>) -> Self {
        let n = admitted.len();
        Self { admitted, countable: vec![true; n], told: vec![false; n] }
    }

    /// Of the `rows` of a round, in time order, as the champion and then people see them; moves the threshold of
    /// `admission` on.
    pub fn new(champion: &Model, rows: &Rows, opinions: &Opinions, admission: &mut Admission, config: &Config) -> Self {
        let (mut scores, mut p_values) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let (scale, tail) = (&champion.admission, &champion.calibration.tail);
        let weights = inverse_variances(&scale.variance, champion.preprocessor.column_weights());
        champion.score_all(rows.values.view(), |_, workspace| {
            log_scores(workspace.x(), workspace.recons(), workspace.mask(), &weights, &mut scores);
            p_values.extend(workspace.z().iter().map(|&z| tail.p_value(z)));
        });
        let mut admitted = admission.decide(scale, rows, &scores, config);
        give_way();
        opinions.overrule(rows, &mut admitted);
        let told = opinions.told(rows);
        let mut countable = countable(&rows.ids, &p_values);
        countable.iter_mut().zip(&told).for_each(|(countable, told)| *countable |= told);
        give_way();
        Self { admitted, countable, told }
    }
}
