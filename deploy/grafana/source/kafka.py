"""Kafka and latency: what is read, what is written, how far behind, how fast."""

from build import TOPIC, dashboard, heatmap, query, series

QUANTILE = "histogram_quantile({}, sum by (le) (rate(strayd_{}_bucket{{@}}[$__rate_interval])))"


def quantiles(name):
    return [query(QUANTILE.format(q, name), legend) for q, legend in [(0.5, "median"), (0.9, "90 %"), (0.99, "99 %")]]


IN = [
    series("Lag by partition", "Records between settled offset and head, as librdkafka reports it every 5 s. Growing for minutes: more lanes or "
           "machines. One partition alone: a key that has most of the records.", "short",
           query('sum by (topic, partition) (strayd_consumer_lag_records{@, topic=~"$topic"})', "{{topic}} {{partition}}"), min=0),
    series("Read", "Records read from the features topic, by instance.", "recps",
           query("rate(strayd_records_consumed_total{@}[$__rate_interval])", "{{instance}}"), min=0),
    series("Payload read", "Bytes a second, by instance.", "Bps",
           query("rate(strayd_consumed_bytes_total{@}[$__rate_interval])", "{{instance}}"), min=0),
    series("Rejected by reason", "Records that went to the dead-letter topic; docs/RECORDS.md says what each reason means.", "recps",
           query("sum by (reason) (rate(strayd_records_rejected_total{@}[$__rate_interval]))"), look="stacked", min=0),
    series("Skipped by reason", "Passed over unscored: tombstones, and records with fewer than half of their features.", "recps",
           query("sum by (reason) (rate(strayd_records_skipped_total{@}[$__rate_interval]))"), look="stacked", min=0),
    series("Partitions", "Partitions that each instance has. Their sum should be what the topic has.", "short",
           query("strayd_partitions_assigned{@}", "{{instance}}"), min=0, decimals=0),
    series("Rebalances", "Assignments and revocations; offsets that were settled after their partition had left: their records come again "
           "elsewhere; records that retention had removed before they were read.", "short",
           query("sum by (instance) (increase(strayd_rebalances_total{@}[$__rate_interval]))", "{{instance}} rebalances"),
           query("sum by (instance) (increase(strayd_late_offset_stores_total{@}[$__rate_interval]))", "{{instance}} late offsets"),
           query("sum by (instance) (increase(strayd_records_lost_total{@}[$__rate_interval]))", "{{instance}} lost records"),
           look="bars", min=0),
    series("Rewound", "Records scored again, silently, because a partition came: they restore its threshold.", "recps",
           query("sum by (instance) (rate(strayd_records_rewound_total{@}[$__rate_interval]))", "{{instance}}"), min=0, width=16),
]

OUT = [
    series("Written by topic", "Records handed to the producer, a second.", "recps",
           query("sum by (topic) (rate(strayd_records_produced_total{@}[$__rate_interval]))"), min=0),
    series("Errors by reason", "Records that the producer refused or lost. The lane ends at the first, and the process with it: restarts show it "
           "better.", "short", query("sum by (reason) (increase(strayd_produce_errors_total{@}[$__rate_interval]))"), look="bars", min=0),
    series("Batches in flight", "Batches whose output is not acknowledged yet. At pipeline.inflight_max all the time: the broker is slow.", "short",
           query("strayd_inflight_batches{@}", "{{instance}} lane {{lane}}"), min=0, decimals=0),
    series("Transactions", "With kafka.delivery = exactly_once: transactions a second by how they ended. The records of an aborted one are read again.",
           "short", query("sum by (result) (rate(strayd_transactions_total{@}[$__rate_interval]))"), min=0),
    series("Waiting for output", "Lanes that wait because what they have written is not acknowledged, mean of the time: they read nothing "
           "meanwhile.", "short", query("sum by (instance) (rate(strayd_output_wait_seconds_total{@}[$__rate_interval]))", "{{instance}}"), min=0),
]

LATENCY = [
    series("From event to settled", "Event time of a batch's last record to the acknowledgement of its output. A backlog is in it, and so are clocks "
           "that differ.", "s", *quantiles("end_to_end_latency_seconds"), log=10),
    heatmap("Latency", "Batches by the time from event to settled.", "s",
            "sum by (le) (increase(strayd_end_to_end_latency_seconds_bucket{@}[$__rate_interval]))"),
    series("Time to score a batch", "Matrix work only: decoding and publishing are not in it.", "s", *quantiles("score_duration_seconds")),
    series("Records of a batch", "Mean of the batches. At pipeline.rows_max all the time the lane is at its limit.", "short",
           query("sum by (instance) (rate(strayd_batch_records_sum{@}[$__rate_interval])) / "
                 "sum by (instance) (rate(strayd_batch_records_count{@}[$__rate_interval]))", "{{instance}}"), min=0),
    series("Time a record", "Scoring time over records: what one costs.", "s",
           query("sum by (instance) (rate(strayd_score_duration_seconds_sum{@}[$__rate_interval])) / "
                 "sum by (instance) (rate(strayd_records_scored_total{@}[$__rate_interval]))", "{{instance}}"), min=0, width=16),
]

DASHBOARD = dashboard(
    "strayd-kafka", "strayd / Kafka and latency", "Partitions, lag, what is read and written, and how long it takes.",
    [("In", IN), ("Out", OUT), ("Latency", LATENCY)], variables=[TOPIC])
