//! Sums of few rows of a matrix: what a row with few active latents decodes to, and one row by itself encodes to.
//!
//! A product with all rows costs the same whatever is 0 in it, and calling it costs as much as a dozen rows take here.
//! Terms are added in the order of the factors, each fused with its product, and the bias last: so does sgemm, and a row
//! scores alike in a small batch and in a large one.

use super::real::Real;
use crate::wide::{MASKED, places, which, wide};

/// Columns that are summed at a time, in registers: as many as these hold, so that no sum is waited for, then half as many.
const COLUMNS: usize = 64;
const FEWER_COLUMNS: usize = 32;

/// Largest matrix that is read again for every row: 256 KiB of f32, which a second-level cache holds.
const ENTRIES_MAX: usize = 65_536;

/// Rows from which on one product is faster than sums, where nothing is 0.
const ROWS_MAX: usize = 8;

/// Share of active latents, as one of so many, up to which sums are faster than a product.
const ACTIVE_SHARE: usize = 4;

/// Whether sums are faster for `n_rows` rows of `n_factors` factors, of which `n_active` aren't 0.
pub(super) fn pays(n_rows: usize, (n_factors, n_active): (usize, usize), n_columns: usize) -> bool {
    n_factors * n_columns <= ENTRIES_MAX && (n_rows <= ROWS_MAX || ACTIVE_SHARE * n_active <= n_factors)
}

/// Writes `bias` `[n_columns]` + `factors` `[rows, n]` · `matrix` `[n, n_columns]` to `out` `[rows, n_columns]`, passing
/// over factors that are 0.
pub(super) fn sum_rows<F: Real>(bias: &[F], factors: &[F], matrix: &[F], out: &mut [F]) {
    let n_columns = bias.len();
    let n = matrix.len() / n_columns;
    wide(
        #[inline(always)]
        || {
            for (factors, out) in factors.chunks_exact(n).zip(out.chunks_exact_mut(n_columns)) {
                out.fill(F::zero());
                let (whole, rest) = factors.as_chunks::<MASKED>();
                for (factors, matrix) in whole.iter().zip(matrix.chunks_exact(MASKED * n_columns)) {
                    add_rows(factors, matrix, out);
                }
                let mut last = [F::zero(); MASKED];
                last[..rest.len()].copy_from_slice(rest);
                add_rows(&last, &matrix[(n - rest.len()) * n_columns..], out);
                for (sum, b) in out.iter_mut().zip(bias) {
                    *sum += *b;
                }
            }
        },
    );
}

/// Adds the rows of `matrix` whose factors aren't 0.
#[inline(always)]
fn add_rows<F: Real>(factors: &[F; MASKED], matrix: &[F], out: &mut [F]) {
    let active = which(factors, |f| f != F::zero());
    // Behind the last whole 64 factors there may be no row left to begin at.
    if active == 0 {
        return;
    }
    let width = out.len();
    let (blocks, rest) = out.as_chunks_mut::<COLUMNS>();
    let n_done = COLUMNS * blocks.len();
    for (i, block) in blocks.iter_mut().enumerate() {
        add_block(factors, active, (&matrix[COLUMNS * i..], width), block);
    }
    let (blocks, rest) = rest.as_chunks_mut::<FEWER_COLUMNS>();
    for block in blocks {
        add_block(factors, active, (&matrix[n_done..], width), block);
    }
    if rest.is_empty() {
        return;
    }
    for place in places(active) {
        let row = &matrix[(place + 1) * width - rest.len()..(place + 1) * width];
        for (sum, w) in rest.iter_mut().zip(row) {
            *sum = factors[place].mul_add(*w, *sum);
        }
    }
}

/// The same for `N` columns of a matrix that is `width` wide, from the first on.
#[inline(always)]
fn add_block<F: Real, const N: usize>(
    factors: &[F; MASKED],
    active: u64,
    (matrix, width): (&[F], usize),
    block: &mut [F; N],
) {
    let mut sums = *block;
    for place in places(active) {
        let (factor, at) = (factors[place], place * width);
        let row: &[F; N] = matrix[at..at + N].try_into().expect("it is that long");
        for (sum, w) in sums.iter_mut().zip(row) {
            *sum = factor.mul_add(*w, *sum);
        }
    }
    *block = sums;
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;

    #[test]
    fn sums_are_the_product() {
        let (heights, widths) = ([1, 7, 63, 64, 65, 128, 130], [1, 32, 33, 64, 75, 96, 128, 225, 256]);
        for (n_rows, n, n_columns) in
            heights.iter().flat_map(|n| widths.iter().map(move |n_columns| (n % 5 + 1, *n, *n_columns)))
        {
            let entry = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f32 - 11.0;
            let factors = Array2::from_shape_fn((n_rows, n), |(i, j)| if (i + j) % 3 == 0 { entry(i, j) } else { 0.0 });
            let (bias, matrix) = (Array1::ones(n_columns), Array2::from_shape_fn((n, n_columns), |(i, j)| entry(j, i)));
            let mut out = Array2::zeros((n_rows, n_columns));
            let [factors_of, matrix_of] = [&factors, &matrix].map(|a| a.as_slice().unwrap());
            sum_rows(bias.as_slice().unwrap(), factors_of, matrix_of, out.as_slice_mut().unwrap());
            assert_eq!(out, factors.dot(&matrix) + &bias, "whole numbers are summed exactly");
        }
    }
}
