//! What is usual of each feature's residual and of each latent: the yardsticks of an explanation.
//!
//! MODEL 2.11, latent card. Measured on held-out rows once and frozen with the model. A latent's id is its name for
//! life: it is kept from model to model while the decoder direction stays (see `matching`), and never given twice.
//! Names describe a decoder direction; they are not causes. Labels are people's and are not stored here.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::matching::{cosine, match_rows};
use crate::record::RecordId;
use crate::turn::give_way;

/// Least residual scale of a feature, in its standard deviations: a floor for features that are reconstructed exactly.
const RESIDUAL_SCALE_MIN: f64 = 0.05;

/// An activation of more than this, either way, counts as firing; below 0 only `dense` and `pca` have any.
pub const FIRES: f32 = 1e-6;

/// Loadings that a latent's purity is measured on, and that it is named by.
const N_NAMED_MAX: usize = 3;

/// Records that a card names.
const N_TOP: usize = 5;

/// What is usual of a model's residuals and latents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cards {
    /// Scale of each input's residual on held-out rows, `[n_inputs]`, standard deviations of the input.
    pub residual_scale: Vec<f32>,
    /// One card for each latent, `[n_latents]`.
    pub latents: Vec<LatentCard>,
    /// Id that the next new latent gets; above every id that was ever given. 0 in files that know no ids.
    #[serde(default)]
    pub next_id: u64,
}

/// What is known of one latent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatentCard {
    /// Its number for life, unique in its registry.
    #[serde(default)]
    pub id: u64,
    /// Its largest decoder loadings: `+temp −pressure`.
    pub name: String,
    /// What people call it; kept by the registry and put in when a model is loaded.
    #[serde(skip)]
    pub label: Option<String>,
    /// Mean activation over held-out rows.
    pub usual: f32,
    /// 99th percentile of its activation over held-out rows.
    #[serde(default)]
    pub p99: f32,
    /// Share of held-out rows in which it fires.
    pub frequency: f32,
    /// Length of its decoder row: how far one unit of activation moves the reconstruction.
    pub norm: f32,
    /// Share of its decoder row's square in the three largest loadings, from 0 to 1: how well the name says what it is.
    #[serde(default)]
    pub purity: f32,
    /// Explained variance that the held-out rows lose without it; below 0 where it does harm.
    #[serde(default)]
    pub importance: f64,
    /// Cosine between its encoder column and its decoder row; `None` where the encoder is not linear.
    #[serde(default)]
    pub encoder_cosine: Option<f32>,
    /// The held-out records that activate it most, the strongest first; at most five.
    #[serde(default)]
    pub top: Vec<RecordId>,
}

/// What cards are made of: a model's directions, and what it made of held-out rows.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    /// Names of the inputs, `[n_inputs]`.
    pub names: &'a [&'a str],
    /// Encoder, `[n_inputs, n_latents]`, where it is linear.
    pub w_enc: Option<ArrayView2<'a, f32>>,
    /// Decoder, `[n_latents, n_inputs]`.
    pub w_dec: ArrayView2<'a, f32>,
    /// Standardised values, `[rows, n_inputs]`.
    pub x: ArrayView2<'a, f32>,
    /// 1 observed, 0 missing, `[rows, n_inputs]`.
    pub mask: ArrayView2<'a, f32>,
    /// Weight of each input, `[n_inputs]`: the inputs of one feature share 1.
    pub weights: &'a [f32],
    /// Reconstructions, `[rows, n_inputs]`.
    pub recons: ArrayView2<'a, f32>,
    /// Latents, `[rows, n_latents]`.
    pub latents: ArrayView2<'a, f32>,
    /// Where each row came from, `[rows]`.
    pub ids: &'a [RecordId],
}

impl LatentCard {
    /// What to call it: its label, else its name.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

impl Cards {
    /// Describes the latents by held-out rows; their ids are their indices.
    pub fn new(rows: &HeldOut<'_>) -> Self {
        let n_rows = rows.latents.nrows().max(1) as f64;
        let residuals = &rows.x - &rows.recons;
        let importance = importance(rows, &residuals);
        give_way();
        let card = |i: usize| {
            give_way();
            let (row, column) = (rows.w_dec.row(i), rows.latents.column(i));
            let mut order: Vec<usize> = (0..column.len()).filter(|&row| column[row].abs() > FIRES).collect();
            order.sort_by(|&a, &b| column[b].abs().total_cmp(&column[a].abs()).then(a.cmp(&b)));
            let mut sorted = column.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            // Of n rows, the 99th percentile has n/100 above it.
            let p99 = sorted.get(column.len() / 100).copied().unwrap_or(0.0);
            LatentCard {
                id: i as u64,
                name: latent_name(rows.names, row),
                label: None,
                usual: (column.iter().copied().map(f64::from).sum::<f64>() / n_rows) as f32,
                p99,
                frequency: (order.len() as f64 / n_rows) as f32,
                norm: row.dot(&row).sqrt(),
                purity: purity(row),
                importance: importance[i],
                encoder_cosine: rows.w_enc.map(|w_enc| cosine(w_enc.column(i), row)),
                top: order.iter().take(N_TOP).map(|&row| rows.ids[row]).collect(),
            }
        };
        let n_latents = rows.w_dec.nrows();
        let residual_scale = residual_scales(residuals.view(), rows.mask);
        Self { residual_scale, latents: (0..n_latents).map(card).collect(), next_id: n_latents as u64 }
    }

