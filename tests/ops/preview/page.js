// Draws the panels of DATA, which draw.py has put before this script. Units and colours are Grafana's, roughly.
const COLORS = ["#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#0a9ba5", "#b8860b", "#7a6f5d", "#e05299", "#5a7d2a", "#444"];
const NAMED = { green: "#37872d", yellow: "#cc9d00", orange: "#e0752d", red: "#c4162a", blue: "#3274d9", transparent: "#24292e" };

function scaled(value, units, base) {
  let i = 0;
  while (Math.abs(value) >= base && i < units.length - 1) { value /= base; i++; }
  return [value, units[i]];
}

function number(value, decimals) {
  if (decimals != null) return value.toFixed(decimals);
  if (value === 0) return "0";
  const digits = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return String(+value.toFixed(digits));
}

function time(value, decimals) {
  if (value === 0) return "0 s";
  const of = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
  const [size, unit] = of.find(([size]) => Math.abs(value) >= size) ?? of[of.length - 1];
  return `${number(value / size, decimals)} ${unit}`;
}

function format(unit, value, decimals) {
  if (value == null) return "";
  const si = (units) => { const [v, u] = scaled(value, units, 1000); return `${number(v, decimals)}${u}`; };
  switch (unit) {
    case "percentunit": return `${number(value * 100, decimals)} %`;
    case "s": case "dtdurations": return time(value, decimals);
    case "bytes": { const [v, u] = scaled(value, ["B", "KiB", "MiB", "GiB"], 1024); return `${number(v, decimals)} ${u}`; }
    case "Bps": return si([" B/s", " kB/s", " MB/s"]);
    case "cps": return si([" c/s", "K c/s"]);
    case "recps": return si([" rec/s", "K rec/s", "M rec/s"]);
    default: return si(["", " K", " Mil", " Bil"]);
  }
}

function color(steps, value) {
  const step = [...steps].reverse().find((step) => step.value == null || value >= step.value);
  return NAMED[step.color] ?? step.color;
}

function add(parent, tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text != null) made.textContent = text;
  parent.append(made);
  return made;
}

function stat(box, panel) {
  const defaults = panel.fieldConfig.defaults;
  const small = panel.series.length > 2 ? " small" : "";
  for (const one of panel.series) {
    const last = one.values[one.values.length - 1];
    // A series that has ended isn't shown beside the ones that go on.
    if (last[0] < DATA.to - 3 * DATA.step) continue;
    const mapped = defaults.mappings?.[0]?.options[String(last[1])]?.text;
    const text = panel.options.textMode === "name" ? one.name : mapped ?? format(defaults.unit, last[1], defaults.decimals);
    const made = add(box, "div", `stat${small}`, text);
    if (panel.options.colorMode === "value") made.style.color = color(defaults.thresholds.steps, last[1]);
  }
}

function table(box, panel) {
  const rows = {};
  const dropped = panel.dropped ?? ["__name__", "job"];
  for (const one of panel.series) {
    rows[one.labels.instance] = { ...rows[one.labels.instance], ...one.labels };
  }
  const names = [...new Set(Object.values(rows).flatMap((row) => Object.keys(row)))].filter((name) => !dropped.includes(name));
  const made = add(box, "table", "");
  const head = add(made, "tr", "");
  names.forEach((name) => add(head, "th", "", name));
  for (const row of Object.values(rows)) {
    const line = add(made, "tr", "");
    names.forEach((name) => add(line, "td", "", row[name] ?? ""));
  }
}

// Steps of an axis that make round numbers in its unit.
function increments(unit, decimals) {
  if (decimals === 0) return [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
  if (unit === "bytes") return Array.from({ length: 30 }, (_, i) => 2 ** (i + 10));
  if (unit !== "s") return undefined;
  const small = [-6, -5, -4, -3, -2, -1].flatMap((e) => [1, 2, 5].map((n) => n * 10 ** e));
  return [...small, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];
}

// Powers of ten, eight at most: more would be a grey wall.
function decades(_, __, low, high) {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const step = Math.max(1, Math.ceil((last - first + 1) / 8));
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => 10 ** (first + i * step));
}

// The values of each series on one grid of times.
function aligned(panel) {
  const n = Math.round((DATA.to - DATA.from) / DATA.step) + 1;
  const times = Array.from({ length: n }, (_, i) => DATA.from + i * DATA.step);
  const rows = panel.series.map((one) => {
    const row = new Array(n).fill(null);
    for (const [at, value] of one.values) row[Math.round((at - DATA.from) / DATA.step)] = value;
    return row;
  });
  return [times, rows];
}

function marksAndLimits(steps) {
  return (u) => {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.setLineDash([6, 4]);
    for (const step of steps) {
      const y = u.valToPos(step.value, "y", true);
      if (y < top || y > top + height) continue;
      ctx.strokeStyle = NAMED.red;
      ctx.beginPath(); ctx.moveTo(left, y); ctx.lineTo(left + width, y); ctx.stroke();
    }
    for (const [at, name] of DATA.marks) {
      const x = u.valToPos(at, "x", true);
      ctx.strokeStyle = name === "rolled_back" ? "#c4162a" : "#b877d9";
      ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
    }
    ctx.restore();
  };
}

