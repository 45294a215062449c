//! Online control of the false discovery rate: of all alerts so far, no more than the level are false, in expectation.
//!
//! A level per record instead of one for all: each alert earns the next ones a higher level, and the level falls while
//! nothing is found. LORD++ (Ramdas, Yang, Wainwright & Jordan 2017), SAFFRON (Ramdas, Zrnic, Wainwright & Jordan 2018)
//! and e-LOND (Xu & Ramdas 2024), the last on e-values that are calibrated from the p-values (Vovk & Wang 2021): it
//! holds whatever the dependence between records, and finds least. The first two want independent p-values. Only the
//! latest 64 discoveries count: leaving older ones out lowers a level, so the control stands.

use serde::{Deserialize, Serialize};

use super::{Carried, Threshold, Verdict};

/// Discoveries that are remembered beside the first: each costs a few tens of ns a record.
const REMEMBERED: usize = 64;
/// p-values at most this are candidates of SAFFRON: its authors' choice.
const CANDIDATE: f64 = 0.5;
/// Share of the level that is spent before anything has been found.
const WEALTH_AT_START: f64 = 0.5;

/// Which procedure, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fdr {
    /// The target is a share of records.
    #[default]
    None,
    /// LORD++.
    Lord,
    /// SAFFRON: adapts to how many records are ordinary.
    Saffron,
    /// e-LOND.
    ELord,
}

/// A family whose p-values are judged by an online procedure.
pub struct Controlled {
    family: Box<dyn Threshold>,
    procedure: Procedure,
    z_at_alert: f64,
}

impl Controlled {
    /// Alerts of `family` with a false discovery rate of at most `level`. The family should hold its own level still.
    pub fn new(family: Box<dyn Threshold>, kind: Fdr, level: f64) -> Self {
        let procedure = Procedure::new(kind, level);
        let z_at_alert = family.z_at(procedure.level());
        Self { family, procedure, z_at_alert }
    }
}

impl Threshold for Controlled {
    fn judge(&mut self, z: f64) -> Verdict {
        // Taken anew: the family has learnt since.
        self.z_at_alert = self.family.z_at(self.procedure.level());
        let verdict = self.family.judge(z);
        let verdict = Verdict { anomalous: z > self.z_at_alert, z_at_alert: self.z_at_alert, ..verdict };
        if !z.is_nan() {
            self.procedure.learn(verdict.p_value, verdict.anomalous);
        }
        verdict
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }

    fn z_at(&self, p: f64) -> f64 {
        self.family.z_at(p)
    }

    fn carried(&self) -> Option<Carried> {
        self.family.carried()
    }

    fn restore(&mut self, carried: &Carried) {
        self.family.restore(carried);
    }
}

/// The level of the next test.
#[derive(Clone, Debug)]
struct Procedure {
    kind: Fdr,
    level: f64,
    /// Tests so far; of SAFFRON those that were no candidates.
    n_tests: u64,
    n_discoveries: u64,
    /// `n_tests` after the first discovery, and after the latest others, the oldest at `oldest` once full.
    first: Option<u64>,
    others: Vec<u64>,
    oldest: usize,
}

impl Procedure {
    fn new(kind: Fdr, level: f64) -> Self {
        let others = Vec::with_capacity(REMEMBERED);
        Self { kind, level, n_tests: 0, n_discoveries: 0, first: None, others, oldest: 0 }
    }

    /// The greatest p-value that is a discovery now.
    fn level(&self) -> f64 {
        let spent = match self.kind {
            Fdr::None => return self.level,
            Fdr::ELord => {
                let e = 1.0 / (self.level * lord_share(self.n_tests + 1) * (self.n_discoveries + 1) as f64);
                return p_of_e(e);
            }
            Fdr::Lord => lord_share,
            Fdr::Saffron => saffron_share,
        };
        let start = WEALTH_AT_START * self.level;
        let since = |at: &u64| spent(self.n_tests - at + 1);
        let wealth = start * spent(self.n_tests + 1)
            + (self.level - start) * self.first.as_ref().map_or(0.0, since)
            + self.level * self.others.iter().map(since).sum::<f64>();
        if self.kind == Fdr::Saffron { ((1.0 - CANDIDATE) * wealth).min(CANDIDATE) } else { wealth }
    }

