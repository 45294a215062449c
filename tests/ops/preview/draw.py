#!/usr/bin/env python3
"""Draws the dashboards' panels from a Prometheus: `draw.py URL START END OUT`, times in Unix seconds.

An honest preview and not Grafana: it asks what Grafana would ask, with its step and rate interval, and draws what comes
with uPlot in a page for Chromium. A panel that finds nothing says so, and the exit code is then 1.
"""

import json
import pathlib
import subprocess
import sys
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SCRAPE = 0.2  # seconds between two scrapes, as tests/support/prometheus.rs has it
N_STEPS = 150  # points of a line
WIDTH = 1600  # pixels of the page
ROW = 38  # pixels of a row of Grafana's grid, with the gap


class Prometheus:
    def __init__(self, url, start, end):
        self.url, self.start, self.end = url, start, end
        self.step = max((end - start) / N_STEPS, SCRAPE)
        # As Grafana computes $__rate_interval.
        self.rate_interval = max(self.step + SCRAPE, 4 * SCRAPE)

    def filled(self, expr):
        for name in ("$job", "$instance", "$topic"):
            expr = expr.replace(name, ".+")
        return expr.replace("$__rate_interval", f"{int(self.rate_interval * 1000)}ms")

    def ask(self, path, **arguments):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    def series(self, target):
        """The series of a query over the time range, as lists of [time, value]; one point each of an instant query."""
        expr = self.filled(target["expr"])
        if target.get("instant"):
            found = self.ask("query", query=expr, time=self.end)
            return [{"labels": one["metric"], "values": [one["value"]]} for one in found]
        found = self.ask("query_range", query=expr, start=self.start, end=self.end, step=self.step)
        return [{"labels": one["metric"], "values": one["values"]} for one in found]


def named(legend, labels):
    """The name of a series, as Grafana makes it of a legend."""
    if legend != "__auto":
        for key, value in labels.items():
            legend = legend.replace("{{" + key + "}}", value)
        return legend
    shown = {key: value for key, value in labels.items() if key != "__name__"}
    return next(iter(shown.values())) if len(shown) == 1 else ", ".join(f"{k}={v}" for k, v in shown.items())


def drawn(panel, prometheus):
    """A panel with its data."""
    made = {key: panel.get(key) for key in ("type", "title", "description", "gridPos", "options", "fieldConfig")}
    hidden = [one["options"].get("excludeByName", {}) for one in panel.get("transformations") or []]
    made["dropped"] = sorted({name for names in hidden for name in names})
    made["series"] = []
    for target in panel.get("targets", []):
        for one in prometheus.series(target):
            values = [[float(time), float(value)] for time, value in one["values"]]
            finite = [pair for pair in values if abs(pair[1]) < float("inf")]
            if finite:
                made["series"].append({"name": named(target["legendFormat"], one["labels"]), "labels": one["labels"], "values": finite})
    return made


def page(dashboard, prometheus, uplot):
    panels = [drawn(panel, prometheus) for panel in dashboard["panels"]]
    empty = [panel["title"] for panel in panels if panel["type"] not in ("row", "text") and not panel["series"]]
    marks = []
    for annotation in dashboard["annotations"]["list"]:
        for one in prometheus.series(annotation["target"]):
            times = [float(time) for time, _ in one["values"]]
            began = [time for i, time in enumerate(times) if i == 0 or time - times[i - 1] > 1.5 * prometheus.step]
            marks += [[time, named(annotation["titleFormat"], one["labels"])] for time in began]
    data = {"title": dashboard["title"], "from": prometheus.start, "to": prometheus.end, "step": prometheus.step, "panels": panels,
            "marks": marks, "width": WIDTH, "row": ROW}
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    script = (HERE / "page.js").read_text(encoding="utf-8")
    style = (HERE / "page.css").read_text(encoding="utf-8") + (uplot / "uPlot.min.css").read_text(encoding="utf-8")
    html = (f"<!doctype html><meta charset=utf-8><style>{style}</style><body><script>{(uplot / 'uPlot.iife.min.js').read_text()}</script>"
            f"<script>const DATA = {json.dumps(data).replace('</', '<' + chr(92) + '/')};</script><script>{script}</script>")
    return html, 70 + bottom * ROW, empty


def main():
    url, start, end, out = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), pathlib.Path(sys.argv[4])
    out.mkdir(parents=True, exist_ok=True)
    npm = [ROOT / "tests/support/npm.sh", ROOT / "tests/ops/grafana"]
    tools = subprocess.run(npm, check=True, capture_output=True, text=True).stdout.strip()
    uplot = pathlib.Path(tools) / "node_modules/uplot/dist"
    failed = 0
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        html, height, empty = page(json.loads(file.read_text(encoding="utf-8")), Prometheus(url, start, end), uplot)
        target = out / file.with_suffix(".html").name
        target.write_text(html, encoding="utf-8")
        picture = target.with_suffix(".png")
        subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
                        f"--window-size={WIDTH},{height}", f"--screenshot={picture}", target.as_uri()], check=True, capture_output=True)
        print(f"{picture}: {'no data in ' + ', '.join(empty) if empty else 'every panel has data'}")
        failed += len(empty)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
