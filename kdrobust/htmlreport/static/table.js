"use strict";
const FILTERS = [["stage", "Stage"], ["method", "Method"], ["model", "Model"], ["data", "Data"], ["threat", "Threat"]];
const COLUMNS = [
  ["label", "Run", (run) => labelOf(run)],
  ["stage", "Stage", (run) => run.stage],
  ["method", "Method", (run) => run.method],
  ["model", "Model", (run) => run.model],
  ["data", "Data", (run) => run.data],
  ["threat", "Threat", (run) => run.threat],
  ["seed", "Seed", (run) => run.seed],
  ["clean", "Clean", (run) => run.clean && run.clean.value],
  ["robust", "Robust", (run) => run.robust && run.robust.value],
  ["measured", "Measured", (run) => run.split],
  ["trust", "Trust", (run) => trustOf(run)],
];
const PAGE = innerWidth < 700 ? 12 : 100;
const state = { sort: remember("sort") || "folder", down: remember("down") === true, shown: PAGE, open: new Set() };
const controls = {};
let visible = RUNS;

function trustOf(run) {
  if (run.flags.length) return "† unreliable";
  if (run.status !== "completed") return run.status;
  if (run.warnings.length) return "warned";
  if (run.checked === null) return "";
  return run.checked ? "checked" : "not checked";
}

function haystack(run) {
  const settings = Object.entries(run.settings).map(([key, value]) => key + "=" + value);
  return [labelOf(run), run.name, run.folder, run.stage, run.method, run.model, run.data, run.threat, run.attack, run.command, trustOf(run), ...settings, ...run.flags, ...run.warnings].join(" ").toLowerCase();
}

function buildFilters(changed) {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  const apply = () => { state.shown = PAGE; changed(); };
  for (const [key, name] of FILTERS) {
    const values = unique(RUNS.map((run) => run[key]).filter(Boolean)).sort(compareText);
    controls[key] = choice(name, "filter " + key, [["", "all"], ...values.map((value) => [value, value])], "", apply);
    form.append(controls[key].node);
  }
  const search = el("input", { type: "search", "data-key": "filter text", placeholder: "name, key=value, reason …", oninput: () => { remember("filter text", search.value); apply(); } });
  search.value = remember("filter text") || "";
  controls.text = search;
  const keys = [["folder", "folder"], ...COLUMNS.map(([key, name]) => [key, name.toLowerCase()])];
  const sort = el("select", { id: "sort", onchange: () => sortBy(sort.value, !["folder", "label"].includes(sort.value) && ["clean", "robust"].includes(sort.value)) });
  keys.forEach(([key, name]) => sort.append(el("option", { value: key }, name)));
  const clear = el("button", { type: "button", onclick: () => {
    for (const select of form.querySelectorAll("select[data-key]")) { select.value = ""; remember(select.dataset.key, ""); }
    search.value = "";
    remember("filter text", "");
    apply();
  } }, "Clear");
  form.append(el("label", { class: "long" }, "Text", search), el("label", {}, "Sort by", sort), clear);
  sortBy.changed = () => { sort.value = state.sort; drawTable(); };
  sort.value = state.sort;
}

function sortBy(key, down) {
  state.sort = key;
  state.down = down;
  remember("sort", key);
  remember("down", down);
  sortBy.changed();
}

function filterRuns() {
  const words = controls.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  visible = RUNS.filter((run) => FILTERS.every(([key]) => !controls[key].value || run[key] === controls[key].value));
  if (words.length) visible = visible.filter((run) => { const all = haystack(run); return words.every((word) => all.includes(word)); });
}

function sorted() {
  const column = COLUMNS.find(([key]) => key === state.sort);
  const value = column ? column[2] : (run) => run.folder;
  const blank = (each) => each === null || each === undefined || each === "";
  return [...visible].sort((a, b) => {
    const [first, second] = [value(a), value(b)];
    if (blank(first) || blank(second)) return blank(first) - blank(second);
    const order = typeof first === "number" && typeof second === "number" ? first - second : compareText(first, second);
    return (state.down ? -order : order) || a.id - b.id;
  });
}