    /// Goes on to the next test.
    fn learn(&mut self, p_value: f64, is_discovery: bool) {
        if self.kind != Fdr::Saffron || p_value > CANDIDATE {
            self.n_tests += 1;
        }
        if !is_discovery {
            return;
        }
        self.n_discoveries += 1;
        if self.first.is_none() {
            self.first = Some(self.n_tests);
        } else if self.others.len() < REMEMBERED {
            self.others.push(self.n_tests);
        } else {
            self.others[self.oldest] = self.n_tests;
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
    }
}

/// γ of the `t`-th test, from 1: 0.0772 ln(t ∨ 2) / (t e^√ln t), which sums to 1 (Javanmard & Montanari 2018).
fn lord_share(t: u64) -> f64 {
    let t = t as f64;
    0.07720838 * t.max(2.0).ln() / (t * t.ln().sqrt().exp())
}

/// γ of the `t`-th test of SAFFRON, from 1: t^−1.6 over its sum.
fn saffron_share(t: u64) -> f64 {
    const SUM: f64 = 2.285766;
    (t as f64).powf(-1.6) / SUM
}

/// The e-value of a p-value: (1 − p + p ln p) / (p ln² p), the mixture of all κ p^(κ−1).
fn e_of_p(p: f64) -> f64 {
    let ln = p.ln();
    (1.0 - p + p * ln) / (p * ln * ln)
}

/// The p-value whose e-value is `e`, at least 1: the e-value falls from infinity to 1/2 as p rises to 1.
fn p_of_e(e: f64) -> f64 {
    let (mut low, mut high) = (-80.0, -1e-3_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if e_of_p(middle.exp()) > e { low = middle } else { high = middle }
    }
    low.exp()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const PROCEDURES: [Fdr; 3] = [Fdr::Lord, Fdr::Saffron, Fdr::ELord];

    const N_RUNS: usize = 40;

    /// Mean share of false discoveries with its standard error, and mean share of found anomalies, one record of a
    /// hundred being anomalous.
    fn measured(kind: Fdr, level: f64) -> (f64, f64, f64) {
        let (mut false_shares, mut power) = (Vec::new(), 0.0);
        for seed in 0..N_RUNS as u64 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut procedure = Procedure::new(kind, level);
            let (mut n_true, mut n_false, mut n_anomalies) = (0, 0, 0);
            for _ in 0..10_000 {
                let is_anomaly = rng.random::<f64>() < 0.01;
                let p = rng.random::<f64>() * if is_anomaly { 1e-7 } else { 1.0 };
                let is_discovery = p <= procedure.level();
                procedure.learn(p, is_discovery);
                n_anomalies += u32::from(is_anomaly);
                n_true += u32::from(is_anomaly && is_discovery);
                n_false += u32::from(!is_anomaly && is_discovery);
            }
            false_shares.push(f64::from(n_false) / f64::from((n_true + n_false).max(1)));
            power += f64::from(n_true) / f64::from(n_anomalies) / N_RUNS as f64;
        }
        let n = N_RUNS as f64;
        let mean = false_shares.iter().sum::<f64>() / n;
        let variance = false_shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt(), power)
    }

    #[test]
    fn the_false_discovery_rate_is_held_and_anomalies_are_found() {
        for kind in PROCEDURES {
            let (false_share, error, power) = measured(kind, 0.1);
            assert!(false_share <= 0.1 + 2.0 * error && error < 0.01, "{kind:?}: {false_share} ± {error}");
            assert!(power > 0.5, "{kind:?}: {power}");
        }
        // Without a procedure, a tenth of all ordinary records are discoveries: the measure can fail.
        assert!(measured(Fdr::None, 0.1).0 > 0.8);
    }

    #[test]
    fn shares_sum_to_no_more_than_one() {
        for share in [lord_share, saffron_share] {
            let sum: f64 = (1..2_000_000).map(share).sum();
            assert!((0.5..=1.0).contains(&sum), "{sum}");
        }
    }

    #[test]
    fn levels_of_a_hand_worked_case() {
        let mut lord = Procedure::new(Fdr::Lord, 0.1);
        assert!((lord.level() - 0.05 * 0.07720838 * 2_f64.ln()).abs() < 1e-12);
        lord.learn(1e-9, true);
        let second = 0.07720838 * 2_f64.ln() / (2.0 * 2_f64.ln().sqrt().exp());
        let expected = 0.05 * second + 0.05 * lord_share(1);
        assert!((lord.level() - expected).abs() < 1e-12);
        let mut saffron = Procedure::new(Fdr::Saffron, 0.1);
        let before = saffron.level();
        assert!((before - 0.5 * 0.05 / 2.285766).abs() < 1e-9);
        saffron.learn(0.3, false);
        assert_eq!(saffron.level(), before, "a candidate costs nothing");
        saffron.learn(0.9, false);
        assert!((saffron.level() / before - 2_f64.powf(-1.6)).abs() < 1e-9);
    }

    #[test]
    fn e_values_have_mean_one_and_turn_back() {
        // The integral over p, in ln p.
        let n = 200_000;
        let sum: f64 = (0..n)
            .map(|i| -60.0 + 60.0 * (f64::from(i) + 0.5) / f64::from(n))
            .map(|ln| e_of_p(ln.exp()) * ln.exp())
            .sum();
        let mean = sum * 60.0 / f64::from(n);
        assert!(mean <= 1.0 + 1e-3 && mean > 0.95, "{mean}");
        for p in [1e-12_f64, 1e-6, 1e-2] {
            assert!((p_of_e(e_of_p(p)) / p - 1.0).abs() < 1e-6, "{p}");
        }
    }
}
