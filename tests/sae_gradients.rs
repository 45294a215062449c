//! Every gradient of the autoencoder family against central finite differences, in f64.
//!
//! MODEL 6.1. A coordinate is left out where the difference over a tenth of the step disagrees: the loss has a kink
//! there, and no difference holds. Thresholds of `jumprelu` have a straight-through estimate, which is proven by its mean.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use strayd::blas;
use strayd::sae::{
    Activation, Autoencoder, Config, Example, Kind, L0Form, Layer, Learner, Loss, Method, Objective, Shape,
};

/// Rows, inputs, latents and active latents of a problem.
const SIZES: (usize, usize, usize, usize) = (32, 12, 24, 6);
/// A latent that never fires.
const SILENT: usize = 5;

/// A random model, batch and way of learning.
struct Problem {
    model: Autoencoder<f64>,
    method: Method,
    x: Array2<f64>,
    mask: Array2<f64>,
    input_mask: Array2<f64>,
    sample_weight: Vec<f64>,
    column_weight: Vec<f64>,
    hidden_scale: Vec<Array2<f64>>,
    since_fired: Vec<u64>,
}

fn normal(rng: &mut ChaCha8Rng, shape: (usize, usize), scale: f64) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || scale * rng.sample::<f64, _>(StandardNormal))
}

impl Problem {
    fn new(kind: Kind, hidden: &[usize], seed: u64) -> Self {
        blas::init();
        let (b, d, m, k) = SIZES;
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let row = |matrix: Array2<f64>| matrix.row(0).to_owned();
        let mut before = d;
        let mut layers = Vec::new();
        for &units in hidden {
            let weight = normal(rng, (before, units), (1.5 / before as f64).sqrt());
            layers.push(Layer { weight, bias: row(normal(rng, (1, units), 0.1)) });
            before = units;
        }
        let mut model = Autoencoder {
            hidden: layers,
            w_enc: normal(rng, (before, m), 0.4),
            b_enc: row(normal(rng, (1, m), 0.1)),
            w_dec: normal(rng, (m, d), 0.2),
            b_dec: row(normal(rng, (1, d), 0.1)),
            ..Autoencoder::zeros(kind, Shape { n_inputs: d, n_latents: m, k })
        };
        model.threshold.fill(0.3);
        model.b_enc[SILENT] = -50.0;
        let mut mask = Array2::from_shape_simple_fn((b, d), || f64::from(u8::from(rng.random::<f64>() > 0.15)));
        mask.row_mut(0).fill(0.0);
        mask.row_mut(1).fill(1.0);
        let x = normal(rng, (b, d), 1.0) * &mask;
        let seen = Array2::from_shape_simple_fn((b, d), || f64::from(u8::from(rng.random::<f64>() > 0.1)));
        Self {
            model,
            method: Config { kind, ..Config::default() }.method(),
            x,
            input_mask: seen * &mask,
            mask,
            sample_weight: (0..b).map(|_| rng.random::<f64>() + 0.2).collect(),
            column_weight: vec![1.0; d],
            hidden_scale: Vec::new(),
            since_fired: vec![0; m],
        }
    }

