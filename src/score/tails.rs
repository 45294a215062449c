//! How far out each value of a row is in the empirical distribution of its input over the remembered rows.
//!
//! After ECOD (Li et al. 2022): the sum over inputs of −ln of the smaller tail. It sees a value that no row had, however
//! well the autoencoder follows it, and the reason is the feature itself. Dependence between inputs is the
//! autoencoder's and the memory's business.

use ndarray::{ArrayView1, ArrayView2};

use crate::turn::give_way;
use crate::wide::wide;

/// Values of a bin that two halvings without a branch tell apart; bins with more are searched.
const COMPARED: usize = 3;

/// Bins for each value of an input, and most of them: in twice as many bins as values few hold more than three.
const BINS_PER_VALUE: usize = 2;
const BINS_MAX: usize = 4096;

/// Says that a bin holds more; there are far fewer values.
const CROWDED: u32 = 1 << 31;

/// Rows whose sums are built up together, input by input, so that one input's table stays near.
const BLOCK: usize = 256;

/// The values of the remembered rows, input by input.
#[derive(Clone, Debug, PartialEq)]
pub struct Tails {
    columns: Vec<Column>,
}

/// The distribution of one input.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    /// The different values, ascending, and infinities behind them for what is compared beyond the last.
    values: Vec<f32>,
    /// Where the bins begin, and how many there are in a unit.
    low: f32,
    bins_per_unit: f32,
    /// How many values are in the bins before each, `[n_bins + 1]`, with a bit where the bin is crowded.
    before: Vec<u32>,
    /// The surprise between the value before and each value, and at the value, `[n_values + 1]`.
    surprise: Vec<[f32; 2]>,
}

impl Column {
    /// Takes the distribution of values `[n]`; `surprise` `[n + 1]` is that of a value by the rows at least as far out.
    fn new(mut all: Vec<f32>, surprise: &[f32]) -> Self {
        all.sort_by(f32::total_cmp);
        let mut values = all.clone();
        values.dedup();
        let n_values = values.len();
        let below =
            |place: usize| if place < n_values { all.partition_point(|v| *v < values[place]) } else { all.len() };
        let of = |at_most: usize, below: usize| surprise[at_most.min(all.len() - below)];
        let at = |place: usize| [of(below(place), below(place)), of(below((place + 1).min(n_values)), below(place))];
        let surprise = (0..=n_values).map(at).collect();

        // A few values at each end are left out, that one far value doesn't widen all bins.
        let n_out = n_values / 256;
        let (low, high) = (values[n_out], values[n_values - 1 - n_out]);
        let n_bins = (BINS_PER_VALUE * n_values).min(BINS_MAX);
        let bins_per_unit = Some(n_bins as f32 / (high - low)).filter(|scale| scale.is_finite()).unwrap_or_default();
        let mut column = Self { values, low, bins_per_unit, before: vec![0; n_bins + 1], surprise };
        for place in 0..n_values {
            let bin = column.bin(column.values[place]);
            column.before[bin + 1] += 1;
        }
        (0..n_bins).for_each(|bin| column.before[bin + 1] += column.before[bin]);
        for bin in 0..n_bins {
            let is_crowded = column.before[bin + 1] - column.before[bin] > COMPARED as u32;
            column.before[bin] |= if is_crowded { CROWDED } else { 0 };
        }
        column.values.extend([f32::INFINITY; COMPARED + 1]);
        column
    }

    /// Rises with the value, so that only values of the same bin need to be compared. Beyond the ends: the first or last.
    #[inline(always)]
    fn bin(&self, value: f32) -> usize {
        /// From here on an f32 is whole, and its low bits are the number: 2^23.
        const WHOLE: f32 = 8_388_608.0;
        let (at, last) = ((value - self.low) * self.bins_per_unit, (self.before.len() - 2) as f32);
        let at = if at > 0.0 { at } else { 0.0 };
        let at = if at < last { at } else { last };
        ((at + WHOLE).to_bits() - WHOLE.to_bits()) as usize
    }

    /// Surprise at a value.
    #[inline(always)]
    fn of(&self, value: f32) -> f32 {
        let bin = self.bin(value);
        let from = self.before[bin];
        let place = if from & CROWDED == 0 {
            let mut place = from as usize;
            place += if self.values[place + 1] < value { 2 } else { 0 };
            place + usize::from(self.values[place] < value)
        } else {
            self.search(bin, value)
        };
        self.surprise[place][usize::from(self.values[place] == value)]
    }

    /// How many values are below `value`, which is in a crowded bin.
    #[cold]
    fn search(&self, bin: usize, value: f32) -> usize {
        let [from, to] = [bin, bin + 1].map(|bin| (self.before[bin] & !CROWDED) as usize);
        from + self.values[from..to].partition_point(|v| *v < value)
    }
}

