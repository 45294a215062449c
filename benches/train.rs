//! Measures training: a step by shape, and what share of it is sgemm; MODEL 6.4; 50,000 rows.
//!
//! A share is the time of bare products at the shapes of the dense step (two forward, four back) over the time of the
//! step: above 1 a step that skips zeros is faster than a dense one could be. Medians, on one thread. It proves nothing:
//! claims of speed compare two runs of it on one machine. With `threads` as argument it measures instead what
//! `OPENBLAS_NUM_THREADS` does to the products; with `beside`, how long other threads of one core wait for it while the
//! trainer runs round after round: `taskset -c 0 make bench STAGE=train ARGS=beside`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use strayd::blas;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sae::{Autoencoder, Config, DecoderNorm, Example, Kind, Learner, Pace, start};
use strayd::train::{self, Evidence, Round, Rows, judge, refit};

/// Inputs and latents.
const SHAPES: [(usize, usize); 4] = [(32, 64), (32, 128), (64, 128), (128, 256)];
/// Rows of a batch: the default, and what the published figures were made with.
const BATCHES: [usize; 2] = [64, 256];
/// Share of inputs that the encoder doesn't see: the default.
const HIDDEN: f64 = 0.1;

fn normal(rng: &mut ChaCha8Rng, shape: (usize, usize)) -> Array2<f32> {
    Array2::from_shape_simple_fn(shape, || rng.sample::<f32, _>(StandardNormal))
}

/// Median seconds of a call, over `n` of them.
fn median(n: usize, mut call: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..n)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[n / 2]
}

/// Seconds of the six products of a dense step.
fn products(n_rows: usize, (n_inputs, n_latents): (usize, usize)) -> f64 {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let (x, latents) = (normal(rng, (n_rows, n_inputs)), normal(rng, (n_rows, n_latents)));
    let (w_enc, w_dec) = (normal(rng, (n_inputs, n_latents)), normal(rng, (n_latents, n_inputs)));
    let (mut to_latents, mut to_inputs) = (latents.clone(), x.clone());
    let (mut at_enc, mut at_dec) = (w_enc.clone(), w_dec.clone());
    median(400, || {
        general_mat_mul(1.0, &x, &w_enc, 0.0, &mut to_latents);
        general_mat_mul(1.0, &latents, &w_dec, 0.0, &mut to_inputs);
        general_mat_mul(1.0, &latents.t(), &x, 0.0, &mut at_dec);
        general_mat_mul(1.0, &x, &w_dec.t(), 0.0, &mut to_latents);
        general_mat_mul(1.0, &x.t(), &latents, 0.0, &mut at_enc);
        general_mat_mul(1.0, &latents, &w_enc.t(), 0.0, &mut to_inputs);
        black_box((&to_latents, &to_inputs, &at_enc, &at_dec));
    })
}

/// Seconds of one step of `config` on a batch that stays.
fn step(config: &Config, n_rows: usize, n_inputs: usize) -> f64 {
    let rng = &mut ChaCha8Rng::seed_from_u64(2);
    let x = normal(rng, (n_rows, n_inputs));
    let ones = Array2::ones(x.dim());
    let input_mask = ones.mapv(|one: f32| if rng.random_bool(HIDDEN) { 0.0 } else { one });
    let mut model = start(config, x.view(), ones.view(), rng).expect("the configuration fits");
    let mut learner = Learner::new(&model, config.method());
    let (sample_weight, column_weight) = (vec![1.0; n_rows], vec![1.0; n_inputs]);
    let batch = Example {
        x: x.view(),
        mask: ones.view(),
        input_mask: input_mask.view(),
        sample_weight: &sample_weight,
        column_weight: &column_weight,
        hidden_scale: &[],
    };
    median(400, || {
        learner.step(&mut model, &batch, Pace { lr: 1e-4, l1_share: 1.0 }).expect("the loss is finite");
    })
}

