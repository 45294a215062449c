//! The leaf loops of training over rows in standard layout.
//!
//! Made to be inlined into a `pulp` dispatch, which compiles them for the widest vectors that the processor has. Sums
//! are kept in [`LANES`] parts whatever the width, and no multiplication is fused with an addition: every processor
//! gives the same bits.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::real::Real;
use crate::wide::wide;

/// Parts of a sum: a vector or more of every width.
pub(super) const LANES: usize = 16;

const LAYOUT: &str = "matrices of a training are in standard layout";

/// The entries of `matrix`, row after row.
pub(super) fn slice<'a, F>(matrix: &'a ArrayView2<'_, F>) -> &'a [F] {
    matrix.as_slice().expect(LAYOUT)
}

/// The entries of `matrix`, row after row.
pub(super) fn slice_mut<'a, F>(matrix: &'a mut ArrayViewMut2<'_, F>) -> &'a mut [F] {
    matrix.as_slice_mut().expect(LAYOUT)
}

/// Adds `factor` times `row` to `out`.
#[inline(always)]
pub(super) fn add_scaled<F: Real>(factor: F, row: &[F], out: &mut [F]) {
    for (out, &entry) in out.iter_mut().zip(row) {
        *out += factor * entry;
    }
}

/// Σ a·b.
#[inline(always)]
pub(super) fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    let mut sums = [F::zero(); LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += a * b;
    }
    total(sums)
}

/// Σ a² in f64.
pub(super) fn sum_of_squares<F: Real>(a: &[F]) -> f64 {
    wide(
        #[inline(always)]
        || {
            let mut sums = [0.0; LANES];
            let (blocks, rest) = a.as_chunks::<LANES>();
            for block in blocks {
                for (sum, a) in sums.iter_mut().zip(block) {
                    *sum += a.wide() * a.wide();
                }
            }
            for (sum, a) in sums.iter_mut().zip(rest) {
                *sum += a.wide() * a.wide();
            }
            total(sums)
        },
    )
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(super) fn total<F: Real>(mut sums: [F; LANES]) -> F {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            let other = sums[lane + half];
            sums[lane] += other;
        }
    }
    sums[0]
}

/// Writes the sum of the rows of `matrix` `[rows, n]` to `out` `[n]`.
pub(super) fn sum_rows<F: Real>(matrix: ArrayView2<'_, F>, out: &mut [F]) {
    out.fill(F::zero());
    wide(
        #[inline(always)]
        || {
            for row in slice(&matrix).chunks_exact(out.len().max(1)) {
                add_scaled(F::one(), row, out);
            }
        },
    );
}

/// Takes the sum of the rows of `matrix`⊙`mask`, both `[rows, n]`, from `out` `[n]`.
pub(super) fn subtract_masked_rows<F: Real>(matrix: ArrayView2<'_, F>, mask: ArrayView2<'_, F>, out: &mut [F]) {
    let n = out.len().max(1);
    wide(
        #[inline(always)]
        || {
            for (row, mask) in slice(&matrix).chunks_exact(n).zip(slice(&mask).chunks_exact(n)) {
                for ((out, &entry), &m) in out.iter_mut().zip(row).zip(mask) {
                    *out -= entry * m;
                }
            }
        },
    );
}

/// Writes the transpose of `matrix` to `out`.
pub(super) fn transpose<F: Real>(matrix: ArrayView2<'_, F>, mut out: ArrayViewMut2<'_, F>) {
    let (n_rows, n_columns) = matrix.dim();
    let (matrix, out) = (slice(&matrix), slice_mut(&mut out));
    for (column, out) in out.chunks_exact_mut(n_rows.max(1)).enumerate() {
        for (entry, row) in out.iter_mut().zip(matrix.chunks_exact(n_columns.max(1))) {
            *entry = row[column];
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    /// Whole numbers, whose sums are exact; `n` of them are blocks and a rest.
    fn numbers(n: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7) % 13) as f64 - 6.0).collect()
    }

    #[test]
    fn sums_take_in_blocks_and_rest() {
        for n in [0, 1, 15, 16, 17, 40] {
            let (a, b) = (numbers(n), numbers(n + 3)[3..].to_vec());
            assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>(), "{n}");
            assert_eq!(sum_of_squares(&a), a.iter().map(|a| a * a).sum::<f64>(), "{n}");
        }
    }

    #[test]
    fn rows_are_summed_and_masked() {
        let (matrix, mask) = (array![[1.0, 2.0], [3.0, 4.0]], array![[1.0, 0.0], [1.0, 1.0]]);
        let mut out = [9.0; 2];
        sum_rows(matrix.view(), &mut out);
        assert_eq!(out, [4.0, 6.0]);
        subtract_masked_rows(matrix.view(), mask.view(), &mut out);
        assert_eq!(out, [0.0, 2.0]);
    }

    #[test]
    fn a_transpose_is_one() {
        let matrix = Array2::from_shape_vec((3, 5), numbers(15)).unwrap();
        let mut out = Array2::zeros((5, 3));
        transpose(matrix.view(), out.view_mut());
        assert_eq!(out, matrix.t());
    }
}
