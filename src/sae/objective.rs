//! What is minimised: the loss of a residual and the weights of the penalties, with their defaults and reasons.
//!
//! MODEL 2.4. Dimensionless: for standardised rows the reconstruction's part is about the share of variance that is not
//! explained. Each form reads only the keys that are its own.

use serde::{Deserialize, Serialize};

/// The loss of one residual e.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// e².
    #[default]
    Mse,
    /// e² up to δ, then the tangent 2δ|e| − δ²: a gross value pulls no harder than a large one.
    Huber,
}

/// The shape of the `jumprelu` penalty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L0Form {
    /// λ₀(L0/k − 1)²: k active latents are wanted, fewer are no better.
    #[default]
    Quadratic,
    /// (λ₀/k)·L0: fewer are always better.
    Linear,
}

/// Loss and penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Loss of a residual.
    pub loss: Loss,
    /// Standard deviations at which `huber` turns linear.
    ///
    /// δ.
    pub huber_delta: f64,
    /// Whether the first eighth, quarter and half of the latents must reconstruct, too.
    ///
    /// Each of the three counts as much as the reconstruction by all.
    pub matryoshka: bool,
    /// L1 penalty of `relu`, by the length of decoder rows and √features.
    ///
    /// λ; 0.3 shrank activations to a tenth. SAELens' is λ√D.
    pub l1: f64,
    /// Penalty of `sigmoid`.
    ///
    /// β.
    pub kl: f64,
    /// Mean activation that `sigmoid` wants, a share.
    ///
    /// ρ.
    pub kl_rate: f64,
    /// Penalty of `jumprelu`.
    ///
    /// λ₀.
    pub l0: f64,
    /// Whether `k` active latents are wanted, or few.
    pub l0_form: L0Form,
    /// Width of the kernel that thresholds of `jumprelu` learn by.
    ///
    /// ε.
    pub bandwidth: f64,
    /// Loss that revives dead latents of `topk` and `batchtopk`.
    ///
    /// α. Of 128 latents 12 % stay dead in tests/recovery.rs, at Gao et al.'s 1/32 20 to 28 %, without it 26 to 30 %,
    /// all at the same atoms found.
    pub aux: f64,
    /// Rows without firing, at least an epoch, after which a latent is dead.
    pub dead_rows: u64,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            loss: Loss::Mse,
            huber_delta: 3.0,
            matryoshka: false,
            l1: 0.1,
            kl: 1.0,
            kl_rate: 0.05,
            l0: 0.05,
            l0_form: L0Form::Quadratic,
            bandwidth: 0.1,
            aux: 0.5,
            dead_rows: 4096,
        }
    }
}

impl Objective {
    /// The numbers of first latents whose reconstructions count, ascending; the last is all of them.
    pub(super) fn prefixes(&self, n_latents: usize) -> Vec<usize> {
        let divisors: &[usize] = if self.matryoshka { &[8, 4, 2, 1] } else { &[1] };
        let mut prefixes: Vec<usize> = divisors.iter().map(|divisor| (n_latents / divisor).max(1)).collect();
        prefixes.dedup();
        prefixes
    }

    /// Value and derivative of the loss of a residual `e`, the derivative halved.
    pub(super) fn loss_of<F: super::Real>(&self, e: F) -> (f64, F) {
        let delta = self.huber_delta;
        match self.loss {
            Loss::Huber if e.wide().abs() > delta => {
                (2.0 * delta * e.wide().abs() - delta * delta, F::of(delta.copysign(e.wide())))
            }
            Loss::Mse | Loss::Huber => (e.wide() * e.wide(), e),
        }
    }

    /// One sentence for each key that is out of range.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, key: &str, value: f64, range: &str| {
            if !holds {
                problems.push(format!("objective.{key} is {value}, it must be {range}"));
            }
        };
        let (positive, weight) = ("above 0 and at most 1e6", "from 0 to 1e6");
        let above = |value: f64| value > 0.0 && value <= 1e6;
        need(above(self.huber_delta), "huber_delta", self.huber_delta, positive);
        need(above(self.bandwidth), "bandwidth", self.bandwidth, positive);
        for (key, value) in [("l1", self.l1), ("kl", self.kl), ("l0", self.l0), ("aux", self.aux)] {
            need((0.0..=1e6).contains(&value), key, value, weight);
        }
        let rate = self.kl_rate;
        need(rate > 0.0 && rate < 1.0, "kl_rate", rate, "above 0 and below 1");
        need(self.dead_rows > 0, "dead_rows", 0.0, "at least 1");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huber_is_the_square_and_then_its_tangent() {
        let huber = Objective { loss: Loss::Huber, huber_delta: 2.0, ..Objective::default() };
        assert_eq!(
            [1.0, 2.0, 3.0, -3.0].map(|e: f64| huber.loss_of(e)),
            [(1.0, 1.0), (4.0, 2.0), (8.0, 2.0), (8.0, -2.0)]
        );
        assert_eq!(Objective::default().loss_of(9.0_f64), (81.0, 9.0));
    }

    #[test]
    fn prefixes_are_nested_and_end_with_all() {
        let nested = Objective { matryoshka: true, ..Objective::default() };
        assert_eq!(nested.prefixes(64), [8, 16, 32, 64]);
        assert_eq!(nested.prefixes(3), [1, 3], "equal ones count once");
        assert_eq!(Objective::default().prefixes(64), [64]);
    }
}
