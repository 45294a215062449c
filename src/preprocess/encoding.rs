//! How one feature becomes inputs, by its kind, and how reconstructed inputs become a value again.

use std::f64::consts::TAU;
use std::ops::Range;

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::scaler::{CLIP, Scaler};

/// What stands for every category that isn't known.
pub(super) const OTHER: &str = "other";

/// How one feature becomes inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    /// The value.
    Number,
    /// sign(v)·ln(1+|v|).
    Log,
    /// 1 where the value is not 0.
    Boolean,
    /// 1 in the column of the category, the last of which is `other`.
    OneHot {
        /// Columns less one.
        n_known: usize,
    },
    /// Sine and cosine of 2πv/period.
    Cyclic {
        /// After how much the value comes round.
        period: f64,
    },
}

impl Encoding {
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Numeric => Self::Number,
            Kind::Log => Self::Log,
            Kind::Boolean => Self::Boolean,
            Kind::Categorical { categories } => Self::OneHot { n_known: categories.len() },
            Kind::Cyclic { period } => Self::Cyclic { period: *period },
        }
    }

    /// Number of inputs.
    pub(super) fn n_columns(self) -> usize {
        match self {
            Self::Number | Self::Log | Self::Boolean => 1,
            Self::OneHot { n_known } => n_known + 1,
            Self::Cyclic { .. } => 2,
        }
    }

    /// Fits the scalers of the inputs on raw values `[rows]`, NaN where missing: moments on those `kept`, shares on `all`.
    pub(super) fn fit(self, kept: ArrayView1<'_, f32>, all: ArrayView1<'_, f32>, scalers: &mut Vec<Scaler>) {
        let raw = kept.iter().map(|value| f64::from(*value));
        let all = all.iter().map(|value| f64::from(*value));
        match self {
            Self::Number => scalers.push(Scaler::fit(raw)),
            Self::Log => scalers.push(Scaler::fit(raw.map(log))),
            Self::Boolean => {
                let observed = || all.clone().filter(|value| value.is_finite());
                let n_ones = observed().filter(|value| *value != 0.0).count() as u64;
                scalers.push(Scaler::of_probability(n_ones, observed().count() as u64));
            }
            Self::OneHot { n_known } => {
                let mut counts = vec![0; n_known + 1];
                all.filter(|value| value.is_finite()).for_each(|value| counts[index(value, n_known)] += 1);
                let n_observed = counts.iter().sum();
                scalers.extend(counts.iter().map(|n| Scaler::of_probability(*n, n_observed)));
            }
            Self::Cyclic { period } => scalers.extend(fit_cyclic(raw, period)),
        }
    }

    /// Writes the inputs of an observed value; `zero` holds each input's z-score of 0. Returns whether one was cut.
    pub(super) fn write(self, raw: f64, scalers: &[Scaler], zero: &[f32], out: &mut [f32]) -> bool {
        match self {
            Self::Number => write(scalers[0].z(raw), &mut out[0]),
            Self::Log => write(scalers[0].z(log(raw)), &mut out[0]),
            Self::Boolean => write(scalers[0].z(f64::from(u8::from(raw != 0.0))), &mut out[0]),
            Self::OneHot { n_known } => {
                let i = index(raw, n_known);
                out.copy_from_slice(zero);
                let cut = write(scalers[i].z(1.0), &mut out[i]);
                cut || zero.iter().enumerate().any(|(j, z)| j != i && f64::from(z.abs()) >= CLIP)
            }
            Self::Cyclic { period } => {
                let (sin, cos) = turn(raw, period);
                // Both are written, cut or not.
                write(scalers[0].z(sin), &mut out[0]) | write(scalers[1].z(cos), &mut out[1])
            }
        }
    }

    /// The raw value, as a row holds it, that reconstructed inputs `z` stand for, kept within the range of f32.
    pub(super) fn read(self, scalers: &[Scaler], z: &[f32]) -> f32 {
        let of = |j: usize| scalers[j].inverse(z[j]);
        match self {
            Self::Number => narrow(of(0)),
            Self::Log => narrow(of(0).abs().exp_m1().copysign(of(0))),
            Self::Boolean => f32::from(u8::from(of(0) >= 0.5)),
            Self::OneHot { n_known } => {
                // The first of equals, which is the more frequent one.
                let best = (1..=n_known).fold(0, |best, j| if of(j) > of(best) { j } else { best });
                best as f32
            }
            Self::Cyclic { period } => {
                let value = narrow((of(0).atan2(of(1)) / TAU).rem_euclid(1.0) * period);
                if f64::from(value) < period { value } else { 0.0 }
            }
        }
    }

    /// Names of the inputs of a feature called `name` of this `kind`.
    pub(super) fn input_names(self, name: &str, kind: &Kind) -> Vec<String> {
        match (self, kind) {
            (Self::OneHot { .. }, Kind::Categorical { categories }) => {
                let known = categories.iter().map(String::as_str).chain([OTHER]);
                known.map(|category| format!("{name}={category}")).collect()
            }
            (Self::Cyclic { .. }, _) => vec![format!("{name} sin"), format!("{name} cos")],
            _ => vec![name.to_owned()],
        }
    }
}

/// Writes a z-score, cut at ±50; returns whether it was.
fn write(z: f64, out: &mut f32) -> bool {
    *out = z.clamp(-CLIP, CLIP) as f32;
    z.abs() > CLIP
}

fn log(value: f64) -> f64 {
    value.abs().ln_1p().copysign(value)
}

fn narrow(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// The column of a code; what is no code of a known category is another one.
fn index(code: f64, n_known: usize) -> usize {
    if code >= 0.0 { (code as usize).min(n_known) } else { n_known }
}

fn turn(value: f64, period: f64) -> (f64, f64) {
    (value.rem_euclid(period) / period * TAU).sin_cos()
}

/// Centres sine and cosine and divides both by one deviation, so that another zero of the clock changes no distance.
fn fit_cyclic(raw: impl Iterator<Item = f64> + Clone, period: f64) -> [Scaler; 2] {
    let sin = Scaler::fit(raw.clone().map(|value| turn(value, period).0));
    let cos = Scaler::fit(raw.map(|value| turn(value, period).1));
    let constant = sin.constant && cos.constant;
    let variance = |scaler: Scaler| if scaler.constant { 0.0 } else { scaler.std.powi(2) };
    let std = if constant { 1.0 } else { (0.5 * (variance(sin) + variance(cos))).sqrt() };
    [Scaler { std, constant, ..sin }, Scaler { std, constant, ..cos }]
}

/// The part of a row that belongs to one feature: its values' inputs, then the indicator if there is one.
pub(super) fn layout(encodings: &[Encoding], missing_indicator: bool) -> Vec<Range<usize>> {
    let mut start = 0;
    let one = |encoding: &Encoding| {
        let columns = start..start + encoding.n_columns() + usize::from(missing_indicator);
        start = columns.end;
        columns
    };
    encodings.iter().map(one).collect()
}
