// Tunnels between hosts as doctor tried them, and what it found.

import { h, link } from "./dom.js";
import { compare, sorted } from "./store.js";
import { hostLink, nothing, table } from "./views.js";

const readable = 12; // hosts whose matrix has words in it

export function badge(findings) {
  if (findings.length === 0) return null;
  const kind = findings.some((f) => f.severity === "problem") ? "problem" : "warning";
  return h("span", { class: "badge " + kind }, `${findings.length} ${kind}${findings.length === 1 ? "" : "s"}`);
}

export function findingsList(store, findings) {
  const order = { problem: 0, warning: 1 };
  const all = [...new Set(findings)].sort((a, b) => order[a.severity] - order[b.severity] || compare(a.host, b.host) || compare(a.cause, b.cause));
  if (all.length === 0) return null;
  return h("ul", { class: "findings" }, all.map((f) => h("li", { class: f.severity },
    h("p", {}, h("strong", {}, `${f.severity} on ${f.host}: `), f.cause),
    h("p", { class: "dim" }, f.evidence), h("p", {}, "Remedy: ", f.remedy),
    h("p", { class: "about" }, (f.about ?? []).slice(0, 20).map((about) => aboutLink(store, about))))));
}

function aboutLink(store, about) {
  const [kind, key, to] = about.split("/");
  if (kind === "host") return link("#host/" + key, "host " + store.hostName(key));
  if (kind === "network") return link("#network/" + key, "network " + store.networkName(key));
  return link("#host/" + key, `tunnel ${store.hostName(key)} → ${store.hostName(to)}`);
}

// looked says how old what doctor found is.
function looked(store) {
  const { at, error } = store.doctor;
  if (!at) return nothing("Doctor looks at all hosts …");
  const when = new Date(at).toLocaleTimeString();
  return error ? h("p", { class: "gone" }, `Doctor could not look at ${when}: ${error}`) : nothing(`Doctor looked at all hosts at ${when}.`);
}

export function findings(store) {
  return [looked(store), findingsList(store, store.findings.values()) ?? (store.doctor.at && !store.doctor.error ? h("p", { class: "ok" }, "Nothing found.") : null)];
}

const ms = (us) => us >= 1000000 ? Math.round(us / 1000) : Number((us / 1000).toPrecision(2));
const lost = (t) => t.asked ? 100 * (t.asked - t.answered) / t.asked : 0;

const order = ["free", "rtt1", "rtt2", "rtt3", "rtt4", "lossy", "problem"]; // the worst last

// condition says how the way between two hosts is, in a word that is a class, and in words:
// of several kinds of tunnel, as the worst.
export function condition(store, from, to) {
  const pair = from + "/" + to, found = store.findingsOn("tunnel", pair);
  const all = [...store.between.get(pair) ?? []].sort().map((key) => one(store.tunnels.get(key), key.slice(pair.length + 1)));
  const worst = all.reduce((a, b) => order.indexOf(b.kind) > order.indexOf(a.kind) ? b : a, { kind: "free", short: "–", words: "not tried" });
  return { kind: found.length ? "problem" : worst.kind, short: worst.short, words: [...all.length ? all.map((it) => it.words) : [worst.words], ...found.map((f) => f.cause)].join(". ") };
}

function one(t, way) {
  const loss = lost(t), percent = loss ? `${loss < 10 ? loss.toFixed(1) : Math.round(loss)} % lost` : "nothing lost";
  const kind = !t.rtt_us ? "problem" : loss ? "lossy" : t.rtt_us < 500 ? "rtt1" : t.rtt_us < 2000 ? "rtt2" : t.rtt_us < 10000 ? "rtt3" : "rtt4";
  return {
    kind, short: t.rtt_us ? ms(t.rtt_us) + (loss ? `, ${percent}` : "") : "no answer",
    words: `${way}: ${t.rtt_us ? ms(t.rtt_us) + " ms" : "no answer now"}, ${percent} of ${t.asked} packets, on network ${t.network}`,
  };
}

