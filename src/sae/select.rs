//! Keeps the k largest positive entries of a row: what the TopK forms share.
//!
//! Makhzani & Frey's k-sparse selection behind a relu. Ties go to the lower index; a NaN never stays.

use super::real::Real;
use crate::wide::wide;

/// Largest entries so far that are independent of each other, so that the compiler can keep them in one register.
const LANES: usize = 16;

/// Rows that are searched side by side, so that the processor need not wait for the count of one.
const SIDE_BY_SIDE: usize = 16;

/// Zeroes all but the `k` largest positive entries of each row of `width` entries.
pub(super) fn keep_largest_of_rows<F: Real>(rows: &mut [F], width: usize, k: usize) {
    wide(
        #[inline(always)]
        || {
            let mut groups = rows.chunks_exact_mut(SIDE_BY_SIDE * width);
            for group in groups.by_ref() {
                search::<F, SIDE_BY_SIDE>(group, k);
            }
            for row in groups.into_remainder().chunks_exact_mut(width) {
                search_one(row, k);
            }
        },
    );
}

/// Zeroes all but the `k` largest positive entries.
pub(super) fn keep_largest<F: Real>(row: &mut [F], k: usize) {
    wide(
        #[inline(always)]
        || search_one(row, k),
    );
}

/// Where the search stands in each of `N` rows: k entries at least exceed `low`, k at most exceed `high`; where both are
/// the same, the search has ended there.
struct Bracket<F, const N: usize> {
    low: [F; N],
    high: [F; N],
    n_low: [u32; N],
    n_high: [u32; N],
}

/// Zeroes all but the `k` largest positive entries of `N` rows that are one after the other in `group`.
///
/// Looks for a value that exactly k entries exceed, by turns where a straight line through the counts at both bounds
/// says and half-way: counting has no branch to mispredict and the compiler makes it wide, which `select_nth_unstable`
/// can't be. Only ties need more: the bounds then meet at the tied value.
#[inline(always)]
fn search<F: Real, const N: usize>(group: &mut [F], k: usize) {
    let (zero, width, k) = (F::zero(), group.len() / N, k as u32);
    let mut at = Bracket { low: [zero; N], high: [zero; N], n_low: [k; N], n_high: [k; N] };
    let mut goes_on = [0; N];
    for (i, row) in group.chunks_exact_mut(width).enumerate() {
        let largest = rectify(row);
        let n_positive = n_above(row, zero);
        if n_positive > k {
            (at.high[i], at.n_low[i], at.n_high[i]) = (largest, n_positive, 0);
            goes_on[i] = 1;
        }
    }
    let (mut by_line, mut n, mut open) = (true, [0; N], [0; N]);
    let mut n_open = list(goes_on, &mut open);
    while n_open > 0 {
        let middle = at.probe(k, by_line);
        for &i in &open[..n_open] {
            n[i] = n_above(&group[i * width..][..width], middle[i]);
        }
        // A search that has ended has no value left between its bounds: its last count changes nothing any more.
        n_open = list(at.narrow(middle, n, k), &mut open);
        by_line = !by_line;
    }
    for (i, row) in group.chunks_exact_mut(width).enumerate() {
        cut(row, at.high[i], k - at.n_high[i]);
    }
}

/// The same for one row, which has nobody beside it to fill the wait for a count: it counts at three places at a time, one
/// of them half-way to the far bound, so that the bracket always halves.
#[inline(always)]
fn search_one<F: Real>(row: &mut [F], k: usize) {
    let (half, k) = (F::of(0.5), k as u32);
    let largest = rectify(row);
    let n_positive = n_above(row, F::zero());
    if n_positive <= k {
        return;
    }
    let mut at = Bracket { low: [F::zero()], high: [largest], n_low: [n_positive], n_high: [0] };
    loop {
        let ([low], [middle], [high]) = (at.low, at.probe(k, true), at.high);
        if middle <= low || middle >= high {
            break;
        }
        let (below, above) = (low * half + middle * half, middle * half + high * half);
        let counts = [n_above(row, below), n_above(row, middle), n_above(row, above)];
        at.narrow([middle], [counts[1]], k);
        at.narrow([below], [counts[0]], k);
        at.narrow([above], [counts[2]], k);
    }
    cut(row, at.high[0], k - at.n_high[0]);
}

/// Lists the rows whose search goes on, and returns how many there are: half of them end after half as many counts as the
/// last.
#[inline(always)]
fn list<const N: usize>(goes_on: [u32; N], rows: &mut [usize; N]) -> usize {
    let mut n = 0;
    for i in 0..N {
        // Written in any case and left behind where it ends: this has no branch to mispredict.
        rows[n] = i;
        n += goes_on[i] as usize;
    }
    n
}