function series(box, panel, width, height) {
  const { custom, unit, decimals, min, max, thresholds } = panel.fieldConfig.defaults;
  const [times, rows] = aligned(panel);
  const order = rows.map((_, i) => i);
  let shown = rows;
  if (custom.stacking.mode === "normal") {
    const sum = new Array(times.length).fill(0);
    shown = rows.map((row) => row.map((value, i) => (sum[i] += value ?? 0)));
    order.reverse(); // the highest is drawn first, the others over it
  }
  const fixed = Object.fromEntries(panel.fieldConfig.overrides.map((one) => [one.matcher.options, one.properties[0].value.fixedColor]));
  const colorOf = (i) => NAMED[fixed[panel.series[i].name]] ?? COLORS[i % COLORS.length];
  const steps = custom.thresholdsStyle.mode === "off" ? [] : thresholds.steps.filter((step) => step.value != null);
  const isLog = custom.scaleDistribution.type === "log";
  const bars = custom.drawStyle === "bars";
  if (isLog) shown = shown.map((row) => row.map((value) => (value > 0 ? value : null)));
  const all = shown.flat().filter((value) => value != null);
  const range = isLog ? undefined : () => {
    const low = min ?? Math.min(0, ...all), high = max ?? Math.max(...all, ...steps.map((step) => step.value));
    return [low, high > low ? low + (high - low) * 1.05 : low + 1];
  };
  const made = new uPlot({
    width, height,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: isLog ? { distr: 3, log: 10 } : { range } },
    axes: [
      { values: (_, at) => at.map((one) => new Date(one * 1000).toISOString().slice(14, 19)), font: "11px DejaVu Sans", size: 26 },
      { values: (_, at) => at.map((one) => (one == null ? null : format(unit, one, decimals))), font: "11px DejaVu Sans", size: 78, incrs: isLog ? undefined : increments(unit, decimals), splits: isLog ? decades : undefined },
    ],
    series: [{}, ...order.map((i) => ({
      label: panel.series[i].name,
      stroke: colorOf(i),
      width: bars ? 0 : 1.5,
      fill: custom.fillOpacity ? colorOf(i) + (custom.stacking.mode === "normal" ? "ff" : "55") : undefined,
      paths: bars ? uPlot.paths.bars({ size: [0.9, 12] }) : undefined,
      points: { show: !bars && panel.series[i].values.length === 1 },
    }))],
    hooks: { draw: [marksAndLimits(steps)] },
  }, [times, ...order.map((i) => shown[i])], box);
  made.root.style.marginTop = "2px";
  const legend = add(box, "div", "legend");
  panel.series.forEach((one, i) => {
    add(legend, "i", "").style.background = colorOf(i);
    add(legend, "span", "", one.name);
  });
}

function heatmap(box, panel, width, height) {
  const rows = aligned(panel)[1].map((row, i) => ({ le: Number(panel.series[i].labels.le.replace("+Inf", "Infinity")), row }));
  rows.sort((a, b) => a.le - b.le);
  // Buckets of Prometheus hold those below them, too.
  const cells = rows.map(({ row }, i) => row.map((value, j) => Math.max(0, (value ?? 0) - (i ? rows[i - 1].row[j] ?? 0 : 0))));
  const highest = Math.max(...cells.flat());
  const canvas = add(box, "canvas", "");
  [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext("2d");
  ctx.font = "10px DejaVu Sans";
  const [left, bottom] = [70, 18];
  const w = (width - left - 8) / cells[0].length, h = (height - bottom) / rows.length;
  cells.forEach((row, i) => {
    const y = height - bottom - (i + 1) * h;
    ctx.fillStyle = "#24292e";
    const unit = panel.options.yAxis.unit;
    ctx.fillText(rows[i].le === Infinity ? "above" : `to ${format(unit, rows[i].le)}`, 4, y + h / 2 + 4);
    row.forEach((value, j) => {
      if (value <= 1e-9) return;
      const share = Math.sqrt(value / highest);
      ctx.fillStyle = `hsl(${40 - 25 * share} 90% ${88 - 55 * share}%)`;
      ctx.fillRect(left + j * w, y + 0.5, w - 0.5, h - 1);
    });
  });
  ctx.fillStyle = "#24292e";
  for (let part = 0; part <= 4; part++) {
    const at = DATA.from + ((DATA.to - DATA.from) * part) / 4;
    ctx.fillText(new Date(at * 1000).toISOString().slice(14, 19), left + ((width - left - 40) * part) / 4, height - 4);
  }
}

const seconds = (DATA.to - DATA.from).toFixed(0);
const title = add(document.body, "h1", "", `${DATA.title}  `);
add(title, "small", "", `preview, not Grafana: ${seconds} seconds of a test, drawn from a real Prometheus; purple: another model scores, red: rolled back`);
const grid = add(document.body, "div", "");
grid.id = "grid";
const column = (DATA.width - 16) / 24;
for (const panel of DATA.panels) {
  const { x, y, w, h } = panel.gridPos;
  const box = add(grid, "div", panel.type === "row" ? "row" : "panel", panel.type === "row" ? panel.title : null);
  Object.assign(box.style, { left: `${x * column}px`, top: `${y * DATA.row}px`, width: `${w * column - 6}px`, height: `${h * DATA.row - 6}px` });
  if (panel.type === "row") continue;
  add(box, "h2", "", panel.title);
  const [width, height] = [w * column - 16, h * DATA.row - 66];
  if (panel.type === "text") add(box, "pre", "", panel.options.content);
  else if (!panel.series.length) add(box, "div", "none", "no data");
  else ({ stat, table, heatmap, timeseries: series })[panel.type](box, panel, width, height);
}
