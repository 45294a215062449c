//! The autoencoder against an independent reference (PyTorch, f64 autograd) and against finite differences.
//!
//! The fixtures are looked for in `STRAYD_FIXTURES` or beside the checkout; a test that lacks them says SKIPPED.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};

use strayd::sae::{Autoencoder, DecoderNorm, Example, Kind, Learner, Real};

/// A fixture, or `None` with a SKIPPED line.
fn fixture(name: &str) -> Option<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    let dir = std::env::var_os("STRAYD_FIXTURES").map_or(beside, PathBuf::from);
    let bytes = std::fs::read(dir.join(name)).ok();
    if bytes.is_none() {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED {name}: no fixture, set STRAYD_FIXTURES").unwrap();
    }
    bytes
}

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> (Vec<f64>, Vec<usize>) {
    let tensor = tensors.tensor(name).unwrap();
    let data = tensor.data();
    let values = match tensor.dtype() {
        Dtype::F64 => data.chunks_exact(8).map(|w| f64::from_le_bytes(w.try_into().unwrap())).collect(),
        Dtype::F32 => data.chunks_exact(4).map(|w| f64::from(f32::from_le_bytes(w.try_into().unwrap()))).collect(),
        Dtype::I64 => data.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().unwrap()) as f64).collect(),
        other => panic!("{name} is {other:?}"),
    };
    (values, tensor.shape().to_vec())
}

fn matrix<F: Real>(tensors: &SafeTensors<'_>, name: &str) -> Array2<F> {
    let (values, shape) = numbers(tensors, name);
    Array2::from_shape_vec((shape[0], shape[1]), values.into_iter().map(F::of).collect()).unwrap()
}

fn vector<F: Real>(tensors: &SafeTensors<'_>, name: &str) -> Array1<F> {
    numbers(tensors, name).0.into_iter().map(F::of).collect()
}

fn relative<'a>(got: impl IntoIterator<Item = &'a f64>, wanted: impl IntoIterator<Item = &'a f64>) -> f64 {
    let pairs: Vec<(f64, f64)> = got.into_iter().copied().zip(wanted.into_iter().copied()).collect();
    let largest = pairs.iter().map(|(_, wanted)| wanted.abs()).fold(1e-12, f64::max);
    pairs.iter().map(|(got, wanted)| (got - wanted).abs() / largest).fold(0.0, f64::max)
}

