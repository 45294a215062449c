//! Gradients and training curves against fixtures that other programs computed.
//!
//! Two sets: the project's own in `tests/fixtures`, which `generate.py` there makes by automatic differentiation, and an
//! independent reference (PyTorch), looked for in `STRAYD_FIXTURES` or beside the checkout; without it its tests say
//! SKIPPED. Every `grad-*` and `curve-*` file of a folder is taken; shapes and parameters come from the file.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Axis};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;

use strayd::blas;
use strayd::sae::{
    Activation, Autoencoder, DecoderNorm, Example, Kind, Layer, Learner, Loss, Method, Objective, Pace, Real, Shape,
};

/// Largest error of a gradient by its tensor's largest entry, and of a loss, f64 and f32.
const GRADIENT: (f64, f64) = (1e-10, 1e-5);
/// Largest relative error of a loss at any step of a curve, f64 and f32.
const CURVE: (f64, f64) = (1e-9, 1e-4);

/// One file.
struct Fixture {
    name: String,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap_or_default();
        Self { name: path.file_name().unwrap().to_string_lossy().into_owned(), bytes, metadata }
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        self.metadata.get(key).map_or(default, |text| text.parse().unwrap())
    }

    /// A word that the configuration has, too.
    fn word<T: DeserializeOwned + Default>(&self, key: &str) -> T {
        let word = self.metadata.get(key).map(|word| serde_json::from_value(Value::String(word.clone())).unwrap());
        word.unwrap_or_default()
    }

    fn is_set(&self, key: &str) -> bool {
        self.metadata.get(key).is_some_and(|value| value == "true")
    }

    fn kind(&self) -> Kind {
        match self.metadata["mode"].as_str() {
            "l1" => Kind::Relu,
            "kl" => Kind::Sigmoid,
            _ => self.word("mode"),
        }
    }

    fn method(&self) -> Method {
        let default = Objective::default();
        Method {
            objective: Objective {
                loss: self.word::<Loss>("loss"),
                huber_delta: self.number("huber_delta", default.huber_delta),
                matryoshka: self.is_set("matryoshka"),
                l1: self.number("lambda_l1", default.l1),
                kl: self.number("beta_kl", default.kl),
                kl_rate: self.number("rho_kl", default.kl_rate),
                l0: self.number("lambda_l0", default.l0),
                l0_form: self.word("l0_form"),
                bandwidth: self.number("bandwidth", default.bandwidth),
                aux: self.number("alpha_aux", default.aux),
                ..default
            },
            decoder_norm: self.word::<DecoderNorm>("decoder_norm"),
            tied: self.is_set("tied"),
            weight_decay: self.number("weight_decay", 0.0),
        }
    }

    /// A tensor's numbers and shape, if it is there.
    fn numbers(&self, name: &str) -> Option<(Vec<f64>, Vec<usize>)> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).ok()?;
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F64 => data.chunks_exact(8).map(|w| f64::from_le_bytes(w.try_into().unwrap())).collect(),
            Dtype::F32 => data.chunks_exact(4).map(|w| f64::from(f32::from_le_bytes(w.try_into().unwrap()))).collect(),
            Dtype::I64 => data.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().unwrap()) as f64).collect(),
            other => panic!("{name} is {other:?}"),
        };
        Some((values, tensor.shape().to_vec()))
    }

    fn vector<F: Real>(&self, name: &str) -> Option<Array1<F>> {
        Some(self.numbers(name)?.0.into_iter().map(F::of).collect())
    }

    fn matrix<F: Real>(&self, name: &str) -> Option<Array2<F>> {
        let (values, shape) = self.numbers(name)?;
        Some(Array2::from_shape_vec((shape[0], shape[1]), values.into_iter().map(F::of).collect()).unwrap())
    }

    /// The parameters of a gradient's fixture.
    fn model<F: Real>(&self) -> Autoencoder<F> {
        let w_dec: Array2<F> = self.matrix("W_dec").unwrap();
        let (n_latents, n_inputs) = w_dec.dim();
        let shape = Shape { n_inputs, n_latents, k: self.number("k", 1.0) as usize };
        let layer = |l: usize| {
            let weight = self.matrix(&format!("hidden.{l}.weight"))?;
            Some(Layer { weight, bias: self.vector(&format!("hidden.{l}.bias")).unwrap() })
        };
        let threshold = self.vector::<f64>("log_threshold").unwrap_or_default();
        Autoencoder {
            activation: self.word::<Activation>("activation"),
            hidden: (0..).map_while(layer).collect(),
            w_enc: self.matrix("W_enc").unwrap_or_else(|| w_dec.t().as_standard_layout().into_owned()),
            b_enc: self.vector("b_enc").unwrap(),
            w_dec,
            b_dec: self.vector("b_dec").unwrap(),
            threshold: threshold.mapv(|t| F::of(t.exp())),
            ..Autoencoder::zeros(self.kind(), shape)
        }
    }
}

