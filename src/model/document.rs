//! What is known of a model, as JSON: for `strayd models show --json` and for the admin server.

use serde_json::{Value, json};

use super::{Lineage, Model};
use crate::record::RecordId;

/// The model without its latents: features, sizes, calibration, lineage.
pub fn document(model: &Model) -> Value {
    let shape = model.autoencoder.shape();
    let features: Vec<&str> = model.schema.names().collect();
    json!({
        "version": model.version,
        "hash": model.hash,
        "trained_at": model.trained_at(),
        "features": features,
        "schema_fingerprint": model.schema.fingerprint(),
        "kind": model.autoencoder.kind,
        "n_latents": shape.n_latents,
        "k": shape.k,
        "n_calibration": model.calibration.tail.sorted().len(),
        "lineage": model.lineage,
    })
}

/// One object a latent, the most important first.
pub fn latents(model: &Model) -> Value {
    let one = |i: usize| {
        let card = &model.cards.latents[i];
        let mut one = serde_json::to_value(card).expect("a card of plain values is always JSON");
        one["label"] = json!(card.label);
        one["top"] = card.top.iter().map(|id| place(&model.lineage, *id)).collect();
        one["since_fired"] = json!(model.since_fired[i]);
        one["index"] = json!(i);
        one
    };
    model.cards.by_importance().into_iter().map(one).collect()
}

/// TOPIC/PARTITION/OFFSET, as `strayd explain --record` takes it; FILE/PARTITION/ROW for a model of a file.
pub fn place(lineage: &Lineage, id: RecordId) -> String {
    match id.partition.topic.name() {
        None => format!("{}/{}/{}", lineage.source, id.partition, id.offset),
        Some(_) => format!("{}/{}", id.partition, id.offset),
    }
}
