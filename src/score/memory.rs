//! A memory of accepted rows, and how far a row is from the nearest of them.
//!
//! The distance is Euclidean over weighted, observed, standardised inputs, and its mean over the nearest few: k-nearest
//! neighbours (Ramaswamy, Rastogi & Shim 2000) on a window. It sees rows in a gap between modes, which a reconstruction
//! passes. Lower bounds tell which rows may be neighbours ([`Bounds`]), and only the distances to these are taken. It
//! never learns: a new model brings a new memory.

use ndarray::{Array2, ArrayView1, ArrayView2};
use pulp::{Simd, WithSimd};

use super::bounds::{BLOCK, Bounds, LANES, Least, Query};
use crate::wide::{places, which, wide_by};

/// Rows near a row that are averaged. One is noise, and a stored row would be its own.
pub(super) const NEIGHBOURS: usize = 5;

/// What rounding may take from a distance that is compared with bounds.
const ROUNDING: f32 = 1e-5;

/// The rows that are remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Standardised rows, `[n, n_inputs]`; missing values are 0.
    rows: Array2<f32>,
    bounds: Bounds,
}

/// The reused buffers of a row.
#[derive(Clone, Debug, Default)]
pub struct Near {
    query: Query,
    /// The weights of what is observed, `[n_inputs]`.
    weights: Vec<f32>,
}

/// The smallest squared distances that were met, ascending; infinite beyond those.
type Smallest = [f32; NEIGHBOURS];

impl Memory {
    /// Remembers standardised `rows` `[n, n_inputs]`, at least one, under the inputs' `weights` `[n_inputs]`.
    pub fn new(rows: Array2<f32>, weights: &[f32]) -> Self {
        assert!(!rows.is_empty(), "a memory has at least one row");
        let rows = if rows.is_standard_layout() { rows } else { rows.as_standard_layout().into_owned() };
        let bounds = Bounds::new(rows.view(), weights);
        Self { rows, bounds }
    }

    /// The remembered rows, `[n, n_inputs]`.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// Appends the mean distance of each row of `x` to its nearest; `x` and `mask` (1 observed) are `[rows, n_inputs]`,
    /// `weights` `[n_inputs]`. What is missing is taken to be as far off as the rest.
    pub fn distances(
        &self,
        x: ArrayView2<'_, f32>,
        mask: ArrayView2<'_, f32>,
        weights: &[f32],
        near: &mut Near,
        out: &mut Vec<f64>,
    ) {
        let contiguous = "buffers of a batch are in standard layout";
        let (x, mask) = (x.to_slice().expect(contiguous), mask.to_slice().expect(contiguous));
        wide_by(Search { memory: self, x, mask, weights, near, out });
    }

    /// Adds to `parts` `[n_inputs]` the share of each input in the squared distance of one row to its nearest, times
    /// `scale`.
    pub fn attribute(
        &self,
        x: ArrayView1<'_, f32>,
        mask: ArrayView1<'_, f32>,
        weights: &[f32],
        scale: f64,
        parts: &mut [f64],
    ) {
        let all: Vec<f32> = (0..self.rows.nrows()).map(|i| self.distance(i, x, mask, weights) as f32).collect();
        let (nearest, n_near) = smallest(&all);
        let square = |i: usize, j: usize| f64::from(weights[j] * ((x[j] - self.rows[[i, j]]) * mask[j]).powi(2));
        let of: Vec<f64> = (0..x.len()).map(|j| nearest[..n_near].iter().map(|&i| square(i, j)).sum::<f64>()).collect();
        super::add_shares(&of, scale, parts);
    }

