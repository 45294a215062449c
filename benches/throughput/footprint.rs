//! The highest resident memory of the daemon, in a process of its own: by features, by keys, by partitions.

use serde_json::{Value, json};

use strayd::decode::Format;

use crate::child;
use crate::setup::{N_DISTINCT, Setup};
use crate::whole::{Cost, Job};
use crate::world::{Filling, World};

/// Records of a run: a threshold's window of every partition is full at the default of 20,000 a partition by 4.
const N_RECORDS: u64 = 100_000;
/// Features up to which the daemon is also measured while it trains its first model.
const LEARNS_MAX: usize = 128;

/// One case.
struct Case {
    name: String,
    n_features: usize,
    n_partitions: i32,
    n_keys: u64,
    n_records: u64,
    learns: bool,
    flags_all: bool,
}

impl Case {
    fn of_features(n_features: usize, learns: bool) -> Self {
        let name = format!("D = {n_features}{}", if learns { ", first training too" } else { "" });
        let n_records = if n_features > LEARNS_MAX { 20_000 } else { N_RECORDS };
        Self { name, n_features, n_partitions: 4, n_keys: 0, n_records, learns, flags_all: false }
    }

    fn run(&self, world: &World) -> anyhow::Result<Value> {
        let setup = Setup::default_model(self.n_features, Format::Packed);
        let folder = tempfile::tempdir()?;
        if !self.learns {
            setup.register(folder.path())?;
        }
        let topic = world.topic("features", self.n_partitions)?;
        let n_distinct = if self.n_features > LEARNS_MAX { 2_000 } else { N_DISTINCT };
        let filling = Filling { n: self.n_records, n_keys: self.n_keys };
        world.fill(&topic, self.n_partitions, &setup.payloads(n_distinct), filling)?;
        let (learns, flags_all) = (self.learns, self.flags_all);
        let place = world.place(&topic, folder.path())?;
        let cost: Cost = child::run("strayd", &Job { learns, flags_all, ..Job::new(place, setup, 1, self.n_records) })?;
        Ok(json!({ "case": self.name, "peak_bytes": cost.memory_peak, "n_records": self.n_records,
                   "anomalies": cost.n_anomalies }))
    }
}

/// Every case in turn.
pub fn measure(world: &World) -> anyhow::Result<Vec<Value>> {
    let mut cases: Vec<Case> = [8, 32, 128, 512, 1024].map(|n| Case::of_features(n, false)).into();
    cases.extend([8, 32, 128].map(|n| Case::of_features(n, true)));
    let keys = |name: &str, flags_all| Case {
        name: name.to_owned(),
        n_keys: 100_000,
        n_records: 200_000,
        flags_all,
        ..Case::of_features(32, false)
    };
    cases.push(keys("D = 32, 100,000 keys", false));
    cases.push(keys("D = 32, 100,000 keys, every record anomalous", true));
    let many = Case { n_partitions: 64, n_records: 1_280_000, ..Case::of_features(32, false) };
    cases.push(Case { name: "D = 32, 64 partitions".to_owned(), ..many });
    cases.iter().map(|case| case.run(world)).collect()
}
