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


def forward(weights, k, tanh, x, observed):
    """The published forward pass, written from the formats' own documentation."""
    a = ((x - weights["b_dec"]) * observed) @ weights["W_enc"] + weights["b_enc"]
    a = np.maximum(a, 0.0)
    order = np.argsort(-a, axis=1, kind="stable")[:, :k]
    latents = np.zeros_like(a)
    np.put_along_axis(latents, order, np.take_along_axis(a, order, axis=1), axis=1)
    if tanh:
        latents = np.tanh(latents)
    return latents, latents @ weights["W_dec"] + weights["b_dec"]


def largest(a, b, unit=1.0):
    """Largest difference in units of `unit`; NaN only where both are NaN."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b) / unit))


def saelens(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    assert cfg["architecture"] == "topk" and cfg["apply_b_dec_to_input"] and cfg["metadata"]["sae_lens_version"]
    assert not cfg["rescale_acts_by_decoder_norm"] and cfg["normalize_activations"] == "none"
    weights = load_file(folder / "sae_weights.safetensors")
    assert set(weights) == {"W_enc", "b_enc", "W_dec", "b_dec"}
    assert weights["W_enc"].shape == (cfg["d_in"], cfg["d_sae"])
    return weights, cfg["k"], json.loads((folder / "scaler.json").read_text())


def sparsify(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    weights = load_file(folder / "sae.safetensors")
    assert weights["encoder.weight"].shape == (cfg["num_latents"], cfg["d_in"])
    renamed = {"W_enc": weights["encoder.weight"].T, "b_enc": weights["encoder.bias"]}
    renamed |= {"W_dec": weights["W_dec"], "b_dec": weights["b_dec"]}
    return renamed, cfg["k"], json.loads((folder / "scaler.json").read_text())


def npz(path):
    with np.load(path) as z:
        block = json.loads(bytes(z["strayd"]))
        scaler = block["scaling"]
        assert [feature["mean"] for feature in scaler["features"]] == list(z["mean"])
        return {name: z[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}, int(z["k"]), scaler


def compare(folder, raw):
    """Differences of latents, of recons in deviations, of scores relative to them."""
    expected = {name: np.load(folder / f"{name}.npz")[name] for name in ("latents", "recons")}
    score = np.array([np.nan if s is None else s for s in json.loads((folder / "score.json").read_text())])
    tanh = folder.name == "sat_topk"
    found = {}

    def note(name, latents, recons, std):
        found[name] = max(largest(latents, expected["latents"]), largest(recons, expected["recons"], std))

    for name, read in (("saelens", saelens), ("sparsify", sparsify), ("model.npz", npz)):
        weights, k, scaler = read(folder / name)
        x, observed, mean, std = standardise(raw, scaler)
        latents, recons = forward(weights, k, tanh, x, observed)
        note(name, latents, recons * std + mean, std)

    # Folded weights take raw values. They know neither the cut nor missing values: whole rows only.
    weights, k, scaler = npz(folder / "folded.npz")
    assert scaler["folded"]
    whole = np.isfinite(raw).all(axis=1)
    latents, recons = forward(weights, k, tanh, raw[whole].astype(np.float64), True)
    std = np.array([feature["std"] for feature in scaler["features"]])
    found["folded.npz"] = max(
        largest(latents, expected["latents"][whole]), largest(recons, expected["recons"][whole], std)
    )

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    latents, recons, scores = session.run(["latents", "recons", "score"], {"x": raw})
    note("model.onnx", latents, recons, std)
    found["model.onnx score"] = largest(scores, score, np.maximum(1.0, np.nan_to_num(score)))
    one = session.run(["score"], {"x": raw[:1]})[0]
    found["model.onnx alone"] = largest(one, scores[:1])
    return found


def main():
    base = Path(sys.argv[1])
    rows = json.loads((base / "rows.json").read_text())
    raw = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float32)
    print(json.dumps({name: compare(base / name, raw) for name in ("topk", "sat_topk")}))


main()