    fn distance(&self, i: usize, x: ArrayView1<'_, f32>, mask: ArrayView1<'_, f32>, weights: &[f32]) -> f64 {
        let (mut square, mut observed, mut total) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (((x, y), m), c) in x.iter().zip(self.rows.row(i)).zip(mask).zip(weights) {
            let difference = (x - y) * m;
            square += c * difference * difference;
            observed += c * m;
            total += c;
        }
        (f64::from(square) * f64::from(total) / f64::from(observed).max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// The search for the neighbours of a batch.
struct Search<'a> {
    memory: &'a Memory,
    x: &'a [f32],
    mask: &'a [f32],
    weights: &'a [f32],
    near: &'a mut Near,
    out: &'a mut Vec<f64>,
}

impl WithSimd for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { memory, x, mask, weights, near, out } = self;
        let rows = memory.rows.as_slice().expect("it was made so");
        let (width, n_near) = (weights.len(), NEIGHBOURS.min(memory.rows.nrows()));
        let total: f32 = weights.iter().sum();
        for (x, mask) in x.chunks_exact(width).zip(mask.chunks_exact(width)) {
            near.weights.resize(width, 0.0);
            for ((out, c), m) in near.weights.iter_mut().zip(weights).zip(mask) {
                *out = c * m;
            }
            let least = memory.bounds.of(simd, x, mask, &mut near.query);
            let observed = if near.query.missing.is_empty() { total } else { near.weights.iter().sum() };
            let unseen = f64::from(total) / f64::from(observed).max(f64::MIN_POSITIVE);
            let squares = nearest(simd, rows, x, near, &least);
            let mut sum = 0.0;
            for square in &squares[..n_near] {
                sum += (f64::from(*square) * unseen).sqrt();
            }
            out.push(sum / n_near as f64);
        }
    }
}

/// The squared distances of `x` to the nearest of `rows`, given their bounds.
///
/// The rows of five low bounds give a distance within which five are. Every other row whose bound is less is looked at, and
/// the distance shrinks on the way.
#[inline(always)]
fn nearest<S: Simd>(simd: S, rows: &[f32], x: &[f32], near: &mut Near, least: &Least) -> Smallest {
    let Near { query, weights } = near;
    let row = |i: usize| &rows[i * x.len()..(i + 1) * x.len()];
    let mut held = [f32::INFINITY; NEIGHBOURS];
    let (lanes, n_lanes) = lowest(simd, &least.bound);
    for &lane in &lanes[..n_lanes] {
        let block = least.block[lane] as usize;
        let place = place_of(least.bound[lane], lane, &query.relative[block]);
        query.relative[block][place] = f32::INFINITY;
        keep(&mut held, squared_distance(simd, x, row(block * BLOCK + place), weights));
    }
    let limit_of = |held: &Smallest| held[NEIGHBOURS - 1] * (1.0 + ROUNDING) - query.common;
    let mut limit = limit_of(&held);
    for (block, relative) in query.relative.iter().enumerate() {
        let (at_start, mut n_within) = (limit, 0);
        for bound in relative {
            n_within += u32::from(*bound < at_start);
        }
        if n_within == 0 {
            continue;
        }
        for place in places(which(relative, |bound| bound < at_start)) {
            if relative[place] < limit {
                keep(&mut held, squared_distance(simd, x, row(block * BLOCK + place), weights));
                limit = limit_of(&held);
            }
        }
    }
    held
}

/// The lanes of low bounds, and how many there are: those that fewer than five are less than, so five but for ties.
#[inline(always)]
fn lowest<S: Simd>(simd: S, bounds: &[f32; LANES]) -> ([usize; LANES + 1], usize) {
    let mut n_less = [0.0; LANES];
    let ((of, _), (n_less_of, _)) = (S::as_simd_f32s(bounds), S::as_mut_simd_f32s(&mut n_less));
    for other in bounds {
        let other = simd.splat_f32s(*other);
        for (bound, n_less) in of.iter().zip(&mut *n_less_of) {
            let more = simd.add_f32s(*n_less, simd.splat_f32s(1.0));
            *n_less = simd.select_f32s(simd.less_than_f32s(other, *bound), more, *n_less);
        }
    }
    // A place beyond the last is written and never taken: this has no branch to mispredict.
    let (mut found, mut n) = ([0; LANES + 1], 0);
    for lane in 0..LANES {
        found[n] = lane;
        n += usize::from(n_less[lane] < NEIGHBOURS as f32) * usize::from(bounds[lane] < f32::INFINITY);
    }
    (found, n)
}

/// Where in its block the least `bound` of a lane is.
#[inline(always)]
fn place_of(bound: f32, lane: usize, relative: &[f32; BLOCK]) -> usize {
    let mut place = lane;
    for other in [lane + LANES, lane + 2 * LANES, lane + 3 * LANES] {
        place = if relative[other] == bound { other } else { place };
    }
    place
}

