"""Scores the rows of a folder by other runtimes on the same weights, one thread each; benches/throughput/peers.rs talks to it.

Usage: peers.py DIR. DIR holds model.npz and model.onnx as `strayd export` writes them, rows.npy `[rows, n_features]` and
score.npy, strayd's own scores. Every line on standard input is a batch size; the answer is one JSON line with nanoseconds
a record of each runtime, processor time. The first line of output says what there is and how far scores differ.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

try:
    import torch
except ImportError:
    torch = None

ROUND_S = 0.15


def weights(path):
    with np.load(path) as z:
        block = json.loads(bytes(z["strayd"]))
        arrays = {name: z[name].astype(np.float32) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "mean", "std")}
        return arrays, int(z["k"]), float(block["scaling"]["clip"])


def by_numpy(folder):
    w, k, clip = weights(folder / "model.npz")

    def run(raw):
        observed = np.isfinite(raw)
        x = np.where(observed, np.clip((np.where(observed, raw, 0.0) - w["mean"]) / w["std"], -clip, clip), 0.0)
        a = np.maximum(((x - w["b_dec"]) * observed) @ w["W_enc"] + w["b_enc"], 0.0)
        kept = np.argpartition(a, -k, axis=1)[:, -k:]
        latents = np.zeros_like(a)
        np.put_along_axis(latents, kept, np.tanh(np.take_along_axis(a, kept, axis=1)), axis=1)
        residual = (x - latents @ w["W_dec"] - w["b_dec"]) * observed
        return np.einsum("ij,ij->i", residual, residual) / observed.sum(axis=1)

    return run


def by_torch(folder):
    w, k, clip = weights(folder / "model.npz")
    w = {name: torch.from_numpy(array) for name, array in w.items()}
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)

    def run(raw):
        with torch.inference_mode():
            raw = torch.from_numpy(raw)
            observed = torch.isfinite(raw).to(torch.float32)
            x = ((torch.nan_to_num(raw) - w["mean"]) / w["std"]).clamp(-clip, clip) * observed
            a = torch.addmm(w["b_enc"], (x - w["b_dec"]) * observed, w["W_enc"]).relu_()
            kept = torch.topk(a, k, dim=1, sorted=False)
            latents = torch.zeros_like(a).scatter_(1, kept.indices, kept.values.tanh_())
            residual = (x - torch.addmm(w["b_dec"], latents, w["W_dec"])) * observed
            return (residual.square_().sum(dim=1) / observed.sum(dim=1)).numpy()

    return run


def by_onnx(folder):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda raw: session.run(["score"], {"x": raw})[0]


def measure(run, raw):
    """Nanoseconds a record; the processor time of the process, which has one thread at work."""
    n = 0
    run(raw)
    began, until = time.process_time_ns(), time.perf_counter() + ROUND_S
    while time.perf_counter() < until:
        for _ in range(8):
            run(raw)
        n += 8
    return (time.process_time_ns() - began) / (n * len(raw))


def main():
    folder = Path(sys.argv[1])
    rows, expected = np.load(folder / "rows.npy"), np.load(folder / "score.npy").ravel()
    runs = {"ONNX Runtime": (by_onnx(folder), onnxruntime.__version__), "numpy": (by_numpy(folder), np.__version__)}
    if torch is not None:
        runs["PyTorch"] = (by_torch(folder), torch.__version__)
    found = {}
    for name, (run, version) in runs.items():
        got = np.asarray(run(rows), np.float64).ravel()
        if name == "ONNX Runtime":  # its score is standardised: the order must be strayd's
            differ = float(np.mean(np.argsort(got) != np.argsort(expected)))
        else:
            differ = float(np.max(np.abs(got / expected - 1.0)))
        found[name] = {"version": version, "differs": differ}
    print(json.dumps(found), flush=True)
    for line in sys.stdin:
        raw = np.ascontiguousarray(rows[: int(line)])
        print(json.dumps({name: measure(run, raw) for name, (run, _) in runs.items()}), flush=True)


main()