    /// Gives latents that have no ids yet their indices: what was stored before there were ids.
    pub fn numbered(mut self) -> Self {
        if self.next_id == 0 {
            self.number_from(0);
        }
        self
    }

    /// Numbers all latents anew from `first` on.
    pub fn number_from(&mut self, first: u64) {
        for (card, id) in self.latents.iter_mut().zip(first..) {
            card.id = id;
        }
        self.next_id = first + self.latents.len() as u64;
    }

    /// Keeps id and label of the parent's latents whose direction is still there, and gives the others new ids.
    ///
    /// `w_dec` is this model's decoder, `[n_latents, n_inputs]`, and `parent` another model's cards and decoder.
    pub fn inherit(&mut self, w_dec: ArrayView2<'_, f32>, parent: (&Self, ArrayView2<'_, f32>)) {
        let (parent, parent_w_dec) = parent;
        self.next_id = parent.next_id;
        for (card, found) in self.latents.iter_mut().zip(match_rows(w_dec, parent_w_dec)) {
            match found {
                Some(i) => {
                    card.id = parent.latents[i].id;
                    card.label.clone_from(&parent.latents[i].label);
                }
                None => {
                    card.id = self.next_id;
                    card.label = None;
                    self.next_id += 1;
                }
            }
        }
    }

    /// Puts in what people call the latents, by id; a latent that is not named in `labels` has none.
    pub fn set_labels(&mut self, labels: &BTreeMap<u64, String>) {
        for card in &mut self.latents {
            card.label = labels.get(&card.id).cloned();
        }
    }

    /// Indices of the latents, the most important first.
    pub fn by_importance(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.latents.len()).collect();
        order.sort_by(|&a, &b| self.latents[b].importance.total_cmp(&self.latents[a].importance).then(a.cmp(&b)));
        order
    }
}

/// (SSE with f_i set to 0 − SSE) / total SS of each latent: −f_i = 0 leaves the residual r + f_i·d_i, so the sum grows by
/// 2·f_i·r·d_i + f_i²·|d_i|², over observed inputs by their weights.
fn importance(rows: &HeldOut<'_>, residuals: &Array2<f32>) -> Vec<f64> {
    let weights = &rows.mask * &ArrayView1::from(rows.weights);
    let along = (residuals * &weights).dot(&rows.w_dec.t());
    give_way();
    let lengths = weights.dot(&rows.w_dec.mapv(|d| d * d).t());
    give_way();
    let growth = |i: usize| -> f64 {
        let column = rows.latents.column(i);
        let terms = column.iter().zip(along.column(i)).zip(lengths.column(i));
        terms.map(|((f, along), length)| f64::from(*f) * f64::from(2.0 * along + f * length)).sum()
    };
    let total = squares(rows.x, rows.mask, rows.weights);
    (0..rows.w_dec.nrows()).map(|i| if total > 0.0 { growth(i) / total } else { 0.0 }).collect()
}

/// Σ (x − column mean)² over observed values, by their weights.
fn squares(x: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>, weights: &[f32]) -> f64 {
    let column = |((x, mask), weight): ((ArrayView1<'_, f32>, ArrayView1<'_, f32>), &f32)| -> f64 {
        let observed = || x.iter().zip(mask).filter(|(_, m)| **m > 0.0).map(|(x, _)| f64::from(*x));
        let mean = observed().sum::<f64>() / observed().count().max(1) as f64;
        f64::from(*weight) * observed().map(|x| (x - mean).powi(2)).sum::<f64>()
    };
    x.columns().into_iter().zip(mask.columns()).zip(weights).map(column).sum()
}

/// Share of the row's square in its three largest loadings; 0 for a row of zeros.
fn purity(row: ArrayView1<'_, f32>) -> f32 {
    let mut squares: Vec<f32> = row.iter().map(|d| d * d).collect();
    squares.sort_by(|a, b| b.total_cmp(a));
    let total: f32 = squares.iter().sum();
    let largest: f32 = squares.iter().take(N_NAMED_MAX).sum();
    if total > 0.0 { largest / total } else { 0.0 }
}

