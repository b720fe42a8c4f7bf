"use strict";
// when colours come round again, the next shape
const SYMBOLS = ["circle", "square", "diamond", "triangle-up"];
const share = (title, more) => ({ title: { text: title }, tickformat: ".4~%", ...more });
// A range around some shares: of equal ones, two points to each side
function around(shares) {
  const [low, high] = [Math.min(...shares), Math.max(...shares)];
  const space = Math.max(0.02, 0.08 * (high - low));
  return { range: [Math.max(-0.02, low - space), Math.min(1.02, high + space)] };
}

function settingsOf(runs) {
  const count = new Map();
  for (const run of runs) if (run.clean && run.robust) count.set(run.setting, (count.get(run.setting) || 0) + 1);
  return [...count].sort((a, b) => b[1] - a[1] || compareText(b[0], a[0]));
}

function settingChoice(key, runs, change) {
  const found = settingsOf(runs);
  return choice("Setting", key, found.map(([name, count]) => [name, name + " (" + count + ")"]), found[0][0], change, true);
}

function pickedNode(run) {
  return el("div", { class: "picked-run" }, el("p", {}, el("strong", {}, labelOf(run)), " · clean " + figureText(run.clean, run) + " · robust " + figureText(run.robust, run)),
    run.flags.length ? el("p", { class: "trust-bad" }, "† " + run.flags.join("; ")) : null, commandNode(run.command));
}

function paretoPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.clean && run.robust);
  bar.replaceChildren();
  if (!runs.length) return empty(panel, "No run here has both a clean and a robust accuracy.");
  const setting = settingChoice("pareto setting", runs, () => paint());
  const only = tick("Undominated only", "pareto only", false, () => paint());
  const zoom = tick("Zoom to the runs", "pareto zoom", true, () => paint());
  bar.append(setting.node, only.node, zoom.node);
  const paint = () => {
    const here = runs.filter((run) => run.setting === setting.value);
    const students = here.filter((run) => !run.teacher && (run.undominated || !only.value));
    const teachers = here.filter((run) => run.teacher);
    const [colours, tone] = [palette(), ink()];
    const methods = unique(students.map((run) => run.method || "method not known")).sort(compareText);
    const hover = (run) => hoverOf(run, "clean " + figureText(run.clean, run) + " " + intervalText(run.clean), "robust " + figureText(run.robust, run) + " " + intervalText(run.robust), run.teacher ? "teacher" : run.undominated ? "undominated" : "dominated");
    const front = students.filter((run) => run.undominated).sort((a, b) => a.clean.value - b.clean.value || b.robust.value - a.robust.value);
    const traces = [];
    if (front.length > 1) traces.push({ type: "scatter", mode: "lines", name: "undominated", x: front.map((run) => run.clean.value), y: front.map((run) => run.robust.value), line: { color: tone.quiet, width: 1.5, dash: "dash" }, hoverinfo: "skip" });
    methods.forEach((method, index) => {
      const mine = students.filter((run) => (run.method || "method not known") === method);
      traces.push({
        type: "scatter", mode: "markers+text", name: esc(cut(method, 40)), x: mine.map((run) => run.clean.value), y: mine.map((run) => run.robust.value),
        customdata: mine.map((run) => run.id), hovertext: mine.map(hover), hoverinfo: "text", text: mine.map((run) => (run.flags.length ? "†" : "")), textposition: "top right",
        marker: { size: mine.map((run) => (run.undominated ? 13 : 10)), color: colours[index % colours.length], opacity: mine.map((run) => (run.undominated ? 1 : 0.55)), symbol: mine.map((run) => SYMBOLS[Math.floor(index / colours.length) % SYMBOLS.length] + (run.flags.length ? "-open-dot" : "")), line: { width: 1.5, color: mine.map((run) => (run.undominated ? tone.text : colours[index % colours.length])) } },
      });
    });
    const shapes = [];
    teachers.forEach((run) => {
      const line = { color: tone.text, width: 1.3, dash: "dot" };
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: run.robust.value, y1: run.robust.value, line });
      shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: run.clean.value, x1: run.clean.value, line });
    });
    if (teachers.length) traces.push({ type: "scatter", mode: "markers+text", name: "teacher", x: teachers.map((run) => run.clean.value), y: teachers.map((run) => run.robust.value), customdata: teachers.map((run) => run.id), hovertext: teachers.map(hover), hoverinfo: "text", text: teachers.map((run) => "teacher" + dagger(run)), textposition: "bottom left", marker: { size: 15, symbol: "star", color: tone.text } });
    const shown = [...students, ...teachers];
    const range = (key) => (zoom.value && shown.length ? around(shown.map((run) => run[key].value)) : { range: [0, 1.02] });
    const chart = draw(panel, traces, { height: 480, xaxis: share("clean accuracy", range("clean")), yaxis: share("robust accuracy", range("robust")), shapes, showlegend: true, legendBelow: true }, "Scatter of robust against clean accuracy of " + here.length + " runs; " + front.length + " undominated. The table below holds the numbers.");
    const slot = el("div", { "aria-live": "polite" }, el("p", { class: "quiet no-print" }, "Choose a point to see the command that makes it again."));
    chart.on("plotly_click", (event) => { const id = event.points[0].customdata; if (id !== undefined) slot.replaceChildren(pickedNode(RUNS[id])); });
    panel.append(slot);
    if (!teachers.length) panel.append(el("p", { class: "quiet" }, "No figures of a teacher in this setting."));
    const flagged = unique([...students, ...teachers].flatMap((run) => run.flags));
    if (flagged.length) panel.append(el("p", { class: "trust-bad" }, "† " + flagged.join("; ")));
    panel.append(dataTable(["run", "clean", "robust", "place", "reason", "command"], [...students, ...teachers].map((run) => [labelOf(run), figureText(run.clean, run), figureText(run.robust, run), run.teacher ? "teacher" : run.undominated ? "undominated" : "dominated", run.flags.join("; "), run.command])));
  };
  paint();
}

function heatPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.clean && run.robust && !run.teacher);
  bar.replaceChildren();
  if (!DATA.swept.length) return empty(panel, "No key takes two values in these runs: nothing was swept.");
  if (!runs.length) return empty(panel, "No run here has both a clean and a robust accuracy.");
  const count = (key) => runs.filter((run) => run.own.includes(key)).length;
  const keys = DATA.swept.filter((key) => key !== "seed").sort((a, b) => count(b) - count(a));
  const names = (keys.length ? keys : DATA.swept).map((key) => [key, key]);
  const find = (word) => (names.find(([key]) => shortKey(key) === word) || [])[0];
  const first = find("alpha") || names[0][0];
  const second = find("temperature") || (names.find(([key]) => key !== first) || ["none"])[0];
  const setting = settingChoice("heat setting", runs, () => paint());
  const across = choice("Across", "heat x", [...names, ...(keys.length && DATA.swept.includes("seed") ? [["seed", "seed"]] : [])], first, () => paint());
  const down = choice("Down", "heat y", [...names, ["none", "none"]], second, () => paint());
  const which = choice("Accuracy", "heat value", [["robust", "robust"], ["clean", "clean"]], "robust", () => paint());
  bar.append(setting.node, across.node, down.node, which.node);
  const paint = () => {
    const valueOf = (run, key) => (key === "none" ? "all" : run.settings[key]);
    const here = runs.filter((run) => run.setting === setting.value && valueOf(run, across.value) !== undefined && valueOf(run, down.value) !== undefined);
    if (!here.length) return empty(panel, "No run of this setting has a value for both keys.");
    const xs = unique(here.map((run) => valueOf(run, across.value))).sort(compareText);
    const ys = unique(here.map((run) => valueOf(run, down.value))).sort(compareText);
    const cells = ys.map((y) => xs.map((x) => here.filter((run) => valueOf(run, across.value) === x && valueOf(run, down.value) === y)));
    const average = (cell) => (cell.length ? mean(cell.map((run) => run[which.value].value)) : null);
    const spread = (cell) => { const values = cell.map((run) => run[which.value].value); const middle = mean(values); return values.length > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1)) : null; };
    const mark = (cell) => (cell.some((run) => run.flags.length) ? " †" : "");
    const plusMinus = (cell) => (spread(cell) === null ? "" : " ± " + (spread(cell) * 100).toFixed(1));
    const text = cells.map((row) => row.map((cell) => (cell.length ? percent(average(cell)) + mark(cell) + "<br>n = " + cell.length : "")));
    const hover = cells.map((row, j) => row.map((cell, i) => (cell.length ? esc(across.value) + " = " + esc(xs[i]) + (down.value === "none" ? "" : "<br>" + esc(down.value) + " = " + esc(ys[j])) + "<br>" + which.value + " " + percent(average(cell)) + plusMinus(cell) + mark(cell) + ", n = " + cell.length + cell.slice(0, 4).map((run) => "<br>" + wrap(run.command, 64)).join("") + unique(cell.flatMap((run) => run.flags)).map((reason) => "<br>† " + wrap(reason, 60)).join("") : "no run")));
    const colours = darkNow() ? [[0, "#16283a"], [1, "#2b78ad"]] : [[0, "#eef5fa"], [1, "#0a5c8f"]];
    const all = cells.flat().filter((cell) => cell.length).map(average);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const ends = high - low > 0.001 ? {} : { zmin: Math.max(0, low - 0.05), zmax: Math.min(1, high + 0.05) };
    const trace = { type: "heatmap", ...ends, x: xs.map(esc), y: ys.map(esc), z: cells.map((row) => row.map(average)), text, texttemplate: "%{text}", textfont: darkNow() ? { color: "#ffffff" } : {}, hovertext: hover, hoverinfo: "text", colorscale: colours, xgap: 3, ygap: 3, colorbar: { tickformat: ".0%", thickness: 12, outlinewidth: 0 } };
    draw(panel, [trace], { height: Math.max(290, Math.min(700, 160 + 76 * ys.length)), xaxis: { type: "category", title: { text: esc(across.value) }, showgrid: false }, yaxis: { type: "category", title: { text: down.value === "none" ? "" : esc(down.value) }, showgrid: false } }, "Heat-map of " + which.value + " accuracy over " + across.value + " and " + down.value + ". The table below holds the numbers.");
    const flagged = unique(here.flatMap((run) => run.flags));
    if (flagged.length) panel.append(el("p", { class: "trust-bad" }, "† " + flagged.join("; ")));
    const rows = cells.flatMap((row, j) => row.map((cell, i) => [xs[i], ys[j], cell.length ? percent(average(cell)) + plusMinus(cell) + mark(cell) : "no run", cell.length, cell.map((run) => run.command).join("\n")]));
    panel.append(dataTable([across.value, down.value, which.value + " accuracy", "n", "command"], rows));
  };
  paint();
}

function securityPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.curves.length);
  bar.replaceChildren();
  if (!runs.length) return empty(panel, "No evaluation here holds a security curve: a suite with a minimum-norm attack (fmn) or trust checks measures one.");
  const MOST = 8;
  const norms = unique(runs.flatMap((run) => run.curves.map((curve) => curve.norm)));
  const whose = choice("Runs", "curves run", [["", runs.length > MOST ? "the first " + MOST : "all"], ...runs.map((run) => [run.id, labelOf(run)])], "", () => paint(), true);
  const norm = choice("Norm", "curves norm", norms.map((name) => [name, name === "linf" ? "ℓ∞" : name === "l2" ? "ℓ2" : name]), norms[0], () => paint());
  const far = tick("Whole range of ε", "curves far", false, () => paint());
  bar.append(whose.node, ...(norms.length > 1 ? [norm.node] : []), far.node);
  const paint = () => {
    const own = (run) => run.curves.filter((curve) => curve.norm === norm.value);
    const here = runs.filter((run) => own(run).length && (whose.value === "" || run.id === Number(whose.value))).slice(0, MOST);
    const [colours, tone, traces, rows] = [palette(), ink(), [], []];
    const radii = unique(here.map((run) => run.eps).filter((eps) => eps));
    here.forEach((run, index) => {
      const colour = colours[index % colours.length];
      own(run).forEach((curve, place) => {
        const name = cut(labelOf(run), 44) + dagger(run) + ", " + curve.attack;
        if (curve.low && curve.exact) traces.push({ type: "scatter", mode: "lines", x: [...curve.eps, ...[...curve.eps].reverse()], y: [...curve.high, ...[...curve.low].reverse()], fill: "toself", fillcolor: faint(colour, 0.13), line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: "run" + run.id + "-" + place });
        traces.push({
          type: "scatter", mode: curve.exact ? "lines" : "lines+markers", name: esc(name), legendgroup: "run" + run.id + "-" + place, x: curve.eps, y: curve.accuracy,
          line: { color: colour, width: curve.exact ? 2.4 : 1.4, dash: run.flags.length ? "dash" : curve.exact ? "solid" : "dot", shape: curve.exact ? "hv" : "linear" }, marker: { size: 7, symbol: "diamond" },
          hovertext: curve.eps.map((eps, i) => hoverOf(run, esc(curve.attack), "ε = " + eps.toPrecision(3) + ": " + percent(curve.accuracy[i]) + dagger(run) + ", n = " + curve.n)), hoverinfo: "text",
        });
        const every = Math.max(1, Math.ceil(curve.eps.length / 12));
        curve.eps.forEach((eps, i) => { if (i % every === 0) rows.push([labelOf(run), curve.attack, eps.toPrecision(3), percent(curve.accuracy[i]) + dagger(run), run.flags.join("; "), run.command]); });
      });
    });
    const end = Math.max(...here.flatMap((run) => own(run).map((curve) => curve.eps.at(-1))));
    const near = radii.length ? Math.min(end, 4 * Math.max(...radii)) : end;
    const shapes = radii.map((eps) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: eps, x1: eps, line: { color: tone.quiet, width: 1, dash: "dot" } }));
    const annotations = radii.map((eps) => ({ x: eps, y: 1, yref: "paper", yanchor: "top", xanchor: "left", text: "threat", showarrow: false, textangle: 90, font: { size: 11, color: tone.quiet } }));
    draw(panel, traces, { height: 460, xaxis: { title: { text: "ε (" + (norm.value === "linf" ? "ℓ∞" : esc(norm.value)) + ")" }, range: [0, far.value ? end : near] }, yaxis: share("accuracy", { range: [0, 1.02] }), shapes, annotations, legendBelow: true, showlegend: true }, "Security curves of " + here.length + " evaluations: accuracy against ε.");
    const flagged = unique(here.flatMap((run) => run.flags));
    if (flagged.length) panel.append(el("p", { class: "trust-bad" }, "† " + flagged.join("; ")));
    panel.append(dataTable(["run", "attack", "ε", "accuracy", "reason", "command"], rows));
  };
  paint();
}
