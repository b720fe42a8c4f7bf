"use strict";
// Text from runs reaches the page only as text nodes, attribute values, or Plotly strings that went through esc().
const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const byId = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// Plotly reads a little HTML in its strings
const esc = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const cut = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
const unique = (values) => [...new Set(values)];
const percent = (value) => (value * 100).toFixed(1) + " %";
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const compareText = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

function remember(key, value) {
  try {
    if (value === undefined) return JSON.parse(sessionStorage.getItem("kdrobust " + key));
    sessionStorage.setItem("kdrobust " + key, JSON.stringify(value));
  } catch (error) {
    // storage may be forbidden for files; then nothing is remembered
  }
  return null;
}

const reasonsOf = (run) => (run.flags.length ? "Not to be trusted: " + run.flags.join("; ") : "");
const dagger = (run) => (run.flags.length ? " †" : "");
const figureText = (figure, run) => (figure ? percent(figure.value) + dagger(run) : "");
const intervalText = (figure) => (figure && figure.low !== undefined ? (figure.low * 100).toFixed(1) + " to " + percent(figure.high) : "");

function flagNode(run) {
  return run.flags.length ? el("abbr", { class: "flag", title: reasonsOf(run), "aria-label": reasonsOf(run), tabindex: 0 }, " †") : null;
}

const shortKey = (key) => key.split("@")[0].split(".").pop();

// A run's label says what sets it apart from the others, and is unique
const LABELS = (() => {
  const students = RUNS.filter((run) => !run.teacher);
  const names = unique(students.map((run) => run.name));
  const seeds = unique(students.map((run) => run.seed));
  // where many things vary, a name and the columns say most of it
  const shown = (key) => key !== "seed" && (DATA.swept.length <= 4 || !/^(method|data|threat.*|model@.*|.*\.(checkpoint|outputs))$/.test(key));
  const parts = (run) => [
    run.teacher || names.length > 1 || !run.own.length ? run.name : "",
    ...run.own.filter(shown).slice(0, 6).map((key) => shortKey(key) + "=" + cut(run.settings[key], 40)),
    seeds.length > 1 && !run.teacher && run.seed !== null && !/seed \d+$/.test(run.name) ? "seed " + run.seed : "",
  ];
  let labels = RUNS.map((run) => unique(parts(run).filter(Boolean)).join(", ") || run.name);
  const further = [(run) => run.split, (run) => run.threat, (run) => run.folder.split("/").slice(-2).join("/"), (run) => "#" + run.id];
  for (const more of further) {
    const values = {};
    labels.forEach((label, index) => (values[label] ||= new Set()).add(more(RUNS[index])));
    labels = labels.map((label, index) => {
      const addition = more(RUNS[index]);
      return values[label].size > 1 && addition ? label + " (" + addition + ")" : label;
    });
  }
  return labels;
})();
const labelOf = (run) => LABELS[run.id] + (run.elsewhere ? " (another folder)" : "");

function choice(name, key, options, value, change, long) {
  // options: [value, text]
  const select = el("select", { "data-key": key, onchange: () => { remember(key, select.value); change(); } });
  for (const [each, text] of options) select.append(el("option", { value: each }, cut(text, 150)));
  const values = options.map(([each]) => String(each));
  const before = remember(key);
  select.value = before !== null && values.includes(before) ? before : values.includes(String(value)) ? value : values[0];
  return { node: el("label", { class: long ? "long" : null }, name, select), get value() { return select.value; } };
}

function tick(name, key, value, change) {
  const box = el("input", { type: "checkbox", "data-key": key, onchange: () => { remember(key, box.checked); change(); } });
  const before = remember(key);
  box.checked = before === null ? value : before === true;
  return { node: el("label", { class: "check" }, box, name), get value() { return box.checked; } };
}

function empty(panel, text) {
  panel.replaceChildren(el("p", { class: "empty" }, text));
}