impl<F: Real, const N: usize> Bracket<F, N> {
    /// Where to count next.
    #[inline(always)]
    #[expect(clippy::needless_bitwise_bool, reason = "a branch would keep the loop from becoming wide")]
    fn probe(&self, k: u32, by_line: bool) -> [F; N] {
        let (half, k) = (F::of(0.5), F::of(f64::from(k)));
        let mut middle = [F::zero(); N];
        for i in 0..N {
            let (low, high) = (self.low[i], self.high[i]);
            let (n_low, n_high) = (F::of(f64::from(self.n_low[i])), F::of(f64::from(self.n_high[i])));
            let line = low + (high - low) * ((n_low - k) / (n_low - n_high));
            let is_inside = by_line & (line > low) & (line < high);
            middle[i] = if is_inside { line } else { low * half + high * half };
        }
        middle
    }

    /// Takes in how many entries exceed `middle`; 1 for each search that goes on.
    #[inline(always)]
    #[expect(clippy::needless_bitwise_bool, reason = "a branch would keep the loop from becoming wide")]
    fn narrow(&mut self, middle: [F; N], n: [u32; N], k: u32) -> [u32; N] {
        let mut goes_on = [0; N];
        for i in 0..N {
            let is_inside = (middle[i] > self.low[i]) & (middle[i] < self.high[i]);
            let (rises, falls) = (is_inside & (n[i] >= k), is_inside & (n[i] <= k));
            (self.low[i], self.n_low[i]) = if rises { (middle[i], n[i]) } else { (self.low[i], self.n_low[i]) };
            (self.high[i], self.n_high[i]) = if falls { (middle[i], n[i]) } else { (self.high[i], self.n_high[i]) };
            goes_on[i] = u32::from(is_inside & (n[i] != k));
        }
        goes_on
    }
}

/// Sets negative entries and NaN to 0 and returns the largest.
#[inline(always)]
fn rectify<F: Real>(row: &mut [F]) -> F {
    let mut largest = [F::zero(); LANES];
    let (lanes, rest) = row.as_chunks_mut::<LANES>();
    for lanes in lanes {
        for i in 0..LANES {
            lanes[i] = if lanes[i] > F::zero() { lanes[i] } else { F::zero() };
            largest[i] = if lanes[i] > largest[i] { lanes[i] } else { largest[i] };
        }
    }
    for (a, largest) in rest.iter_mut().zip(&mut largest) {
        *a = if *a > F::zero() { *a } else { F::zero() };
        *largest = if *a > *largest { *a } else { *largest };
    }
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            largest[i] = if largest[i] > largest[i + n] { largest[i] } else { largest[i + n] };
        }
    }
    largest[0]
}

/// Zeroes what doesn't exceed `limit`, but for the first `n_ties` entries that equal it.
#[inline(always)]
fn cut<F: Real>(row: &mut [F], limit: F, mut n_ties: u32) {
    if n_ties == 0 {
        for a in row {
            *a = if *a > limit { *a } else { F::zero() };
        }
        return;
    }
    for a in row.iter_mut().filter(|a| **a <= limit) {
        let stays = *a == limit && n_ties > 0;
        n_ties -= u32::from(stays);
        *a = if stays { *a } else { F::zero() };
    }
}

#[inline(always)]
fn n_above<F: Real>(row: &[F], limit: F) -> u32 {
    let mut n = 0;
    for a in row {
        n += u32::from(*a > limit);
    }
    n
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

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

    /// By sorting: larger first, of equals the lower index.
    fn plain(row: &[f32], k: usize) -> Vec<f32> {
        let mut order: Vec<usize> = (0..row.len()).filter(|i| row[*i] > 0.0).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let mut kept = vec![0.0; row.len()];
        order.iter().take(k).for_each(|i| kept[*i] = row[*i]);
        kept
    }

    #[test]
    fn rows_keep_what_sorting_keeps() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for case in 0..300 {
            let (n, width) = (rng.random_range(1..40), rng.random_range(1..150));
            let k = rng.random_range(1..=width);
            let value = |rng: &mut ChaCha8Rng| match (case % 4, rng.random_range(0..20)) {
                (_, 0) => f32::NAN,
                (_, 1) => -0.0,
                (1, _) => rng.random_range(-3..4) as f32,
                (2, 2) => f32::MAX,
                (2, 3) => f32::from_bits(rng.random_range(1..9)),
                _ => rng.random_range(-1.0..1.0),
            };
            let rows: Vec<f32> = (0..n * width).map(|_| value(&mut rng)).collect();
            let mut kept = rows.clone();
            keep_largest_of_rows(&mut kept, width, k);
            for (row, kept) in rows.chunks_exact(width).zip(kept.chunks_exact(width)) {
                assert_eq!(kept, plain(row, k), "{k} of {row:?}");
                assert_eq!(kept, topk(row.to_vec(), k), "a row alone");
            }
        }
    }
}
