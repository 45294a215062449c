//! Lower bounds of the distances between a row and all remembered ones, at a fraction of what the distances cost.
//!
//! For orthonormal directions V of few dimensions, a centre μ and the weighted rows x' = √c·(x − μ):
//! |x' − y'|² ≥ |Vᵀx' − Vᵀy'|² + (|x' − VVᵀx'| − |y' − VVᵀy'|)², by Cauchy and Schwarz in what V leaves. The directions are
//! those in which the remembered rows spread most, and as many are kept as cost least on the rows themselves. Where a
//! value is missing its part, c·y², is subtracted: the bound stays one. A bound never exceeds the distance, rounding
//! included.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use pulp::Simd;

use crate::turn::give_way;

/// Remembered rows whose bounds are computed together.
pub(super) const BLOCK: usize = 64;

/// Lanes of a block: a place is in the lane that is its remainder. Low bounds are looked for by each lane's least.
pub(super) const LANES: usize = 16;

/// Directions in one vector of f64.
const GROUP: usize = 8;

/// Numbers of directions that are tried; more cost more than the distances that they save.
const N_DIRECTIONS: [usize; 9] = [2, 4, 8, 12, 16, 24, 32, 48, 64];

/// Rows that the directions are taken from, and rows of these that the number of directions is chosen by.
const ROWS_MAX: usize = 1024;
const SAMPLE_MAX: usize = 32;

/// Products that cost as much as one exact distance: what reaching a row costs, and its inputs.
const DISTANCE_COST: (usize, usize) = (512, 8);

/// Remembered rows in the coordinates of a few directions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    n_directions: usize,
    /// μ, `[n_inputs]`.
    centre: Vec<f64>,
    /// c, `[n_inputs]`.
    weights: Vec<f64>,
    /// √c·V, `[groups][n_inputs]`, directions beyond the last 0.
    basis: Vec<[f64; GROUP]>,
    /// |y'|² less its rounding, −2·Vᵀy' and −2·|y' − VVᵀy'|, `[blocks][n_directions + 2]`; rows beyond the last are
    /// infinitely far.
    table: Vec<[f32; BLOCK]>,
    /// c·y², `[blocks][n_inputs]`.
    squared: Vec<[f32; BLOCK]>,
    /// What rounding may add to a bound, as a share of |x'|² + |y'|².
    slack: f64,
}

/// A row as the table is multiplied with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    /// x − μ, `[n_inputs]`.
    centred: Vec<f64>,
    /// Vᵀx' and |x' − VVᵀx'|, `[n_directions + 1]`.
    coordinates: Vec<f32>,
    /// Inputs that are missing.
    pub missing: Vec<usize>,
    /// Bounds less [`Query::common`], `[blocks]`.
    pub relative: Vec<[f32; BLOCK]>,
    /// |x'|² less its rounding.
    pub common: f32,
}

/// The least bound of each lane, and the block where it is.
pub(super) struct Least {
    pub bound: [f32; LANES],
    pub block: [u32; LANES],
}

impl Bounds {
    /// Takes `rows` `[n, n_inputs]` under the inputs' `weights`.
    pub(super) fn new(rows: ArrayView2<'_, f32>, weights: &[f32]) -> Self {
        let weights: Array1<f64> = weights.iter().map(|c| f64::from(*c)).collect();
        let stride = rows.nrows().div_ceil(ROWS_MAX);
        let some = rows.slice(ndarray::s![..;stride, ..]).mapv(f64::from);
        let centre = some.mean_axis(Axis(0)).expect("there is at least one row");
        let some = (some - &centre) * weights.mapv(f64::sqrt);
        let directions = directions(&some, *N_DIRECTIONS.last().expect("there are some"));
        let n_directions = cheapest(&some, &directions);

        let n_inputs = rows.ncols();
        let n_groups = n_directions.div_ceil(GROUP);
        let of = |j: usize, k: usize| if k < n_directions { weights[j].sqrt() * directions[[j, k]] } else { 0.0 };
        let group = |i: usize| std::array::from_fn(|lane| of(i % n_inputs, i / n_inputs * GROUP + lane));
        let slack = 2.0 * f64::from(f32::EPSILON) * (n_directions + n_inputs + 8) as f64;
        let mut bounds = Self {
            n_directions,
            centre: centre.to_vec(),
            weights: weights.to_vec(),
            basis: (0..n_inputs * n_groups).map(group).collect(),
            table: Vec::new(),
            squared: Vec::new(),
            slack,
        };
        bounds.fill(rows);
        bounds
    }

