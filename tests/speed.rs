//! What scoring and a round cost, printed: `cargo test --release --test speed -- --ignored --nocapture`.
//!
//! A measurement and not a test: it judges nothing, since shared machines differ from minute to minute.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use strayd::model::Workspace;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::sae::Forward;
use strayd::train::{Admission, Config, Rows, fit, refit};

#[test]
#[ignore = "a measurement of seconds, printed and not judged"]
fn scoring_and_a_round() {
    strayd::blas::init();
    let (d, n_rows) = (32, 4096);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values = Array2::from_shape_simple_fn((n_rows, d), || rng.random::<f32>());
    let ids = (0..n_rows).map(|i| RecordId { partition: 0, offset: i as i64 }).collect();
    let rows = Rows::new(values, ids);
    let schema = Arc::new(Schema::new((0..d).map(|j| format!("f{j}"))).unwrap());
    let config = Config::default();
    let go_on = &mut |_| ControlFlow::Continue(());
    let mut out = std::io::stdout();

    let started = Instant::now();
    let fitted = fit(schema, &rows, &config, 0, go_on).unwrap();
    let mut admission = Admission::after(&rows, &fitted.rejected);
    let model = fitted.into_model(1, 0);
    writeln!(out, "fit on {n_rows} rows of {d}: {:.0} ms", started.elapsed().as_secs_f64() * 1e3).unwrap();
    let started = Instant::now();
    refit(&model, &rows, &mut admission, &config, 0, go_on).unwrap();
    writeln!(out, "refit on the same: {:.1} ms", started.elapsed().as_secs_f64() * 1e3).unwrap();

    let batch = rows.values.slice(s![..256, ..]);
    let (mut workspace, mut forward) = (Workspace::new(), Forward::default());
    let mut measure = |name: &str, work: &mut dyn FnMut()| {
        work();
        let times = (0..200).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64()
        });
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        writeln!(out, "{name}: {:.0} ns a row", times[100] / 256.0 * 1e9).unwrap();
    };
    measure("score 256 rows", &mut || model.score(batch, &mut workspace));
    let (mut x, mut mask) = (Array2::zeros((256, d)), Array2::zeros((256, d)));
    measure("  of it standardise", &mut || {
        model.preprocessor.transform(batch, x.view_mut(), mask.view_mut());
    });
    measure("  of it forward", &mut || model.autoencoder.forward(x.view(), mask.view(), &mut forward));
}
