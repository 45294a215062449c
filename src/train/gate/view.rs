//! What one model makes of the held-out rows: scored once, for every condition that is held to them.

use ndarray::ArrayView2;

use super::units::CommonUnits;
use crate::model::Model;
use crate::score::{self, Fidelity};
use crate::turn::give_way;

/// A model's view of raw rows.
pub(super) struct View {
    /// Whether it works at all.
    pub health: Health,
    /// Standardised score of each row, `[rows]`.
    pub z: Vec<f64>,
    /// Residual of each row in common units, `[rows]`.
    pub residuals: Vec<f64>,
}

/// What says whether a model works at all.
pub(super) struct Health {
    /// Share of the rows that have a finite score; 0 where the calibration is not finite.
    pub finite: f64,
    /// Share of the variance that is explained.
    pub explained: f64,
    /// Share of the latents that no row activates.
    pub dead: f64,
    /// Mean number of active latents of a row, per k.
    pub active: f64,
}

impl View {
    /// What `model` makes of raw rows `[rows, n_features]`.
    pub(super) fn by(model: &Model, rows: ArrayView2<'_, f32>, units: &CommonUnits) -> Self {
        let (mut n_finite, mut fidelity) = (0, Fidelity::default());
        let (mut z, mut residuals) = (Vec::with_capacity(rows.nrows()), Vec::with_capacity(rows.nrows()));
        let units = units.of_model(model);
        model.score_all(rows, |_, workspace| {
            // Every row was admitted, so every row can be scored.
            n_finite += workspace.raw().iter().filter(|raw| raw.is_finite()).count();
            let (x, mask, recons, latents) = (workspace.x(), workspace.mask(), workspace.recons(), workspace.latents());
            fidelity.add(score::Seen { x, mask, recons, latents });
            z.extend_from_slice(workspace.z());
            residuals.extend(units.residuals(x, recons, mask));
        });
        give_way();
        let calibration = &model.calibration;
        let calibrated = calibration.location.is_finite() && calibration.scale.is_finite();
        let health = Health {
            finite: if calibrated { n_finite as f64 / rows.nrows().max(1) as f64 } else { 0.0 },
            explained: fidelity.explained_variance(0.0),
            dead: fidelity.latents_dead_ratio(),
            active: fidelity.latents_active_mean() / model.autoencoder.k.max(1) as f64,
        };
        Self { health, z, residuals }
    }
}