/// Up to three loadings of at least 0.3 of the largest, by size, with their signs.
fn latent_name(names: &[&str], row: ArrayView1<'_, f32>) -> String {
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
    fn purity_is_the_share_of_three_loadings() {
        assert_eq!(purity(array![0.0, 2.0, 0.0, 0.0].view()), 1.0);
        assert_eq!(purity(array![1.0, 1.0, -1.0, 1.0].view()), 0.75);
        assert_eq!(purity(array![0.0, 0.0].view()), 0.0);
    }

    /// Two rows of two inputs; the second input of the second row is missing.
    fn hand_worked() -> Cards {
        let (w_enc, w_dec) = (array![[4.0, 1.0], [0.0, 0.0]], array![[2.0, 0.0], [0.0, -1.0]]);
        let (x, recons) = (array![[4.0, 1.0], [0.0, 9.0]], array![[3.5, 2.0], [-0.25, 0.0]]);
        let mask = array![[1.0, 1.0], [1.0, 0.0]];
        let place = |offset| RecordId { partition: 1.into(), offset };
        Cards::new(&HeldOut {
            names: &["a", "b"],
            w_enc: Some(w_enc.view()),
            w_dec: w_dec.view(),
            x: x.view(),
            mask: mask.view(),
            weights: &[1.0; 2],
            recons: recons.view(),
            latents: array![[0.5, 3.0], [0.75, 0.0]].view(),
            ids: &[place(7), place(9)],
        })
    }

    #[test]
    fn a_card_worked_by_hand() {
        let cards = hand_worked();
        // The rows vary by (4 - 2)² + (0 - 2)² = 8.
        // Without latent 0 the residuals of a are 0.5 + 1 and 0.25 + 1.5: (2.25 + 3.0625 - 0.3125) / 8.
        // Without latent 1 that of b is -1 - 3: (16 - 1) / 8; the missing one has no part.
        assert_eq!((cards.latents[0].importance, cards.latents[1].importance), (0.625, 1.875));
        let wanted = LatentCard {
            id: 0,
            name: "+a".into(),
            label: None,
            usual: 0.625,
            p99: 0.75,
            frequency: 1.0,
            norm: 2.0,
            purity: 1.0,
            importance: 0.625,
            encoder_cosine: Some(1.0),
            top: [9, 7].map(|offset| RecordId { partition: 1.into(), offset }).to_vec(),
        };
        assert_eq!(cards.latents[0], wanted);
        let other = &cards.latents[1];
        assert_eq!((other.frequency, other.top.len(), other.encoder_cosine, other.id), (0.5, 1, Some(0.0), 1));
        assert_eq!((cards.by_importance(), cards.next_id), (vec![1, 0], 2));
    }

    #[test]
    fn codes_of_two_signs_fire_either_way() {
        let (w_dec, x) = (array![[1.0]], array![[0.5], [-2.0], [0.0]]);
        let cards = Cards::new(&HeldOut {
            names: &["a"],
            w_enc: None,
            w_dec: w_dec.view(),
            x: x.view(),
            mask: array![[1.0], [1.0], [1.0]].view(),
            weights: &[1.0],
            recons: x.view(),
            latents: x.view(),
            ids: &[0, 1, 2].map(|offset| RecordId { partition: 0.into(), offset }),
        });
        let card = &cards.latents[0];
        assert_eq!((card.frequency, card.usual, card.p99, card.encoder_cosine), (2.0 / 3.0, -0.5, 0.5, None));
        assert_eq!(card.top.iter().map(|id| id.offset).collect::<Vec<_>>(), [1, 0], "the strongest either way");
    }

    #[test]
    fn moved_latents_keep_id_and_label_and_changed_ones_get_new_ids() {
        let mut parent = hand_worked();
        parent.number_from(40);
        parent.set_labels(&BTreeMap::from([(40, "start-up".into()), (41, "idle".into())]));
        let mut child = hand_worked();
        let w_dec = array![[2.0, 0.0], [0.0, -1.0]];
        child.inherit(array![[0.1, -3.0], [-1.0, 1.0]].view(), (&parent, w_dec.view()));
        assert_eq!((child.latents[0].id, child.latents[0].title()), (41, "idle"));
        assert_eq!((child.latents[1].id, &child.latents[1].label, child.next_id), (42, &None, 43));
        let mut grandchild = hand_worked();
        grandchild.inherit(w_dec.view(), (&child, array![[0.1, -3.0], [-1.0, 1.0]].view()));
        assert_eq!(grandchild.latents[0].id, 43, "what was lost once is new when it comes back");
        assert_eq!(grandchild.latents[1].id, 41);
    }

    #[test]
    fn cards_without_ids_are_numbered_and_labels_are_not_stored() {
        let old = r#"{"residual_scale": [1.0], "latents": [
            {"name": "+a", "usual": 0.5, "frequency": 1.0, "norm": 1.0},
            {"name": "+b", "usual": 0.5, "frequency": 1.0, "norm": 1.0}]}"#;
        let mut cards = serde_json::from_str::<Cards>(old).unwrap().numbered();
        assert_eq!((cards.latents[1].id, cards.next_id), (1, 2));
        cards.latents[1].id = 17;
        cards.next_id = 18;
        cards.set_labels(&BTreeMap::from([(17, "idle".into())]));
        let back: Cards = serde_json::from_str(&serde_json::to_string(&cards).unwrap()).unwrap();
        let back = back.numbered();
        assert_eq!((back.latents[1].id, back.latents[1].label.as_deref()), (17, None));
    }

    #[test]
    fn residual_scales_ignore_missing_values_and_have_a_floor() {
        let residuals = array![[1.0, 0.0], [-1.0, 0.0], [90.0, 0.0]];
        let scales = residual_scales(residuals.view(), array![[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]].view());
        assert_eq!(scales, [1.4826, 0.05]);
    }
}
