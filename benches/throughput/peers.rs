//! Other runtimes on the same weights, one thread each, in turn with strayd's own scoring.
//!
//! ONNX Runtime takes what `strayd export --format onnx` writes; PyTorch (eager) and numpy take the arrays of
//! `--format npz`. All score raw rows by the autoencoder alone: scale, encode, keep the k largest, decode, mean squared
//! residual. `STRAYD_BENCH_PYTHON` names an interpreter that has them; else it is the one in ~/.cache/strayd/torch, or the tests' own,
//! which has no PyTorch.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ndarray::{Array1, Array2, s};
use ndarray_npy::write_npy;
use serde_json::{Value, json};

use strayd::model::interchange::{self, Format, Wish};
use strayd::model::{Model, Workspace};

use crate::clock::median;
use crate::race::{Stage, race};
use crate::setup::Setup;
use crate::support::python;

/// What the environment holds OpenBLAS to for the sake of older versions; numpy brings a newer one of its own.
const HELD: [&str; 2] = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"];
/// Batches that are compared.
const BATCHES: [usize; 2] = [1, 256];

/// An interpreter, or nothing, and then it has been said why.
fn interpreter() -> Option<PathBuf> {
    let named = std::env::var_os("STRAYD_BENCH_PYTHON").map(PathBuf::from);
    let cached = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/strayd/torch/bin/python"));
    named.or(cached).filter(|path| path.exists()).or_else(python)
}

/// Writes what the peers need.
fn export(model: &Model, rows: &Array2<f32>, folder: &Path) -> anyhow::Result<()> {
    for (format, name) in [(Format::Npz, "model.npz"), (Format::Onnx, "model.onnx")] {
        let files = interchange::export(model, format, Wish { fold_scaler: false, force: true })?;
        let file = files.first().context("a form has a file")?;
        std::fs::write(folder.join(name), &file.bytes)?;
    }
    let mut workspace = Workspace::new();
    model.score(rows.view(), &mut workspace);
    write_npy(folder.join("rows.npy"), rows)?;
    write_npy(folder.join("score.npy"), &Array1::from(workspace.raw().to_vec()))?;
    Ok(())
}

/// Compares strayd's scoring by `setup`, without members, with what the interpreter has; none where there is none.
pub fn measure(setup: &Setup, rounds: usize) -> anyhow::Result<Option<Value>> {
    let Some(python) = interpreter() else { return Ok(None) };
    let (model, rows) = (setup.train(&setup.model_config()), setup.rows(256, 3));
    ensure!(model.members.is_none(), "other runtimes know no memory");
    let folder = tempfile::tempdir()?;
    export(&model, &rows, folder.path())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/throughput/peers.py");
    let mut command = Command::new(python);
    command.arg(script).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    for name in HELD {
        command.env_remove(name);
    }
    command.envs(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, "1")));
    let mut child = command.spawn().context("the interpreter can't be started")?;
    let mut ask = child.stdin.take().context("standard input is a pipe")?;
    let mut answers = BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines();
    let mut answer = || answers.next().context("the interpreter ended too early")?.map_err(anyhow::Error::from);
    let found: Value = serde_json::from_str(&answer()?)?;

    let mut batches = serde_json::Map::new();
    for n_rows in BATCHES {
        let batch = rows.slice(s![..n_rows, ..]);
        let mut workspace = Workspace::new();
        let (mut own, mut others) = (Vec::new(), BTreeMap::<String, Vec<f64>>::new());
        for _ in 0..rounds {
            let stage = Stage::new("score", n_rows, || model.score(black_box(batch), &mut workspace));
            own.push(race(vec![stage], 3)[0].1);
            writeln!(ask, "{n_rows}")?;
            for (name, ns) in serde_json::from_str::<BTreeMap<String, f64>>(&answer()?)? {
                others.entry(name).or_default().push(ns);
            }
        }
        let own = median(own);
        let others: BTreeMap<String, Value> = others
            .into_iter()
            .map(|(name, times)| (name, median(times)))
            .map(|(name, ns)| (name, json!({ "ns": ns, "times_strayd": ns / own })))
            .collect();
        batches.insert(n_rows.to_string(), json!({ "strayd_ns": own, "peers": others }));
    }
    drop(ask);
    ensure!(child.wait()?.success(), "the interpreter failed");
    Ok(Some(json!({ "setup": setup.name, "shape": setup.shape(), "found": found, "batches": batches })))
}