    fn batch(&self) -> Example<'_, f64> {
        Example {
            x: self.x.view(),
            mask: self.mask.view(),
            input_mask: self.input_mask.view(),
            sample_weight: &self.sample_weight,
            column_weight: &self.column_weight,
            hidden_scale: &self.hidden_scale,
        }
    }

    fn learner(&self) -> Learner<f64> {
        Learner::new(&self.model, self.method.clone()).counting_from(self.since_fired.clone())
    }

    /// Compares every coordinate that `counts`, told tensor and index; returns how many were compared.
    fn check(&self, what: &str, counts: impl Fn(usize, usize) -> bool) -> usize {
        let mut exact = self.learner().gradient(&self.model, &self.batch()).1.clone();
        let mut learner = self.learner();
        let mut model = self.model.clone();
        let tied = self.method.tied;
        let mut slope = |tensor: usize, i: usize, h: f64| {
            let value = flat(&mut model, tensor)[i];
            let mut loss_at = |shifted: f64| {
                flat(&mut model, tensor)[i] = shifted;
                if tied && tensor == 2 {
                    model.w_enc.assign(&model.w_dec.t());
                }
                learner.gradient(&model, &self.batch()).0
            };
            let difference = loss_at(value + h) - loss_at(value - h);
            loss_at(value);
            difference / (2.0 * h)
        };
        let (mut n_checked, mut n_skipped) = (0, 0);
        for tensor in (0..4).chain(5..5 + 2 * self.model.hidden.len()) {
            let wanted = exact.flat_mut().nth(tensor).unwrap().to_vec();
            for (i, wanted) in wanted.into_iter().enumerate().filter(|(i, _)| counts(tensor, *i)) {
                let found = slope(tensor, i, 1e-5);
                let size = |found: f64| (found.abs() + wanted.abs()).max(1e-4);
                let error = (found - wanted).abs() / size(found);
                if error > 1e-6 && (found - slope(tensor, i, 1e-6)).abs() > 1e-5 * size(found) {
                    n_skipped += 1;
                    continue;
                }
                assert!(error <= 1e-6, "{what}: tensor {tensor} at {i}: {found} for {wanted}");
                n_checked += 1;
            }
        }
        assert!(n_checked > 20 * n_skipped, "{what}: {n_checked} checked, {n_skipped} skipped");
        n_checked
    }

    /// Compares one coordinate of `every`; the encoder of a tied model has no gradient of its own.
    fn check_all(&self, what: &str, every: usize) {
        let tied = self.method.tied;
        let n_checked = self.check(what, |tensor, i| i % every == 0 && !(tied && tensor == 0));
        assert!(n_checked > 250 / every, "{what}: only {n_checked} were checked");
    }
}

/// A tensor in the order of `Gradient::flat_mut`.
fn flat(model: &mut Autoencoder<f64>, tensor: usize) -> &mut [f64] {
    match tensor {
        0 => model.w_enc.as_slice_mut().unwrap(),
        1 => model.b_enc.as_slice_mut().unwrap(),
        2 => model.w_dec.as_slice_mut().unwrap(),
        3 => model.b_dec.as_slice_mut().unwrap(),
        4 => model.threshold.as_slice_mut().unwrap(),
        _ if tensor % 2 == 1 => model.hidden[(tensor - 5) / 2].weight.as_slice_mut().unwrap(),
        _ => model.hidden[(tensor - 5) / 2].bias.as_slice_mut().unwrap(),
    }
}

/// The forms whose weights are learnt by gradients.
fn learnt() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pca)
}

#[test]
fn every_form_alone() {
    for kind in learnt() {
        Problem::new(kind, &[], 7).check_all(&format!("{kind:?}"), 1);
    }
}

/// So few that the products skip zeros; elsewhere they are dense.
#[test]
fn few_active_latents() {
    for kind in [Kind::SatTopk, Kind::Topk, Kind::Batchtopk] {
        for hidden in [&[][..], &[5]] {
            let mut problem = Problem::new(kind, hidden, 16);
            problem.model.k = SIZES.2 / 8;
            problem.column_weight = (0..SIZES.1).map(|j| [1.0, 0.25, 0.5][j % 3]).collect();
            problem.check_all(&format!("{kind:?} with few active"), 1);
        }
    }
}

#[test]
fn every_form_with_huber_and_column_weights() {
    for kind in learnt() {
        let mut problem = Problem::new(kind, &[], 8);
        problem.method.objective.loss = Loss::Huber;
        problem.method.objective.huber_delta = 0.7;
        problem.column_weight = (0..SIZES.1).map(|j| [1.0, 0.25, 0.5][j % 3]).collect();
        problem.check_all(&format!("{kind:?} with huber"), 5);
    }
}

#[test]
fn a_full_mask_and_the_linear_l0_penalty() {
    for kind in learnt() {
        let mut problem = Problem::new(kind, &[], 9);
        problem.mask.fill(1.0);
        problem.input_mask.fill(1.0);
        problem.method.objective.l0_form = L0Form::Linear;
        problem.check_all(&format!("{kind:?}, all observed"), 5);
    }
}

