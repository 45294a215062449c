// The console: one page with six sections, live by server-sent events.

import { get, listen } from "/console/api.js";
import { draw } from "/console/chart.js";
import { byId, h, show } from "/console/dom.js";
import * as views from "/console/views.js";

const SECTIONS = ["overview", "anomalies", "models", "partitions", "config", "health"];
const ANOMALIES_MAX = 200;
const SAMPLES_MAX = 300;

let status = null;
let version = null;
let samples = [];
let nNew = 0;

const current = () => (SECTIONS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "overview");

function route() {
  const section = current();
  for (const one of SECTIONS) byId(`view-${one}`).hidden = one !== section;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash.slice(1) === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${section === "overview" ? "" : `${section} · `}strayd`;
  if (section === "anomalies") nNew = 0;
  refresh();
}

// Reads what the section in sight needs.
async function refresh() {
  const load = { models, partitions, config }[current()];
  paint();
  try {
    await load?.();
  } catch {
    // The banner says that the server is gone, and what is shown stays.
  }
}

async function models() {
  const all = await get("/api/v1/models");
  byId("no-models").hidden = all.length > 0;
  show(byId("model-orders"), all.length > 0, (some) => (some ? views.modelOrders() : []));
  show(byId("models"), all, (entries) => entries.toReversed().map((entry) => views.model(entry, openModel)));
}

async function openModel(entry, body) {
  try {
    const shown = await get(`/api/v1/models/${entry.version}`);
    show(body, shown, () => views.modelBody(entry, shown));
  } catch (error) {
    body.textContent = error.message;
  }
}

async function partitions() {
  const all = await get("/api/v1/partitions");
  byId("no-partitions").hidden = all.length > 0;
  show(byId("partitions"), all, (some) => (some.length ? views.partitions(some) : []));
}

async function config() {
  show(byId("config"), await get("/api/v1/config"), views.config);
}

function paint() {
  const badge = byId("n-new");
  badge.hidden = nNew === 0;
  badge.textContent = nNew > 99 ? "99+" : String(nNew);
  badge.setAttribute("aria-label", `${nNew} new`);
  if (!status) return;
  const phase = byId("phase");
  phase.textContent = status.ready ? "scoring" : status.phase === "running" ? "waiting" : status.phase;
  phase.className = `badge ${status.ready ? "good" : "warn"}`;
  byId("detector").textContent = status.detector === "strayd" ? "" : status.detector;
  const why = views.why(status);
  byId("why").hidden = !why;
  byId("why").textContent = why;
  const section = current();
  if (section === "overview") {
    byId("figures").replaceChildren(...views.figures(status));
    const series = (key) => samples.map((sample) => ({ time_ms: sample.time_ms, value: sample[key] }));
    draw(byId("chart-score"), series("ratio"), { log: true, name: "Score over threshold" });
    draw(byId("chart-rate"), series("rate"), { name: "Records a second" });
    draw(byId("chart-lag"), series("lag"), { name: "Lag" });
  }
  if (section === "health") byId("health").replaceChildren(...views.health(status, version));
  const none = byId("no-anomalies");
  none.hidden = byId("anomalies").children.length > 0;
  none.textContent = `None since this process started, ${new Date(status.started).toLocaleString()}; ${status.n_scored} records were scored.`;
}

// Puts an anomaly on top; one that comes again stays as it is.
function add(record) {
  const list = byId("anomalies");
  const isKnown = [...list.children].some((item) => item.dataset.id === record.id);
  if (isKnown) return false;
  list.prepend(views.anomaly(record));
  while (list.children.length > ANOMALIES_MAX) list.lastElementChild.remove();
  return true;
}

async function open() {
  const [latest, beats, versions] = await Promise.all([get(`/api/v1/anomalies?limit=${ANOMALIES_MAX}`), get("/api/v1/samples"), get("/version")]);
  latest.toReversed().forEach(add);
  [samples, version] = [beats, versions];
  const banner = byId("banner");
  banner.hidden = true;
  banner.replaceChildren();
  document.body.classList.remove("lost");
  refresh();
}

function lost(why, again) {
  const banner = byId("banner");
  const shown = status ? `What is shown is of ${new Date(status.time).toLocaleTimeString()}.` : "";
  const text = `Disconnected: ${why}. ${shown} ${again ? "" : "Trying again…"}`;
  if (banner.textContent.startsWith(text)) return;
  banner.replaceChildren(h("span", {}, text));
  if (again) banner.append(h("button", { onclick: again }, "Give the token"));
  banner.hidden = false;
  document.body.classList.add("lost");
  byId("phase").textContent = "disconnected";
  byId("phase").className = "badge bad";
}

async function happened(kind, value) {
  if (kind === "anomaly" && add(value) && current() !== "anomalies") nNew += 1;
  if (kind === "status") {
    const hasOtherModel = status?.model?.version !== value.model?.version;
    status = value;
    samples.push({ time_ms: Date.parse(value.time), ratio: value.ratio, rate: value.rate, lag: value.lag });
    samples = samples.slice(-SAMPLES_MAX);
    if (current() === "partitions" || (current() === "models" && hasOtherModel)) refresh();
  }
  paint();
}

window.addEventListener("hashchange", route);
window.addEventListener("resize", paint);
route();
listen({
  event: happened,
  open: () => open().catch((error) => lost(error.message)),
  lost,
});
