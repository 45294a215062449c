//! Products with matrices most of whose entries are 0: the latents of the sparse forms and the gradient at them.
//!
//! Of k active latents in M, a dense product spends 1 − k/M of its work on zeros. These loops spend none, but reach a
//! smaller share of the processor's peak, so they are for up to [`SHARE_MAX`] of the entries.

use ndarray::{ArrayView2, ArrayViewMut2};

use super::lanes::{LANES, add_scaled, dot, slice, slice_mut};
use super::real::Real;
use crate::wide::{MASKED, places, which, wide};

/// Share of entries up to which these products are used. By `benches/train.rs` a step takes .6 to 1.0 of the dense one's
/// time at an eighth (the more, the smaller the matrices) and 1.5 of it at a quarter.
const SHARE_MAX: f64 = 0.2;

/// The entries of a matrix `[rows, columns]` that are not 0, row by row.
#[derive(Clone, Debug)]
pub(super) struct Entries<F> {
    /// Where the entries of each row end, `[rows]`.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<F>,
}

impl<F> Default for Entries<F> {
    fn default() -> Self {
        Self { ends: Vec::new(), columns: Vec::new(), values: Vec::new() }
    }
}

impl<F: Real> Entries<F> {
    /// Lists what in `matrix`, which is in standard layout, is not 0; false when that is too much for these products.
    pub(super) fn list(&mut self, matrix: ArrayView2<'_, F>) -> bool {
        let n_columns = matrix.ncols().max(1);
        let n_max = (SHARE_MAX * matrix.len() as f64) as usize;
        self.ends.clear();
        // A row is written before it is known to be too much.
        self.columns.resize(self.columns.len().max(n_max + n_columns), 0);
        self.values.resize(self.values.len().max(n_max + n_columns), F::zero());
        wide(
            #[inline(always)]
            || {
                let mut n = 0;
                for row in slice(&matrix).chunks_exact(n_columns) {
                    let (whole, rest) = row.as_chunks::<MASKED>();
                    for (i, part) in whole.iter().enumerate() {
                        self.append(part, i * MASKED, &mut n);
                    }
                    let mut last = [F::zero(); MASKED];
                    last[..rest.len()].copy_from_slice(rest);
                    self.append(&last, whole.len() * MASKED, &mut n);
                    if n > n_max {
                        return false;
                    }
                    self.ends.push(n);
                }
                true
            },
        )
    }

    /// Writes the entries of `part`, whose first column is `first`, from `n` on.
    #[inline(always)]
    fn append(&mut self, part: &[F; MASKED], first: usize, n: &mut usize) {
        for place in places(which(part, |value| value != F::zero())) {
            (self.columns[*n], self.values[*n]) = ((first + place) as u32, part[place]);
            *n += 1;
        }
    }

    /// Takes the values of another `matrix` at the same places.
    pub(super) fn read(&mut self, matrix: ArrayView2<'_, F>) {
        let mut start = 0;
        for (row, &end) in slice(&matrix).chunks_exact(matrix.ncols().max(1)).zip(&self.ends) {
            for (value, &column) in self.values[start..end].iter_mut().zip(&self.columns[start..end]) {
                *value = row[column as usize];
            }
            start = end;
        }
    }