#[test]
fn deep_encoders_with_every_activation_and_dropout() {
    let all = [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Sigmoid];
    for (activation, kind) in all.into_iter().zip([Kind::SatTopk, Kind::Relu, Kind::Sigmoid, Kind::Dense, Kind::Dense])
    {
        let mut problem = Problem::new(kind, &[10, 7], 10);
        problem.model.activation = activation;
        problem.check_all(&format!("{kind:?} behind {activation:?}"), 5);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut scale =
            |units| Array2::from_shape_simple_fn((SIZES.0, units), || [0.0, 1.25][usize::from(rng.random_bool(0.8))]);
        problem.hidden_scale = vec![scale(10), scale(7)];
        problem.check_all(&format!("{kind:?} behind {activation:?} with dropout"), 5);
    }
}

#[test]
fn tied_weights() {
    for kind in learnt() {
        let mut problem = Problem::new(kind, &[], 11);
        problem.method.tied = true;
        problem.model.w_enc = problem.model.w_dec.t().as_standard_layout().into_owned();
        problem.check_all(&format!("{kind:?} tied"), 5);
        let mut learner = problem.learner();
        let gradient = learner.gradient(&problem.model, &problem.batch()).1;
        assert!(gradient.w_enc.iter().all(|g| *g == 0.0), "the encoder has no gradient of its own");
    }
}

#[test]
fn nested_prefixes() {
    for kind in learnt() {
        let mut problem = Problem::new(kind, &[], 12);
        problem.method.objective.matryoshka = true;
        problem.check_all(&format!("{kind:?}, Matryoshka"), 5);
    }
}

#[test]
fn everything_together() {
    for kind in learnt() {
        let mut problem = Problem::new(kind, &[9], 13);
        problem.model.activation = Activation::Tanh;
        problem.column_weight = (0..SIZES.1).map(|j| 1.0 / (1 + j % 4) as f64).collect();
        problem.hidden_scale = vec![Array2::from_shape_fn((SIZES.0, 9), |(i, j)| [2.0, 0.0, 2.0][(i + j) % 3])];
        problem.method.objective = Objective {
            loss: Loss::Huber,
            huber_delta: 0.9,
            matryoshka: true,
            l1: 0.4,
            kl: 0.3,
            ..Objective::default()
        };
        problem.check_all(&format!("{kind:?}, everything"), 5);
    }
}

/// Nothing flows through the residual, so only what the live reconstruction doesn't depend on has a difference: encoder
/// and decoder of dead latents that are never selected. The rest is autograd's to prove, in the fixtures.
#[test]
fn dead_latents_are_pulled_towards_the_residual() {
    let (_, _, m, _) = SIZES;
    let is_dead = |i: usize| i.is_multiple_of(3);
    for (kind, k) in [(Kind::Topk, SIZES.3), (Kind::Topk, m / 8), (Kind::Batchtopk, SIZES.3)] {
        let mut problem = Problem::new(kind, &[], 14);
        problem.model.k = k;
        problem.since_fired = (0..m).map(|i| if is_dead(i) { u64::MAX / 2 } else { 0 }).collect();
        for (i, mut column) in problem.model.w_enc.columns_mut().into_iter().enumerate() {
            if is_dead(i) {
                column *= 1e-3;
                problem.model.b_enc[i] = 1e-3 * i as f64;
            } else if i != SILENT {
                problem.model.b_enc[i] += 1.0;
            }
        }
        let mut learner = problem.learner();
        let with = learner.gradient(&problem.model, &problem.batch()).0;
        let active = learner.forward().latents();
        assert!(active.columns().into_iter().enumerate().all(|(i, f)| !is_dead(i) || f.iter().all(|f| *f == 0.0)));
        let n = problem.check(&format!("{kind:?}, dead"), |tensor, i| match tensor {
            0 => is_dead(i % m),
            1 => is_dead(i),
            2 => is_dead(i / SIZES.1),
            _ => false,
        });
        assert!(n > 150, "{n}");
        problem.method.objective.aux = 0.0;
        let without = problem.learner().gradient(&problem.model, &problem.batch()).0;
        assert!(with > without + 1e-3, "the auxiliary loss is in: {with} for {without}");
    }
}

