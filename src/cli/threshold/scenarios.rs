//! Synthetic streams of scores whose truth is known: MODEL 4.1.
//!
//! The logarithm of a score is Student-t(6) noise, halved, about a median that may drift; anomalies are added to it. The
//! scores before the warm-up's end calibrate and never hold anomalies.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StudentT};

/// Records of a scenario, and how many of them calibrate.
pub const N_RECORDS: usize = 120_000;
/// Records that calibrate.
pub const N_WARMUP: usize = 10_000;
/// Scale of the noise of a log score. A mild anomaly, 3.5 above, is then as high as 2 of 10,000 ordinary scores.
const NOISE: f64 = 0.5;
/// Records after a big jump that are neither ordinary nor anomalous: the shift is being confirmed.
const SETTLING: usize = 6000;

/// What a record of a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// An alert would be false.
    Ordinary,
    /// It should alert.
    Anomalous,
    /// Part of a change that should be told once: alerts don't count.
    Change,
}

/// What happens to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing.
    Stationary,
    /// The median swings by 0.5 with a period of 60,000.
    Slow,
    /// The median rises by 1.2 over the run.
    Ramp,
    /// The median jumps by 0.6, up and down in turn, every 30,000.
    Jump,
    /// The median swings by 0.5 with a period of 10,000.
    Diurnal,
    /// The noise grows and shrinks by 40 % with a period of 60,000.
    Spread,
    /// The noise goes from Student-t(12) to t(4) over the run.
    Tail,
    /// 22 bursts of 20 to 200 anomalies 3.5 above the median.
    Burst,
    /// The same, 6 above.
    Burst6,
    /// As many anomalies, in bursts of 800 to 1600, 3.5 above.
    LongBurst,
    /// Single anomalies, 3.5 above the median, one in 200 records: five times a target of 1e-3.
    Frequent,
    /// The median rises by 3.5 half-way, for good.
    BigJump,
}

/// A stream of scores.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Logarithms of the scores, `[records]`.
    pub log_scores: Vec<f64>,
    /// What each of them is, `[records]`.
    pub truth: Vec<Truth>,
}

impl Scenario {
    /// All scenarios, in the order of the table.
    pub const ALL: [Self; 12] = [
        Self::Stationary,
        Self::Slow,
        Self::Ramp,
        Self::Jump,
        Self::Diurnal,
        Self::Spread,
        Self::Tail,
        Self::Burst,
        Self::Burst6,
        Self::LongBurst,
        Self::Frequent,
        Self::BigJump,
    ];

    /// Name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stationary => "stationary",
            Self::Slow => "slow",
            Self::Ramp => "ramp",
            Self::Jump => "jump",
            Self::Diurnal => "diurnal",
            Self::Spread => "spread",
            Self::Tail => "tail",
            Self::Burst => "burst",
            Self::Burst6 => "burst6",
            Self::LongBurst => "longburst",
            Self::Frequent => "frequent",
            Self::BigJump => "bigjump",
        }
    }

    /// The scenario's stream of [`N_RECORDS`], the same for the same seed.
    pub fn stream(self, seed: u64) -> Stream {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = Stream { log_scores: Vec::with_capacity(N_RECORDS), truth: vec![Truth::Ordinary; N_RECORDS] };
        for i in 0..N_RECORDS {
            let noise = StudentT::new(self.freedom(i)).expect("it is above 0").sample(&mut rng);
            stream.log_scores.push(self.median(i) + self.noise(i) * noise);
        }
        match self {
            Self::Burst => stream.add_bursts(3.5, 22, (20, 200), &mut rng),
            Self::Burst6 => stream.add_bursts(6.0, 22, (20, 200), &mut rng),
            Self::LongBurst => stream.add_bursts(3.5, 2, (800, 1600), &mut rng),
            Self::Frequent => stream.add_bursts(3.5, 550, (1, 1), &mut rng),
            Self::BigJump => stream.truth[N_RECORDS / 2..N_RECORDS / 2 + SETTLING].fill(Truth::Change),
            _ => {}
        }
        stream
    }

    fn median(self, i: usize) -> f64 {
        let turn = |period: f64| (std::f64::consts::TAU * i as f64 / period).sin();
        match self {
            Self::Slow => 0.5 * turn(60_000.0),
            Self::Ramp => 1.2 * i as f64 / N_RECORDS as f64,
            Self::Jump if (i / 30_000) % 2 == 1 => 0.6,
            Self::Diurnal => 0.5 * turn(10_000.0),
            Self::BigJump if i >= N_RECORDS / 2 => 3.5,
            _ => 0.0,
        }
    }

    fn noise(self, i: usize) -> f64 {
        match self {
            Self::Spread => NOISE * (1.0 + 0.4 * (std::f64::consts::TAU * i as f64 / 60_000.0).sin()),
            _ => NOISE,
        }
    }

    fn freedom(self, i: usize) -> f64 {
        match self {
            Self::Tail => 12.0 - 8.0 * i as f64 / N_RECORDS as f64,
            _ => 6.0,
        }
    }
}

impl Stream {
    /// Adds `n` bursts of anomalies, one in each of as many stretches after the warm-up.
    fn add_bursts(&mut self, height: f64, n: usize, (shortest, longest): (usize, usize), rng: &mut ChaCha8Rng) {
        let stretch = (N_RECORDS - N_WARMUP) / n;
        for burst in 0..n {
            let len = rng.random_range(shortest..=longest);
            let begin = N_WARMUP + burst * stretch + rng.random_range(0..stretch - len);
            for i in begin..begin + len {
                self.log_scores[i] += height;
                self.truth[i] = Truth::Anomalous;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_what_they_say() {
        let share =
            |stream: &Stream, truth| stream.truth.iter().filter(|t| **t == truth).count() as f64 / N_RECORDS as f64;
        for scenario in Scenario::ALL {
            let stream = scenario.stream(1);
            assert_eq!((stream.log_scores.len(), stream.truth.len()), (N_RECORDS, N_RECORDS));
            assert!(stream.truth[..N_WARMUP].iter().all(|truth| *truth == Truth::Ordinary), "{scenario:?}");
            assert_eq!(stream.log_scores, scenario.stream(1).log_scores, "{scenario:?}");
        }
        let anomalous = share(&Scenario::Burst.stream(1), Truth::Anomalous);
        assert!((0.012..0.03).contains(&anomalous), "{anomalous}");
        // MODEL 4.1: a mild anomaly is as high as 2 of 10,000 ordinary scores.
        let stream = Scenario::Stationary.stream(2);
        let beyond = stream.log_scores.iter().filter(|log| **log > 3.5).count() as f64 / N_RECORDS as f64;
        assert!((1e-4..4e-4).contains(&beyond), "{beyond}");
    }
}
