#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards/*.json from deploy/grafana/source; with --check it only says which differ (exit 1)."""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE / "source"))

import detection  # noqa: E402  (the path must come first)
import kafka  # noqa: E402
import model  # noqa: E402
import overview  # noqa: E402


def main():
    stale = []
    for part in (overview, detection, model, kafka):
        file = HERE / "dashboards" / f"{part.DASHBOARD['uid']}.json"
        made = json.dumps(part.DASHBOARD, indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv[1:]:
            file.write_text(made, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != made:
            stale.append(file.name)
    if stale:
        sys.exit(f"not what deploy/grafana/source makes, run deploy/grafana/generate.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