    fn fill(&mut self, rows: ArrayView2<'_, f32>) {
        let (n_blocks, width) = (rows.nrows().div_ceil(BLOCK), self.n_directions + 2);
        self.table = vec![[0.0; BLOCK]; n_blocks * width];
        self.squared = vec![[0.0; BLOCK]; n_blocks * rows.ncols()];
        for block in self.table.chunks_exact_mut(width) {
            block[0].fill(f32::INFINITY);
        }
        let (mut query, all) = (Query::default(), Array1::ones(rows.ncols()));
        for (i, row) in rows.rows().into_iter().enumerate() {
            let (row, all) = (row.to_vec(), all.as_slice().expect("it is contiguous"));
            self.project(&row, all, &mut query);
            let (block, lane) = (i / BLOCK, i % BLOCK);
            if lane == 0 {
                give_way();
            }
            let table = &mut self.table[block * width..][..width];
            table[0][lane] = query.common;
            for (column, coordinate) in table[1..].iter_mut().zip(&query.coordinates) {
                column[lane] = -2.0 * coordinate;
            }
            let squared = &mut self.squared[block * row.len()..][..row.len()];
            for ((column, y), c) in squared.iter_mut().zip(&row).zip(&self.weights) {
                column[lane] = (c * f64::from(*y) * f64::from(*y)) as f32;
            }
        }
    }

    /// Number of blocks of remembered rows.
    pub(super) fn n_blocks(&self) -> usize {
        self.table.len() / (self.n_directions + 2)
    }

    /// The coordinates of a row, in f64: what the directions leave is a small difference of large squares.
    #[inline(always)]
    fn project(&self, x: &[f32], mask: &[f32], query: &mut Query) {
        let n_inputs = self.weights.len();
        query.centred.resize(n_inputs, 0.0);
        let mut norm = [0.0; GROUP];
        for (((centred, x), m), centre) in query.centred.iter_mut().zip(x).zip(mask).zip(&self.centre) {
            *centred = f64::from(x * m) - centre;
        }
        let ((whole, rest), (c_whole, c_rest)) =
            (query.centred.as_chunks::<GROUP>(), self.weights.as_chunks::<GROUP>());
        for (centred, c) in whole.iter().zip(c_whole) {
            for lane in 0..GROUP {
                norm[lane] += c[lane] * centred[lane] * centred[lane];
            }
        }
        for ((norm, centred), c) in norm.iter_mut().zip(rest).zip(c_rest) {
            *norm += c * centred * centred;
        }
        let norm: f64 = norm.iter().sum();
        let mut kept = [0.0; GROUP];
        query.coordinates.clear();
        for basis in self.basis.chunks_exact(n_inputs) {
            // Sums of every other input are independent, so that one addition need not wait for another.
            let (mut sums, mut others) = ([0.0; GROUP], [0.0; GROUP]);
            let (pairs, rest) = query.centred.as_chunks::<2>();
            let (basis_pairs, basis_rest) = basis.as_chunks::<2>();
            for (centred, basis) in pairs.iter().zip(basis_pairs) {
                for lane in 0..GROUP {
                    sums[lane] += centred[0] * basis[0][lane];
                    others[lane] += centred[1] * basis[1][lane];
                }
            }
            for (centred, basis) in rest.iter().zip(basis_rest) {
                for lane in 0..GROUP {
                    sums[lane] += centred * basis[lane];
                }
            }
            for lane in 0..GROUP {
                sums[lane] += others[lane];
            }
            for lane in 0..GROUP {
                kept[lane] += sums[lane] * sums[lane];
            }
            for sum in sums {
                query.coordinates.push(sum as f32);
            }
        }
        query.coordinates.truncate(self.n_directions);
        query.coordinates.push((norm - kept.iter().sum::<f64>()).max(0.0).sqrt() as f32);
        query.common = (norm * (1.0 - self.slack)) as f32;
    }

