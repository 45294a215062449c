//! Peaks over threshold on a sliding window: places below a high quantile, a generalised Pareto tail above it.
//!
//! MODEL 4.2 steps 2 and 3, as `Tail` does it for a fixed calibration. The two agree on a short window; the belief that
//! a tail is mild fades as the exceedances become as many as a full window has. The tail is exact; a p-value of an
//! ordinary score is that of the window at the last fit, and as near as `places` says. No alert depends on one.

use super::scores::Scores;
use super::tail::{N_EXCEEDANCES_MIN, P_MIN, SHAPE_MIN, SHAPE_MIN_ENDED, SHARE_MAX, pareto, quantile, survival};

/// Share of a full window that is its tail: 400 of 20,000 place the threshold at 1e-3 within 5 to 10 %.
const SHARE: f64 = 0.02;
/// The tail holds as many times the target alert rate, so that no level that feedback may reach lies outside of it.
const TARGETS: f64 = 4.0;
/// Exceedances from which the window alone says what its shape is.
const N_TRUSTED: f64 = 400.0;

/// The fitted tail of a window.
#[derive(Clone, Debug)]
pub struct Peaks {
    /// Where the tail begins.
    u: f64,
    /// Share of the window above it.
    zeta: f64,
    shape: f64,
    sigma: f64,
}

impl Peaks {
    /// A tail that has not been fitted: the exponential of mean 1.
    pub fn new() -> Self {
        Self { u: 0.0, zeta: 0.5, shape: 0.0, sigma: 1.0 }
    }

    /// A window of `capacity` scores that begins with `ascending`, with room for the tail at the target alert rate `q`.
    pub fn window(capacity: usize, q: f64, ascending: impl ExactSizeIterator<Item = f32>) -> Scores {
        Scores::new(capacity, n_exceedances(capacity, q) + 1, ascending)
    }

    /// Fits the tail of `window` for the target alert rate `q`. `ended` is the share, 0 to 1, of the window beyond which
    /// nothing was seen: that share may have a short tail.
    pub fn fit(&mut self, window: &mut Scores, q: f64, ended: f64) {
        window.add_up();
        let n = window.len();
        if n < 2 {
            self.u = if n == 0 { 0.0 } else { f64::from(window.greatest(1)[0]) };
            return;
        }
        let n_exceed = n_exceedances(n, q);
        let greatest = window.greatest(n_exceed + 1);
        self.u = f64::from(greatest[0]);
        self.zeta = n_exceed as f64 / n as f64;
        let exceedances = greatest[1..].iter().map(|z| f64::from(*z) - self.u);
        let doubt = (1.0 - n_exceed as f64 / N_TRUSTED).max(0.0);
        let shape_min = SHAPE_MIN + ended * (SHAPE_MIN_ENDED - SHAPE_MIN);
        (self.shape, self.sigma) = pareto(exceedances, doubt, shape_min);
    }

    /// Share of ordinary records that score at least `z`, from 1e-12 to 1; it never rises with z.
    pub fn p_value(&self, window: &Scores, z: f64) -> f64 {
        let p = if z > self.u {
            self.zeta * survival((z - self.u) / self.sigma, self.shape)
        } else {
            let (places, z) = (window.places(), z as f32);
            ((1.0 + places.n() - places.n_below(z)) / (places.n() + 1.0)).max(self.zeta)
        };
        p.clamp(P_MIN, 1.0)
    }

    /// The least z with `p_value(z) <= p` within rounding.
    pub fn z_at(&self, window: &Scores, p: f64) -> f64 {
        let places = window.places();
        if p < self.zeta || places.n() == 0.0 {
            return self.u + self.sigma * quantile((p.max(P_MIN) / self.zeta).min(1.0), self.shape);
        }
        let n_below = (1.0 - p) * (places.n() + 1.0);
        f64::from(places.z_at(n_below)).min(self.u)
    }
}

/// How many of `n` scores, at least 2, are the tail for the target alert rate `q`.
fn n_exceedances(n: usize, q: f64) -> usize {
    let share = SHARE.max(TARGETS * q).min(SHARE_MAX);
    let most = ((n as f64 * SHARE_MAX) as usize).max(1);
    ((n as f64 * share) as usize).max(N_EXCEEDANCES_MIN).min(most)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::threshold::Tail;

    fn exponential(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values: Vec<f64> = (0..n).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn fitted(values: &[f64]) -> (Scores, Peaks) {
        let mut window = Peaks::window(values.len(), 1e-3, values.iter().map(|z| *z as f32));
        let mut peaks = Peaks::new();
        peaks.fit(&mut window, 1e-3, 0.0);
        (window, peaks)
    }

    #[test]
    fn it_agrees_with_the_tail_of_a_calibration() {
        for n in [20, 500, 4000] {
            let values = exponential(n, 3);
            let ((window, peaks), tail) = (fitted(&values), Tail::fit(values));
            for p in [0.3, 0.05, 1e-3, 1e-5] {
                let (ours, theirs) = (peaks.z_at(&window, p), tail.z_at(p));
                assert!((ours - theirs).abs() < 0.05 * theirs, "{n} at {p}: {ours} and {theirs}");
            }
        }
    }

    #[test]
    fn p_values_fall_and_z_at_is_their_inverse() {
        for values in [exponential(20_000, 1), exponential(10, 1), vec![1.0; 100], vec![2.0], vec![]] {
            let (window, peaks) = fitted(&values);
            let p: Vec<f64> = (-100..4000).map(|i| peaks.p_value(&window, f64::from(i) * 0.01)).collect();
            assert!(p.windows(2).all(|pair| pair[1] <= pair[0]), "not monotone");
            assert!(p.iter().all(|p| (1e-12..=1.0).contains(p)));
        }
        let (window, peaks) = fitted(&exponential(20_000, 2));
        for p in [0.4, 0.1, 0.01, 1e-3, 1e-6] {
            let z = peaks.z_at(&window, p);
            assert!(
                peaks.p_value(&window, z + 1e-4) <= p * 1.001 && peaks.p_value(&window, z - 1e-3) > p * 0.99,
                "{p}"
            );
        }
        assert!((peaks.z_at(&window, 1e-3) / 1000_f64.ln() - 1.0).abs() < 0.1);
    }
}