fn steps() {
    println!("a step: microseconds, and sgemm's share of it\n");
    println!("| D | M | rows | six products | k = D, saturating | | k = D/8 | | dense | |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for shape in SHAPES {
        for n_rows in BATCHES {
            let (n_inputs, n_latents) = shape;
            let products = products(n_rows, shape);
            print!("| {n_inputs} | {n_latents} | {n_rows} | {:.1} |", 1e6 * products);
            for (kind, k) in [(Kind::SatTopk, n_inputs), (Kind::Topk, n_inputs / 8), (Kind::Dense, n_latents)] {
                let config = Config { kind, n_latents: Some(n_latents), k: Some(k), ..Config::default() };
                let step = step(&config, n_rows, n_inputs);
                print!(" {:.1} | {:.2} |", 1e6 * step, products / step);
            }
            println!();
        }
    }
}

/// Seconds of MODEL 6.4: 3000 steps of 256 rows, D = 32, M = 128, k = 3, unit decoder rows.
fn recovery() -> f64 {
    let (n_steps, n_rows, n_batch, n_inputs) = (3000, 25_000, 256, 32);
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let atoms = normal(rng, (64, n_inputs)) / (n_inputs as f32).sqrt();
    let codes = Array2::from_shape_simple_fn((n_rows, 64), || {
        if rng.random_range(0..64) < 3 { 1.0 + 0.3 * rng.sample::<f32, _>(StandardNormal) } else { 0.0 }
    });
    let x = codes.dot(&atoms) + 0.05 * normal(rng, (n_rows, n_inputs));
    let (kind, decoder_norm) = (Kind::Topk, DecoderNorm::Unit);
    let config = Config { kind, n_latents: Some(128), k: Some(3), decoder_norm, ..Config::default() };
    let ones = Array2::ones((n_batch, n_inputs));
    let began = Instant::now();
    let mut model: Autoencoder = start(&config, x.view(), Array2::ones(x.dim()).view(), rng).expect("k is small");
    let mut method = config.method();
    method.objective.dead_rows = n_rows as u64;
    let mut learner = Learner::new(&model, method);
    let (sample_weight, column_weight) = (vec![1.0; n_batch], vec![1.0; n_inputs]);
    for step in 0..n_steps {
        let index: Vec<usize> = (0..n_batch).map(|_| rng.random_range(0..n_rows)).collect();
        let batch = x.select(Axis(0), &index);
        let example = Example {
            x: batch.view(),
            mask: ones.view(),
            input_mask: ones.view(),
            sample_weight: &sample_weight,
            column_weight: &column_weight,
            hidden_scale: &[],
        };
        let warmth = f64::from(step + 1).min(200.0) / 200.0;
        learner.step(&mut model, &example, Pace { lr: 2e-3 * warmth, l1_share: 1.0 }).expect("the loss is finite");
    }
    began.elapsed().as_secs_f64()
}

/// Seconds of a first fit on 50,000 rows, and its number of steps; D = 64, M = 128.
fn first_fit() -> (f64, u64) {
    let (schema, rows) = sensors(50_000, 64);
    let mut config = train::Config::default();
    config.sae.n_latents = Some(128);
    let began = Instant::now();
    let fitted = train::fit(Arc::new(schema), &rows, &config, 0, &mut |_| ControlFlow::Continue(()));
    (began.elapsed().as_secs_f64(), fitted.expect("the rows can be learnt").report.n_steps)
}

/// What `OPENBLAS_NUM_THREADS` gives the products; the daemon holds OpenBLAS to one thread.
fn threads() {
    println!("{} threads: microseconds of six products", blas::threads());
    for shape in SHAPES {
        println!("{shape:?}: {:.1}", 1e6 * products(256, shape));
    }
}

