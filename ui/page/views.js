// The views of hosts, networks and containers: each makes a tree of what the store has.

import { h, link } from "./dom.js";
import { compare, sorted } from "./store.js";
import { map } from "./addresses.js";
import { findingsList, badge, tunnelsOf } from "./links.js";
import { talkOn, talkWith } from "./talk.js";

const most = 500; // rows of one group

export const hostLink = (store, key) => link("#host/" + key, store.hostName(key));
export const networkLink = (store, id) => link("#network/" + id, store.networkName(id));
export const containerLink = (store, key) => link("#container/" + key, store.containerName(key));
export const plain = (prefix) => prefix.slice(0, prefix.indexOf("/"));
export const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// rate is in bits a second, for people.
export function rate(bytes) {
  let bits = bytes * 8, unit = 0;
  while (bits >= 1000 && unit < 4) { bits /= 1000; unit++; }
  return `${bits.toFixed(bits < 10 && unit ? 1 : 0)} ${["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"][unit]}`;
}

function facts(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// countBy counts containers by what of says, as sorted entries.
function countBy(store, keys, of) {
  const counts = new Map();
  for (const key of keys) { const group = of(store.containers.get(key)); counts.set(group, (counts.get(group) ?? 0) + 1); }
  return counts;
}

const alive = (host) => h("span", { class: host.alive_since ? "ok" : "gone" }, host.alive_since ? "alive" : "not alive");

export function hosts(store, state) {
  let all = sorted(store.hosts, ([, host]) => host.name);
  if (state.wrong) all = all.filter(([key, host]) => !host.alive_since || store.findingsAt(key).length);
  return [
    filterWrong(state, "hosts"),
    h("ul", { class: "cards" }, all.map(([key, host]) => {
      const keys = store.containersOn("onHost", key);
      const on = sorted(countBy(store, keys, (c) => c.network), ([id]) => store.networkName(id));
      return h("li", { "data-key": key }, h("a", { class: "card", href: "#host/" + key },
        h("strong", {}, host.name), " ", alive(host), badge(store.findingsAt(key)),
        h("span", { class: "dim" }, `${host.vtep} · ${count(keys.size, "container")}${key === store.here.host ? " · here" : ""}`),
        h("span", { class: "chips" }, on.slice(0, 6).map(([id, n]) => h("span", { class: "chip" }, `${store.networkName(id)} ${n}`)), on.length > 6 && h("span", { class: "dim" }, `and ${on.length - 6} more`))));
    })),
    all.length === 0 && nothing(state.wrong ? "Nothing is wrong with a host." : "The cluster has no hosts."),
  ];
}

export function filterWrong(state, what) {
  return h("p", { class: "tools" }, h("label", {}, h("input", { type: "checkbox", "data-toggle": "wrong", checked: state.wrong }), ` only ${what} with something wrong`));
}

export const nothing = (text) => h("p", { class: "dim" }, text);

export function host(store, state, key) {
  const it = store.hosts.get(key);
  if (!it) return [h("h2", {}, key), nothing("The cluster has no such host, or no more.")];
  return [
    h("h2", {}, it.name, " ", alive(it)),
    facts([["tunnels end at (VTEP)", it.vtep], ["MTU", String(it.mtu)], ["causeway", it.version], ["alive since", it.alive_since ? new Date(it.alive_since).toLocaleString() : ""]]),
    findingsList(store, store.findingsAt(key)),
    tunnelsOf(store, key, state),
    groups(store, state, "onHost", key, "network", networkLink),
  ];
}

// groups lists an object's containers, by the other thing that they belong to.
function groups(store, state, index, key, by, title) {
  const keys = store.containersOn(index, key);
  const fixed = by === "host" ? "network" : "host";
  return [h("h3", {}, count(keys.size, "container")), grouped(store, state, keys, by, title, keys.size <= 200, fixed)];
}

// grouped folds containers by host or network; fixed is what all of them have in common.
function grouped(store, state, keys, by, title, open, fixed) {
  const names = by === "host" ? (k) => store.hostName(k) : (k) => store.networkName(k);
  const of = new Map();
  for (const key of keys) {
    const group = store.containers.get(key)[by];
    if (!of.has(group)) of.set(group, []);
    of.get(group).push(key);
  }
  return sorted(of, ([group]) => names(group)).map(([group, members]) => {
    const id = by + "/" + group, unfolded = state.unfolded.get(id) ?? open;
    return h("details", { "data-key": id, "data-fold": id, open: unfolded },
      h("summary", {}, names(group), " ", h("span", { class: "dim" }, members.length)),
      unfolded && h("p", { class: "dim" }, `${by} `, title(store, group)),
      unfolded && rows(store, members, ["host", "network"].filter((column) => column !== by && column !== fixed)));
  });
}

// table's cells are their row's only child or an element; small screens show titles beside them.
export function table(titles, rows) {
  return h("table", {}, h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, rows.map(({ key, cells }) => h("tr", { "data-key": key }, cells.map((cell, i) => h("td", { "data-title": titles[i] }, cell))))));
}

