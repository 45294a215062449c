//! t-SNE, exact: a map that keeps neighbours together and says nothing by its distances.
//!
//! Van der Maaten & Hinton (2008) with the settings of MODEL 2.12: perplexity 30, exaggeration 12 for the first 250 of
//! 1000 iterations, momentum 0.5 then 0.8, rate max(n/48, 50), start at the principal plane at a spread of 1e-4. The
//! adaptive gains are those of the authors' own program. Quadratic in the points: for at most [`POINTS_MAX`].

use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Most points: a quadratic number of pairs must fit memory (16 MB) and patience.
pub const POINTS_MAX: usize = 2000;
/// Number of iterations.
pub const ITERATIONS: u64 = 1000;

const EXAGGERATED: u64 = 250;
const EXAGGERATION: f32 = 12.0;
const PERPLEXITY: f64 = 30.0;
const SPREAD: f32 = 1e-4;
const GAIN_MIN: f32 = 0.01;

/// Arranges `rows` `[points, n]` in a plane, starting at `start` `[points]`; `heard` is called after each iteration.
pub fn tsne(rows: ArrayView2<'_, f32>, start: &[[f32; 2]], seed: u64, heard: &mut dyn FnMut()) -> Vec<[f32; 2]> {
    let n = rows.nrows();
    assert!(n <= POINTS_MAX && n == start.len(), "at most {POINTS_MAX} points, each with a start");
    if n < 4 {
        return start.to_vec();
    }
    let affinity = affinities(&squared_distances(rows), PERPLEXITY.min((n - 1) as f64 / 3.0));
    let mut places = spread(start, seed);
    let (mut speed, mut gain) = (vec![[0.0_f32; 2]; n], vec![[1.0_f32; 2]; n]);
    let rate = (n as f32 / 48.0).max(50.0);
    for iteration in 0..ITERATIONS {
        let is_early = iteration < EXAGGERATED;
        let (exaggeration, momentum) = if is_early { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let gradient = gradient(&affinity, &places, exaggeration);
        for i in 0..n {
            for axis in 0..2 {
                let (slope, speed, gain) = (gradient[i][axis], &mut speed[i][axis], &mut gain[i][axis]);
                *gain = if (slope > 0.0) == (*speed > 0.0) { (*gain * 0.8).max(GAIN_MIN) } else { *gain + 0.2 };
                *speed = momentum * *speed - rate * *gain * slope;
                places[i][axis] += *speed;
            }
        }
        heard();
    }
    places
}

/// The start at a spread of 1e-4, with a hundredth of chance in it: equal rows must be able to part.
fn spread(start: &[[f32; 2]], seed: u64) -> Vec<[f32; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let variance = start.iter().map(|place| place[0] * place[0]).sum::<f32>() / start.len() as f32;
    let scale = if variance > 0.0 { SPREAD / variance.sqrt() } else { 0.0 };
    let mut noise = || 0.01 * SPREAD * (rng.random::<f32>() - 0.5);
    start.iter().map(|place| [place[0] * scale + noise(), place[1] * scale + noise()]).collect()
}

/// 4·Σ_j (e·p_ij − q_ij)·(y_i − y_j)/(1 + |y_i − y_j|²), with exaggeration e.
fn gradient(affinity: &Array2<f32>, places: &[[f32; 2]], exaggeration: f32) -> Vec<[f32; 2]> {
    let n = places.len();
    let (mut pull, mut push) = (vec![[0.0_f32; 2]; n], vec![[0.0_f32; 2]; n]);
    let mut total = 0.0_f64;
    for i in 0..n {
        let (row, here) = (affinity.row(i), places[i]);
        let (mut pulled, mut pushed, mut sum) = ([0.0_f32; 2], [0.0_f32; 2], 0.0_f32);
        for (j, there) in places.iter().enumerate().skip(i + 1) {
            let apart = [here[0] - there[0], here[1] - there[1]];
            let q = 1.0 / (1.0 + apart[0] * apart[0] + apart[1] * apart[1]);
            let pq = row[j] * q;
            sum += q;
            for axis in 0..2 {
                let (near, far) = (pq * apart[axis], q * q * apart[axis]);
                pulled[axis] += near;
                pushed[axis] += far;
                pull[j][axis] -= near;
                push[j][axis] -= far;
            }
        }
        for axis in 0..2 {
            pull[i][axis] += pulled[axis];
            push[i][axis] += pushed[axis];
        }
        total += 2.0 * f64::from(sum);
    }
    let z = total.max(1e-12) as f32;
    let slope =
        |(pull, push): (&[f32; 2], &[f32; 2])| [0, 1].map(|axis| 4.0 * (exaggeration * pull[axis] - push[axis] / z));
    pull.iter().zip(&push).map(slope).collect()
}

/// Symmetric affinities p_ij, `[points, points]`, summing to 1, each row's spread set to the perplexity.
fn affinities(squared: &Array2<f32>, perplexity: f64) -> Array2<f32> {
    let n = squared.nrows();
    let mut conditional = Array2::<f32>::zeros((n, n));
    for i in 0..n {
        let row: Vec<f64> = squared.row(i).iter().map(|d| f64::from(*d)).collect();
        for (j, p) in row_affinities(i, &row, perplexity).into_iter().enumerate() {
            conditional[[i, j]] = p as f32;
        }
    }
    let both = &conditional + &conditional.t();
    both.mapv(|p| (p / (2 * n) as f32).max(1e-12))
}

/// p_j|i ∝ exp(−β·d²), with β found by bisection so that the entropy is ln(perplexity) within 1e-5.
fn row_affinities(i: usize, squared: &[f64], perplexity: f64) -> Vec<f64> {
    let nearest = squared.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, d)| *d).fold(f64::INFINITY, f64::min);
    let (mut low, mut high, mut beta) = (0.0_f64, f64::INFINITY, 1.0_f64);
    let mut p = vec![0.0; squared.len()];
    for _ in 0..100 {
        let (mut sum, mut moment) = (0.0, 0.0);
        for (j, d) in squared.iter().enumerate() {
            // The nearest distance is taken off, so that not all of them vanish.
            let weight = if j == i { 0.0 } else { (-beta * (d - nearest)).exp() };
            p[j] = weight;
            sum += weight;
            moment += weight * (d - nearest);
        }
        p.iter_mut().for_each(|p| *p /= sum);
        let excess = sum.ln() + beta * moment / sum - perplexity.ln();
        if excess.abs() < 1e-5 {
            break;
        }
        if excess > 0.0 {
            low = beta;
            beta = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * beta };
        } else {
            high = beta;
            beta = f64::midpoint(low, high);
        }
    }
    p
}

