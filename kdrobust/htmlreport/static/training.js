"use strict";
const SHARES = ["val/accuracy", "val/robust_accuracy", "train/robust_accuracy", "train/accuracy"];

function lossLike(metric) {
  return !/accuracy|agreement|transferability|gap/.test(metric);
}

function marksOf(run, metric, colour) {
  const at = (epoch) => { const place = run.history.epoch.indexOf(epoch); return place < 0 ? null : run.history[metric][place]; };
  const traces = [];
  if (run.best_epoch !== null && at(run.best_epoch) !== null) traces.push({ type: "scatter", mode: "markers", x: [run.best_epoch + 1], y: [at(run.best_epoch)], marker: { symbol: "star", size: 15, color: colour, line: { width: 1, color: ink().text } }, hovertext: [hoverOf(run, "best epoch " + (run.best_epoch + 1) + ": its weights were kept")], hoverinfo: "text", name: "best epoch", showlegend: false });
  const found = run.marks.filter((mark) => at(mark.epoch) !== null);
  if (found.length) traces.push({ type: "scatter", mode: "markers", x: found.map((mark) => mark.epoch + 1), y: found.map((mark) => at(mark.epoch)), marker: { symbol: "x", size: 13, color: darkNow() ? "#ffae80" : "#9a3d00" }, hovertext: found.map((mark) => hoverOf(run, mark.kind + ", " + mark.what, wrap(mark.text, 60))), hoverinfo: "text", name: esc(found[0].kind), showlegend: true });
  return traces;
}

function trainingPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.history.epoch && run.history.epoch.length);
  bar.replaceChildren();
  if (!runs.length) return empty(panel, "No training run here: no metrics.csv.");
  const metrics = unique(runs.flatMap((run) => Object.keys(run.history))).filter((name) => name !== "epoch").sort(compareText);
  const marked = runs.find((run) => run.marks.length) || runs.find((run) => !run.elsewhere) || runs[0];
  const whose = choice("Run", "training run", [["", "every run, one metric"], ...runs.map((run) => [run.id, (run.marks.length ? "✖ " : "") + labelOf(run)])], marked.id, () => paint(), true);
  const metric = choice("Metric of every run", "training metric", metrics.map((name) => [name, name]), "val/robust_accuracy", () => paint());
  bar.append(whose.node, metric.node);
  const paint = () => {
    const one = whose.value === "" ? null : runs.find((run) => run.id === Number(whose.value));
    metric.node.hidden = Boolean(one);
    metric.node.style.display = one ? "none" : "";
    one ? paintOne(panel, one) : paintAll(panel, runs, metric.value);
  };
  paint();
}

function paintOne(panel, run) {
  const colours = palette();
  const epochs = run.history.epoch.map((epoch) => epoch + 1);
  const shares = SHARES.filter((name) => run.history[name]);
  const traces = shares.map((name, index) => ({ type: "scatter", mode: "lines", name: esc(name) + dagger(run), x: epochs, y: run.history[name], line: { color: colours[index], width: 2.2, dash: name.startsWith("train") ? "dash" : "solid" }, hovertext: epochs.map((epoch, i) => hoverOf(run, esc(name), "epoch " + epoch + ": " + (run.history[name][i] === null ? "–" : percent(run.history[name][i]) + dagger(run)))), hoverinfo: "text" }));
  const layout = { height: 440, xaxis: { title: { text: "epoch" } }, yaxis: share("share of samples", { range: [0, 1.02] }), legendBelow: true, showlegend: true };
  if (run.history["train/loss"]) {
    const loss = run.history["train/loss"];
    traces.push({ type: "scatter", mode: "lines", name: "train/loss (right)", yaxis: "y2", x: epochs, y: loss, line: { color: ink().quiet, width: 1.6, dash: "dot" }, hovertext: epochs.map((epoch, i) => "epoch " + epoch + ": loss " + loss[i]), hoverinfo: "text" });
    layout.yaxis2 = { overlaying: "y", side: "right", title: { text: "loss" }, showgrid: false, tickformat: ".3~g", rangemode: "tozero", automargin: true, color: ink().quiet };
  }
  if (run.history["val/robust_accuracy"]) traces.push(...marksOf(run, "val/robust_accuracy", colours[shares.indexOf("val/robust_accuracy")]));
  draw(panel, traces, layout, "Training curves of " + labelOf(run));
  panel.append(el("p", { class: run.marks.length ? "warning" : "quiet" }, run.marks.length ? "✖ " + unique(run.marks.map((mark) => mark.text)).join(" ") : "No robust or catastrophic overfitting was warned of in this run."));
  if (run.flags.length) panel.append(el("p", { class: "trust-bad" }, "† " + run.flags.join("; ")));
  panel.append(commandNode(run.command));
  panel.append(dataTable(["epoch", ...shares, "train/loss"], epochs.map((epoch, i) => [epoch, ...shares.map((name) => (run.history[name][i] === null ? "" : percent(run.history[name][i]) + dagger(run))), run.history["train/loss"] ? run.history["train/loss"][i] : ""])));
}

function paintAll(panel, runs, metric) {
  const colours = palette();
  const here = runs.filter((run) => run.history[metric]);
  if (!here.length) return empty(panel, "No run here logged " + metric + ".");
  const methods = unique(here.map((run) => run.method)).sort(compareText);
  const number = (value, run) => (value === null ? "–" : lossLike(metric) ? String(value) : percent(value) + dagger(run));
  const traces = [];
  here.forEach((run, index) => {
    const colour = methods.length > 1 && here.length > colours.length ? colours[methods.indexOf(run.method) % colours.length] : colours[index % colours.length];
    const epochs = run.history.epoch.map((epoch) => epoch + 1);
    traces.push({ type: "scatter", mode: "lines", name: esc(cut(labelOf(run), 60)) + dagger(run), x: epochs, y: run.history[metric], line: { color: colour, width: 1.8, dash: run.flags.length ? "dash" : "solid" }, showlegend: here.length <= 12, hovertext: epochs.map((epoch, i) => hoverOf(run, "epoch " + epoch + ": " + number(run.history[metric][i], run))), hoverinfo: "text" });
    traces.push(...marksOf(run, metric, colour).map((trace) => ({ ...trace, showlegend: false })));
  });
  draw(panel, traces, { height: 460, xaxis: { title: { text: "epoch" } }, yaxis: lossLike(metric) ? { title: { text: esc(metric) } } : share(esc(metric)), legendBelow: true }, metric + " over the epochs of " + here.length + " runs");
  const warned = here.filter((run) => run.marks.length);
  panel.append(el("p", { class: warned.length ? "warning" : "quiet" }, warned.length ? "✖ overfitting was warned of in: " + warned.map(labelOf).join("; ") : "No robust or catastrophic overfitting was warned of."));
  const flagged = unique(here.flatMap((run) => run.flags));
  if (flagged.length) panel.append(el("p", { class: "trust-bad" }, "† " + flagged.join("; ")));
  panel.append(dataTable(["run", "last", "best epoch", "overfitting", "command"], here.map((run) => [labelOf(run), number(run.history[metric].at(-1), run), run.best_epoch === null ? "" : run.best_epoch + 1, unique(run.marks.map((mark) => mark.kind)).join(", "), run.command])));
}
