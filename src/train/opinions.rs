//! What people have said of single records, as rows: what is ordinary whatever a model thinks, and what is anomalous.

use std::collections::BTreeSet;

use ndarray::{Array2, Axis, concatenate};

use super::Rows;
use crate::record::RecordId;

/// Rows that people have judged.
#[derive(Clone, Debug)]
pub struct Opinions {
    /// False positives: every round learns them.
    pub ordinary: Rows,
    /// True positives: no round learns them, and every challenger must find them.
    pub anomalous: Rows,
}

impl Opinions {
    /// No opinions on rows of `n_features`.
    pub fn none(n_features: usize) -> Self {
        let none = Rows::new(Array2::zeros((0, n_features)), Vec::new());
        Self { ordinary: none.clone(), anomalous: none }
    }

    /// Whether nobody has said anything.
    pub fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.anomalous.is_empty()
    }

    /// `rows` with the ordinary ones that are not among them in front: they are older.
    pub fn joined(&self, rows: &Rows) -> Rows {
        let known: BTreeSet<RecordId> = rows.ids.iter().copied().collect();
        let missing: Vec<usize> =
            (0..self.ordinary.len()).filter(|&i| !known.contains(&self.ordinary.ids[i])).collect();
        let values = self.ordinary.values.select(Axis(0), &missing);
        let ids = missing.iter().map(|&i| self.ordinary.ids[i]).chain(rows.ids.iter().copied()).collect();
        let values = concatenate(Axis(0), &[values.view(), rows.values.view()]).expect("all rows are of one schema");
        Rows::new(values, ids)
    }

    /// Which of `rows` people have called ordinary.
    pub fn told(&self, rows: &Rows) -> Vec<bool> {
        let ordinary: BTreeSet<RecordId> = self.ordinary.ids.iter().copied().collect();
        rows.ids.iter().map(|id| ordinary.contains(id)).collect()
    }

    /// Overrules a decision on each of `rows`.
    pub fn overrule(&self, rows: &Rows, admitted: &mut [bool]) {
        let ids = |rows: &Rows| rows.ids.iter().copied().collect::<BTreeSet<RecordId>>();
        let (ordinary, anomalous) = (ids(&self.ordinary), ids(&self.anomalous));
        for (id, admitted) in rows.ids.iter().zip(admitted) {
            *admitted = (*admitted || ordinary.contains(id)) && !anomalous.contains(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn rows(offsets: &[i64]) -> Rows {
        let values = Array2::from_shape_fn((offsets.len(), 1), |(i, _)| offsets[i] as f32);
        Rows::new(values, offsets.iter().map(|&offset| RecordId { partition: 0.into(), offset }).collect())
    }

    #[test]
    fn old_false_positives_come_in_front_and_known_ones_once() {
        let opinions = Opinions { ordinary: rows(&[2, 11]), anomalous: rows(&[12]) };
        let joined = opinions.joined(&rows(&[10, 11, 12]));
        assert_eq!(joined.values, array![[2.0], [10.0], [11.0], [12.0]]);
        let mut admitted = [false, true, false, true];
        opinions.overrule(&joined, &mut admitted);
        assert_eq!(admitted, [true, true, true, false]);
    }
}
