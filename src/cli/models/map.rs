//! A map of points in many dimensions: the two directions in which they vary most.
//!
//! Principal components by singular value decomposition, deterministic: the sign of a component makes its largest
//! loading positive (MODEL 2.12).

use anyhow::Context;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use ndarray_linalg::{JobSvd, SVDDC};

/// Points in a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Where each point lies, `[points]`.
    pub points: Vec<[f32; 2]>,
    /// Share of the weighted variance along each axis, from 0 to 1.
    pub explained: [f64; 2],
}

/// Projects `rows` `[points, n]` on their two principal components; a point counts by its weight `[points]`, at least 0.
///
/// # Errors
/// When the decomposition does not converge.
pub fn principal_plane(rows: ArrayView2<'_, f32>, weights: ArrayView1<'_, f32>) -> anyhow::Result<Plane> {
    let n_points = rows.nrows();
    let total = weights.sum();
    let weights = if total > 0.0 { weights.to_owned() } else { Array1::ones(n_points) };
    let mean: Array1<f32> = weights.dot(&rows) / weights.sum().max(f32::MIN_POSITIVE);
    let centred: Array2<f32> = &rows - &mean;
    let mut plane = Plane { points: vec![[0.0; 2]; n_points], explained: [0.0; 2] };
    if centred.is_empty() {
        return Ok(plane);
    }
    let weighted = &centred * &weights.mapv(f32::sqrt).insert_axis(Axis(1));
    let (_, singular, components) = weighted.svddc(JobSvd::Some).context("the principal components don't converge")?;
    let components = components.context("the decomposition has no right vectors")?;
    let variance: f64 = singular.iter().map(|s| f64::from(*s).powi(2)).sum();
    for (axis, component) in components.rows().into_iter().take(2).enumerate() {
        let largest = component.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        for (point, row) in plane.points.iter_mut().zip(centred.rows()) {
            point[axis] = row.dot(&component) * largest.signum();
        }
        plane.explained[axis] = if variance > 0.0 { f64::from(singular[axis]).powi(2) / variance } else { 0.0 };
    }
    Ok(plane)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-5
    }

    #[test]
    fn known_points_lie_where_they_should() {
        // Along (3, 4)/5 by ±5 and ±10 about (1, 1), across by ±1.
        let rows = array![[4.0, 5.0], [-2.0, -3.0], [7.0, 9.0], [-5.0, -7.0], [0.2, 1.6], [1.8, 0.4]];
        let plane = principal_plane(rows.view(), Array1::ones(6).view()).unwrap();
        for (point, wanted) in plane.points.iter().zip([5.0, -5.0, 10.0, -10.0, 0.0, 0.0]) {
            assert!(near(point[0], wanted), "{:?}", plane.points);
        }
        assert!(near(plane.points[4][1], -plane.points[5][1]) && near(plane.points[4][1].abs(), 1.0));
        assert!((plane.explained[0] - 250.0 / 252.0).abs() < 1e-6, "{:?}", plane.explained);
    }

    #[test]
    fn points_without_weight_are_shown_and_decide_nothing() {
        let rows = array![[1.0, 0.0], [-1.0, 0.0], [0.0, 100.0]];
        let plane = principal_plane(rows.view(), array![1.0, 1.0, 0.0].view()).unwrap();
        assert!(near(plane.points[0][0], 1.0) && near(plane.explained[0] as f32, 1.0), "{plane:?}");
    }

    #[test]
    fn one_column_and_no_weight_at_all_are_no_trouble() {
        let plane = principal_plane(array![[1.0], [3.0]].view(), array![0.0, 0.0].view()).unwrap();
        assert_eq!(plane.points, [[-1.0, 0.0], [1.0, 0.0]]);
        let none = principal_plane(Array2::zeros((0, 3)).view(), Array1::zeros(0).view()).unwrap();
        assert!(none.points.is_empty());
    }
}