function dataTable(columns, rows, title) {
  const cell = (value, column) => el("td", { class: typeof value === "number" || /%( †)?$/.test(value) ? "number" : null }, column === "command" ? el("code", {}, String(value)) : String(value ?? ""));
  const body = rows.map((row) => el("tr", {}, row.map((value, index) => cell(value, columns[index]))));
  const table = el("table", {}, el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, body));
  return el("details", { class: "data" }, el("summary", {}, title || "The same as a table"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Data" }, table));
}

function commandNode(command) {
  if (!command) return el("span", { class: "quiet" }, "not recorded");
  const button = el("button", { type: "button", onclick: () => copy(command, button) }, "Copy");
  return el("span", { class: "command" }, el("code", {}, command), button);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch (error) {
    const code = button.parentNode.querySelector("code");
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

const darkNow = () => {
  if (document.documentElement.dataset.print) return false;
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
// Okabe and Ito's palette; on dark ground its lighter sisters
const palette = () => (darkNow()
  ? ["#6cc0f2", "#ff9466", "#35c99f", "#e7a3ca", "#f2bd45", "#c3cad3", "#a79bff", "#9be37f"]
  : ["#0072B2", "#D55E00", "#008560", "#b0508a", "#9a6a00", "#555d66", "#5b48c2", "#3f7d20"]);
const ink = () => (darkNow() ? { text: "#e8ebef", quiet: "#a8b1bc", line: "#343b45", panel: "#191d23" } : { text: "#1b1f24", quiet: "#545c66", line: "#dfe3e8", panel: "#ffffff" });
const faint = (colour, share) => colour + Math.round(share * 255).toString(16).padStart(2, "0");

function draw(panel, traces, layout, summary) {
  const { text, quiet, line, panel: ground } = ink();
  const narrow = innerWidth < 700;
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, fixedrange: narrow };
  const names = layout.showlegend || layout.legendBelow ? traces.filter((trace) => trace.showlegend !== false).length : 0;
  // a long legend below gets room of its own
  const height = (layout.height || 440) + 20 * Math.max(0, Math.ceil(names / (narrow ? 1 : 2)) - 2);
  const chart = el("div", { class: "chart", role: "img", "aria-label": summary, style: "height:" + height + "px" });
  panel.replaceChildren(chart);
  const full = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, size: narrow ? 12 : 13, family: "system-ui, sans-serif" },
    margin: { l: 56, r: 16, t: 16, b: 48 }, hovermode: "closest", modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: text },
    hoverlabel: { bgcolor: ground, bordercolor: line, font: { color: text, size: 12 }, align: "left", namelength: -1 },
    legend: narrow || layout.legendBelow ? { orientation: "h", y: -0.22, yanchor: "top", x: 0 } : { x: 1.01, xanchor: "left", y: 1 },
    ...layout, height,
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
  delete full.legendBelow;
  Plotly.newPlot(chart, traces, full, { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]] });
  // Plotly follows the window alone: a scroll bar, or a panel that is laid out later, narrows the card without it
  let width = chart.clientWidth;
  new ResizeObserver(() => {
    if (!chart.isConnected || !chart.clientWidth || chart.clientWidth === width) return;
    width = chart.clientWidth;
    Plotly.Plots.resize(chart);
  }).observe(chart);
  return chart;
}

// Hover boxes do not wrap: long lines are broken here
function wrap(text, width) {
  const lines = [""];
  for (const word of String(text).split(" ")) {
    if ((lines.at(-1) + " " + word).length > width) lines.push(word);
    else lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines.slice(0, 8).map((part) => esc(cut(part, width * 2))).join("<br>");
}

function hoverOf(run, ...more) {
  const lines = ["<b>" + wrap(labelOf(run), 60) + "</b>", ...more];
  if (run.flags.length) lines.push("† " + wrap(reasonsOf(run), 60));
  if (run.command) lines.push("<i>" + wrap(run.command, 64) + "</i>");
  return lines.join("<br>");
}
