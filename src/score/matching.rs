//! Finds the latents of one model in another by the directions of their decoder rows.
//!
//! MODEL 2.11: a pair needs a cosine of at least 0.8. Pairs are taken greedily, the closest first, which is deterministic
//! and gives the assignment of the Hungarian method wherever a latent has one plausible partner. It compares directions
//! in standardised units and knows nothing of ids.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use crate::turn::give_way;

/// Least cosine of two directions that are the same latent.
const COSINE_MIN: f32 = 0.8;

/// Rows that are compared at a time, which bounds the memory of wide models.
const CHUNK: usize = 256;

/// For each row of `new` `[n_latents, n_inputs]` the row of `old` that it is, if any; no row of `old` is taken twice.
///
/// Rows of different widths, or of zeros, match nothing.
pub fn match_rows(new: ArrayView2<'_, f32>, old: ArrayView2<'_, f32>) -> Vec<Option<usize>> {
    let mut found = vec![None; new.nrows()];
    if new.ncols() != old.ncols() {
        return found;
    }
    let (new, old) = (unit_rows(new), unit_rows(old));
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for first in (0..new.nrows()).step_by(CHUNK) {
        let chunk = new.slice(s![first..new.nrows().min(first + CHUNK), ..]);
        let cosines = chunk.dot(&old.t());
        let close = cosines.indexed_iter().filter(|(_, cosine)| **cosine >= COSINE_MIN);
        pairs.extend(close.map(|((i, j), cosine)| (*cosine, first + i, j)));
        give_way();
    }
    // Of equal cosines the pair in the same place first: a row that has not moved is itself.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1 != a.2).cmp(&(b.1 != b.2))).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut taken = vec![false; old.nrows()];
    for (_, i, j) in pairs {
        if found[i].is_none() && !taken[j] {
            found[i] = Some(j);
            taken[j] = true;
        }
    }
    found
}

/// Cosine of the angle between `a` and `b`; 0 where one of them is zero.
pub(super) fn cosine(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f32 {
    let lengths = a.dot(&a).sqrt() * b.dot(&b).sqrt();
    if lengths > 0.0 { a.dot(&b) / lengths } else { 0.0 }
}

/// The rows at length 1; rows of zeros stay.
fn unit_rows(rows: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut rows = rows.to_owned();
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_permuted_and_scaled_decoder_is_recognised() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // More rows than a chunk has.
        let old = Array2::from_shape_fn((300, 24), |_| rng.random::<f32>() - 0.5);
        let mut order: Vec<usize> = (0..300).collect();
        order.shuffle(&mut rng);
        let new = old.select(Axis(0), &order).mapv(|d| 3.0 * d);
        assert_eq!(match_rows(new.view(), old.view()), order.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn the_closest_pair_goes_first_and_opposite_directions_differ() {
        let old = array![[1.0, 0.0], [0.0, 1.0]];
        // Both near the first old row; the second is nearer.
        let new = array![[1.0, 0.3], [1.0, 0.1], [0.0, -1.0], [0.0, 0.0]];
        assert_eq!(match_rows(new.view(), old.view()), [None, Some(0), None, None]);
    }

    #[test]
    fn a_twin_that_has_not_moved_is_itself() {
        let twins = array![[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]];
        assert_eq!(match_rows(twins.view(), twins.view()), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn other_features_match_nothing() {
        assert_eq!(match_rows(array![[1.0, 0.0]].view(), array![[1.0]].view()), [None]);
    }
}
