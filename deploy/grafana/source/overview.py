"""Overview: whether all is well, and where to look if it isn't."""

from build import GREEN, RED, SEVERITIES, TOPIC, YELLOW, dashboard, query, series, stat, table

NOW = [
    stat("Alerts firing", "Alerts of strayd.rules.yml that fire; each has a page in docs/runbooks.", "short",
         'count(ALERTS{@, alertname=~"Strayd.*", alertstate="firing"}) or vector(0)', thresholds=(GREEN, (1, RED))),
    stat("Instances that score", "Instances on which a model scores. Fewer than there are: /readyz of the others says why.",
         "short", "sum(strayd_model_loaded{@})", thresholds=(RED, (1, GREEN))),
    stat("Scored", "Records scored a second, all instances.", "recps",
         "sum(rate(strayd_records_scored_total{@}[$__rate_interval]))"),
    stat("Anomalies in the last hour", "Published anomalies over scored records. The target is the share while all is well.",
         "percentunit", "sum(increase(strayd_anomalies_total{@}[1h])) / sum(increase(strayd_records_scored_total{@}[1h]))",
         decimals=2),
    stat("Target", "Share of records that may alert while all is well.", "percentunit", "max(strayd_target_alert_rate{@})",
         decimals=2),
    stat("Records waiting", "Records between the settled offsets and the heads of the partitions.", "short",
         'sum(strayd_consumer_lag_records{@, topic=~"$topic"})', thresholds=(GREEN, (10_000, YELLOW), (100_000, RED))),
    stat("Age of the oldest model", "Time since its training ended; a round is due every training.retrain_interval.", "dtdurations",
         "max(strayd_model_age_seconds{@})", thresholds=(GREEN, (86_400, YELLOW))),
    stat("Until the first model", "Estimate while warming up; 0 when a model scores, -1 when unknown.", "s",
         "max(strayd_warmup_eta_seconds{@})", thresholds=(RED, (0, GREEN), (0.001, YELLOW))),
    stat("Latency, 99 %", "Event time to settled output: one record in a hundred takes longer.", "s",
         "histogram_quantile(0.99, sum by (le) (rate(strayd_end_to_end_latency_seconds_bucket{@}[$__rate_interval])))",
         thresholds=(GREEN, (5, YELLOW), (30, RED))),
    stat("Incidents open", "Incidents that are open in the partitions of all instances.", "short", "sum(strayd_incidents_open{@})"),
    stat("Drift", "Signs of drift over their limits, the worst instance: at 1 the stream has left what the model knows.", "short",
         "max(strayd_drift_statistic{@})", decimals=2, thresholds=(GREEN, (0.7, YELLOW), (1, RED))),
    stat("Restarts in the last hour", "How often instances were started anew. More than you know of: see the last line of their logs.",
         "short", "sum(changes(strayd_start_time_seconds{@}[1h]))", thresholds=(GREEN, (3, RED)), decimals=0),
]

FLOW = [
    series("Records", "What became of the records, a second. Rewound ones are scored again, silently, to restore a threshold.",
           "recps",
           query("sum(rate(strayd_records_consumed_total{@}[$__rate_interval]))", "read"),
           query("sum(rate(strayd_records_scored_total{@}[$__rate_interval]))", "scored"),
           query("sum(rate(strayd_records_rejected_total{@}[$__rate_interval]))", "rejected"),
           query("sum(rate(strayd_records_skipped_total{@}[$__rate_interval]))", "skipped"),
           query("sum(rate(strayd_records_rewound_total{@}[$__rate_interval]))", "rewound")),
    series("Anomalies by severity", "Published anomalies a second, by severity; which depends on the p-value and the target.", "cps",
           query("sum by (severity) (rate(strayd_anomalies_total{@}[$__rate_interval]))"), look="stacked", colors=SEVERITIES),
    series("Waiting by topic", "Records between settled offset and head. Growing for minutes: more lanes or machines.", "short",
           query('sum by (topic) (strayd_consumer_lag_records{@, topic=~"$topic"})'), min=0),
]

PROCESS = [
    series("Threads alive", "Lanes and trainers that run, of all instances. Lanes begin with the first model.", "short",
           query("sum(strayd_lane_alive{@})", "lanes"), query("sum(strayd_trainer_alive{@})", "trainers"),
           query("sum(strayd_trainer_leader{@})", "trainers that lead"), min=0, decimals=0),
    series("Since the last turn of a lane", "At 60 s /healthz fails, and the supervisor restarts the process.", "s",
           query("time() - (strayd_lane_last_progress_timestamp_seconds{@} > 0)", "{{instance}} lane {{lane}}"), min=0, line_at=60),
    series("Running for", "Time since each instance started.", "s",
           query("time() - strayd_start_time_seconds{@}", "{{instance}}"), min=0),
    series("CPU", "Cores in use, mean of five minutes: the system counts whole seconds.", "short",
           query("rate(process_cpu_seconds_total{@}[5m])", "{{instance}}"), min=0),
    series("Memory", "Resident memory. Growth over days is a fault.", "bytes",
           query("process_resident_memory_bytes{@}", "{{instance}}"), min=0),
    series("Files and threads", "Open files and sockets, and threads, librdkafka's included.", "short",
           query("process_open_fds{@}", "{{instance}} files"), query("process_threads{@}", "{{instance}} threads"), min=0),
    series("Reloads", "Reloads of the configuration by result. Any but `applied`: the old one is in force, whole, and the log says why.", "short",
           query("sum by (result) (increase(strayd_config_reloads_total{@}[$__rate_interval]))"), look="bars", min=0),
    table("Versions", "Binary, BLAS library with the kernel it chose, configuration (its SHA-256) and model of each instance.",
          query("sum by (instance, version, revision) (strayd_build_info{@})"),
          query("sum by (instance, library) (strayd_blas_info{@})"),
          query('sum by (instance, configuration) (label_replace(strayd_config_info{@}, "configuration", "$1", "version", "(.+)"))'),
          query('sum by (instance, model) (label_replace(strayd_model_info{@}, "model", "$1", "version", "(.+)"))'), width=12),
    stat("BLAS threads", "Threads of one matrix product. Anything but 1 is slower at strayd's sizes.", "short",
         "max(strayd_blas_threads{@})", thresholds=(GREEN, (2, RED))),
]

DASHBOARD = dashboard(
    "strayd-overview", "strayd / Overview", "Whether strayd is well: what comes in, what is anomalous, and its processes.",
    [("Now", NOW), ("Flow", FLOW), ("Processes", PROCESS)], variables=[TOPIC])