/// The larger of two errors; a NaN is larger than anything.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

/// Difference by what is wanted.
fn relative_error(got: f64, wanted: f64) -> f64 {
    (got - wanted).abs() / wanted.abs().max(1e-12)
}

/// Largest difference by the largest entry wanted.
fn relative<F: Real>(got: &[F], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let largest = wanted.iter().fold(1e-12, |largest: f64, wanted| largest.max(wanted.abs()));
    got.iter().zip(wanted).map(|(got, wanted)| (got.wide() - wanted).abs() / largest).fold(0.0, worse)
}

/// The largest error of loss and gradients in one precision.
fn gradient_error<F: Real>(fixture: &Fixture) -> f64 {
    let model: Autoencoder<F> = fixture.model();
    let (x, mask): (Array2<F>, Array2<F>) = (fixture.matrix("x").unwrap(), fixture.matrix("mask").unwrap());
    let sample_weight = fixture.vector("sample_weight").unwrap().to_vec();
    let column_weight = fixture.vector("column_weight").map_or(vec![F::one(); x.ncols()], |c| c.to_vec());
    let batch = Example {
        x: x.view(),
        mask: mask.view(),
        input_mask: mask.view(),
        sample_weight: &sample_weight,
        column_weight: &column_weight,
        hidden_scale: &[],
    };
    let dead = fixture.vector::<f64>("dead").unwrap_or_else(|| Array1::zeros(model.b_enc.len()));
    let since_fired = dead.iter().map(|dead| if *dead > 0.0 { u64::MAX } else { 0 }).collect();
    let mut learner = Learner::new(&model, fixture.method()).counting_from(since_fired);
    let (loss, gradient) = learner.gradient(&model, &batch);
    let mut worst = relative_error(loss, fixture.numbers("loss").unwrap().0[0]);
    let mut gradient = gradient.clone();
    let mut names: Vec<String> =
        ["W_enc", "b_enc", "W_dec", "b_dec", "log_threshold"].map(String::from).into_iter().collect();
    for l in 0..model.hidden.len() {
        names.extend([format!("hidden.{l}.weight"), format!("hidden.{l}.bias")]);
    }
    let mut n_compared = 0;
    for (name, got) in names.iter().zip(gradient.flat_mut()) {
        if let Some((wanted, _)) = fixture.numbers(&format!("grad.{name}")) {
            worst = worse(worst, relative(got, &wanted));
            n_compared += 1;
        }
    }
    assert_eq!(
        n_compared,
        4 - usize::from(fixture.is_set("tied")) + usize::from(!model.threshold.is_empty()) + 2 * model.hidden.len(),
        "{}: gradients are missing",
        fixture.name
    );
    worst
}