    /// Fills [`Query::relative`] with the bounds for a row `[n_inputs]` under its mask (1 observed).
    #[inline(always)]
    pub(super) fn of<S: Simd>(&self, simd: S, x: &[f32], mask: &[f32], query: &mut Query) -> Least {
        self.project(x, mask, query);
        query.missing.clear();
        let mut n_missing = 0;
        for m in mask {
            n_missing += u32::from(*m == 0.0);
        }
        if n_missing > 0 {
            query.missing.extend((0..mask.len()).filter(|j| mask[*j] == 0.0));
        }
        query.relative.resize(self.n_blocks(), [0.0; BLOCK]);
        let mut least = Least { bound: [f32::INFINITY; LANES], block: [0; LANES] };
        let blocks = self.table.chunks_exact(self.n_directions + 2).zip(self.squared.chunks_exact(x.len()));
        for (i, ((table, squared), relative)) in blocks.zip(&mut query.relative).enumerate() {
            multiply(simd, table, &query.coordinates, relative);
            for j in &query.missing {
                for lane in 0..BLOCK {
                    relative[lane] -= squared[*j][lane];
                }
            }
            least.take_in(simd, relative, i as u32);
        }
        least
    }
}

impl Least {
    /// Takes in the bounds of block `i`.
    #[inline(always)]
    fn take_in<S: Simd>(&mut self, simd: S, bounds: &[f32; BLOCK], i: u32) {
        let ((least, _), (blocks, _)) = (S::as_mut_simd_f32s(&mut self.bound), S::as_mut_simd_u32s(&mut self.block));
        let ((bounds, _), i) = (S::as_simd_f32s(bounds), simd.splat_u32s(i));
        let n = least.len();
        for (k, (least, block)) in least.iter_mut().zip(blocks).enumerate() {
            let pairs = [simd.min_f32s(bounds[k], bounds[k + n]), simd.min_f32s(bounds[k + 2 * n], bounds[k + 3 * n])];
            let bound = simd.min_f32s(pairs[0], pairs[1]);
            *block = simd.select_u32s(simd.less_than_f32s(bound, *least), i, *block);
            *least = simd.min_f32s(bound, *least);
        }
    }
}

