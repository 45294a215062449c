//! Rows of raw values to rows of inputs under a missing mask, and back, by the kinds of a schema.
//!
//! MODEL 2.2: missing values become 0 *after* scaling with mask 0, so that no value is imputed. A feature with several
//! inputs weighs as one: its inputs share a weight of 1. Where every feature is numeric, inputs and features are the
//! same, in number and order, and all weights are 1. Nothing here updates after the fit.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use super::encoding::{Encoding, OTHER, layout};
use super::kind::Kind;
use super::scaler::{CLIP, Scaler};
use super::schema::Schema;
use crate::record::Value;
use crate::turn::give_way;
use crate::wide::wide;

/// Weight of the input that says whether a value is missing. A row without any value then has a third of its weight
/// observed, and stays too little to be scored.
const INDICATOR_WEIGHT: f32 = 0.5;

/// What a transform met, to be added to counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Values that were missing (NaN or infinite).
    pub missing: u64,
    /// Values whose z-score was cut at ±50.
    pub clipped: u64,
}

/// How each feature becomes inputs, with one scaler for each input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Preprocessor {
    scalers: Vec<Scaler>,
    encodings: Vec<Encoding>,
    missing_indicator: bool,
    /// Inputs of each feature, `[n_features]`.
    columns: Vec<Range<usize>>,
    /// `[n_inputs]`.
    weights: Vec<f32>,
    /// Mean and 1/deviation of each input, `[n_inputs]` each.
    means: Vec<f64>,
    inverses: Vec<f64>,
    /// z-score of 0 of each input, `[n_inputs]`: what all columns of a category but one hold.
    zero: Vec<f32>,
    /// Whether inputs and features are the same.
    is_plain: bool,
}

/// What is stored; a list of encodings only where they differ from one number a feature.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scalers: Vec<Scaler>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    encodings: Vec<Encoding>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    missing_indicator: bool,
}

impl From<Preprocessor> for Written {
    fn from(preprocessor: Preprocessor) -> Self {
        let Preprocessor { scalers, encodings, missing_indicator, is_plain, .. } = preprocessor;
        Self { scalers, encodings: if is_plain { Vec::new() } else { encodings }, missing_indicator }
    }
}

impl TryFrom<Written> for Preprocessor {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { scalers, mut encodings, missing_indicator } = written;
        if encodings.is_empty() {
            encodings = vec![Encoding::Number; scalers.len()];
        }
        let n_inputs = layout(&encodings, missing_indicator).last().map_or(0, |columns| columns.end);
        if n_inputs != scalers.len() {
            return Err(format!("{n_inputs} inputs have {} scalers", scalers.len()));
        }
        Ok(Self::of(scalers, encodings, missing_indicator))
    }
}

impl Preprocessor {
    /// Fits on raw rows `[rows, n_features]` of `schema`; NaN and ±inf are missing.
    ///
    /// Means and deviations are those of `kept`. The shares of categories, booleans and missing values are those of `all`
    /// rows: a category that was left out of `kept` would be as strange as one that was never seen, and rows that hold it
    /// could never be admitted again. Panics when the rows have another number of features than the schema.
    pub fn fit(schema: &Schema, kept: ArrayView2<'_, f32>, all: ArrayView2<'_, f32>) -> Self {
        let widths = (kept.ncols(), all.ncols());
        assert_eq!(widths, (schema.n_features(), schema.n_features()), "rows must be [rows, n_features]");
        let encodings: Vec<Encoding> = schema.features().iter().map(|feature| Encoding::of(&feature.kind)).collect();
        let mut scalers = Vec::new();
        for (encoding, (kept, all)) in encodings.iter().zip(kept.columns().into_iter().zip(all.columns())) {
            give_way();
            encoding.fit(kept, all, &mut scalers);
            if schema.missing_indicator() {
                let n_missing = all.iter().filter(|value| !value.is_finite()).count();
                scalers.push(Scaler::of_probability(n_missing as u64, all.len() as u64));
            }
        }
        Self::of(scalers, encodings, schema.missing_indicator())
    }

    /// Scales features that are all numeric by scalers that were fitted before.
    pub fn from_scalers(scalers: Vec<Scaler>) -> Self {
        let encodings = vec![Encoding::Number; scalers.len()];
        Self::of(scalers, encodings, false)
    }