fn squared_distances(rows: ArrayView2<'_, f32>) -> Array2<f32> {
    let products = rows.dot(&rows.t());
    let lengths = products.diag().to_owned();
    Array2::from_shape_fn(products.dim(), |(i, j)| (lengths[i] + lengths[j] - 2.0 * products[[i, j]]).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_the_perplexity_that_is_asked_for() {
        let squared: Vec<f64> = (0..50).map(|j| f64::from(j * j) * 0.3).collect();
        for perplexity in [2.0, 5.0, 15.0] {
            let p = row_affinities(7, &squared, perplexity);
            let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((entropy.exp() - perplexity).abs() < 1e-3, "{entropy}");
            assert_eq!(p[7], 0.0);
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let rows = Array2::from_shape_fn((12, 3), |_| rng.random::<f32>());
        let affinity = affinities(&squared_distances(rows.view()), 3.0);
        let places: Vec<[f32; 2]> = (0..12).map(|_| [rng.random(), rng.random()]).collect();
        let cost = |places: &[[f32; 2]]| -> f64 {
            let q = |i: usize, j: usize| {
                let apart = [0, 1].map(|axis| f64::from(places[i][axis]) - f64::from(places[j][axis]));
                1.0 / (1.0 + apart[0] * apart[0] + apart[1] * apart[1])
            };
            let pairs = || (0..12).flat_map(|i| (0..12).filter(move |j| *j != i).map(move |j| (i, j)));
            let z: f64 = pairs().map(|(i, j)| q(i, j)).sum();
            pairs().map(|(i, j)| f64::from(affinity[[i, j]]) * (f64::from(affinity[[i, j]]) * z / q(i, j)).ln()).sum()
        };
        let slopes = gradient(&affinity, &places, 1.0);
        for i in 0..12 {
            for axis in 0..2 {
                let (mut up, mut down) = (places.clone(), places.clone());
                up[i][axis] += 1e-2;
                down[i][axis] -= 1e-2;
                let step = f64::from(up[i][axis] - down[i][axis]);
                let wanted = (cost(&up) - cost(&down)) / step;
                assert!((f64::from(slopes[i][axis]) - wanted).abs() < 2e-4, "{} {wanted}", slopes[i][axis]);
            }
        }
    }

    #[test]
    fn far_clusters_stay_apart_and_the_same_seed_gives_the_same_map() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let rows = Array2::from_shape_fn((60, 5), |(i, _)| rng.random::<f32>() + if i < 30 { 0.0 } else { 20.0 });
        let start: Vec<[f32; 2]> = rows.rows().into_iter().map(|row| [row[0] - 10.5, row[1] - 10.5]).collect();
        let mut n_heard = 0;
        let places = tsne(rows.view(), &start, 1, &mut || n_heard += 1);
        assert_eq!(n_heard, ITERATIONS);
        let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        let farthest_inside = (0..30).flat_map(|i| (0..30).map(move |j| (i, j)));
        let farthest_inside = farthest_inside.map(|(i, j)| distance(places[i], places[j])).fold(0.0, f32::max);
        let nearest_across = (0..30).flat_map(|i| (30..60).map(move |j| (i, j)));
        let nearest_across = nearest_across.map(|(i, j)| distance(places[i], places[j])).fold(f32::MAX, f32::min);
        assert!(nearest_across > farthest_inside, "{nearest_across} across, {farthest_inside} inside");
        assert_eq!(places, tsne(rows.view(), &start, 1, &mut || {}));
        assert!(places.iter().flatten().all(|place| place.is_finite()));
    }
}
