//! How cost grows: scoring and the whole lane without Kafka over features, latents, active latents, remembered rows.

use serde_json::{Value, json};

use strayd::decode::Format;

use crate::setup::Setup;
use crate::stages;

/// D, M, k and remembered rows; none of M and k: the default.
const SHAPES: [(usize, Option<usize>, Option<usize>, usize); 13] = [
    (8, None, None, 512),
    (16, None, None, 512),
    (32, None, None, 512),
    (64, None, None, 512),
    (128, None, None, 512),
    (256, None, None, 512),
    (32, None, None, 0),
    (32, None, None, 2048),
    (32, Some(64), Some(8), 0),
    (32, Some(128), Some(8), 0),
    (32, Some(256), Some(32), 0),
    (32, Some(512), Some(32), 0),
    (128, Some(256), Some(16), 0),
];

/// Every shape in both formats.
pub fn measure(rounds: usize) -> anyhow::Result<Vec<Value>> {
    let one = |&(n_features, n_latents, k, memory_rows): &_| -> anyhow::Result<Value> {
        let setup = |format| Setup { n_latents, k, memory_rows, ..Setup::default_model(n_features, format) };
        let raw = setup(Format::Packed);
        let model = raw.train_briefly();
        Ok(json!({
            "shape": raw.shape(),
            "memory_rows": memory_rows,
            "score_ns": stages::whole_score(&model, &raw, stages::BATCH, rounds),
            "lane_raw_ns": stages::whole_lane(&raw, &model, 1)?["ns"],
            "lane_json_ns": stages::whole_lane(&setup(Format::Json), &model, 1)?["ns"],
        }))
    };
    SHAPES.iter().map(one).collect()
}
