//! What is usual of each feature's residual and of each latent: the yardsticks of an explanation.
//!
//! MODEL 2.11, latent card. Measured on held-out rows once and frozen with the model. Names describe a decoder
//! direction; they are not causes.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// Least residual scale of a feature, in its standard deviations: a floor for features that are reconstructed exactly.
const RESIDUAL_SCALE_MIN: f64 = 0.05;

/// An activation above this counts as firing.
pub const FIRES: f32 = 1e-6;

/// What is usual of a model's residuals and latents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cards {
    /// Scale of each input's residual on held-out rows, `[n_inputs]`, standard deviations of the input.
    pub residual_scale: Vec<f32>,
    /// One card for each latent, `[n_latents]`.
    pub latents: Vec<LatentCard>,
}

/// What is known of one latent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentCard {
    /// Its largest decoder loadings: `+temp −pressure`.
    pub name: String,
    /// Mean activation over held-out rows.
    pub usual: f32,
    /// Share of held-out rows in which it fires.
    pub frequency: f32,
    /// Length of its decoder row: how far one unit of activation moves the reconstruction.
    pub norm: f32,
}

impl Cards {
    /// Describes the latents of a decoder `w_dec` `[n_latents, n_inputs]` by their held-out activations `latents`
    /// `[rows, n_latents]`; `names` are those of the inputs.
    pub fn new(
        names: &[&str],
        w_dec: ArrayView2<'_, f32>,
        latents: ArrayView2<'_, f32>,
        residual_scale: Vec<f32>,
    ) -> Self {
        let n_rows = latents.nrows().max(1) as f64;
        let mean = |column: ArrayView1<'_, f32>| (column.iter().copied().map(f64::from).sum::<f64>() / n_rows) as f32;
        let fires = |column: ArrayView1<'_, f32>| column.iter().filter(|f| **f > FIRES).count() as f64 / n_rows;
        let card = |(row, column): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| LatentCard {
            name: latent_name(names, row),
            usual: mean(column),
            frequency: fires(column) as f32,
            norm: row.dot(&row).sqrt(),
        };
        Self { residual_scale, latents: w_dec.rows().into_iter().zip(latents.columns()).map(card).collect() }
    }
}

/// Up to three loadings of at least 0.3 of the largest, by size, with their signs.
fn latent_name(names: &[&str], row: ArrayView1<'_, f32>) -> String {
    const N_NAMED_MAX: usize = 3;
    const SHARE_MIN: f32 = 0.3;
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()));
    let least = SHARE_MIN * order.first().map_or(0.0, |&j| row[j].abs());
    let named = order.into_iter().take(N_NAMED_MAX).filter(|&j| row[j].abs() >= least);
    let sign = |j: usize| if row[j] < 0.0 { '\u{2212}' } else { '+' };
    named.map(|j| format!("{}{}", sign(j), names[j])).collect::<Vec<_>>().join(" ")
}

/// 1.4826 times the median absolute residual of each input over its observed rows, at least 0.05.
///
/// `residuals` and `mask` are `[rows, n_inputs]`.
pub fn residual_scales(residuals: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>) -> Vec<f32> {
    let column = |(residuals, mask): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| {
        let observed = residuals.iter().zip(mask).filter(|(_, m)| **m > 0.0);
        let mut sizes: Vec<f32> = observed.map(|(residual, _)| residual.abs()).collect();
        if sizes.is_empty() {
            return 1.0;
        }
        let middle = sizes.len() / 2;
        let median = f64::from(*sizes.select_nth_unstable_by(middle, f32::total_cmp).1);
        (1.4826 * median).max(RESIDUAL_SCALE_MIN) as f32
    };
    residuals.columns().into_iter().zip(mask.columns()).map(column).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_latent_is_named_by_its_largest_loadings() {
        let names = ["temp", "pressure", "flow", "load"];
        assert_eq!(latent_name(&names, array![0.9, -0.5, 0.1, 0.0].view()), "+temp \u{2212}pressure");
        assert_eq!(latent_name(&names, array![0.5, 0.5, 0.5, 0.5].view()), "+temp +pressure +flow");
    }

    #[test]
    fn cards_hold_means_frequencies_and_lengths() {
        let cards = Cards::new(&["a"], array![[2.0], [-1.0]].view(), array![[0.5, 0.0], [0.0, 0.0]].view(), vec![1.0]);
        assert_eq!(cards.latents[0], LatentCard { name: "+a".into(), usual: 0.25, frequency: 0.5, norm: 2.0 });
        assert_eq!(cards.latents[1].frequency, 0.0);
    }

    #[test]
    fn residual_scales_ignore_missing_values_and_have_a_floor() {
        let residuals = array![[1.0, 0.0], [-1.0, 0.0], [90.0, 0.0]];
        let scales = residual_scales(residuals.view(), array![[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]].view());
        assert_eq!(scales, [1.4826, 0.05]);
    }
}