    /// Columns and values of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> (&[u32], &[F]) {
        let row = if row == 0 { 0 } else { self.ends[row - 1] }..self.ends[row];
        (&self.columns[row.clone()], &self.values[row])
    }

    /// Their product with `right` `[columns, n]` into `out` `[rows, n]`.
    pub(super) fn times(&self, right: ArrayView2<'_, F>, mut out: ArrayViewMut2<'_, F>) {
        let (n, right) = (right.ncols().max(1), slice(&right));
        let out = slice_mut(&mut out);
        out.fill(F::zero());
        wide(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(n).enumerate() {
                    for (part, out) in out.chunks_mut(LANES).enumerate() {
                        add_rows(self.row(i), right, (n, part * LANES), out);
                    }
                }
            },
        );
    }

    /// Adds the product of their transpose with `right` `[rows, n]` to `out` `[columns, n]`.
    pub(super) fn add_transposed_times(&self, right: ArrayView2<'_, F>, mut out: ArrayViewMut2<'_, F>) {
        let (n, right) = (right.ncols().max(1), slice(&right));
        let out = slice_mut(&mut out);
        wide(
            #[inline(always)]
            || {
                for (i, row) in right.chunks_exact(n).enumerate() {
                    let (columns, values) = self.row(i);
                    for (&column, &value) in columns.iter().zip(values) {
                        add_scaled(value, row, &mut out[column as usize * n..][..n]);
                    }
                }
            },
        );
    }

    /// Writes what the product of `left` `[rows, n]` with the transpose of `right` `[columns, n]` is at their places to
    /// `out` `[rows, columns]`; the rest of it is 0.
    pub(super) fn sample(&self, left: ArrayView2<'_, F>, right: ArrayView2<'_, F>, mut out: ArrayViewMut2<'_, F>) {
        let (n, n_columns) = (left.ncols().max(1), out.ncols().max(1));
        let (left, right) = (slice(&left), slice(&right));
        let out = slice_mut(&mut out);
        out.fill(F::zero());
        wide(
            #[inline(always)]
            || {
                let rows = left.chunks_exact(n).zip(out.chunks_exact_mut(n_columns));
                for (i, (left, out)) in rows.enumerate() {
                    for &column in self.row(i).0 {
                        out[column as usize] = dot(left, &right[column as usize * n..][..n]);
                    }
                }
            },
        );
    }
}

/// Adds `values` times the rows of `right` `[_, n]` that `columns` name, from column `at` on, to `out`: at most
/// [`LANES`] sums, which stay in registers.
#[inline(always)]
fn add_rows<F: Real>((columns, values): (&[u32], &[F]), right: &[F], (n, at): (usize, usize), out: &mut [F]) {
    if let Ok(out) = <&mut [F; LANES]>::try_from(&mut *out) {
        let mut sums = [F::zero(); LANES];
        for (&column, &value) in columns.iter().zip(values) {
            let row = &right[column as usize * n + at..][..LANES];
            for (sum, &entry) in sums.iter_mut().zip(row) {
                *sum += value * entry;
            }
        }
        *out = sums;
    } else {
        for (&column, &value) in columns.iter().zip(values) {
            let n_rest = out.len();
            add_scaled(value, &right[column as usize * n + at..][..n_rest], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    /// A matrix with about one entry in seven, and one without a 0; 19 columns: a part and a rest.
    fn matrices() -> (Array2<f64>, Array2<f64>) {
        let sparse =
            Array2::from_shape_fn((7, 35), |(i, j)| if (i * 3 + j) % 5 == 1 { (i + j) as f64 - 7.5 } else { 0.0 });
        (sparse, Array2::from_shape_fn((35, 19), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0))
    }

    fn entries(matrix: &Array2<f64>) -> Entries<f64> {
        let mut entries = Entries::default();
        assert!(entries.list(matrix.view()));
        entries
    }

    #[test]
    fn each_product_is_that_of_the_dense_matrices() {
        let (sparse, right) = matrices();
        let entries = entries(&sparse);
        let mut out = Array2::ones((7, 19));
        entries.times(right.view(), out.view_mut());
        assert_eq!(out, sparse.dot(&right), "whole numbers and halves: no rounding");
        let mut transposed = Array2::ones((35, 19));
        entries.add_transposed_times(out.view(), transposed.view_mut());
        assert_eq!(transposed, sparse.t().dot(&out) + 1.0);
        let mut sampled = Array2::ones((7, 35));
        entries.sample(out.view(), right.view(), sampled.view_mut());
        let there = sparse.mapv(|value| f64::from(u8::from(value != 0.0)));
        assert_eq!(sampled, out.dot(&right.t()) * there);
    }

    #[test]
    fn values_of_another_matrix_are_read_at_the_same_places() {
        let mut entries = entries(&array![[0.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0]]);
        entries.read(array![[1.0, 3.0, 1.0, 1.0, 1.0], [1.0, 1.0, 5.0, 1.0, 1.0]].view());
        assert_eq!([entries.row(0), entries.row(1)], [(&[1][..], &[3.0][..]), (&[2], &[5.0])]);
    }

    #[test]
    fn a_matrix_with_many_entries_is_not_listed() {
        let mut entries = Entries::default();
        assert!(!entries.list(Array2::<f64>::ones((4, 20)).view()));
        assert!(entries.list(Array2::<f64>::zeros((4, 20)).view()), "and its buffers serve the next");
        assert!(entries.list(array![[f64::NAN, 0.0, 0.0, 0.0, 0.0]].view()) && entries.values[0].is_nan());
    }
}
