//! SPOT: streaming peaks over threshold (Siffer, Fouque, Termier & Largouët, KDD 2017), as published.
//!
//! The start is the 98 % quantile of the calibration; scores above it are peaks, their generalised Pareto is fitted by
//! likelihood as Grimshaw (1993) reduces it to one unknown, and alerts are not learnt. So it can't follow a drift: each
//! alert that is left out keeps the threshold where it was (MODEL 4.1). Two departures: the fit is renewed once a
//! hundredth of the peaks are new, not at each, and only the latest 8192 peaks are kept.

use super::tail::{P_MIN, Tail, quantile, survival};
use super::{Threshold, Verdict, Z_MAX};

/// Where peaks begin, as a quantile of the calibration.
const LEVEL: f64 = 0.98;
/// Peaks that are kept, so that the state is bounded.
const PEAKS_MAX: usize = 8192;

/// The state of one partition.
#[derive(Clone, Debug)]
pub struct Spot {
    q: f64,
    tail: Tail,
    /// Where peaks begin, t.
    start: f64,
    /// Excesses over the start, the oldest at `oldest` once full.
    peaks: Vec<f64>,
    oldest: usize,
    n_peaks: usize,
    n_scores: usize,
    n_unfitted: usize,
    shape: f64,
    sigma: f64,
    z_at_alert: f64,
}

impl Spot {
    /// Begins on the calibration `tail`, for the risk `q`.
    pub fn new(q: f64, tail: Tail) -> Self {
        let sorted = tail.sorted();
        let start = sorted.get((LEVEL * sorted.len() as f64) as usize).map_or(0.0, |z| z.clamp(-Z_MAX, Z_MAX));
        let excesses = sorted.iter().map(|z| z.min(Z_MAX) - start).filter(|e| *e > 0.0);
        let peaks: Vec<f64> = excesses.rev().take(PEAKS_MAX).collect();
        let (n_peaks, n_scores) = (peaks.len(), sorted.len());
        let (shape, sigma, z_at_alert) = (0.0, 1.0, 0.0);
        let mut spot =
            Self { q, tail, start, peaks, oldest: 0, n_peaks, n_scores, n_unfitted: 0, shape, sigma, z_at_alert };
        spot.fit();
        spot
    }

    fn zeta(&self) -> f64 {
        (self.n_peaks.max(1) as f64 / self.n_scores.max(1) as f64).min(1.0)
    }

    fn fit(&mut self) {
        (self.shape, self.sigma) = likeliest(&self.peaks);
        self.n_unfitted = 0;
        self.place();
    }

    fn place(&mut self) {
        self.z_at_alert = self.z_at(self.q);
    }

    fn add(&mut self, peak: f64) {
        if self.peaks.len() < PEAKS_MAX {
            self.peaks.push(peak);
        } else {
            self.peaks[self.oldest] = peak;
            self.oldest = (self.oldest + 1) % PEAKS_MAX;
        }
        self.n_peaks += 1;
        self.n_unfitted += 1;
        if self.n_unfitted * 100 >= self.peaks.len() {
            self.fit();
        } else {
            self.place();
        }
    }
}

impl Threshold for Spot {
    fn judge(&mut self, z: f64) -> Verdict {
        let p_value = if z > self.start {
            (self.zeta() * survival((z - self.start) / self.sigma, self.shape)).clamp(P_MIN, 1.0)
        } else {
            self.tail.p_value(z).max(self.zeta())
        };
        let verdict = Verdict::of(p_value, z, self.z_at_alert);
        if z.is_nan() || verdict.anomalous {
            return verdict;
        }
        self.n_scores += 1;
        if z > self.start {
            self.add(z.min(Z_MAX) - self.start);
        }
        verdict
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }

    fn z_at(&self, p: f64) -> f64 {
        let zeta = self.zeta();
        if p < zeta {
            return self.start + self.sigma * quantile(p.max(P_MIN) / zeta, self.shape);
        }
        self.tail.z_at(p).min(self.start)
    }
}

/// Shape ξ and scale σ of greatest likelihood; with θ = ξ/σ, ξ is the mean of ln(1 + θe), and only θ is left to find.
fn likeliest(excesses: &[f64]) -> (f64, f64) {
    let n = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / n;
    // Nothing to fit, or nothing but ties.
    if excesses.len() < 2 || mean <= 1e-9 {
        return (0.0, if mean > 1e-9 { mean } else { 1e-9 });
    }
    let shape_at = |theta: f64| excesses.iter().map(|e| (theta * e).ln_1p()).sum::<f64>() / n;
    let likelihood = |theta: f64| {
        if theta.abs() * mean < 1e-9 {
            return -mean.ln() - 1.0;
        }
        let shape = shape_at(theta);
        // Below −1 the likelihood has no bound, and the greatest excess would be the end.
        if shape <= -1.0 { f64::NEG_INFINITY } else { -(shape / theta).ln() - shape - 1.0 }
    };
    let greatest = excesses.iter().copied().fold(0.0, f64::max);
    let negative = [0.999, 0.95, 0.8, 0.6, 0.4, 0.2, 0.1].map(|share| -share / greatest);
    let positive = [0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0, 20.0].map(|times| times / mean);
    let grid: Vec<f64> = negative.into_iter().chain([0.0]).chain(positive).collect();
    let values: Vec<f64> = grid.iter().map(|theta| likelihood(*theta)).collect();
    let best = (0..grid.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).expect("the grid isn't empty");
    let (mut low, mut high) = (grid[best.saturating_sub(1)], grid[(best + 1).min(grid.len() - 1)]);
    for _ in 0..24 {
        let third = (high - low) / 3.0;
        if likelihood(low + third) < likelihood(high - third) { low += third } else { high -= third }
    }
    let theta = f64::midpoint(low, high);
    if theta.abs() * mean < 1e-9 { (0.0, mean) } else { (shape_at(theta), shape_at(theta) / theta) }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn pareto(shape: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| 2.0 * quantile(1.0 - rng.random::<f64>(), shape)).collect()
    }

    #[test]
    fn the_likeliest_shape_and_scale_are_found() {
        for shape in [-0.3, 0.0, 0.4] {
            let (found, sigma) = likeliest(&pareto(shape, 20_000, 4));
            assert!((found - shape).abs() < 0.03 && (sigma - 2.0).abs() < 0.1, "{shape}: {found} and {sigma}");
        }
        assert_eq!(likeliest(&[]), (0.0, 1e-9));
        assert_eq!(likeliest(&[1.5, 1.5]).0.signum(), -1.0, "ties end at once");
    }

    #[test]
    fn peaks_are_learnt_and_alerts_are_not() {
        let mut spot = Spot::new(1e-3, Tail::fit(pareto(0.0, 10_000, 5)));
        let before = spot.n_peaks;
        assert!((spot.z_at_alert() / (2.0 * 1000_f64.ln()) - 1.0).abs() < 0.15, "{}", spot.z_at_alert());
        assert!(spot.judge(f64::INFINITY).anomalous && !spot.judge(f64::NAN).anomalous);
        assert_eq!((spot.n_peaks, spot.n_scores), (before, 10_000));
        let peak = spot.start + 0.5;
        assert!(!spot.judge(peak).anomalous);
        assert_eq!((spot.n_peaks, spot.n_scores), (before + 1, 10_001));
        let rate = pareto(0.0, 50_000, 6).iter().filter(|z| spot.judge(**z).anomalous).count() as f64 / 50_000.0;
        assert!((0.4e-3..2e-3).contains(&rate), "{rate}");
    }
}
