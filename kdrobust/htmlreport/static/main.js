"use strict";
const PANELS = [["pareto", paretoPanel], ["heat", heatPanel], ["security", securityPanel], ["training", trainingPanel], ["gallery", galleryPanel], ["classes", classesPanel], ["diff", diffPanel]];

function drawPanels() {
  for (const [id, panel] of PANELS) {
    panel(byId(id));
    const link = document.querySelector('nav a[href="#' + id + '"]');
    link.parentNode.classList.toggle("none", byId(id).querySelector(".panel > .empty") !== null);
  }
}

let waiting = 0;
function changed() {
  filterRuns();
  drawTable();
  clearTimeout(waiting);
  waiting = setTimeout(drawPanels, 120);
}

function buildHead() {
  const evaluated = RUNS.filter((run) => run.split === "test").length;
  const flagged = RUNS.filter((run) => run.flags.length).length;
  const about = [DATA.folders.join(", "), RUNS.length + " entries", evaluated + " evaluated on the test split", flagged ? flagged + " not to be trusted †" : "", "made " + DATA.made.replace("T", " ").replace("+00:00", " UTC"), "kdrobust " + DATA.version];
  byId("about").textContent = about.filter(Boolean).join(" · ");
  const list = el("ul", {});
  for (const section of document.querySelectorAll("main > section:not([hidden])")) list.append(el("li", {}, el("a", { href: "#" + section.id }, section.querySelector("h2").textContent)));
  byId("nav").append(list);
}

function buildNotes() {
  if (!DATA.problems.length) return;
  byId("notes").hidden = false;
  byId("notes-list").append(...DATA.problems.slice(0, 50).map((line) => el("li", { class: "warning" }, line)));
}

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const dark = darkNow();
  byId("theme").setAttribute("aria-pressed", String(dark));
  byId("theme").textContent = dark ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", dark ? "Switch to light" : "Switch to dark");
}

function buildTheme() {
  let kept = null;
  try { kept = localStorage.getItem("kdrobust theme"); } catch (error) { kept = null; }
  applyTheme(kept === "dark" || kept === "light" ? kept : null);
  byId("theme").addEventListener("click", () => {
    const theme = darkNow() ? "light" : "dark";
    try { localStorage.setItem("kdrobust theme", theme); } catch (error) { /* forbidden for files: not kept */ }
    applyTheme(theme);
    drawPanels();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { applyTheme(null); drawPanels(); });
  byId("print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => { document.documentElement.dataset.print = "yes"; drawPanels(); });
  addEventListener("afterprint", () => { delete document.documentElement.dataset.print; drawPanels(); });
}

function buildLive() {
  if (document.documentElement.dataset.live !== "yes") return;
  const kept = remember("scroll");
  if (kept) scrollTo(0, kept);
  let tag = null;
  const ask = async () => {
    try {
      const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" });
      const now = answer.headers.get("ETag");
      byId("live").textContent = "● live";
      if (tag && now && now !== tag) { remember("scroll", scrollY); location.reload(); }
      tag = now || tag;
    } catch (error) {
      byId("live").textContent = "○ the server has ended";
    }
  };
  ask();
  setInterval(ask, 2000);
}

buildTheme();
buildNotes();
buildHead();
buildFilters(changed);
filterRuns();
drawTable();
drawPanels();
buildLive();
document.documentElement.dataset.ready = "yes";
