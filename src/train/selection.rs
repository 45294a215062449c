//! Which rows a training uses, and for what.
//!
//! The champion scores the rows of a round once; admission and the defence of the threshold decide by that, and people have
//! the last word. It trains nothing.

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

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use ndarray::Array2;

    use super::*;
    use crate::preprocess::Schema;
    use crate::record::RecordId;
    use crate::train::fit;

    fn rows(first: i64, n: usize) -> Rows {
        let values = Array2::from_shape_fn((n, 2), |(i, j)| ((i * (7 + 4 * j)) % 20) as f32);
        let ids = (first..).take(n).map(|offset| RecordId { partition: 0.into(), offset }).collect();
        Rows::new(values, ids)
    }

    #[test]
    fn what_people_say_decides_what_is_admitted_and_what_may_set_the_threshold() {
        let schema = Arc::new(Schema::new(["a".to_owned(), "b".to_owned()]).unwrap());
        let config = Config { trial_steps: 5, steps: 20, ..Config::default() };
        let fitted = fit(schema, &rows(0, 400), &config, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        let champion = fitted.into_model(1, 0);
        let mut round = rows(400, 200);
        round.values.row_mut(10).fill(1e4);
        let said = |i: usize| Rows::new(round.values.select(ndarray::Axis(0), &[i]), vec![round.ids[i]]);
        let select =
            |opinions: &Opinions| Selection::new(&champion, &round, opinions, &mut Admission::default(), &config);

        let alone = select(&Opinions::none(2));
        assert!(!alone.admitted[10] && !alone.countable[10] && alone.told == [false; 200]);
        assert!(alone.admitted[20] && alone.countable[20]);
        let told = select(&Opinions { ordinary: said(10), anomalous: said(20) });
        assert!(told.admitted[10] && told.countable[10] && told.told[10]);
        assert!(!told.admitted[20] && !told.told[20]);
    }
}