    fn of(scalers: Vec<Scaler>, encodings: Vec<Encoding>, missing_indicator: bool) -> Self {
        let columns = layout(&encodings, missing_indicator);
        let mut weights = Vec::with_capacity(scalers.len());
        for encoding in &encodings {
            let n = encoding.n_columns();
            weights.extend(std::iter::repeat_n(1.0 / n as f32, n));
            weights.extend(missing_indicator.then_some(INDICATOR_WEIGHT));
        }
        let zero = scalers.iter().map(|scaler| scaler.z(0.0).clamp(-CLIP, CLIP) as f32).collect();
        let is_plain = !missing_indicator && encodings.iter().all(|encoding| *encoding == Encoding::Number);
        let means = scalers.iter().map(|scaler| scaler.mean).collect();
        let inverses = scalers.iter().map(|scaler| 1.0 / scaler.std).collect();
        Self { scalers, encodings, missing_indicator, columns, weights, means, inverses, zero, is_plain }
    }

    /// Number of raw values in a row.
    pub fn n_features(&self) -> usize {
        self.encodings.len()
    }

    /// Number of inputs of the autoencoder; as many as features while every feature is numeric.
    pub fn n_inputs(&self) -> usize {
        self.scalers.len()
    }

    /// The scalers of the inputs in order.
    pub fn scalers(&self) -> &[Scaler] {
        &self.scalers
    }

    /// The weight of each input in score and loss, `[n_inputs]`: the inputs of a value share 1.
    pub fn column_weights(&self) -> &[f32] {
        &self.weights
    }

    /// The inputs of each feature, `[n_features]`; the first is missing where the value is.
    pub fn columns(&self) -> &[Range<usize>] {
        &self.columns
    }

    /// Whether it was fitted on rows of `schema`.
    pub fn fits(&self, schema: &Schema) -> bool {
        let encodings = schema.features().iter().map(|feature| Encoding::of(&feature.kind));
        self.missing_indicator == schema.missing_indicator() && encodings.eq(self.encodings.iter().copied())
    }

    /// Names of the inputs, `[n_inputs]`: `temp`, `proto=tcp`, `hour sin`, `load missing`.
    pub fn input_names(&self, schema: &Schema) -> Vec<String> {
        let mut names = Vec::with_capacity(self.n_inputs());
        for (encoding, feature) in self.encodings.iter().zip(schema.features()) {
            names.extend(encoding.input_names(&feature.name, &feature.kind));
            names.extend(self.missing_indicator.then(|| format!("{} missing", feature.name)));
        }
        names
    }

    /// Writes standardised rows to `out` and 1 (observed) or 0 (missing) to `mask`, both `[rows, n_inputs]`.
    ///
    /// Panics when the shapes don't agree.
    pub fn transform(
        &self,
        raw: ArrayView2<'_, f32>,
        mut out: ArrayViewMut2<'_, f32>,
        mut mask: ArrayViewMut2<'_, f32>,
    ) -> Counts {
        assert_eq!(raw.ncols(), self.n_features(), "raw rows must be [rows, n_features]");
        assert_eq!((raw.nrows(), self.n_inputs()), out.dim(), "standardised rows must be [rows, n_inputs]");
        assert_eq!(out.dim(), mask.dim(), "mask must be [rows, n_inputs]");
        let mut counts = Counts::default();
        if let (true, Some(raw), Some(out), Some(mask)) =
            (self.is_plain, raw.to_slice(), out.as_slice_mut(), mask.as_slice_mut())
        {
            return self.transform_numbers(raw, out, mask);
        }
        let contiguous = "rows of inputs are in standard layout";
        for ((raw, mut out), mut mask) in raw.rows().into_iter().zip(out.rows_mut()).zip(mask.rows_mut()) {
            let (out, mask) = (out.as_slice_mut().expect(contiguous), mask.as_slice_mut().expect(contiguous));
            self.transform_row(raw, out, mask, &mut counts);
        }
        counts
    }

