// The page: events come in, and what is in view is drawn, at most once a frame.
//
// The address after # says what is in view; a search comes before it. Keys: / searches,
// Esc leaves the search or goes back to the list, arrows walk through results and maps.

import { Store } from "./store.js";
import { h, morph } from "./dom.js";
import * as views from "./views.js";
import * as links from "./links.js";
import { talk } from "./talk.js";
import { results } from "./search.js";

const store = new Store();
const state = { wrong: false, by: "host", unfolded: new Map(), cell: "" };
const main = document.querySelector("#main"), search = document.querySelector("#search");
const tabs = document.querySelector("#tabs"), line = document.querySelector("#state");
let connected = false, drawing = false, stale = true;

const lists = { hosts: "hosts", networks: "networks", containers: "containers", talk: "traffic", tunnels: "tunnels", findings: "findings" };
const reads = { // what each view shows; names and findings are in all of them
  hosts: [], networks: ["addresses", "traffic"], containers: ["rates"], talk: ["talk", "counting"], tunnels: ["tunnels", "doctor"], findings: ["doctor"],
  host: ["tunnels", "rates"], network: ["addresses", "traffic", "rates", "talk"], container: ["rates", "talk"],
};
const parents = { host: "hosts", network: "networks", container: "containers" };

function route() {
  const [, view, key] = /^#?([a-z]*)\/?(.*)$/.exec(location.hash);
  return { view: Object.hasOwn(reads, view) ? view : "hosts", key };
}

function draw() {
  drawing = false;
  const { view, key } = route();
  const words = search.value.trim();
  if (stale) {
    morph(main, h("main", {}, content(view, key, words)));
    for (const grid of main.querySelectorAll("[data-columns]")) grid.style.setProperty("--columns", grid.dataset.columns);
  }
  stale = false;
  const current = parents[view] ?? view;
  morph(tabs, h("nav", {}, Object.entries(lists).map(([list, title]) => h("a", { href: "#" + list, "data-key": list, "aria-current": !words && list === current ? "page" : null },
    title, " ", h("span", { class: list === "findings" && store.findings.size ? `badge ${worst()}` : "dim" }, (list === "tunnels" ? store.between : store[list]).size)))));
  const text = !connected ? "not connected: trying again" : store.agent.error ? "what you see may be old: " + store.agent.error : "live";
  if (line.textContent !== text) line.textContent = text;
  line.className = text === "live" ? "ok" : "gone";
  document.title = (words ? "search" : view === current ? view : `${view} ${key.split("/")[0]}`) + " · causeway";
}

const worst = () => store.findings.values().some((it) => it.severity === "problem") ? "problem" : "warning";

function content(view, key, words) {
  if (words) return results(store, words);
  return view in parents ? views[view](store, state, key) : ({ ...views, ...links, talk })[view](store, state);
}

// follows says whether what is in view shows one of the kinds.
function follows(kinds) {
  const shown = ["all", "hosts", "networks", "containers", "findings", ...search.value ? ["addresses"] : reads[route().view]];
  return shown.some((kind) => kinds.has(kind));
}

// redraw draws what is in view with the next frame, and without old the rest alone.
function redraw(old = true) {
  stale ||= old;
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

const events = new EventSource("events");
events.onmessage = (event) => { connected = true; redraw(follows(store.apply(JSON.parse(event.data)))); };
events.onerror = () => { connected = false; redraw(false); };
setInterval(() => { // what rested does so no more without an event
  const now = Date.now(), rests = store.addresses.values().some((it) => it.rests_until && Date.parse(it.rests_until) > now - 10000);
  if (rests) redraw(follows(new Set(["addresses"])));
}, 5000);

addEventListener("hashchange", () => {
  search.value = "";
  state.cell = "";
  redraw();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
search.addEventListener("input", () => redraw());

main.addEventListener("toggle", (event) => {
  const fold = event.target.getAttribute?.("data-fold");
  if (!fold || state.unfolded.get(fold) === event.target.open) return;
  state.unfolded.set(fold, event.target.open);
  redraw();
}, true);
main.addEventListener("change", ({ target }) => {
  const toggle = target.getAttribute("data-toggle"), choose = target.getAttribute("data-choose");
  if (toggle) state[toggle] = target.checked;
  if (choose) state[choose] = target.value;
  redraw();
});
main.addEventListener("pointerover", ({ target }) => { if (target.classList.contains("cell") && target.closest(".grid")) point(target); });
main.addEventListener("click", ({ target }) => { const href = target.getAttribute?.("data-href"); if (href) location.hash = href; });

// point marks a cell and tells of it, without drawing thousands of others.
function point(cell) {
  state.cell = cell.getAttribute("data-key");
  for (const old of main.querySelectorAll(".cell.at")) old.classList.remove("at");
  cell.classList.add("at");
  cell.closest(".map").querySelector(".told").textContent = cell.title;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === search;
  if (event.key === "/" && !typing) { event.preventDefault(); search.focus(); search.select(); return; }
  if (event.key === "Escape") { leave(); return; }
  if (typing && event.key === "Enter") { main.querySelector(".results a")?.click(); return; }
  const step = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const grid = event.target.closest?.(".grid");
  if (grid && (step || event.key === "Enter")) { walk(event, grid, step); return; }
  if (step && /Down|Up/.test(event.key) && (typing || event.target.closest?.(".results"))) {
    const all = [search, ...main.querySelectorAll(".results a")];
    all[all.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  }
});

// leave ends the search, or goes from one object to the list of its kind.
function leave() {
  const { view } = route();
  if (search.value) { search.value = ""; redraw(); search.focus(); }
  else if (view in parents) location.hash = parents[view];
  else document.activeElement?.blur();
}

// walk moves through a map of addresses.
function walk(event, grid, step) {
  event.preventDefault();
  const cells = [...grid.children], at = cells.findIndex((cell) => cell.classList.contains("at"));
  if (!step) { const href = cells[at]?.getAttribute("data-href"); if (href) location.hash = href; return; }
  const columns = cells.findIndex((cell, i) => i > 0 && cell.offsetTop > cells[0].offsetTop);
  const far = /Down|Up/.test(event.key) && columns > 0 ? columns : 1;
  const to = cells[Math.min(cells.length - 1, Math.max(0, at < 0 ? 0 : at + step * far))];
  to.scrollIntoView({ block: "nearest" });
  point(to);
}