/// `n` rows of `n_inputs` sensors with three causes.
fn sensors(n: usize, n_inputs: usize) -> (Schema, Rows) {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let values = normal(rng, (n, 3)).dot(&normal(rng, (3, n_inputs))) + 0.1 * normal(rng, (n, n_inputs));
    let rows = Rows::new(values, (0..n as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect());
    (Schema::new((0..n_inputs).map(|i| format!("sensor_{i}"))).expect("the names differ"), rows)
}

/// Waits a millisecond, works for `work`, and so on; how much longer than a millisecond each wait took.
#[expect(clippy::disallowed_methods, reason = "how late a sleep ends is what is measured")]
fn waits(work: Duration, end: Instant) -> Vec<Duration> {
    const WAIT: Duration = Duration::from_millis(1);
    let mut waits = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        thread::sleep(WAIT);
        waits.push(began.elapsed().saturating_sub(WAIT));
        let began = Instant::now();
        while began.elapsed() < work {}
    }
    waits
}

/// What a trainer that runs round after round does to two threads that take three quarters of its core.
fn beside() {
    const SECONDS: Duration = Duration::from_secs(10);
    const WORK: [Duration; 2] = [Duration::from_micros(500), Duration::from_micros(700)];
    let (schema, rows) = sensors(10_000, 32);
    let config = train::Config::default();
    let first = train::fit(Arc::new(schema), &rows, &config, 0, &mut |_| ControlFlow::Continue(()));
    let champion = first.expect("the rows can be learnt").into_model(1, 0);
    let holdout = rows.values.slice(ndarray::s![..2000, ..]).to_owned();
    let (none, n_newest) = (Array2::zeros((0, 32)), holdout.nrows());
    let (canaries, quarantine) = (none.clone(), none);
    let evidence = Evidence {
        n_held_out: n_newest,
        holdout,
        canaries,
        n_newest,
        quarantine,
        drift: false,
        target_alert_rate: 1e-3,
        seed: 1,
    };
    let (n_rounds, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    println!("{} cores; 1 is what it takes\n", thread::available_parallelism().map_or(0, usize::from));
    println!("| | p50, us | p99, us | p99.9, us | rounds |\n|---|---|---|---|---|");
    for trains in [false, true] {
        thread::scope(|scope| {
            if trains {
                scope.spawn(|| {
                    rustix::process::setpriority_process(None, 10).expect("a lower priority is always granted");
                    while !ends.load(Ordering::Relaxed) {
                        let round = Round::warm(&champion, &rows, 1);
                        let go_on = &mut |_| ControlFlow::Continue(());
                        let fitted = refit(round, &mut train::Admission::default(), &config, go_on);
                        let challenger = fitted.expect("the rows can be learnt").into_model(2, 0);
                        black_box(judge(&champion, &challenger, &evidence, &train::GateConfig::default()));
                        n_rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let end = Instant::now() + SECONDS;
            let other = scope.spawn(move || waits(WORK[1], end));
            let mut waits = waits(WORK[0], end);
            other.join().expect("it only waits");
            ends.store(true, Ordering::Relaxed);
            waits.sort();
            let at = |q: f64| waits[((waits.len() - 1) as f64 * q) as usize].as_micros();
            let name = if trains { "beside a trainer" } else { "alone" };
            let n_rounds = n_rounds.load(Ordering::Relaxed);
            println!("| {name} | {} | {} | {} | {n_rounds} |", at(0.5), at(0.99), at(0.999));
        });
        ends.store(false, Ordering::Relaxed);
    }
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if wanted == "threads" {
        return threads();
    }
    strayd::cli::pick_kernels(); // as the daemon does
    blas::init(); // one thread, too
    if wanted == "beside" {
        return beside();
    }
    println!("{}\n", blas::info());
    steps();
    println!("\nMODEL 6.4: {:.2} s", recovery());
    let (seconds, n_steps) = first_fit();
    println!("first fit, 50,000 rows, D = 64, M = 128: {seconds:.1} s for {n_steps} steps and the rest");
}