function rows(store, keys, others) {
  keys = keys.sort((a, b) => compare(store.containerName(a), store.containerName(b)));
  const measured = keys.some((key) => store.containers.get(key).host === store.here.host);
  const links = { host: (it) => hostLink(store, it.host), network: (it) => networkLink(store, it.network) };
  return [
    table(["container", ...others, "addresses", ...measured ? ["gets", "sends"] : [], "MAC"], keys.slice(0, most).map((key) => {
      const it = store.containers.get(key);
      return { key, cells: [containerLink(store, key), ...others.map((other) => links[other](it)), (it.addresses ?? []).map(plain).join(", "), ...measured ? rates(store, key, it) : [], h("span", { class: "dim" }, it.mac)] };
    })),
    keys.length > most && nothing(`${keys.length - most} more: search for them.`),
  ];
}

// rates are a container's, where its host is the one that the page is of.
function rates(store, key, it) {
  if (it.host !== store.here.host) return ["–", "–"];
  const { received_bytes, sent_bytes } = store.rates.get(key) ?? { received_bytes: 0, sent_bytes: 0 };
  return [rate(received_bytes), rate(sent_bytes)];
}

export function networks(store, state) {
  let all = sorted(store.networks, ([, network]) => network.name);
  if (state.wrong) all = all.filter(([id]) => store.findingsOn("network", id).length);
  const here = store.here.host ? store.hostName(store.here.host) : "this host";
  return [
    filterWrong(state, "networks"),
    table(["network", "mode", "subnets", "addresses used", "containers", "hosts", `to ${here}`, `from ${here}`], all.map(([id, network]) => {
      const keys = store.containersOn("onNetwork", id), traffic = store.traffic.get(id);
      return { key: id, cells: [[networkLink(store, id), badge(store.findingsOn("network", id))], network.mode + (network.encrypted ? ", encrypted" : ""),
        network.subnets.map((s) => s.prefix).join(", "), network.subnets.map((s) => usage(store, s)), keys.size, countBy(store, keys, (c) => c.host).size,
        traffic ? rate(traffic.received_bytes) : "–", traffic ? rate(traffic.sent_bytes) : "–"] };
    })),
    all.length === 0 && nothing(state.wrong ? "Nothing is wrong with a network." : "The cluster has no networks."),
  ];
}

// used counts the addresses of a pool that somebody has.
export function used(store, pool) {
  let n = 0;
  for (const key of store.inPool.get(pool) ?? []) if (store.addresses.get(key).kind !== "free") n++;
  return n;
}

function usage(store, subnet) {
  const n = used(store, subnet.pool);
  if (subnet.size < 0) return h("span", { class: "usage" }, String(n));
  return h("span", { class: "usage" }, h("meter", { min: 0, max: subnet.size, high: subnet.size * 0.9, optimum: 0, value: n, "aria-label": "addresses used" }), ` ${n} of ${subnet.size}`);
}

export function network(store, state, id) {
  const it = store.networks.get(id);
  if (!it) return [h("h2", {}, id), nothing("The cluster has no such network, or no more.")];
  const traffic = store.traffic.get(id), here = store.hostName(store.here.host ?? "");
  const flow = (bytes, packets) => `${rate(bytes)}, ${packets} packets/s`;
  return [
    h("h2", {}, it.name),
    facts([["mode", it.mode + (it.encrypted ? ", encrypted" : "") + (it.internal ? ", internal" : "")], ["VNI", it.vni ? String(it.vni) : ""], ["ID", id],
      ["MTU", it.mtu ? String(it.mtu) : ""],
      [`to ${here}, over its device`, traffic ? flow(traffic.received_bytes, traffic.received_packets) : ""],
      [`from ${here}`, traffic ? flow(traffic.sent_bytes, traffic.sent_packets) : ""]]),
    findingsList(store, store.findingsOn("network", id)),
    talkOn(store, id),
    it.subnets.map((subnet) => map(store, state, subnet)),
    groups(store, state, "onNetwork", id, "host", hostLink),
  ];
}

export function containers(store, state) {
  const by = state.by, keys = store.containers.keys().toArray();
  return [
    h("fieldset", { class: "tools" }, h("legend", {}, "Grouped by"), ["host", "network"].map((value) =>
      h("label", {}, h("input", { type: "radio", name: "by", value, "data-choose": "by", checked: by === value }), " ", value))),
    grouped(store, state, keys, by, by === "host" ? hostLink : networkLink, keys.length <= 200),
    keys.length === 0 && nothing("No container is on a network of the cluster."),
  ];
}

export function container(store, state, key) {
  const it = store.containers.get(key);
  if (!it) return [h("h2", {}, "A container that stopped"), nothing("It is on the network no more.")];
  const [gets, sends] = it.host === store.here.host ? rates(store, key, it) : [];
  return [
    h("h2", {}, store.containerName(key)),
    facts([["host", hostLink(store, it.host)], ["network", networkLink(store, it.network)], ["addresses", (it.addresses ?? []).join(", ")],
      ["MAC", it.mac], ["gets", gets], ["sends", sends], ["found by", (it.names ?? []).join(", ")], ["endpoint", it.endpoint]]),
    findingsList(store, [...store.findingsAt(it.host), ...store.findingsOn("network", it.network)]),
    talkWith(store, key),
  ];
}
