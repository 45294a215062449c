//! Labelled data sets for measuring, and a simulated stream whose joint structure a model can learn.
//!
//! The sets are no part of the project: `STRAYD_DATA_DIR` names their folder, else it is looked for beside the crate.
//! The simulated stream is a function of its seed, of nothing else.

use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::skip;

/// A labelled stream.
#[derive(Debug)]
pub struct DataSet {
    /// The file.
    pub path: PathBuf,
    /// Feature names.
    pub names: Vec<String>,
    /// Values as they stand in the file, one list a row.
    pub rows: Vec<Vec<String>>,
    /// Which rows are anomalies.
    pub labels: Vec<bool>,
}

impl DataSet {
    /// Reads `<name>.csv.gz`, last column `label`; where there is none the test's skip is reported.
    #[track_caller]
    pub fn read(name: &str) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        let dir = std::env::var_os("STRAYD_DATA_DIR").map_or(beside, PathBuf::from);
        let path = dir.join(format!("{name}.csv.gz"));
        let Ok(file) = std::fs::File::open(&path) else {
            skip(&format!("no {}; STRAYD_DATA_DIR names another folder", path.display()));
            return None;
        };
        let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
        let mut names: Vec<String> =
            reader.headers().expect("the file has a header").iter().map(str::to_owned).collect();
        assert_eq!(names.pop().as_deref(), Some("label"), "the last column is the label");
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let mut values: Vec<String> = record.expect("the file is whole").iter().map(str::to_owned).collect();
            labels.push(values.pop().expect("a label").parse::<f64>().expect("a number") != 0.0);
            rows.push(values);
        }
        Some(Self { path, names, rows, labels })
    }

    /// Rows of history: a tenth, from 256 to 2048, at most half.
    pub fn warmup(&self) -> usize {
        (self.rows.len() / 10).clamp(256, 2048).min(self.rows.len() / 2)
    }

    /// A row as a JSON object.
    pub fn json(&self, row: usize) -> String {
        let field = |(name, value): (&String, &String)| format!("{}: {value}", serde_json::Value::from(name.as_str()));
        let fields: Vec<String> = self.names.iter().zip(&self.rows[row]).map(field).collect();
        format!("{{{}}}", fields.join(", "))
    }
}

/// Rows of `n_features` sensors that follow a few hidden factors, with noise of a tenth of their spread.
#[derive(Debug)]
pub struct Sensors {
    weights: Vec<Vec<f64>>,
    rng: ChaCha8Rng,
}

impl Sensors {
    /// Sensors of three hidden factors.
    pub fn new(n_features: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weights = (0..n_features).map(|_| (0..3).map(|_| rng.sample(StandardNormal)).collect()).collect();
        Self { weights, rng }
    }

    /// The next row of values; three decimals are all that is ever written of them.
    pub fn row(&mut self) -> Vec<f64> {
        let factors: Vec<f64> = (0..3).map(|_| self.rng.sample(StandardNormal)).collect();
        let Self { weights, rng } = self;
        let value = |weights: &Vec<f64>| {
            let joint: f64 = weights.iter().zip(&factors).map(|(weight, factor)| weight * factor).sum();
            20.0 + joint + 0.1 * rng.sample::<f64, _>(StandardNormal)
        };
        weights.iter().map(value).collect()
    }

    /// The next row as a JSON object with the names `s0`, `s1` and so on.
    pub fn json(&mut self) -> String {
        to_json(&self.row())
    }
}

/// Values as a JSON object with the names `s0`, `s1` and so on.
pub fn to_json(values: &[f64]) -> String {
    let fields: Vec<String> = values.iter().enumerate().map(|(i, value)| format!("\"s{i}\": {value:.3}")).collect();
    format!("{{{}}}", fields.join(", "))
}

/// Area under the ROC curve: the chance that an anomaly scores higher than a normal row, ties counted half.
pub fn auc_roc(scores: &[f64], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let n_anomalies = tied.iter().filter(|&&i| labels[i]).count() as f64;
        let n_normal = tied.len() as f64 - n_anomalies;
        wins += n_anomalies * (below + n_normal / 2.0);
        below += n_normal;
    }
    let n_anomalies = labels.iter().filter(|&&label| label).count() as f64;
    wins / (n_anomalies * (labels.len() as f64 - n_anomalies))
}
