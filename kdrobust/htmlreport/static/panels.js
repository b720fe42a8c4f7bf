"use strict";
function galleryPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.pictures.length);
  bar.replaceChildren();
  const left = DATA.images_left ? " " + DATA.images_left + " further pictures are left in their run folders, to keep this file small." : "";
  if (!runs.length) return empty(panel, "No run here has a picture of adversarial examples (examples.png)." + left);
  const whose = choice("Run", "gallery run", [["", "all"], ...runs.map((run) => [run.id, labelOf(run)])], "", () => paint(), true);
  bar.append(whose.node);
  let shown = 6;
  const paint = () => {
    const seen = new Set();
    const items = [];
    for (const run of runs) {
      if (whose.value !== "" && run.id !== Number(whose.value)) continue;
      for (const index of run.pictures) if (!seen.has(index)) { seen.add(index); items.push([run, index]); }
    }
    const grid = el("div", { class: "pictures" }, items.slice(0, shown).map(([run, index]) => {
      const figure = el("figure", {});
      const zoom = el("button", { type: "button", class: "zoom", "aria-pressed": "false", "aria-label": "Enlarge the examples of " + labelOf(run), onclick: () => zoom.setAttribute("aria-pressed", String(figure.classList.toggle("wide"))) },
        el("img", { src: DATA.images[index], alt: "Clean samples, their adversarial versions and the difference, of " + labelOf(run) }));
      figure.append(zoom, el("figcaption", {}, labelOf(run), flagNode(run), run.flags.length ? el("span", { class: "trust-bad" }, " " + run.flags.join("; ")) : null, el("small", { class: "quiet" }, " " + [run.stage, run.threat].filter(Boolean).join(", "))));
      return figure;
    }));
    panel.replaceChildren(grid);
    if (items.length > shown) panel.append(el("button", { type: "button", class: "more", onclick: () => { shown += 12; paint(); } }, "Show " + Math.min(12, items.length - shown) + " more of " + items.length));
    if (left) panel.append(el("p", { class: "quiet" }, left.trim()));
  };
  paint();
}

function classesPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const runs = visible.filter((run) => run.classes);
  bar.replaceChildren();
  if (!runs.length) return empty(panel, "No evaluation here: accuracy by class comes from stage evaluate.");
  const sets = unique(runs.flatMap((run) => Object.keys(run.classes.sets))).filter((name) => name !== "clean");
  const whose = choice("Evaluation", "classes run", runs.map((run) => [run.id, labelOf(run) + dagger(run)]), runs[0].id, () => paint(), true);
  const attack = choice("Attack", "classes attack", sets.map((name) => [name, name]), sets.includes("worst case") ? "worst case" : sets[0], () => paint());
  const order = tick("Worst class first", "classes order", false, () => paint());
  bar.append(whose.node, ...(sets.length ? [attack.node] : []), order.node);
  const paint = () => {
    const run = RUNS[Number(whose.value)];
    const { labels, n, sets: found } = run.classes;
    const names = ["clean", attack.value].filter((name) => found[name]);
    const colours = palette();
    const places = labels.map((_, index) => index);
    if (order.value) places.sort((a, b) => found[names.at(-1)].accuracy[a] - found[names.at(-1)].accuracy[b]);
    // the place in front keeps classes of one name apart; the tick says the name alone
    const traces = names.map((name, index) => ({
      type: "bar", name: esc(name) + dagger(run), x: places.map((_, i) => i), y: places.map((i) => found[name].accuracy[i]), marker: { color: faint(colours[index], 0.85), line: { color: colours[index], width: 1 }, pattern: { shape: run.flags.length ? "/" : "" } },
      error_y: { type: "data", symmetric: false, array: places.map((i) => found[name].high[i] - found[name].accuracy[i]), arrayminus: places.map((i) => found[name].accuracy[i] - found[name].low[i]), color: ink().text, thickness: 1.2, width: 3 },
      hovertext: places.map((i) => hoverOf(run, "class " + esc(labels[i]), esc(name) + " " + percent(found[name].accuracy[i]) + dagger(run) + ", n = " + n[i])), hoverinfo: "text",
    }));
    const many = labels.length > 30;
    draw(panel, traces, { height: 420, barmode: "group", bargap: 0.25, xaxis: { title: { text: "class" }, tickmode: many ? "auto" : "array", tickvals: places.map((_, i) => i), ticktext: places.map((i) => esc(cut(labels[i], 18))), showgrid: false }, yaxis: share("accuracy", { range: [0, 1.04] }), legendBelow: true, showlegend: true }, "Accuracy by class of " + labelOf(run));
    if (run.flags.length) panel.append(el("p", { class: "trust-bad" }, "† " + run.flags.join("; ")));
    panel.append(commandNode(run.command));
    panel.append(dataTable(["class", "n", ...names], places.map((i) => [labels[i], n[i], ...names.map((name) => percent(found[name].accuracy[i]) + dagger(run))])));
  };
  paint();
}

function diffPanel(section) {
  const [bar, panel] = [section.querySelector(".controls"), section.querySelector(".panel")];
  const folders = new Set();
  const runs = visible.filter((run) => run.configured && !folders.has(run.folder) && folders.add(run.folder));
  bar.replaceChildren();
  if (runs.length < 2) return empty(panel, "Two runs with a config_resolved.yaml are needed to compare; " + (runs.length ? "there is one." : "there is none."));
  const options = runs.map((run) => [run.id, labelOf(run)]);
  // two students of a sweep say more than a student and its teacher
  const start = runs.find((run) => !run.teacher) || runs[0];
  const other = runs.findLast((run) => run !== start && run.stage === start.stage) || runs.find((run) => run !== start);
  const first = choice("First run", "diff first", options, start.id, () => paint(), true);
  const second = choice("Second run", "diff second", options, other.id, () => paint(), true);
  const paths = tick("Names and paths too", "diff paths", false, () => paint());
  bar.append(first.node, second.node, paths.node);
  const paint = () => {
    const [a, b] = [RUNS[Number(first.value)], RUNS[Number(second.value)]];
    const names = /^run\.|(^|\.)(folder|dirpath|path|label|root|name)$/;
    const text = (value) => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));
    const all = unique([...Object.keys(a.config), ...Object.keys(b.config)]).filter((key) => JSON.stringify(a.config[key]) !== JSON.stringify(b.config[key])).sort(compareText);
    const keys = all.filter((key) => paths.value || !names.test(key));
    const hidden = all.length - keys.length;
    const note = hidden ? " " + hidden + " names and paths differ too." : "";
    if (!keys.length) return empty(panel, (a === b ? "The same run twice." : "The two configs say the same.") + note);
    const table = el("table", { id: "diff-table" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Key"), el("th", { scope: "col" }, labelOf(a)), el("th", { scope: "col" }, labelOf(b)))),
      el("tbody", {}, keys.map((key) => el("tr", {}, el("td", { class: "key" }, el("code", {}, key)), el("td", { class: "was" }, el("code", {}, text(a.config[key]))), el("td", { class: "now" }, el("code", {}, text(b.config[key])))))));
    panel.replaceChildren(el("p", { class: "quiet" }, keys.length + (keys.length === 1 ? " key differs." : " keys differ.") + note), el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Keys that differ" }, table));
  };
  paint();
}