/// The first column of a block's `table`, and its others times `coordinates`.
///
/// In vectors by hand: the compiler would keep the sums in memory, and wait for each.
#[inline(always)]
fn multiply<S: Simd>(simd: S, table: &[[f32; BLOCK]], coordinates: &[f32], out: &mut [f32; BLOCK]) {
    /// Vectors that are summed side by side.
    const SUMS: usize = 4;
    let (out, _) = S::as_mut_simd_f32s(out);
    for (i, out) in out.chunks_exact_mut(SUMS).enumerate() {
        let part = |column| &S::as_simd_f32s(column).0[i * SUMS..][..SUMS];
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        sums.copy_from_slice(part(&table[0]));
        for (column, q) in table[1..].iter().zip(coordinates) {
            let q = simd.splat_f32s(*q);
            for (sum, column) in sums.iter_mut().zip(part(column)) {
                *sum = simd.mul_add_e_f32s(q, *column, *sum);
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// Orthonormal directions `[n_inputs, n]` in which the centred `rows` `[rows, n_inputs]` spread most, the widest first;
/// 0 where there are no more. By orthogonal iteration: a few rounds come close enough, as any directions give bounds.
fn directions(rows: &Array2<f64>, n_most: usize) -> Array2<f64> {
    const ROUNDS: usize = 4;
    let n = n_most.min(rows.ncols());
    let start: Vec<usize> = (0..n).map(|k| k * rows.nrows() / n).collect();
    let mut found = rows.select(Axis(0), &start).reversed_axes();
    orthonormalise(&mut found);
    for _ in 0..ROUNDS {
        found = rows.t().dot(&rows.dot(&found));
        give_way();
        orthonormalise(&mut found);
    }
    found
}

/// Gram and Schmidt, each column twice; a column that is the others' sum becomes 0.
fn orthonormalise(columns: &mut Array2<f64>) {
    const NOTHING: f64 = 1e-9;
    let length = |column: ArrayView1<'_, f64>| column.dot(&column).sqrt();
    for k in 0..columns.ncols() {
        let before = length(columns.column(k));
        for _ in 0..2 {
            for other in 0..k {
                let other = columns.column(other).to_owned();
                let along = columns.column(k).dot(&other);
                columns.column_mut(k).scaled_add(-along, &other);
            }
        }
        let after = length(columns.column(k));
        let is_new = after > NOTHING * before && after > f64::MIN_POSITIVE;
        columns.column_mut(k).mapv_inplace(|v| if is_new { v / after } else { 0.0 });
    }
}

/// The number of directions at which finding the neighbours of some of the `rows` among all of them costs least.
fn cheapest(rows: &Array2<f64>, directions: &Array2<f64>) -> usize {
    let coordinates = rows.dot(directions);
    let rows = rows.as_standard_layout();
    let row = |i: usize| rows.row(i).to_slice().expect("it is in standard layout");
    let norms: Vec<f64> = rows.rows().into_iter().map(|row| row.dot(&row)).collect();
    let square = |a: f64| a * a;
    let most = directions.ncols();
    let options: Vec<usize> = N_DIRECTIONS.into_iter().filter(|r| *r < most).chain([most]).collect();
    let mut costs: Vec<usize> = options.iter().map(|r| SAMPLE_MAX * rows.nrows() * (r + 2)).collect();
    for sample in (0..rows.nrows()).step_by(rows.nrows().div_ceil(SAMPLE_MAX)) {
        let distance = |i: usize| -> f64 { row(i).iter().zip(row(sample)).map(|(a, b)| square(a - b)).sum() };
        let mut distances: Vec<f64> = (0..rows.nrows()).filter(|i| *i != sample).map(distance).collect();
        let fifth = super::memory::NEIGHBOURS.min(distances.len());
        let Some(last) = fifth.checked_sub(1) else { continue };
        give_way();
        let limit = *distances.select_nth_unstable_by(last, f64::total_cmp).1;
        // The number of directions within which a row's bound first passes the limit.
        for i in (0..rows.nrows()).filter(|i| *i != sample) {
            let (mut along, mut kept) = (0.0, [0.0; 2]);
            let mut r = 0;
            for (option, cost) in options.iter().zip(&mut costs) {
                while r < *option {
                    along += square(coordinates[[i, r]] - coordinates[[sample, r]]);
                    kept = [kept[0] + square(coordinates[[i, r]]), kept[1] + square(coordinates[[sample, r]])];
                    r += 1;
                }
                let rest = [(i, kept[0]), (sample, kept[1])].map(|(i, kept)| (norms[i] - kept).max(0.0).sqrt());
                if along + square(rest[0] - rest[1]) <= limit {
                    *cost += DISTANCE_COST.0 + DISTANCE_COST.1 * rows.ncols();
                }
            }
        }
    }
    let best = (0..options.len()).min_by_key(|i| costs[*i]).expect("there are options");
    options[best]
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::wide::wide_by;

    fn normal(n: usize, n_inputs: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        Array2::from_shape_simple_fn((n, n_inputs), || rng.sample(StandardNormal))
    }

    /// Fills in the bounds of a row.
    struct Fill<'a>(&'a Bounds, &'a [f32], &'a mut Query);

    impl WithSimd for Fill<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            self.0.of(simd, self.1, &[1.0; 20], self.2);
        }
    }

    #[test]
    fn few_directions_are_kept_where_rows_spread_in_few() {
        let followed =
            normal(200, 3).dot(&normal(3, 32)) + normal(201, 32).slice(ndarray::s![..200, ..]).mapv(|v| v * 0.1);
        assert!(Bounds::new(followed.view(), &[1.0; 32]).n_directions <= 8);
        assert_eq!(
            Bounds::new(normal(200, 32).view(), &[1.0; 32]).n_directions,
            32,
            "nothing can be left out of noise"
        );
    }

    #[test]
    fn a_bound_never_exceeds_the_distance() {
        let (rows, x) = (normal(130, 20), normal(60, 20) * 3.0);
        let bounds = Bounds::new(rows.view(), &[0.5; 20]);
        let mut query = Query::default();
        for row in x.rows() {
            wide_by(Fill(&bounds, &row.to_vec(), &mut query));
            for (i, y) in rows.rows().into_iter().enumerate() {
                let square: f64 = row.iter().zip(y).map(|(x, y)| 0.5 * f64::from(x - y).powi(2)).sum();
                let bound = f64::from(query.relative[i / BLOCK][i % BLOCK]) + f64::from(query.common);
                assert!(bound <= square * (1.0 + 1e-6), "{i}: {bound} {square}");
            }
        }
    }
}