/// Trains as the fixture did; returns the largest relative difference of a loss.
fn curve_error<F: Real>(fixture: &Fixture) -> f64 {
    let w_dec: Array2<F> = fixture.matrix("W_dec_init").unwrap();
    let (n_latents, n_inputs) = w_dec.dim();
    let shape = Shape { n_inputs, n_latents, k: fixture.number("k", 1.0) as usize };
    let mut model = Autoencoder {
        activation: fixture.word("activation"),
        w_enc: w_dec.t().as_standard_layout().into_owned(),
        w_dec,
        ..Autoencoder::zeros(fixture.kind(), shape)
    };
    model.threshold.fill(F::of(fixture.number("threshold", 0.1)));
    let x: Array2<F> = fixture.matrix("x").unwrap();
    let batches: Array2<f64> = fixture.matrix("batches").unwrap();
    let ones = Array2::from_elem((batches.ncols(), n_inputs), F::one());
    let sample_weight = vec![F::one(); batches.ncols()];
    let precision = if size_of::<F>() == 8 { "losses_f64" } else { "losses_f32" };
    let wanted = fixture.numbers(precision).or_else(|| fixture.numbers("losses_f64")).unwrap().0;
    let mut method = fixture.method();
    method.objective.aux = 0.0;
    let mut learner = Learner::new(&model, method);
    let mut worst = 0.0;
    for (step, index) in batches.rows().into_iter().enumerate() {
        let index: Vec<usize> = index.iter().map(|i| *i as usize).collect();
        let x = x.select(Axis(0), &index);
        let warmth = ((step + 1) as f64 / fixture.number("warmup_steps", 1.0)).min(1.0);
        let batch = Example {
            x: x.view(),
            mask: ones.view(),
            input_mask: ones.view(),
            sample_weight: &sample_weight,
            column_weight: &sample_weight[..1].repeat(n_inputs),
            hidden_scale: &[],
        };
        let pace = Pace { lr: fixture.number("lr", 1e-3) * warmth, l1_share: 1.0 };
        let loss = learner.step(&mut model, &batch, pace).unwrap();
        worst = worse(worst, relative_error(loss, wanted[step]));
    }
    assert_eq!(wanted.len(), batches.nrows());
    worst
}

/// The fixtures of a folder whose names start with `prefix`.
fn fixtures(folder: &Path, prefix: &str) -> Vec<Fixture> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.retain(|path| name(path).starts_with(prefix) && name(path).ends_with(".safetensors"));
    paths.iter().map(|path| Fixture::read(path)).collect()
}

fn own(prefix: &str) -> Vec<Fixture> {
    fixtures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), prefix)
}

/// The reference's fixtures, or none with a SKIPPED line.
fn reference(test: &str, prefix: &str) -> Vec<Fixture> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    let found = fixtures(&std::env::var_os("STRAYD_FIXTURES").map_or(beside, PathBuf::from), prefix);
    if found.is_empty() {
        // Past the test harness, which keeps what print macros write.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED {test}: no {prefix}*.safetensors; set STRAYD_FIXTURES").unwrap();
    }
    found
}

/// Measures every fixture in both precisions, and judges.
fn judge(fixtures: &[Fixture], measure: [fn(&Fixture) -> f64; 2], limits: (f64, f64)) {
    blas::init();
    let mut wrong = Vec::new();
    for fixture in fixtures {
        let [f64s, f32s] = measure.map(|measure| measure(fixture));
        println!("{}: f64 {f64s:.1e}, f32 {f32s:.1e}", fixture.name);
        if !(f64s <= limits.0 && f32s <= limits.1) {
            wrong.push(format!("{}: f64 {f64s:e}, f32 {f32s:e}", fixture.name));
        }
    }
    assert!(wrong.is_empty(), "beyond {limits:?}:\n{}", wrong.join("\n"));
}

#[test]
fn fixture_gradients_of_the_reference() {
    let fixtures = reference("fixture_gradients_of_the_reference", "grad-");
    judge(&fixtures, [gradient_error::<f64>, gradient_error::<f32>], GRADIENT);
}

#[test]
fn fixture_curves_of_the_reference() {
    let fixtures = reference("fixture_curves_of_the_reference", "curve-");
    judge(&fixtures, [curve_error::<f64>, curve_error::<f32>], CURVE);
}

#[test]
fn fixture_gradients_of_our_own() {
    let fixtures = own("grad-");
    let kinds: Vec<Kind> = fixtures.iter().map(Fixture::kind).collect();
    assert!(Kind::ALL.iter().all(|kind| *kind == Kind::Pca || kinds.contains(kind)), "a form is missing: {kinds:?}");
    judge(&fixtures, [gradient_error::<f64>, gradient_error::<f32>], GRADIENT);
}

#[test]
fn fixture_curves_of_our_own() {
    let fixtures = own("curve-");
    assert!(fixtures.len() >= 2, "{} curves", fixtures.len());
    judge(&fixtures, [curve_error::<f64>, curve_error::<f32>], CURVE);
}