    /// Counts what is missing or cut in raw rows `[rows, n_features]`.
    pub fn count(&self, raw: ArrayView2<'_, f32>) -> Counts {
        let zeros = || Array2::zeros((raw.nrows(), self.n_inputs()));
        let (mut out, mut mask) = (zeros(), zeros());
        self.transform(raw, out.view_mut(), mask.view_mut())
    }

    /// One number a feature: a loop without a look at kinds.
    fn transform_numbers(&self, raw: &[f32], out: &mut [f32], mask: &mut [f32]) -> Counts {
        let mut counts = Counts::default();
        let width = self.means.len();
        let rows = raw.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(mask.chunks_exact_mut(width));
        wide(
            #[inline(always)]
            || {
                for ((raw, out), mask) in rows {
                    let (n_missing, n_clipped) = standardise(raw, (&self.means, &self.inverses), out, mask);
                    counts.missing += u64::from(n_missing);
                    counts.clipped += u64::from(n_clipped);
                }
            },
        );
        counts
    }

    fn transform_row(&self, raw: ArrayView1<'_, f32>, out: &mut [f32], mask: &mut [f32], counts: &mut Counts) {
        for ((&raw, encoding), columns) in raw.iter().zip(&self.encodings).zip(&self.columns) {
            let values = columns.start..columns.start + encoding.n_columns();
            let observed = raw.is_finite();
            if observed {
                let (scalers, zero) = (&self.scalers[values.clone()], &self.zero[values.clone()]);
                let cut = encoding.write(f64::from(raw), scalers, zero, &mut out[values.clone()]);
                counts.clipped += u64::from(cut);
            } else {
                out[values.clone()].fill(0.0);
                counts.missing += 1;
            }
            mask[values.clone()].fill(f32::from(u8::from(observed)));
            for indicator in values.end..columns.end {
                let z = self.scalers[indicator].z(f64::from(u8::from(!observed)));
                out[indicator] = z.clamp(-CLIP, CLIP) as f32;
                mask[indicator] = 1.0;
            }
        }
    }

    /// A raw value of feature `feature` as people read it; `None` where it is missing.
    pub fn actual(&self, schema: &Schema, feature: usize, raw: f32) -> Option<Value> {
        raw.is_finite().then(|| value(&schema.features()[feature].kind, raw))
    }

    /// What reconstructed inputs `[n_inputs]` say of feature `feature`, as people read it.
    pub fn expected(&self, schema: &Schema, feature: usize, recons: &[f32]) -> Value {
        let columns = self.columns[feature].clone();
        let raw = self.encodings[feature].read(&self.scalers[columns.clone()], &recons[columns]);
        value(&schema.features()[feature].kind, raw)
    }
}

/// Writes one row of numbers as z-scores, and returns how many were missing and how many were cut.
///
/// A product with 1/deviation and a division differ in the last place of an f64, which an f32 doesn't have.
#[inline(always)]
fn standardise(raw: &[f32], (means, inverses): (&[f64], &[f64]), out: &mut [f32], mask: &mut [f32]) -> (u32, u32) {
    let (mut n_missing, mut n_clipped) = (0, 0);
    let inputs = raw.iter().zip(means.iter().zip(inverses));
    for ((raw, (mean, inverse)), (out, mask)) in inputs.zip(out.iter_mut().zip(mask)) {
        let z = (f64::from(*raw) - mean) * inverse;
        let observed = z.abs() <= f64::MAX;
        let cut = if z > CLIP { CLIP } else { z };
        let cut = if cut < -CLIP { -CLIP } else { cut };
        *out = if observed { cut as f32 } else { 0.0 };
        *mask = if observed { 1.0 } else { 0.0 };
        n_missing += u32::from(!observed);
        n_clipped += u32::from(observed & (z.abs() > CLIP));
    }
    (n_missing, n_clipped)
}

fn value(kind: &Kind, raw: f32) -> Value {
    match kind {
        Kind::Categorical { categories } => {
            let known = categories.get(raw.max(0.0) as usize).filter(|_| raw >= 0.0);
            Value::Text(known.map_or(OTHER, String::as_str).to_owned())
        }
        Kind::Boolean => Value::Boolean(raw != 0.0),
        _ => Value::Number(raw),
    }
}

#[cfg(test)]
#[path = "preprocessor_tests.rs"]
mod tests;
