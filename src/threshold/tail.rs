//! The calibrated upper tail of standardised scores: empirical below a high quantile, generalised Pareto above.
//!
//! MODEL 4.2 steps 2 and 3, after Hosking & Wallis (1987): probability-weighted moments, no root search. A small
//! calibration takes a lower quantile, so that some exceedances remain, and its shape is drawn towards a mild tail. The
//! p-value never rises with z and is never below 1e-12.

/// Least p-value that is ever reported.
pub(super) const P_MIN: f64 = 1e-12;
/// Fewest exceedances the tail is fitted to, where the calibration has as many.
pub(super) const N_EXCEEDANCES_MIN: usize = 50;
/// Largest share of a calibration that counts as its tail.
pub(super) const SHARE_MAX: f64 = 0.2;
/// Least shape where more may lie beyond the calibration, and where nothing does: −1 is the uniform tail of a rare mode
/// that the first model has not learnt. At −0.4 the threshold lay so far beyond such a mode that a reading ten
/// deviations off its relation passed.
pub(super) const SHAPE_MIN: f64 = -0.4;
pub(super) const SHAPE_MIN_ENDED: f64 = -1.0;
/// Shape the fitted one is drawn to, and how many exceedances that belief is worth: a short calibration shows too little
/// of a heavy tail. At 0 one fit of ten alerted 30 times too often.
const SHAPE_PRIOR: (f64, f64) = (0.2, 25.0);

/// Distribution of z over ordinary held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// The calibration in ascending order.
    sorted: Vec<f64>,
    /// Where the fitted tail begins.
    u: f64,
    /// Share of the calibration above `u`.
    zeta: f64,
    /// Shape ξ: 0 is exponential, above 0 heavier.
    shape: f64,
    /// Scale σ, above 0.
    sigma: f64,
    /// Whether nothing was seen beyond the calibration.
    ended: bool,
}

impl Tail {
    /// Fits the tail of `z`; NaN are left out. An empty calibration is taken for an exponential of mean 1.
    pub fn fit(z: Vec<f64>) -> Self {
        Self::with_end(z, false)
    }

    /// Fits the tail of `z` whose largest were cut off: how short it looks is the cut's doing, so it is taken for
    /// exponential at least.
    pub fn cut(z: Vec<f64>) -> Self {
        Self::within(z, false, 0.0)
    }

    /// Fits the tail of `z`; where it `ended`, nothing was seen beyond it, and it may have a short tail.
    pub fn with_end(z: Vec<f64>, ended: bool) -> Self {
        Self::within(z, ended, if ended { SHAPE_MIN_ENDED } else { SHAPE_MIN })
    }

    fn within(mut z: Vec<f64>, ended: bool, shape_min: f64) -> Self {
        z.retain(|z| !z.is_nan());
        z.sort_by(f64::total_cmp);
        let n = z.len();
        let most = ((n as f64 * SHARE_MAX) as usize).max(1);
        let n_exceed = (n / 50).max(N_EXCEEDANCES_MIN).min(most);
        if n < 2 {
            let u = z.first().copied().unwrap_or(0.0);
            return Self { sorted: z, u, zeta: 0.5, shape: 0.0, sigma: 1.0, ended };
        }
        let u = z[n - n_exceed - 1];
        let exceedances = z[n - n_exceed..].iter().map(|z| z - u);
        let (shape, sigma) = pareto(exceedances, 1.0, shape_min);
        let zeta = n_exceed as f64 / n as f64;
        Self { sorted: z, u, zeta, shape, sigma, ended }
    }

    /// Whether nothing was seen beyond the calibration.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The calibration in ascending order.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// Share of ordinary records that score at least `z`, from 1e-12 to 1; 1 for NaN.
    pub fn p_value(&self, z: f64) -> f64 {
        if z.is_nan() {
            return 1.0;
        }
        let p = if z > self.u {
            self.zeta * survival((z - self.u) / self.sigma, self.shape)
        } else {
            let n_below = self.sorted.partition_point(|calibrated| *calibrated < z);
            let n = self.sorted.len();
            ((1 + n - n_below) as f64 / (n + 1) as f64).max(self.zeta)
        };
        p.clamp(P_MIN, 1.0)
    }

