// Draws a line over the last five minutes as SVG; no library.

const SVG = "http://www.w3.org/2000/svg";
const SPAN_MS = 300_000;
const PAD = { left: 44, right: 10, top: 10, bottom: 20 };

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export const short = (value) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 0.01 || size === 0 ? Number(value.toPrecision(3)).toString() : value.toExponential(1);
};

// `points`: [{ time_ms, value }], oldest first. `log`: powers of ten, with a limit at 1.
export function draw(svg, points, { log = false, name }) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width) return;
  const seen = points.filter((point) => point.value !== null);
  const now = points.length ? points[points.length - 1].time_ms : Date.now();
  const highest = Math.max(log ? 2 : 1, ...seen.map((point) => point.value));
  const lowest = log ? Math.max(0.001, Math.min(0.1, ...seen.map((point) => point.value))) : 0;
  const at = (value) => (log ? Math.log10(Math.max(value, lowest)) : value);
  const inner = height - PAD.top - PAD.bottom;
  const y = (value) => PAD.top + inner * (1 - (at(value) - at(lowest)) / (at(highest) - at(lowest) || 1));
  const x = (time) => PAD.left + (width - PAD.left - PAD.right) * Math.max(0, 1 - (now - time) / SPAN_MS);
  const marks = log
    ? [0.001, 0.01, 0.1, 1, 10, 100, 1000, 10000].filter((mark) => mark >= lowest && mark <= highest)
    : [0, highest / 2, highest];
  const parts = marks.flatMap((mark) => [
    shape("line", { class: log && mark === 1 ? "limit" : "grid", x1: PAD.left, x2: width - PAD.right, y1: y(mark), y2: y(mark) }),
    shape("text", { class: "axis", x: PAD.left - 6, y: y(mark) + 4, "text-anchor": "end" }, short(mark)),
  ]);
  parts.push(shape("text", { class: "axis", x: PAD.left, y: height - 4 }, "5 min ago"));
  parts.push(shape("text", { class: "axis", x: width - PAD.right, y: height - 4, "text-anchor": "end" }, "now"));
  if (log) parts.push(shape("text", { class: "axis limit-name", x: PAD.left + 6, y: y(1) - 6 }, "threshold"));
  // A gap in time, or a second in which nothing was scored, is a gap in the line.
  let path = "";
  let last = null;
  for (const point of points) {
    if (point.value === null) continue;
    const follows = last !== null && point.time_ms - last < 5000;
    path += `${follows ? "L" : "M"}${x(point.time_ms).toFixed(1)} ${y(point.value).toFixed(1)}`;
    last = point.time_ms;
  }
  parts.push(shape("path", { class: "line", d: path }));
  for (const point of seen) {
    const isHigh = log && point.value > 1;
    const isLone = seen.length === 1;
    if (isHigh || isLone) parts.push(shape("circle", { class: isHigh ? "high" : "line-dot", cx: x(point.time_ms), cy: y(point.value), r: 3.5 }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
  const lately = seen.length ? `${short(seen[seen.length - 1].value)} now, ${short(Math.max(...seen.map((point) => point.value)))} at most` : "nothing yet";
  svg.setAttribute("aria-label", `${name}: ${lately}`);
}
