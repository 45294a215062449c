//! How faithful reconstructions are and how few latents they take, over many batches: what models are compared by.
//!
//! MODEL 6.5: explained variance is 1 − Σ(x − x̂)² / Σ(x − x̄)² over observed values, x̄ the mean over all rows, in
//! standardised units. It keeps every row, since the means are known last; no scoring path comes here.

use ndarray::ArrayView2;

use super::FIRES;

/// What is known of the rows so far.
#[derive(Clone, Debug, Default)]
pub struct Fidelity {
    /// Standardised rows one after the other, NaN where missing.
    values: Vec<f32>,
    n_inputs: usize,
    /// Sum of the squared residuals of each row, `[rows]`.
    residuals: Vec<f64>,
    n_active: u64,
    has_fired: Vec<bool>,
}

/// One batch, as a model saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Standardised values, `[rows, n_inputs]`.
    pub x: ArrayView2<'a, f32>,
    /// 1 observed, 0 missing, `[rows, n_inputs]`.
    pub mask: ArrayView2<'a, f32>,
    /// Reconstructions, `[rows, n_inputs]`.
    pub recons: ArrayView2<'a, f32>,
    /// Latents, `[rows, n_latents]`; later batches may have another number.
    pub latents: ArrayView2<'a, f32>,
}

impl Fidelity {
    /// Takes in a batch; panics when its width differs from those before.
    pub fn add(&mut self, seen: Seen<'_>) {
        assert!(self.residuals.is_empty() || self.n_inputs == seen.x.ncols(), "batches have one width");
        self.n_inputs = seen.x.ncols();
        for ((x, mask), recons) in seen.x.rows().into_iter().zip(seen.mask.rows()).zip(seen.recons.rows()) {
            let mut squares = 0.0;
            for ((x, m), x_hat) in x.iter().zip(mask).zip(recons) {
                squares += f64::from((x - x_hat) * m).powi(2);
                self.values.push(if *m > 0.0 { *x } else { f32::NAN });
            }
            self.residuals.push(squares);
        }
        self.has_fired.resize(seen.latents.ncols().max(self.has_fired.len()), false);
        for row in seen.latents.rows() {
            for (has_fired, f) in self.has_fired.iter_mut().zip(row) {
                // The latents of a dense code have both signs.
                let is_active = f.abs() > FIRES;
                *has_fired |= is_active;
                self.n_active += u64::from(is_active);
            }
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.residuals.len()
    }

    /// Share of the variance that is explained, at most 1, without the `trim` of the rows that have the largest
    /// residuals, 0 to below 1: a few gross anomalies would be most of the variance. 0 where nothing varies.
    pub fn explained_variance(&self, trim: f64) -> f64 {
        let mut rows: Vec<usize> = (0..self.n_rows()).collect();
        rows.sort_by(|&a, &b| self.residuals[a].total_cmp(&self.residuals[b]));
        rows.truncate(rows.len() - (trim * rows.len() as f64) as usize);
        let column = |j: usize| {
            let values = || rows.iter().map(move |row| f64::from(self.values[row * self.n_inputs + j]));
            let observed = || values().filter(|x| !x.is_nan());
            let mean = observed().sum::<f64>() / observed().count().max(1) as f64;
            observed().map(|x| (x - mean).powi(2)).sum::<f64>()
        };
        let total: f64 = (0..self.n_inputs).map(column).sum();
        let unexplained: f64 = rows.iter().map(|&row| self.residuals[row]).sum();
        if total > 0.0 { 1.0 - unexplained / total } else { 0.0 }
    }

    /// Mean squared residual of a row's inputs, without the `trim` of the rows that have the largest; 0 without rows.
    pub fn loss(&self, trim: f64) -> f64 {
        let mut sorted = self.residuals.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.truncate(sorted.len() - (trim * sorted.len() as f64) as usize);
        sorted.iter().sum::<f64>() / (sorted.len() * self.n_inputs).max(1) as f64
    }

    /// Mean number of active latents of a row; 0 without rows.
    pub fn latents_active_mean(&self) -> f64 {
        self.n_active as f64 / self.n_rows().max(1) as f64
    }

    /// Share of the latents that no row activates; 0 without latents.
    pub fn latents_dead_ratio(&self) -> f64 {
        let n_dead = self.has_fired.iter().filter(|has_fired| !**has_fired).count();
        n_dead as f64 / self.has_fired.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn a_hand_worked_case_in_two_batches() {
        let mut fidelity = Fidelity::default();
        // Column 0: 0, 2, 4 about 2: 8 of variance. Column 1: 1, 1 and a missing one: none.
        let (x, mask) = (array![[0.0, 1.0], [2.0, 1.0], [4.0, 9.0]], array![[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]);
        let recons = array![[0.0, 1.0], [2.0, 1.0], [2.0, 0.0]];
        let latents = array![[1.0, 0.0, 0.0], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]];
        for rows in [0..2, 2..3] {
            let of = |matrix: &Array2<f32>| matrix.slice(ndarray::s![rows.clone(), ..]).to_owned();
            let (x, mask, recons, latents) = (of(&x), of(&mask), of(&recons), of(&latents));
            let (x, mask, recons, latents) = (x.view(), mask.view(), recons.view(), latents.view());
            fidelity.add(Seen { x, mask, recons, latents });
        }
        assert_eq!(fidelity.explained_variance(0.0), 0.5, "4 of 8");
        assert_eq!(fidelity.explained_variance(0.34), 1.0, "the worst of three rows is left out");
        assert_eq!((fidelity.loss(0.0), fidelity.loss(0.34)), (4.0 / 6.0, 0.0));
        assert_eq!((fidelity.latents_active_mean(), fidelity.latents_dead_ratio()), (1.0, 1.0 / 3.0));
    }

    #[test]
    fn nothing_explains_nothing() {
        let none = Fidelity::default();
        assert_eq!((none.explained_variance(0.05), none.loss(0.05), none.latents_active_mean()), (0.0, 0.0, 0.0));
    }
}