    /// The score whose p-value is `p`: the least z with `p_value(z) <= p` within rounding.
    pub fn z_at(&self, p: f64) -> f64 {
        if p < self.zeta {
            return self.u + self.sigma * quantile(p.max(P_MIN) / self.zeta, self.shape);
        }
        let n = self.sorted.len();
        let n_above = (p * (n + 1) as f64) as usize;
        self.sorted.get(n.saturating_sub(n_above)).copied().unwrap_or(self.u)
    }
}

/// Survival function of a generalised Pareto of scale 1 at `e`.
pub(super) fn survival(e: f64, shape: f64) -> f64 {
    if shape.abs() < 1e-9 {
        return (-e).exp();
    }
    (1.0 + shape * e).max(0.0).powf(-1.0 / shape)
}

/// Inverse of [`survival`].
pub(super) fn quantile(share: f64, shape: f64) -> f64 {
    if shape.abs() < 1e-9 {
        return -share.ln();
    }
    (share.powf(-shape) - 1.0) / shape
}

/// Shape and scale of ascending exceedances by probability-weighted moments; `doubt`, 0 to 1, is how far the prior is
/// believed.
pub(super) fn pareto(exceedances: impl ExactSizeIterator<Item = f64>, doubt: f64, shape_min: f64) -> (f64, f64) {
    let n = exceedances.len() as f64;
    let (mut b0, mut b1) = (0.0, 0.0);
    for (i, e) in exceedances.enumerate() {
        b0 += e;
        b1 += e * (1.0 - (i as f64 + 0.65) / n);
    }
    let (b0, b1) = (b0 / n, b1 / n);
    let spread = b0 - 2.0 * b1;
    let shape = if spread <= 1e-12 { 0.0 } else { 2.0 - b0 / spread };
    let (prior, worth) = (SHAPE_PRIOR.0, doubt * SHAPE_PRIOR.1);
    let shape = ((n * shape + worth * prior) / (n + worth)).clamp(shape_min, 0.6);
    (shape, (b0 * (1.0 - shape)).max(1e-9))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn exponential(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect()
    }

    #[test]
    fn an_exponential_tail_is_found_beyond_the_calibration() {
        for (n, slack) in [(400, 2.0), (4000, 1.0), (20_000, 0.35)] {
            let mean = (0..20).map(|seed| Tail::fit(exponential(n, seed)).z_at(1e-4)).sum::<f64>() / 20.0;
            assert!((mean - 10_000_f64.ln()).abs() < slack, "{n}: {mean}");
        }
    }

    #[test]
    fn p_values_fall_and_stay_in_range() {
        for calibration in [exponential(2000, 1), exponential(10, 1), vec![1.0; 100], vec![2.0], vec![]] {
            let tail = Tail::fit(calibration);
            let p: Vec<f64> = (-100..4000).map(|i| tail.p_value(f64::from(i) * 0.01)).collect();
            assert!(p.windows(2).all(|pair| pair[1] <= pair[0]), "not monotone");
            assert!(p.iter().all(|p| (1e-12..=1.0).contains(p)));
            assert_eq!(tail.p_value(f64::NAN), 1.0);
        }
    }

    #[test]
    fn z_at_is_the_inverse_of_the_p_value() {
        let tail = Tail::fit(exponential(3000, 2));
        for p in [0.4, 0.1, 0.01, 1e-3, 1e-6] {
            assert!(tail.p_value(tail.z_at(p) + 1e-9) <= p * 1.001, "{p}");
            assert!(tail.p_value(tail.z_at(p) - 1e-3) > p * 0.99, "{p}");
        }
    }
}