/// Puts `square` where it belongs among the smallest.
#[inline(always)]
fn keep(held: &mut Smallest, square: f32) {
    let mut value = square;
    for kept in held {
        let (less, more) = if value < *kept { (value, *kept) } else { (*kept, value) };
        (*kept, value) = (less, more);
    }
}

/// Σ c·(x − y)². In vectors by hand: of a loop over so few inputs the compiler makes pairs.
#[inline(always)]
fn squared_distance<S: Simd>(simd: S, x: &[f32], y: &[f32], weights: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (S::as_simd_f32s(x), S::as_simd_f32s(y));
    let (weights, weights_rest) = S::as_simd_f32s(weights);
    let mut sums = simd.splat_f32s(0.0);
    for ((x, y), c) in x.iter().zip(y).zip(weights) {
        let difference = simd.sub_f32s(*x, *y);
        sums = simd.mul_add_e_f32s(simd.mul_f32s(*c, difference), difference, sums);
    }
    if !x_rest.is_empty() {
        let difference = simd.sub_f32s(simd.partial_load_f32s(x_rest), simd.partial_load_f32s(y_rest));
        let c = simd.partial_load_f32s(weights_rest);
        sums = simd.mul_add_e_f32s(simd.mul_f32s(c, difference), difference, sums);
    }
    simd.reduce_sum_f32s(sums)
}