function details(run) {
  const list = el("dl", {});
  const add = (name, ...content) => { if (content.some(Boolean)) list.append(el("dt", {}, name), el("dd", {}, ...content)); };
  add("Command", commandNode(run.command));
  if (run.sweep_command) add("Whole sweep", commandNode(run.sweep_command));
  add("Not trusted", ...run.flags.map((reason) => el("div", { class: "trust-bad" }, "† " + reason)));
  add("Warnings", ...run.warnings.map((text) => el("div", { class: "warning" }, text)));
  if (run.error) add("Ended with", el("span", { class: "warning" }, run.error));
  add("Robust under", run.attack);
  add("Samples", run.clean && run.clean.n ? run.clean.n + " (" + run.split + ")" : "");
  add("Swept", Object.entries(run.settings).map(([key, value]) => key + "=" + value).join(", "));
  add("Parameters", run.parameters ? run.parameters.toLocaleString("en") : "");
  add("Time", run.seconds ? run.seconds.toFixed(1) + " s" : "");
  add("Started", run.started);
  add("Commit", run.commit);
  add("Folder", run.folder);
  return list;
}

function figureCell(figure, run) {
  if (!figure) return ["–"];
  const interval = intervalText(figure);
  return [percent(figure.value), flagNode(run), interval ? el("small", {}, interval) : null];
}

function rowOf(run) {
  const open = state.open.has(run.id);
  const toggle = el("button", { type: "button", "aria-expanded": String(open), "aria-label": "Details of " + labelOf(run), onclick: () => {
    state.open[open ? "delete" : "add"](run.id);
    drawTable();
    byId("run-" + run.id).querySelector("button").focus();
  } }, open ? "Hide" : "Details");
  const cell = (label, content, more) => el("td", { "data-label": label, class: [more || "", content === "" ? "void" : ""].join(" ").trim() || null }, content);
  const main = el("tr", { id: "run-" + run.id },
    cell("Run", [labelOf(run), el("small", {}, run.folder)], "name"),
    cell("Stage", run.stage + (run.teacher && run.stage !== "teacher" ? " (teacher)" : ""), "meta"), cell("Method", run.method, "meta"), cell("Model", run.model, "meta"), cell("Data", run.data, "meta"), cell("Threat", run.threat, "meta threat"),
    cell("Seed", run.seed === null ? "" : String(run.seed), "number meta seed"),
    cell("Clean", figureCell(run.clean, run), "number figure"), cell("Robust", figureCell(run.robust, run), "number figure"),
    cell("Measured", run.split ? [run.split, run.clean && run.clean.n ? el("small", {}, " n = " + run.clean.n) : null] : ""),
    cell("Trust", trustOf(run), run.flags.length || ["failed"].includes(run.status) ? "trust-bad" : ""),
    el("td", { class: "act" }, toggle));
  return open ? [main, el("tr", { class: "detail" }, el("td", { colspan: COLUMNS.length + 1 }, details(run)))] : [main];
}

function drawTable() {
  const panel = byId("table");
  const elsewhere = visible.some((run) => run.elsewhere) ? " “Another folder”: a teacher that these runs learnt from." : "";
  byId("count").textContent = visible.length + " of " + RUNS.length + " entries." + elsewhere;
  if (!RUNS.length) return empty(panel, "No run was found below these folders: no result.json.");
  if (!visible.length) return empty(panel, "No run passes the filters.");
  const heads = COLUMNS.map(([key, name]) => {
    const active = state.sort === key;
    const number = ["seed", "clean", "robust"].includes(key);
    const down = active ? !state.down : ["clean", "robust"].includes(key);
    const button = el("button", { type: "button", "data-sort": key, onclick: () => { sortBy(key, down); panel.querySelector('[data-sort="' + key + '"]').focus(); } }, name + (active ? (state.down ? " ↓" : " ↑") : ""));
    return el("th", { scope: "col", class: number ? "number" : null, "aria-sort": active ? (state.down ? "descending" : "ascending") : null }, button);
  });
  const rows = sorted();
  const table = el("table", { class: "cards" }, el("thead", {}, el("tr", {}, heads, el("th", { class: "act" }, el("span", { class: "quiet" }, "")))), el("tbody", {}, rows.slice(0, state.shown).flatMap(rowOf)));
  panel.replaceChildren(el("div", { class: "scroll" }, table));
  if (rows.length > state.shown) panel.append(el("button", { type: "button", class: "more", onclick: () => { state.shown += 10 * PAGE; drawTable(); } }, "Show " + Math.min(10 * PAGE, rows.length - state.shown) + " more"));
}
