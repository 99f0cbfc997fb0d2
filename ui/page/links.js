// Tunnels between hosts, and what doctor found.

import { h, link } from "./dom.js";
import { compare } from "./store.js";

export function badge(findings) {
  if (findings.length === 0) return null;
  const problem = findings.some((f) => f.severity === "problem");
  return h("span", { class: "badge " + (problem ? "problem" : "warning") }, `${findings.length} ${problem ? "problem" : "warning"}${findings.length === 1 ? "" : "s"}`);
}

export function findingsList(store, findings) {
  const order = { problem: 0, warning: 1 };
  const all = [...new Set(findings)].sort((a, b) => order[a.severity] - order[b.severity] || compare(a.host, b.host) || compare(a.cause, b.cause));
  if (all.length === 0) return null;
  return h("ul", { class: "findings" }, all.map((f) => h("li", { class: f.severity },
    h("p", {}, h("strong", {}, `${f.severity} on ${f.host}: `), f.cause),
    h("p", { class: "dim" }, f.evidence), h("p", {}, "Remedy: ", f.remedy),
    h("p", { class: "dim" }, (f.about ?? []).map((about) => [aboutLink(store, about), " "])))));
}

function aboutLink(store, about) {
  const [kind, key, to] = about.split("/");
  if (kind === "host") return link("#host/" + key, "host " + store.hostName(key));
  if (kind === "network") return link("#network/" + key, "network " + store.networkName(key));
  return link("#tunnels", `${store.hostName(key)} → ${store.hostName(to)}`);
}