#[test]
fn gradients_of_sat_topk_agree_with_autograd() {
    let Some(bytes) = fixture("grad-sat_topk-mse.safetensors") else { return };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let model = Autoencoder::<f64> {
        kind: Kind::SatTopk,
        k: 4,
        w_enc: matrix(&tensors, "W_enc"),
        b_enc: vector(&tensors, "b_enc"),
        w_dec: matrix(&tensors, "W_dec"),
        b_dec: vector(&tensors, "b_dec"),
    };
    let (x, mask) = (matrix::<f64>(&tensors, "x"), matrix::<f64>(&tensors, "mask"));
    let sample_weight = vector::<f64>(&tensors, "sample_weight").to_vec();
    let batch = Example { x: x.view(), mask: mask.view(), input_mask: mask.view(), sample_weight: &sample_weight };
    let mut learner = Learner::new(&model, DecoderNorm::Free);
    let (loss, gradient) = learner.gradient(&model, &batch);
    assert!((loss / numbers(&tensors, "loss").0[0] - 1.0).abs() < 1e-12, "loss {loss}");
    let of = |name: &str| numbers(&tensors, &format!("grad.{name}")).0;
    for (name, error) in [
        ("W_enc", relative(&gradient.w_enc, &of("W_enc"))),
        ("b_enc", relative(&gradient.b_enc, &of("b_enc"))),
        ("W_dec", relative(&gradient.w_dec, &of("W_dec"))),
        ("b_dec", relative(&gradient.b_dec, &of("b_dec"))),
    ] {
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}

/// Trains as the fixture did; returns the largest relative difference of a loss.
fn replay<F: Real>(name: &str, kind: Kind, norm: DecoderNorm) -> Option<f64> {
    let bytes = fixture(name)?;
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap().clone();
    let number = |key: &str| metadata[key].parse::<f64>().unwrap();
    let w_dec: Array2<F> = matrix(&tensors, "W_dec_init");
    let mut model = Autoencoder {
        kind,
        k: number("k") as usize,
        w_enc: w_dec.t().as_standard_layout().into_owned(),
        b_enc: Array1::zeros(w_dec.nrows()),
        b_dec: Array1::zeros(w_dec.ncols()),
        w_dec,
    };
    let x: Array2<F> = matrix(&tensors, "x");
    let batches: Array2<f64> = matrix(&tensors, "batches");
    let ones = Array2::from_elem((batches.ncols(), x.ncols()), F::one());
    let sample_weight = vec![F::one(); batches.ncols()];
    let precision = if size_of::<F>() == 8 { "losses_f64" } else { "losses_f32" };
    let wanted = numbers(&tensors, precision).0;
    let mut learner = Learner::new(&model, norm);
    let mut worst = 0.0_f64;
    for (step, index) in batches.rows().into_iter().enumerate() {
        let index: Vec<usize> = index.iter().map(|i| *i as usize).collect();
        let x = x.select(Axis(0), &index);
        let lr = number("lr") * ((step + 1) as f64 / number("warmup_steps")).min(1.0);
        let batch = Example { x: x.view(), mask: ones.view(), input_mask: ones.view(), sample_weight: &sample_weight };
        let loss = learner.step(&mut model, &batch, lr).unwrap();
        worst = worst.max((loss / wanted[step] - 1.0).abs());
    }
    Some(worst)
}

#[test]
fn training_curves_agree_with_pytorch_in_both_precisions() {
    for (name, kind, norm) in [
        ("curve-sat_topk.safetensors", Kind::SatTopk, DecoderNorm::Free),
        ("curve-topk.safetensors", Kind::Topk, DecoderNorm::Unit),
    ] {
        let Some(f64s) = replay::<f64>(name, kind, norm) else { return };
        let f32s = replay::<f32>(name, kind, norm).unwrap();
        assert!(f64s < 1e-10, "{name} f64: {f64s:e}");
        assert!(f32s < 1e-5, "{name} f32: {f32s:e}");
    }
}

/// A small random problem: model, rows, mask, hidden inputs, weights.
fn problem(kind: Kind, seed: u64) -> (Autoencoder<f64>, [Array2<f64>; 3], Vec<f64>) {
    let (b, d, m) = (32, 12, 24);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |rows: usize, columns: usize, scale: f64| {
        let mut sum = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        Array2::from_shape_simple_fn((rows, columns), || scale * sum())
    };
    let row = |matrix: Array2<f64>| matrix.row(0).to_owned();
    let model = Autoencoder {
        kind,
        k: 6,
        w_enc: normal(d, m, 0.3),
        b_enc: row(normal(1, m, 0.1)),
        w_dec: normal(m, d, 0.2),
        b_dec: row(normal(1, d, 0.1)),
    };
    let mut mask = normal(b, d, 1.0).mapv(|v| f64::from(u8::from(v > -1.0)));
    mask.row_mut(0).fill(0.0);
    mask.row_mut(1).fill(1.0);
    let x = normal(b, d, 1.0) * &mask;
    let input_mask = normal(b, d, 1.0).mapv(|v| f64::from(u8::from(v > -1.3))) * &mask;
    let sample_weight = normal(1, b, 0.2).mapv(|v| v.abs() + 0.2).into_raw_vec_and_offset().0;
    (model, [x, mask, input_mask], sample_weight)
}

#[test]
fn gradients_agree_with_finite_differences() {
    for kind in [Kind::SatTopk, Kind::Topk] {
        let (mut model, [x, mask, input_mask], sample_weight) = problem(kind, 7);
        let batch =
            Example { x: x.view(), mask: mask.view(), input_mask: input_mask.view(), sample_weight: &sample_weight };
        let mut learner = Learner::new(&model, DecoderNorm::Free);
        let exact = learner.gradient(&model, &batch).1.clone();
        let mut other = Learner::new(&model, DecoderNorm::Free);
        let mut exact = exact;
        let (mut checked, mut skipped) = (0, 0);
        for tensor in 0..4 {
            let wanted = exact.flat_mut()[tensor].to_vec();
            for (i, wanted) in wanted.into_iter().enumerate() {
                let place = flat(&mut model, tensor);
                let (value, h) = (place[i], 1e-5 * place[i].abs().max(1.0));
                let mut at = |model: &mut Autoencoder<f64>, shifted: f64| {
                    flat(model, tensor)[i] = shifted;
                    (other.gradient(model, &batch).0, support(model, x.view(), input_mask.view()))
                };
                let (above, below) = (at(&mut model, value + h), at(&mut model, value - h));
                flat(&mut model, tensor)[i] = value;
                if above.1 != below.1 {
                    skipped += 1;
                    continue;
                }
                let found = (above.0 - below.0) / (2.0 * h);
                let error = (found - wanted).abs() / (found.abs() + wanted.abs()).max(1e-4);
                assert!(error < 1e-6, "{kind:?} tensor {tensor} at {i}: {found} for {wanted}");
                checked += 1;
            }
        }
        assert!(checked > 20 * skipped && checked > 500, "{checked} checked, {skipped} skipped");
    }
}

fn flat(model: &mut Autoencoder<f64>, tensor: usize) -> &mut [f64] {
    match tensor {
        0 => model.w_enc.as_slice_mut().unwrap(),
        1 => model.b_enc.as_slice_mut().unwrap(),
        2 => model.w_dec.as_slice_mut().unwrap(),
        _ => model.b_dec.as_slice_mut().unwrap(),
    }
}

/// Which latents are active: where this changes, the loss has a kink and no finite difference holds.
fn support(model: &Autoencoder<f64>, x: ArrayView2<'_, f64>, mask: ArrayView2<'_, f64>) -> Vec<bool> {
    let mut forward = strayd::sae::Forward::default();
    model.forward(x, mask, &mut forward);
    forward.latents().iter().map(|f| *f > 0.0).collect()
}