impl Tails {
    /// Takes the distribution of standardised `rows` `[n, n_inputs]`, at least one.
    pub fn new(rows: ArrayView2<'_, f32>) -> Self {
        let n = rows.nrows();
        // −ln((k + ½)/(n + 1)) for k rows at least as far out, none below 0.
        let surprise: Vec<f32> = (0..=n).map(|k| (-((k as f32 + 0.5) / (n as f32 + 1.0)).ln()).max(0.0)).collect();
        let column = |column: ArrayView1<'_, f32>| {
            give_way();
            Column::new(column.to_vec(), &surprise)
        };
        Self { columns: rows.columns().into_iter().map(column).collect() }
    }

    /// Appends the weighted sum of surprises of each row; `x` and `mask` (1 observed) are `[rows, n_inputs]`, `weights`
    /// `[n_inputs]`. What is missing is taken to be as surprising as the rest.
    pub fn surprises(&self, x: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>, weights: &[f32], out: &mut Vec<f64>) {
        let contiguous = "buffers of a batch are in standard layout";
        let (x, mask) = (x.to_slice().expect(contiguous), mask.to_slice().expect(contiguous));
        let width = weights.len();
        wide(
            #[inline(always)]
            || {
                for (x, mask) in x.chunks(BLOCK * width).zip(mask.chunks(BLOCK * width)) {
                    self.add_block(x, mask, weights, out);
                }
            },
        );
    }

    /// The same for up to [`BLOCK`] rows.
    #[inline(always)]
    fn add_block(&self, x: &[f32], mask: &[f32], weights: &[f32], out: &mut Vec<f64>) {
        let (width, total) = (weights.len(), weights.iter().sum::<f32>());
        let (mut sums, mut observed) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
        for (j, (column, c)) in self.columns.iter().zip(weights).enumerate() {
            let values = x.chunks_exact(width).zip(mask.chunks_exact(width));
            for ((sum, observed), (x, mask)) in sums.iter_mut().zip(&mut observed).zip(values) {
                *sum += c * column.of(x[j]) * mask[j];
                *observed += c * mask[j];
            }
        }
        for (sum, observed) in sums.iter().zip(observed).take(x.len() / width) {
            out.push(f64::from(*sum) * f64::from(total) / f64::from(observed).max(f64::MIN_POSITIVE));
        }
    }

    /// Adds to `parts` `[n_inputs]` the share of each input in one row's surprise, times `scale`.
    pub fn attribute(
        &self,
        x: ArrayView1<'_, f32>,
        mask: ArrayView1<'_, f32>,
        weights: &[f32],
        scale: f64,
        parts: &mut [f64],
    ) {
        let of: Vec<f64> = (0..x.len()).map(|j| f64::from(weights[j] * mask[j] * self.columns[j].of(x[j]))).collect();
        super::add_shares(&of, scale, parts);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    #[test]
    fn surprise_is_the_smaller_tail() {
        let tails = Tails::new(Array2::from_shape_fn((9, 1), |(i, _)| i as f32).view());
        let at = |value: f32| f64::from(tails.columns[0].of(value));
        assert!((at(-5.0) - 20_f64.ln()).abs() < 1e-6, "beyond every row: ½ of 10");
        assert!((at(8.0) - (10.0 / 1.5_f64).ln()).abs() < 1e-6, "one row is at least as far out");
        assert!((at(4.0) - (10.0 / 5.5_f64).ln()).abs() < 1e-6, "the middle");
        assert_eq!(at(-5.0), at(500.0));
    }

    /// By two binary searches.
    fn plain(all: &[f32], surprise: &[f32], value: f32) -> f32 {
        let (at_most, below) = (all.partition_point(|v| *v <= value), all.partition_point(|v| *v < value));
        surprise[at_most.min(all.len() - below)]
    }

    #[test]
    fn the_table_says_what_a_search_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut normal = |n: usize, scale: f32| -> Vec<f32> {
            (0..n).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect()
        };
        let mut far = normal(300, 1e-3);
        far.extend([-50.0, 50.0, 0.0, -0.0]);
        let ties: Vec<f32> = normal(512, 1.0).into_iter().map(|v| (v * 4.0).round() / 4.0).collect();
        let queries = normal(500, 2.0);
        for all in [normal(512, 1.0), normal(5000, 1.0), normal(16, 1.0), vec![7.0; 40], vec![3.0], far, ties] {
            let n = all.len() as f32;
            let surprise: Vec<f32> = (0..=all.len()).map(|k| (-((k as f32 + 0.5) / (n + 1.0)).ln()).max(0.0)).collect();
            let column = Column::new(all.clone(), &surprise);
            let mut sorted = all.clone();
            sorted.sort_by(f32::total_cmp);
            let beside = all.iter().flat_map(|v| [*v, v.next_up(), v.next_down()]);
            for value in queries.iter().copied().chain(beside).chain([0.0, -0.0, 50.0, -50.0, 1e9, -1e9, f32::NAN]) {
                assert_eq!(column.of(value), plain(&sorted, &surprise, value), "{value} among {}", all.len());
            }
        }
    }

    #[test]
    fn missing_values_say_nothing_and_a_constant_input_never_surprises() {
        let tails = Tails::new(array![[0.0, 7.0], [1.0, 7.0], [2.0, 7.0]].view());
        let mut out = Vec::new();
        let mask = array![[1.0, 1.0], [0.0, 1.0]];
        tails.surprises(array![[9.0, 7.0], [9.0, 7.0]].view(), mask.view(), &[1.0, 1.0], &mut out);
        assert!((out[0] - 8_f64.ln() - f64::from(tails.columns[1].of(7.0))).abs() < 1e-6);
        assert!(out[1] < 0.5, "{out:?}");
    }
}
