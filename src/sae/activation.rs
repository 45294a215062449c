//! The sparse activations: which latents stay, and how large they are.
//!
//! MODEL 2.3. `sat_topk` keeps the k largest of tanh(relu(a)): saturating latents can't extrapolate, so outliers are
//! not reconstructed. `topk` keeps the k largest of relu(a) (Makhzani & Frey's k-sparse autoencoder with a relu).
//! Ties go to the lower index; a NaN never stays.

use serde::{Deserialize, Serialize};

use super::real::Real;

/// The form of the latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// TopK of tanh(relu(a)): the default, best on streams.
    #[default]
    SatTopk,
    /// TopK of relu(a): unbounded latents, for reading dictionaries.
    Topk,
}

impl Kind {
    /// Turns pre-activations of one row `[n_latents]` into latents in place; at most `k` stay above 0.
    ///
    /// `positives` is scratch that is reused from row to row.
    pub fn activate<F: Real>(self, row: &mut [F], k: usize, positives: &mut Vec<F>) {
        keep_largest(row, k, positives);
        if self == Self::SatTopk {
            for a in row.iter_mut().filter(|a| **a > F::zero()) {
                *a = a.tanh();
            }
        }
    }

    /// Turns the gradient at the latents into the gradient at the pre-activations, in place.
    pub fn backward<F: Real>(self, latents: &[F], gradient: &mut [F]) {
        for (g, &f) in gradient.iter_mut().zip(latents) {
            let slope = match self {
                Self::SatTopk => F::one() - f * f,
                Self::Topk => F::one(),
            };
            *g = if f > F::zero() { *g * slope } else { F::zero() };
        }
    }

    /// Name in configuration and in `cfg.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SatTopk => "sat_topk",
            Self::Topk => "topk",
        }
    }
}

/// Zeroes all but the `k` largest positive entries.
fn keep_largest<F: Real>(row: &mut [F], k: usize, positives: &mut Vec<F>) {
    positives.clear();
    positives.extend(row.iter().copied().filter(|a| *a > F::zero()));
    if positives.len() <= k {
        for a in row {
            *a = if *a > F::zero() { *a } else { F::zero() };
        }
        return;
    }
    if k == 0 {
        row.fill(F::zero());
        return;
    }
    let descending = |a: &F, b: &F| b.partial_cmp(a).expect("positive values are comparable");
    let (above, least, _) = positives.select_nth_unstable_by(k - 1, descending);
    let least = *least;
    let mut ties = k - above.iter().filter(|a| **a > least).count();
    for a in row {
        let stays = *a > least || (*a == least && ties > 0);
        ties -= usize::from(stays && *a == least);
        if !stays {
            *a = F::zero();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topk(mut row: Vec<f32>, k: usize) -> Vec<f32> {
        Kind::Topk.activate(&mut row, k, &mut Vec::new());
        row
    }

    #[test]
    fn the_k_largest_positives_stay() {
        assert_eq!(topk(vec![3.0, -9.0, 1.0, 2.0], 2), [3.0, 0.0, 0.0, 2.0]);
        assert_eq!(topk(vec![3.0, -9.0, 1.0, 2.0], 4), [3.0, 0.0, 1.0, 2.0], "k above the positives keeps no negative");
        assert_eq!(topk(vec![-1.0, -2.0], 1), [0.0, 0.0]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nan_never_stays() {
        assert_eq!(topk(vec![1.0, 2.0, 1.0, 1.0], 2), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(topk(vec![f32::NAN, 1.0, 2.0], 1), [0.0, 0.0, 2.0]);
        assert_eq!(topk(vec![f32::NAN, 1.0], 2), [0.0, 1.0]);
    }

    #[test]
    fn saturating_latents_stay_below_one() {
        let mut row = vec![100.0_f32, 0.5, 0.1];
        Kind::SatTopk.activate(&mut row, 2, &mut Vec::new());
        assert_eq!(row, [1.0, 0.5_f32.tanh(), 0.0]);
    }
}
