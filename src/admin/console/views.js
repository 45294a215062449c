// What each section shows, made from what the API says.

import { short } from "/console/chart.js";
import { h, pairs, table, value, when } from "/console/dom.js";
import { name, opinions, order } from "/console/orders.js";

const share = (part) => h("span", { class: "share" }, h("meter", { min: 0, max: 1, value: part, "aria-label": "share of the score" }), ` ${(100 * part).toFixed(0)} %`);
const percent = (part) => (part === null ? null : `${short(100 * part)} %`);
const since = (text) => {
  const seconds = (Date.now() - new Date(text)) / 1000;
  if (seconds < 90) return `${Math.max(0, seconds).toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return seconds < 129600 ? `${(seconds / 3600).toFixed(0)} h` : `${(seconds / 86400).toFixed(0)} d`;
};

export function figures(status) {
  const { model, alert_rate: alerts, target_alert_rate: target } = status;
  const entries = [
    ["Records a second", short(status.rate), `${short(status.n_scored)} since the start`],
    ["Lag", short(status.lag), "records"],
    ["Highest score", status.ratio === null ? "–" : `${short(status.ratio)} ×`, status.ratio === null ? "nothing was scored just now" : "the threshold"],
    ["Threshold", short(status.threshold), "raw score"],
    ["Alert rate, 5 min", percent(alerts) ?? "–", `target ${percent(target) ?? "–"}`],
    ["Published", short(status.n_published), "anomalies since the start"],
    ["Incidents", status.incidents_open, "open"],
    ["Model", model ? `version ${model.version}` : "none yet", model ? `${since(model.trained_at)} old` : "it is being made"],
  ];
  return entries.map(([title, text, more]) => h("div", {}, h("dt", {}, title), h("dd", {}, text, h("small", {}, more))));
}

// Why nothing is scored, in sentences; none when all is well.
export function why(status) {
  const reasons = [status.stuck, status.phase === "running" ? null : status.reason, ...(status.waiting_for ?? []), ...(status.notes ?? [])];
  if (status.promotions_stopped) reasons.push("promotions are stopped until somebody promotes, rolls back or unpins");
  const eta = status.eta_seconds ? ` (about ${short(status.eta_seconds)} s)` : "";
  return reasons.filter(Boolean).map((reason) => `${reason}${eta}`).join(" · ");
}

export function anomaly(record) {
  const { score } = record;
  const severity = score.severity ?? "low";
  const summary = h(
    "summary",
    {},
    h("span", { class: `severity ${severity}` }, severity),
    h("span", { class: "ratio" }, `${short(score.ratio)} ×`),
    h("span", { class: "what" }, record.summary),
    h("span", { class: "meta" }, record.entity === null ? "" : `${record.entity} · `, when(record.event_time)),
  );
  const details = h("details", { class: "item", "data-id": record.id }, summary);
  // Hundreds are listed and few are opened.
  details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(reasons(record)), { once: false });
  return details;
}

function reasons(record) {
  const { score, source } = record;
  const features = record.features.map((feature) => [
    feature.name,
    h("strong", {}, feature.missing ? "missing" : value(feature.actual)),
    value(feature.expected),
    `${feature.residual_z > 0 ? "+" : "−"}${short(Math.abs(feature.residual_z))} σ`,
    share(feature.contribution),
  ]);
  const patterns = record.patterns.map((pattern) => [
    name(pattern.latent, pattern.name),
    pattern.role,
    short(pattern.activation),
    short(pattern.usual),
    share(pattern.contribution),
  ]);
  const facts = [
    ["Score", `${short(score.raw)}, threshold ${short(score.threshold)}, p-value ${score.p_value.toExponential(1)}`],
    ["Record", `${source.topic} / ${source.partition} / ${source.offset}`],
    ["Model", `version ${record.model.version}`],
    ["Incident", record.incident ? `${record.incident.state}, ${record.incident.n_records} records` : "none"],
    ["Unexplained", percent(record.unexplained)],
  ];
  return h(
    "div",
    { class: "body" },
    opinions(record),
    table("What was measured, and what was expected", ["Feature", "Actual", "Expected", "Deviation", "Share"], features),
    patterns.length ? table("Patterns that are not as usual", ["Pattern", "Is", "Now", "Usually", "Share"], patterns) : null,
    h("dl", { class: "table" }, ...pairs(facts)),
    h("details", { class: "raw" }, h("summary", {}, "The record as it was published"), h("pre", { tabindex: 0 }, JSON.stringify(record, null, 2))),
  );
}

export const modelOrders = () => [
  order("Retrain now", { command: "retrain" }, "Train a round now? The gate judges what comes of it."),
  order("Roll back", { command: "rollback" }, "Let the model score that the current one came from?"),
  order("Pin the current", { command: "pin" }, "Pin the model that scores? Nothing is promoted or rolled back by itself any more."),
  order("Unpin", { command: "unpin" }, "Let promotions go on?"),
];

export function model(entry, open) {
  const marks = [entry.current && "scores", entry.pinned && "pinned", !entry.current && entry.promoted && "scored before"].filter(Boolean);
  const summary = h(
    "summary",
    {},
    h("span", { class: "version" }, `Version ${entry.version}`),
    ...marks.map((mark) => h("span", { class: mark === "scores" ? "badge good" : "badge" }, mark)),
    h("span", { class: "what" }, entry.refused ? `refused: ${entry.refused}` : [entry.decision, `trained: ${entry.reason.replaceAll("_", " ")}`].filter(Boolean).join(", ")),
    entry.refused ? null : h("span", { class: "meta" }, entry.parent === null ? "no parent · " : `from version ${entry.parent} · `, when(entry.trained_at)),
  );
  const body = h("div", { class: "body" }, "Reading…");
  const details = h("details", { class: "item", "data-version": entry.version }, summary, body);
  details.addEventListener("toggle", () => details.open && open(entry, body));
  return details;
}

export function modelBody(entry, shown) {
  const { lineage } = shown;
  const decision = lineage.decision ?? {};
  const promote = order(`Promote version ${entry.version}`, { command: "promote", version: entry.version }, `Let version ${entry.version} score from now on, whatever the gate thought of it?`, true);
  const facts = [
    ["Trained", when(shown.trained_at)],
    ["Rows", `${short(lineage.n_rows_train)} trained on, ${short(lineage.n_rows_holdout)} held out`],
    ["Source", lineage.source],
    ["Form", `${shown.kind}, ${shown.features.length} features, ${shown.n_latents} patterns, ${shown.k} active`],
    ["Hash", h("code", {}, shown.hash.slice(0, 16))],
    ["The gate", decision.ending ? `${decision.ending}: ${decision.reason}` : "did not judge it"],
  ];
  const checks = (decision.checks ?? []).map((check) => [
    check.name,
    short(check.champion),
    short(check.challenger),
    short(check.limit),
    check.passed ? "yes" : h("strong", {}, "no"),
  ]);
  const latents = shown.latents.map((latent) => [
    h("div", {}, name(latent.id, latent.label ?? latent.name), latent.label ? h("small", {}, latent.name) : null),
    percent(latent.importance),
    percent(latent.frequency),
  ]);
  return [
    entry.current ? null : h("div", { class: "actions" }, promote),
    h("dl", { class: "table" }, ...pairs(facts)),
    checks.length ? table("What the gate looked at", ["Check", "Champion", "This one", "Limit", "Holds"], checks) : null,
    table("Patterns that it has learnt, the most important first", ["Pattern", "Importance", "Fires in"], latents),
  ].filter(Boolean);
}

export const partitions = (all) => [
  table(
    "Partitions",
    ["Topic", "Partition", "Lane", "Settled up to", "Lag", "Threshold"],
    all.map((one) => [one.topic, one.partition, one.lane, one.next_offset ?? "–", one.lag, short(one.threshold)]),
  ),
];

export function config(all) {
  const flat = (prefix, entries) =>
    Object.entries(entries).flatMap(([key, one]) =>
      one !== null && typeof one === "object" && !Array.isArray(one) && Object.keys(one).length ? flat(`${prefix}${key}.`, one) : [[prefix + key, one]],
    );
  const text = (one) => h("code", {}, typeof one === "string" ? one : one === null ? "not set" : JSON.stringify(one));
  return Object.entries(all).map(([section, entries]) => {
    const isGroup = entries !== null && typeof entries === "object" && !Array.isArray(entries);
    const rows = isGroup ? flat("", entries) : [[section, entries]];
    return h("details", { class: "item", open: section === "kafka" || section === "input" }, h("summary", {}, h("span", { class: "version" }, section), h("span", { class: "meta" }, `${rows.length} ${rows.length === 1 ? "key" : "keys"}`)),
      h("dl", { class: "table body" }, ...pairs(rows.map(([key, one]) => [h("code", {}, key), text(one)]))));
  });
}

export function health(status, version) {
  const lines = (all) => (all?.length ? h("ul", {}, ...all.map((line) => h("li", {}, line))) : "nothing");
  return pairs([
    ["Phase", status.phase + (status.reason ? `: ${status.reason}` : "")],
    ["Ready", status.ready ? "yes" : "no"],
    ["Waits for", lines(status.waiting_for)],
    ["Notes", lines(status.notes)],
    ["Progress", status.stuck ?? "every lane makes progress"],
    ["Promotions", status.promotions_stopped ? "stopped until somebody steps in" : "go on"],
    ["Since the start", `${status.n_scored} records scored, ${status.n_alerts} anomalous, ${status.n_published} published`],
    ["Started", when(status.started)],
    ["Detector", status.detector],
    ...Object.entries(version ?? {}),
  ]);
}
