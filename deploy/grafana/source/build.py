"""Panels, variables and the frame of a dashboard, as Grafana's JSON has them.

In expressions `@` stands for the selector of job and instance. Panels are laid out in rows of 24 columns, in their order.
"""

SELECTOR = 'job=~"$job", instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"
SEVERITIES = {"low": "blue", "medium": YELLOW, "high": "orange", "critical": RED}


def query(expr, legend="", **more):
    """One query of a panel; an empty legend leaves it to Grafana to name the series."""
    return {"expr": expr.replace("@", SELECTOR), "legendFormat": legend or "__auto", **more}


def steps(*pairs):
    """Thresholds: the colour from the beginning, then (value, colour) pairs."""
    first, *rest = pairs
    return [{"color": first, "value": None}] + [{"color": color, "value": value} for value, color in rest]


def panel(kind, title, description, unit, queries, options, width, height, **field):
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps(GREEN)}, **field}
    targets = [
        {"refId": chr(ord("A") + i), "datasource": DATASOURCE, "editorMode": "code", "range": True, **target}
        for i, target in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def stat(title, description, unit, expr, legend="", width=4, text="value", thresholds=None, **field):
    """One number, coloured by its thresholds."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value" if thresholds else "none",
        "graphMode": "none",
        "textMode": text,
        "justifyMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    if thresholds:
        field["thresholds"] = {"mode": "absolute", "steps": steps(*thresholds)}
    return panel("stat", title, description, unit, [query(expr, legend)], options, width, 4, **field)


def series(title, description, unit, *queries, width=8, height=8, look="line", log=None, line_at=None, colors=None, **field):
    """Lines over time. `look` is line, bars or stacked; `log` a base; `line_at` a limit that is drawn; `colors` by name."""
    custom = {
        "drawStyle": "bars" if look == "bars" else "line",
        "lineWidth": 1,
        "fillOpacity": {"line": 0, "bars": 60, "stacked": 30}[look],
        "showPoints": "never",
        "stacking": {"mode": "none" if look == "line" else "normal", "group": "A"},
        "thresholdsStyle": {"mode": "off" if line_at is None else "dashed"},
        "scaleDistribution": {"type": "log", "log": log} if log else {"type": "linear"},
    }
    if line_at is not None:
        field["thresholds"] = {"mode": "absolute", "steps": steps("transparent", (line_at, RED))}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    made = panel("timeseries", title, description, unit, queries, options, width, height, custom=custom, **field)
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name},
         "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for name, color in (colors or {}).items()
    ]
    if look == "bars":
        # A step shorter than $__rate_interval would show one event in several bars.
        made["interval"] = "1m"
    return made


def heatmap(title, description, unit, expr, width=8):
    """The buckets of a histogram over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64,
                  "reverse": False, "fill": "dark-orange"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "unit": unit},
    }
    return panel("heatmap", title, description, unit, [query(expr, "{{le}}", format="heatmap")], options, width, 8)


def table(title, description, *queries, width=8, hide=()):
    """The labels of series that are always 1, one row an instance."""
    options = {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"}
    frames = [{**target, "format": "table", "instant": True, "range": False} for target in queries]
    made = panel("table", title, description, "short", frames, options, width, 8)
    values = [f"Value #{chr(ord('A') + i)}" for i in range(len(queries))]
    dropped = ["Time", "__name__", "job", *values, *(f"{name} {i}" for name in ("Time", "__name__", "job")
                                                     for i in range(1, len(queries) + 1)), *hide]
    made["transformations"] = [
        {"id": "joinByField", "options": {"byField": "instance", "mode": "outer"}},
        {"id": "organize", "options": {"excludeByName": {name: True for name in dropped}}},
    ]
    return made


def text(title, description, content, width=8, height=8):
    """Words in Markdown."""
    return {
        "type": "text",
        "title": title,
        "description": description,
        "gridPos": {"w": width, "h": height},
        "options": {"mode": "markdown", "content": content},
    }


def variable(name, label, values, of_all=".+"):
    """A variable whose values are asked of Prometheus whenever the time range changes."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": of_all,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
    }


JOB = variable("job", "Job", "label_values(strayd_build_info, job)")
INSTANCE = variable("instance", "Instance", 'label_values(strayd_build_info{job=~"$job"}, instance)')
TOPIC = variable(
    "topic", "Features topic", f"label_values(strayd_consumer_lag_records{{{SELECTOR}}}, topic)")
SOURCE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "options": [],
    "refresh": 1,
    "regex": "",
}
MODELS = {
    "name": "Models",
    "datasource": DATASOURCE,
    "enable": True,
    "iconColor": "purple",
    "target": {
        "refId": "models",
        "expr": f"sum by (instance, result) (increase(strayd_promotions_total{{{SELECTOR}, "
                'result=~"promoted|switched|rolled_back|restored"}[$__rate_interval])) > 0',
    },
    "titleFormat": "{{result}}",
    "textFormat": "{{instance}}",
}


def laid_out(rows):
    """Gives the panels of all rows their ids and places; a row is a title and its panels."""
    panels, y = [], 0
    for title, members in rows:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y, tallest = 0, y + 1, 0
        for member in members:
            place = member["gridPos"]
            if x + place["w"] > 24:
                x, y, tallest = 0, y + tallest, 0
            panels.append({**member, "gridPos": {"x": x, "y": y, **place}})
            x, tallest = x + place["w"], max(tallest, place["h"])
        y += tallest
    return [{"id": i, **one} for i, one in enumerate(panels, start=1)]


def dashboard(uid, title, description, rows, variables=(), annotations=()):
    """A whole dashboard."""
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["strayd", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "strayd", "tags": ["strayd"], "asDropdown": False, "icon": "external link",
                   "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": ""}],
        "annotations": {"list": list(annotations)},
        "templating": {"list": [SOURCE, JOB, INSTANCE, *variables]},
        "panels": laid_out(rows),
    }
