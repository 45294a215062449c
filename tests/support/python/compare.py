"""Computes exported models with numpy and onnxruntime and compares them with what strayd computed.

Usage: compare.py DIR. DIR holds rows.json ({"raw": rows, null where missing}), per model NAME a folder with expected.npz of
strayd's own latents, recons (raw units) and z-scored residual means (score), and the exports. Prints one JSON object: the
largest difference of each comparison. It judges nothing; the test does.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file


def standardise(raw, scaler):
    mean = np.array([feature["mean"] for feature in scaler["features"]])
    std = np.array([feature["std"] for feature in scaler["features"]])
    observed = np.isfinite(raw)
    z = np.clip((np.where(observed, raw, 0.0).astype(np.float64) - mean) / std, -scaler["clip"], scaler["clip"])
    return np.where(observed, z, 0.0).astype(np.float32), observed, mean, std


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0.0, z, 0.01 * z),
    "tanh": np.tanh,
    "silu": lambda z: z * sigmoid(z),
    "sigmoid": sigmoid,
}


def topk(a, k):
    a = np.maximum(a, 0.0)
    order = np.argsort(-a, axis=1, kind="stable")[:, :k]
    latents = np.zeros_like(a)
    np.put_along_axis(latents, order, np.take_along_axis(a, order, axis=1), axis=1)
    return latents


def forward(weights, form, x, observed):
    """The published forward pass, written from the formats' own documentation; `form` says which, and its k."""
    h = (x - weights["b_dec"]) * observed
    layer = 0
    while f"hidden.{layer}.weight" in weights:
        z = h @ weights[f"hidden.{layer}.weight"] + weights[f"hidden.{layer}.bias"]
        h = ACTIVATIONS[form["activation"]](z)
        layer += 1
    a = h @ weights["W_enc"] + weights["b_enc"]
    match form["kind"]:
        case "topk":
            latents = topk(a, form["k"])
        case "sat_topk":
            latents = np.tanh(topk(a, form["k"]))
        case "jumprelu":
            latents = np.maximum(a, 0.0) * (a > weights["threshold"])
        case "batchtopk":
            latents = np.maximum(a, 0.0) * (a > np.float32(weights["topk_threshold"]))
        case "relu":
            latents = np.maximum(a, 0.0)
        case "sigmoid":
            latents = sigmoid(a)
        case "dense":
            latents = ACTIVATIONS[form["activation"]](a)
        case "pca":
            latents = a
        case other:
            raise ValueError(other)
    return latents, latents @ weights["W_dec"] + weights["b_dec"]


def largest(a, b, unit=1.0):
    """Largest difference in units of `unit`, relative where |b| is above one unit; NaN only where both are NaN."""
    a, b = np.asarray(a, np.float64) / unit, np.asarray(b, np.float64) / unit
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b) / np.maximum(1.0, np.abs(b))))


def saelens(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    assert cfg["apply_b_dec_to_input"] and cfg["metadata"]["sae_lens_version"]
    assert cfg["normalize_activations"] == "none" and not cfg.get("rescale_acts_by_decoder_norm")
    weights = load_file(folder / "sae_weights.safetensors")
    kind = {"topk": "topk", "standard": "relu", "jumprelu": "jumprelu"}[cfg["architecture"]]
    more = {"threshold"} if kind == "jumprelu" else set()
    assert set(weights) == {"W_enc", "b_enc", "W_dec", "b_dec"} | more
    assert weights["W_enc"].shape == (cfg["d_in"], cfg["d_sae"])
    # What --force leaves to the reader.
    kind = "sat_topk" if cfg["strayd"]["kind"] == "sat_topk" else kind
    return weights, {"kind": kind, "k": cfg.get("k")}, json.loads((folder / "scaler.json").read_text())


def sparsify(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae.safetensors")
    assert weights["encoder.weight"].shape == (cfg["num_latents"], cfg["d_in"])
    renamed = {"W_enc": weights["encoder.weight"].T, "b_enc": weights["encoder.bias"]}
    renamed |= {"W_dec": weights["W_dec"], "b_dec": weights["b_dec"]}
    form = {"kind": cfg["strayd"]["kind"], "k": cfg["k"]}
    return renamed, form, json.loads((folder / "scaler.json").read_text())


def npz(path):
    with np.load(path) as z:
        block = json.loads(bytes(z["strayd"]))
        scaler = block["scaling"]
        assert [feature["mean"] for feature in scaler["features"]] == list(z["mean"])
        weights = {name: z[name] for name in z.files if name not in ("strayd", "k", "mean", "std")}
        return weights, {"kind": block["kind"], "k": int(z["k"]), "activation": block["activation"]}, scaler


def compare(folder, raw):
    """Differences of latents, of recons in deviations from the mean, of scores."""
    expected = {name: np.load(folder / f"{name}.npz")[name] for name in ("latents", "recons")}
    score = np.array([np.nan if s is None else s for s in json.loads((folder / "score.json").read_text())])
    found = {}

    def of(latents, recons, mean, std, rows=slice(None)):
        return max(
            largest(latents, expected["latents"][rows]),
            largest(recons - mean, expected["recons"][rows] - mean, std),
        )

    for name, read in (("saelens", saelens), ("sparsify", sparsify), ("model.npz", npz)):
        if (folder / name).exists():
            weights, form, scaler = read(folder / name)
            x, observed, mean, std = standardise(raw, scaler)
            latents, recons = forward(weights, form, x, observed)
            found[name] = of(latents, recons * std + mean, mean, std)

    # Folded weights take raw values. They know neither the cut nor missing values: whole rows only.
    weights, form, scaler = npz(folder / "folded.npz")
    assert scaler["folded"]
    whole = np.isfinite(raw).all(axis=1)
    latents, recons = forward(weights, form, raw[whole].astype(np.float64), True)
    found["folded.npz"] = of(latents, recons, mean, std, whole)

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    latents, recons, scores = session.run(["latents", "recons", "score"], {"x": raw})
    found["model.onnx"] = of(latents, recons, mean, std)
    found["model.onnx score"] = largest(scores, score)
    one = session.run(["score"], {"x": raw[:1]})[0]
    found["model.onnx alone"] = largest(one, scores[:1])
    return found


def main():
    base = Path(sys.argv[1])
    rows = json.loads((base / "rows.json").read_text())
    raw = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float32)
    folders = sorted(folder for folder in base.iterdir() if folder.is_dir())
    print(json.dumps({folder.name: compare(folder, raw) for folder in folders}))


main()
