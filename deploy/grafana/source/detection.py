"""Detection: scores against the threshold, anomalies, what is withheld, and whether p-values mean what they say."""

from build import MODELS, SEVERITIES, dashboard, heatmap, query, series, text

RATIO = "histogram_quantile({}, sum by (le) (rate(strayd_score_ratio_bucket{{@}}[$__rate_interval])))"
LOW = ('sum(increase(strayd_p_value_bucket{{@, le="{0}"}}[15m])) / '
       "sum(increase(strayd_p_value_count{{@}}[15m])) / {0}")

SCORES = [
    series("Score over threshold", "Quantiles of score.ratio. Above 1 a record is anomalous: the 99.9 % line lives near it at the "
           "default target, and a median that moves towards it is drift.", "short",
           *(query(RATIO.format(q), name) for q, name in [(0.5, "median"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")]),
           log=10, line_at=1, width=12),
    heatmap("Scores", "Records by score.ratio; the row that ends at 1.0 is the last of the ordinary.", "short",
            "sum by (le) (increase(strayd_score_ratio_bucket{@}[$__rate_interval]))", width=12),
    series("Threshold", "Raw score at which a record is anomalous, latest of each instance. It moves with the stream and with each model.",
           "short", query("strayd_threshold{@}", "{{instance}}"), log=10),
    series("Anomalies against the target", "Published anomalies over scored records, a quarter of an hour at a time, beside the share "
           "that may alert while all is well.", "percentunit",
           query("sum(increase(strayd_anomalies_total{@}[15m])) / sum(increase(strayd_records_scored_total{@}[15m]))", "anomalies"),
           query("max(strayd_target_alert_rate{@})", "target"), min=0),
    series("Values out of the ordinary", "For each scored record: values missing, values further than 50 deviations off, and fields that are "
           "no features.", "short",
           *(query(f"sum(rate(strayd_{name}_total{{@}}[$__rate_interval])) / sum(rate(strayd_records_scored_total{{@}}[$__rate_interval]))",
                   legend) for name, legend in [("values_missing", "missing"), ("values_clipped", "clipped"), ("fields_unknown", "unknown")]),
           min=0),
]

WHERE = """A metric has no label for a feature or an entity: there may be thousands. Each **anomaly record** has them, flat:

- `top_feature` and `top_feature_contribution`: count them in whatever reads the anomalies topic
- `entity`, `incident.id`: what is odd together
- `summary`: the record in a sentence

For one record: `strayd explain --record TOPIC/PARTITION/OFFSET`. docs/RECORDS.md describes every field."""

ANOMALIES = [
    series("Anomalies by severity", "Published anomalies, in each step of the graph: low from the target on, medium, high and critical each ten "
           "times rarer.", "short",
           query("sum by (severity) (increase(strayd_anomalies_total{@}[$__rate_interval]))"), look="bars", min=0, colors=SEVERITIES),
    series("Withheld by reason", "Anomalies that were found and not published: by a rule, maintenance, a feature's limits or the rate limit.",
           "short", query("sum by (reason) (increase(strayd_alerts_suppressed_total{@}[$__rate_interval]))"), look="bars", min=0),
    series("Incidents open", "Incidents that are open in the partitions of each instance. Without end: something lasts, or never closes.",
           "short", query("strayd_incidents_open{@}", "{{instance}}"), min=0, decimals=0),
    series("Feedback", "Opinions on anomalies by what became of them. Any but `applied`: the log says which, and why.", "short",
           query("sum by (result) (increase(strayd_feedback_total{@}[$__rate_interval]))"), look="bars", min=0),
    text("Top features", "Why there is no chart of features here.", WHERE, width=16),
]

CALIBRATION = [
    series("p-values against their promise", "Observed share of p-values up to each level, over the level. a quarter of an hour at a time. "
           "1 is right; above, records are odder than the model says. The rare levels scatter most.", "short",
           *(query(LOW.format(level), f"up to {level}") for level in ("0.001", "0.01", "0.1")), log=10, line_at=1, width=12),
    series("Calibration error since the start", "Distance of the share of p-values up to 0.01 from 0.01, over 0.01; 0 before 1000 records. Real anomalies "
           "count as error here.", "percentunit", query("strayd_calibration_error_ratio{@}", "{{instance}}"), min=0, width=12),
]

DASHBOARD = dashboard(
    "strayd-detection", "strayd / Detection", "What is scored, what is anomalous, what is withheld, and whether p-values hold.",
    [("Scores", SCORES), ("Anomalies", ANOMALIES), ("Calibration", CALIBRATION)], annotations=[MODELS])
