// Search over names, addresses, MACs and IDs. The best come first, and no more than can be
// read are shown.

import { h } from "./dom.js";
import { compare } from "./store.js";
import { isIPv4, number, status } from "./addresses.js";

const most = 50;

// score is less the better texts match; none does: Infinity.
function score(texts, words) {
  let best = Infinity;
  for (const text of texts) {
    if (!text) continue;
    const at = text.toLowerCase().indexOf(words);
    if (at < 0) continue;
    best = Math.min(best, text.length === words.length ? 0 : at === 0 ? 1 : 2);
  }
  return best;
}

export function find(store, words) {
  words = words.trim().toLowerCase();
  const found = [];
  const add = (kind, name, more, href, ...texts) => {
    const points = score(texts, words);
    if (points < Infinity) found.push({ kind, name, more, href, points });
  };
  for (const [key, it] of store.hosts) add("host", it.name, it.vtep, "#host/" + key, it.name, key, it.vtep);
  for (const [id, it] of store.networks) add("network", it.name, it.subnets.map((s) => s.prefix).join(", "), "#network/" + id, it.name, id, ...it.subnets.map((s) => s.prefix));
  for (const [key, it] of store.containers) {
    const addresses = (it.addresses ?? []).map((prefix) => prefix.slice(0, prefix.indexOf("/")));
    add("container", store.containerName(key), `${store.networkName(it.network)} on ${store.hostName(it.host)}, ${addresses.join(", ")}`,
      "#container/" + key, it.name, it.endpoint, it.mac, ...(it.names ?? []), ...addresses);
  }
  if (isIPv4(words)) found.push(...addressesAt(store, words));
  return found.sort((a, b) => a.points - b.points || compare(a.name, b.name) || compare(a.more, b.more));
}

// addressesAt tells of an address on each network that it is of, used or not.
function addressesAt(store, words) {
  const at = number(words), found = [];
  for (const [id, network] of store.networks) {
    for (const subnet of network.subnets) {
      if (!isIPv4(subnet.first) || at < number(subnet.first) || at > number(subnet.last)) continue;
      const it = status(store, { ...subnet, network: id }, words);
      if (it.cell !== "used") found.push({ kind: "address", name: words, more: `of ${network.name}: ${it.words}`, href: "#network/" + id, points: 0 });
    }
  }
  return found;
}

export function results(store, words) {
  const found = find(store, words);
  return [
    h("h2", {}, `${found.length} found`),
    h("ul", { class: "results" }, found.slice(0, most).map((it) => h("li", { "data-key": it.href + it.kind + it.more },
      h("a", { href: it.href }, h("span", { class: "chip" }, it.kind), " ", h("strong", {}, it.name), " ", h("span", { class: "dim" }, it.more))))),
    found.length > most && h("p", { class: "dim" }, `${found.length - most} more: type more of the name.`),
  ];
}