/// The places of the smallest few of `values`, and how many there are; ties go to the lower place.
fn smallest(values: &[f32]) -> ([usize; NEIGHBOURS], usize) {
    let mut places = [0; NEIGHBOURS];
    let mut held = [f32::INFINITY; NEIGHBOURS];
    let mut n = 0;
    for (place, &value) in values.iter().enumerate() {
        if value < held[NEIGHBOURS - 1] || (n < NEIGHBOURS && !value.is_nan()) {
            let mut at = n.min(NEIGHBOURS - 1);
            while at > 0 && held[at - 1] > value {
                (held[at], places[at]) = (held[at - 1], places[at - 1]);
                at -= 1;
            }
            (held[at], places[at]) = (value, place);
            n = (n + 1).min(NEIGHBOURS);
        }
    }
    (places, n.max(1))
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    fn line() -> Memory {
        Memory::new(Array2::from_shape_fn((20, 2), |(i, j)| if j == 0 { i as f32 } else { 0.0 }), &[1.0, 4.0])
    }

    fn distances(x: &Array2<f32>, mask: &Array2<f32>) -> Vec<f64> {
        let mut out = Vec::new();
        line().distances(x.view(), mask.view(), &[1.0, 4.0], &mut Near::default(), &mut out);
        out
    }

    #[test]
    fn a_hand_worked_distance() {
        let found = distances(&array![[10.0, 0.0], [0.0, 3.0]], &Array2::ones((2, 2)));
        assert!((found[0] - (0.0 + 1.0 + 1.0 + 2.0 + 2.0) / 5.0).abs() < 1e-6, "{found:?}");
        let second: f64 = (0..5).map(|i| f64::from(i * i + 4 * 9).sqrt()).sum();
        assert!((found[1] - second / 5.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn a_missing_value_is_as_far_off_as_the_rest() {
        let found = distances(&array![[30.0, 0.0], [30.0, 0.0]], &array![[1.0, 0.0], [1.0, 1.0]]);
        let seen: f64 = (11..16).map(f64::from).sum::<f64>() / 5.0;
        assert!((found[1] - seen).abs() < 1e-4, "{found:?}");
        assert!((found[0] - seen * 5.0_f64.sqrt()).abs() < 1e-4, "one of five parts of the weight is seen: {found:?}");
    }

    /// Mean distance to the nearest by looking at all of them, in f64.
    fn plain(rows: &Array2<f32>, weights: &[f32], x: ArrayView1<'_, f32>, mask: ArrayView1<'_, f32>) -> f64 {
        let wide = |value: &f32| f64::from(*value);
        let weighted =
            |i: usize, j: usize| wide(&weights[j]) * wide(&mask[j]) * (wide(&x[j]) - wide(&rows[[i, j]])).powi(2);
        let square = |i: usize| (0..x.len()).map(|j| weighted(i, j)).sum::<f64>();
        let mut squares: Vec<f64> = (0..rows.nrows()).map(square).collect();
        squares.sort_by(f64::total_cmp);
        let n_near = NEIGHBOURS.min(rows.nrows());
        let observed: f64 = weights.iter().zip(mask).map(|(c, m)| wide(c) * wide(m)).sum();
        let unseen = weights.iter().map(wide).sum::<f64>() / observed.max(f64::MIN_POSITIVE);
        squares[..n_near].iter().map(|square| (square * unseen).sqrt()).sum::<f64>() / n_near as f64
    }

    /// Checks the lanes of a row's low bounds against all its bounds.
    struct Low<'a>(&'a Memory, &'a [f32]);

    impl WithSimd for Low<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let (Self(memory, x), mut query) = (self, Query::default());
            let least = memory.bounds.of(simd, x, &vec![1.0; x.len()], &mut query);
            let of_lane =
                |lane: usize| query.relative.iter().flat_map(move |all| (lane..BLOCK).step_by(LANES).map(|i| all[i]));
            for lane in 0..LANES {
                let (bound, block) = (least.bound[lane], &query.relative[least.block[lane] as usize]);
                assert_eq!(bound, of_lane(lane).fold(f32::INFINITY, f32::min), "lane {lane}");
                let place = place_of(bound, lane, block);
                assert_eq!((block[place], place % LANES), (bound, lane));
            }
            let mut sorted = least.bound;
            sorted.sort_by(f32::total_cmp);
            let (lanes, n) = lowest(simd, &least.bound);
            let mut low: Vec<f32> = lanes[..n].iter().map(|lane| least.bound[*lane]).collect();
            low.sort_by(f32::total_cmp);
            assert_eq!(low, sorted[..NEIGHBOURS]);
        }
    }

    #[test]
    fn the_lowest_bounds_are_found_where_they_are() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut normal = |n: usize| Array2::from_shape_simple_fn((n, 12), || rng.sample::<f32, _>(StandardNormal));
        let (memory, x) = (Memory::new(normal(300), &[1.0; 12]), normal(20));
        for row in x.rows() {
            wide_by(Low(&memory, &row.to_vec()));
        }
    }

    #[test]
    fn the_bounds_leave_out_no_neighbour() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for (n, n_inputs, noise) in
            [(1, 3, 0.1), (4, 1, 0.1), (16, 9, 1.0), (70, 32, 0.0), (512, 32, 0.1), (300, 40, 9.0)]
        {
            let mut normal = |shape| Array2::<f32>::from_shape_simple_fn(shape, || rng.sample(StandardNormal));
            let causes = normal((2, n_inputs));
            let mut rows = |n: usize| normal((n, 2)).dot(&causes) + normal((n, n_inputs)) * noise;
            let (mut rows, mut x) = (rows(n), rows(60));
            x.row_mut(0).assign(&rows.row(0));
            x.row_mut(1).fill(50.0);
            rows.row_mut(n - 1).fill(-50.0);
            let weights: Vec<f32> = (0..n_inputs).map(|j| 1.0 / (1 + j % 3) as f32).collect();
            let mut mask = Array2::ones(x.dim());
            for i in 30..60 {
                mask[[i, i % n_inputs]] = 0.0;
                x[[i, i % n_inputs]] = 0.0;
            }
            let (memory, mut near, mut out) = (Memory::new(rows.clone(), &weights), Near::default(), Vec::new());
            memory.distances(x.view(), mask.view(), &weights, &mut near, &mut out);
            for (i, found) in out.iter().enumerate() {
                let expected = plain(&rows, &weights, x.row(i), mask.row(i));
                assert!((found - expected).abs() <= 2e-6 * (1.0 + expected), "{n}×{n_inputs}, {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn few_rows_are_all_neighbours_and_ties_keep_their_order() {
        assert_eq!(smallest(&[3.0, 1.0, 2.0]), ([1, 2, 0, 0, 0], 3));
        assert_eq!(smallest(&[1.0; 9]).0, [0, 1, 2, 3, 4]);
        assert_eq!(smallest(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 0.0]).0, [6, 5, 4, 3, 2]);
    }
}