#[test]
fn a_silent_latent_and_an_empty_row_have_no_gradient() {
    for kind in learnt().filter(|kind| !matches!(kind, Kind::Sigmoid | Kind::Dense)) {
        let problem = Problem::new(kind, &[], 15);
        let mut learner = problem.learner();
        let gradient = learner.gradient(&problem.model, &problem.batch()).1.clone();
        let column: Vec<f64> =
            gradient.w_enc.column(SILENT).iter().chain(gradient.w_dec.row(SILENT)).copied().collect();
        assert!(column.iter().all(|g| *g == 0.0) && gradient.b_enc[SILENT] == 0.0, "{kind:?}: {column:?}");
    }
    // The empty row reaches neither loss nor gradient of a form without a penalty.
    let mut problem = Problem::new(Kind::SatTopk, &[], 15);
    let before = problem.learner().gradient(&problem.model, &problem.batch()).1.clone();
    problem.x.row_mut(0).fill(9.0);
    assert_eq!(&before, problem.learner().gradient(&problem.model, &problem.batch()).1);
}

#[test]
fn single_precision_agrees_with_double() {
    for kind in learnt() {
        let problem = Problem::new(kind, &[], 16);
        let mut exact = problem.learner().gradient(&problem.model, &problem.batch()).1.clone();
        let f32s = |matrix: &Array2<f64>| matrix.mapv(|v| v as f32);
        let f32v = |vector: &Array1<f64>| vector.mapv(|v| v as f32);
        let model = Autoencoder::<f32> {
            w_enc: f32s(&problem.model.w_enc),
            b_enc: f32v(&problem.model.b_enc),
            w_dec: f32s(&problem.model.w_dec),
            b_dec: f32v(&problem.model.b_dec),
            threshold: f32v(&problem.model.threshold),
            ..Autoencoder::zeros(kind, problem.model.shape())
        };
        let [x, mask, input_mask] = [&problem.x, &problem.mask, &problem.input_mask].map(f32s);
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (sample_weight, column_weight) = (narrow(&problem.sample_weight), narrow(&problem.column_weight));
        let batch = Example {
            x: x.view(),
            mask: mask.view(),
            input_mask: input_mask.view(),
            sample_weight: &sample_weight,
            column_weight: &column_weight,
            hidden_scale: &[],
        };
        let mut learner = Learner::new(&model, problem.method.clone());
        let mut rounded = learner.gradient(&model, &batch).1.clone();
        let pairs = exact.flat_mut().zip(rounded.flat_mut());
        let sums = pairs.flat_map(|(exact, rounded)| exact.iter().zip(rounded.iter()));
        let (off, all) = sums.fold((0.0, 0.0), |(off, all), (e, r)| (off + (e - f64::from(*r)).powi(2), all + e * e));
        let error = (off / all).sqrt();
        assert!(error <= 1e-5, "{kind:?}: {error:e}");
    }
}

/// With a smooth density and a narrow kernel, the estimate's mean is the slope of the expected loss: a million draws, as
/// rows of fifty independent inputs with a latent each.
#[test]
fn the_mean_threshold_estimate_is_the_slope_of_the_expected_loss() {
    const N: (usize, usize) = (20_000, 50);
    blas::init();
    let x = normal(&mut ChaCha8Rng::seed_from_u64(3), N, 1.0);
    let ones = Array2::ones(N);
    let batch = Example {
        x: x.view(),
        mask: ones.view(),
        input_mask: ones.view(),
        sample_weight: &vec![1.0; N.0],
        column_weight: &[1.0; N.1],
        hidden_scale: &[],
    };
    for l0_form in [L0Form::Quadratic, L0Form::Linear] {
        let shape = Shape { n_inputs: N.1, n_latents: N.1, k: N.1 };
        let mut model = Autoencoder::<f64>::zeros(Kind::Jumprelu, shape);
        model.w_enc = Array2::eye(N.1);
        model.w_dec = Array2::eye(N.1) * 0.7;
        let mut method = Config { kind: Kind::Jumprelu, ..Config::default() }.method();
        method.objective = Objective { l0_form, l0: 0.05, bandwidth: 0.1, ..method.objective };
        let mut learner = Learner::new(&model, method);
        let mut at = |theta: f64| {
            model.threshold.fill(theta);
            let (loss, gradient) = learner.gradient(&model, &batch);
            (loss, gradient.threshold.sum())
        };
        let (theta, h) = (0.8, 0.02);
        let estimate = at(theta).1;
        let slope = theta * (at(theta + h).0 - at(theta - h).0) / (2.0 * h);
        assert!((estimate / slope - 1.0).abs() < 0.05, "{l0_form:?}: {estimate} for {slope}");
    }
}
