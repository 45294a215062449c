"""Model: which one scores, how rounds end, whether it still sees, and whether the stream has left it."""

from build import GREEN, MODELS, RED, YELLOW, dashboard, query, series, stat

NOW = [
    stat("Version", "Version of the model that scores, by instance.", "short", "strayd_model_info{@}", "v{{version}}", text="name"),
    stat("Age", "Time since the training of the oldest model ended.", "dtdurations", "max(strayd_model_age_seconds{@})",
         thresholds=(GREEN, (86_400, YELLOW))),
    stat("Canaries now", "Planted and confirmed anomalies that the worst model finds at the target; many are subtle, so a fall says more "
         "than the number.", "percentunit", "min(strayd_canary_recall_ratio{@})", decimals=0),
    stat("Drift now", "Signs of drift over their limits, the worst instance; 1 is drift.", "short", "max(strayd_drift_statistic{@})",
         decimals=2, thresholds=(GREEN, (0.7, YELLOW), (1, RED))),
    stat("Promotions", "Stopped after too many rollbacks: nothing is promoted until a person steps in.", "short",
         "max(strayd_promotions_stopped{@})", thresholds=(GREEN, (1, RED)),
         mappings=[{"type": "value", "options": {"0": {"text": "open", "index": 0}, "1": {"text": "stopped", "index": 1}}}]),
    stat("Rounds in the last day", "Training rounds that ended well.", "short",
         'sum(increase(strayd_trainings_total{@, result="done"}[1d]))', decimals=0),
]

ROUNDS = [
    series("What became of models", "In each step of the graph. The gate promotes, keeps the champion (the challenger was no better) or rejects; "
           "refreshed: same weights, scores standardised anew; rolled_back: the watch went back.", "short",
           query("sum by (result) (increase(strayd_promotions_total{@}[$__rate_interval]))"), look="bars", min=0, width=12),
    series("Rounds", "Training rounds by result. `failed` needs the log; the old model goes on scoring.", "short",
           query("sum by (result) (increase(strayd_trainings_total{@}[$__rate_interval]))"), look="bars", min=0, width=12),
    series("Age of the model", "It falls to 0 with each new or refreshed model.", "s", query("strayd_model_age_seconds{@}", "{{instance}}"),
           min=0),
    series("Time of a round", "Mean of the rounds of an hour, reading of the history included.", "s",
           query("sum by (instance) (rate(strayd_training_duration_seconds_sum{@}[1h])) / "
                 "sum by (instance) (rate(strayd_training_duration_seconds_count{@}[1h]))", "{{instance}}"), min=0),
    series("Rows of a round", "Rows that the last round trained on. 0: none since the start.", "short",
           query("strayd_training_rows{@}", "{{instance}}"), min=0),
]

SIGHT = [
    series("Canaries found", "Share of planted and confirmed anomalies that the model that scores finds at the target. A fall: it has learnt to "
           "overlook.", "percentunit", query("strayd_canary_recall_ratio{@}", "{{instance}}"), min=0, max=1),
    series("Explained variance", "Share of the held-out variance that the last trained model reconstructs. A fall: features no longer follow each "
           "other.", "percentunit", query("strayd_explained_variance_ratio{@}", "{{instance}}"), min=0, max=1),
    series("Drift", "The smaller of two signs of drift over their limits; at 1 a round is asked for. found: how often drift was found.", "short",
           query("strayd_drift_statistic{@}", "{{instance}}"),
           query("sum(increase(strayd_drifts_total{@}[$__rate_interval]))", "found"), min=0, line_at=1),
    series("Latents active", "Active latents of a record, mean of the last batch.", "short",
           query("strayd_latents_active_mean{@}", "{{instance}}"), min=0),
    series("Latents dead", "Share of the latents that no held-out row activated in the last training. Near 1 the model is wider than its data.",
           "percentunit", query("strayd_latents_dead_ratio{@}", "{{instance}}"), min=0, max=1),
    series("Swap", "How long the last change of model held up a lane.", "s", query("strayd_model_swap_seconds{@}", "{{instance}}"), min=0),
]

DASHBOARD = dashboard(
    "strayd-model", "strayd / Model", "The model that scores, the rounds that make the next one, and whether it still fits the stream.",
    [("Now", NOW), ("Rounds and the gate", ROUNDS), ("Sight", SIGHT)], annotations=[MODELS])