export function tunnels(store, state) {
  const hosts = sorted(store.hosts, ([, host]) => host.name).map(([key]) => key);
  const bad = [];
  for (const key of new Set([...store.between.keys(), ...store.about.keys().filter((about) => about.startsWith("tunnel/")).map((about) => about.slice(7))])) {
    const [from, to] = key.split("/"), it = condition(store, from, to);
    if (it.kind === "problem" || it.kind === "lossy") bad.push({ key, from, to, it });
  }
  bad.sort((a, b) => compare(b.it.kind, a.it.kind) || compare(a.from, b.from) || compare(a.to, b.to));
  return [
    looked(store),
    h("h3", {}, "Round trip in ms, and loss, from the host at the left to that above"),
    hosts.length <= readable ? matrix(store, hosts) : dense(store, state, hosts),
    bad.length > 0 && [h("h3", {}, `${bad.length} with something wrong`),
      table(["from", "to", "how it answers"], bad.slice(0, 50).map(({ key, from, to, it }) => ({ key, cells: [hostLink(store, from), hostLink(store, to), h("span", { class: it.kind }, it.words)] }))),
      bad.length > 50 && nothing(`${bad.length - 50} more: they are listed with their hosts.`)],
    nothing("Tried are the ways between hosts that both have containers on one network, but for mode=underlay, with a packet to a container there; the loss is that of the last twenty looks."),
  ];
}

function matrix(store, hosts) {
  return h("table", { class: "matrix" },
    h("thead", {}, h("tr", {}, h("td", {}), hosts.map((to) => h("th", { scope: "col" }, store.hostName(to))))),
    h("tbody", {}, hosts.map((from) => h("tr", { "data-key": from }, h("th", { scope: "row" }, hostLink(store, from)), hosts.map((to) => {
      if (from === to) return h("td", {});
      const it = condition(store, from, to);
      return h("td", { class: it.kind, title: it.words, "data-title": store.hostName(to) }, it.short);
    })))));
}

// dense has a cell of colour for each pair: a hundred hosts are ten thousand.
function dense(store, state, hosts) {
  const cells = [];
  for (const from of hosts) {
    for (const to of hosts) {
      const key = from + "/" + to, it = from === to ? { kind: "self", words: "" } : condition(store, from, to);
      cells.push(h("i", { "data-key": key, class: `cell ${it.kind}${state.cell === key ? " at" : ""}`, title: from === to ? store.hostName(from) : `${store.hostName(from)} → ${store.hostName(to)}: ${it.words}`, "data-href": "#host/" + from }));
    }
  }
  const kinds = { rtt1: "below 0.5 ms", rtt2: "below 2 ms", rtt3: "below 10 ms", rtt4: "10 ms and more", lossy: "some lost", problem: "no answer, or a finding", free: "not tried" };
  return h("div", { class: "map" },
    h("p", { class: "legend" }, Object.entries(kinds).map(([kind, words]) => h("span", {}, h("i", { class: "cell " + kind }), " ", words))),
    h("div", { class: "grid dense", role: "group", tabindex: 0, "data-columns": hosts.length, "aria-label": `${hosts.length} hosts by ${hosts.length}; arrow keys walk, Enter opens` }, cells),
    h("p", { class: "dim told", "aria-live": "polite" }, cells.find((cell) => cell.classList.contains("at"))?.title ?? "Point at a cell, or walk with the arrow keys."));
}

// tunnelsOf are those to and from one host.
export function tunnelsOf(store, key, state) {
  const others = sorted(store.hosts, ([, host]) => host.name).map(([other]) => other)
    .filter((other) => store.between.has(key + "/" + other) || store.between.has(other + "/" + key));
  if (others.length === 0) return null;
  const fold = "tunnels/" + key, open = state.unfolded.get(fold) ?? others.length <= 12;
  const cell = (from, to) => { const it = condition(store, from, to); return h("span", { class: it.kind, title: it.words }, it.short); };
  return h("details", { "data-key": fold, "data-fold": fold, open }, h("summary", {}, "Tunnels ", h("span", { class: "dim" }, others.length)),
    open && table(["host", "ms from here", "ms to here"], others.map((other) => ({ key: other, cells: [hostLink(store, other), cell(key, other), cell(other, key)] }))));
}
