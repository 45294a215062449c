//! What exactly once costs: the daemon with transactions every 100 ms against itself without, in turn, on the same topic.

use std::path::Path;

use serde_json::{Value, json};

use strayd::kafka::Delivery;

use crate::child;
use crate::clock::median;
use crate::setup::{N_DISTINCT, Setup};
use crate::whole::{Cost, Job};
use crate::world::{Filling, World};

/// Partitions of the topic.
const N_PARTITIONS: i32 = 4;

/// Alternating runs of one setup: outputs of anomalies alone, and of every record's score too.
pub fn measure(
    world: &World,
    (setup, registry): (&Setup, &Path),
    n_records: u64,
    rounds: usize,
) -> anyhow::Result<Vec<Value>> {
    let topic = world.topic("features", N_PARTITIONS)?;
    world.fill(&topic, N_PARTITIONS, &setup.payloads(N_DISTINCT), Filling { n: n_records, n_keys: 0 })?;
    let compare = |scores: bool| {
        let run = |delivery| -> anyhow::Result<Cost> {
            let place = world.place(&topic, registry)?;
            let scores = if scores { Some(world.topic("scores", N_PARTITIONS)?) } else { None };
            let job = Job { delivery, scores, ..Job::new(place, setup.clone(), 1, n_records) };
            child::run("strayd", &job)
        };
        let (mut least, mut exactly) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            least.push(run(Delivery::AtLeastOnce)?);
            exactly.push(run(Delivery::ExactlyOnce)?);
        }
        let pairs = || least.iter().zip(&exactly);
        Ok(json!({
            "cluster": world.name(),
            "setup": setup.name,
            "outputs": if scores { "every record's score" } else { "anomalies" },
            "at_least_once": median(least.iter().map(|cost| cost.per_second)),
            "exactly_once": median(exactly.iter().map(|cost| cost.per_second)),
            "ratio": median(pairs().map(|(least, exactly)| exactly.per_second / least.per_second)),
            "cpu_ratio": median(pairs().map(|(least, exactly)| exactly.cpu_ns / least.cpu_ns)),
        }))
    };
    [false, true].into_iter().map(compare).collect()
}
