//! Keeps the k largest positive entries of a row: what the TopK forms share.
//!
//! Makhzani & Frey's k-sparse selection behind a relu. Ties go to the lower index; a NaN never stays.

use super::real::Real;

/// Zeroes all but the `k` largest positive entries.
///
/// Bisects for a value that exactly k entries exceed: counting has no branch to mispredict and the compiler makes it
/// wide, which `select_nth_unstable` can't be. Only ties need more: the bounds then meet at the tied value.
pub(super) fn keep_largest<F: Real>(row: &mut [F], k: usize) {
    let zero = F::zero();
    let mut largest = zero;
    for a in row.iter_mut() {
        *a = if *a > zero { *a } else { zero };
        largest = if *a > largest { *a } else { largest };
    }
    let (mut low, mut high) = (zero, largest);
    if n_above(row, low) <= k {
        return;
    }
    // n_above(low) > k >= n_above(high) from here on.
    let half = F::of(0.5);
    loop {
        let middle = low * half + high * half;
        if !(middle > low && middle < high) {
            break;
        }
        match n_above(row, middle).cmp(&k) {
            std::cmp::Ordering::Equal => {
                for a in row.iter_mut() {
                    *a = if *a > middle { *a } else { zero };
                }
                return;
            }
            std::cmp::Ordering::Greater => low = middle,
            std::cmp::Ordering::Less => high = middle,
        }
    }
    let mut ties = k - n_above(row, high);
    for a in row.iter_mut().filter(|a| **a <= high) {
        let stays = *a == high && ties > 0;
        ties -= usize::from(stays);
        *a = if stays { *a } else { zero };
    }
}

fn n_above<F: Real>(row: &[F], limit: F) -> usize {
    row.iter().map(|a| u32::from(*a > limit)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topk(mut row: Vec<f32>, k: usize) -> Vec<f32> {
        keep_largest(&mut row, k);
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
}
