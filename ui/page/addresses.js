// A subnet's addresses as a map: a cell for each, in blocks of 256. Blocks that nobody has
// an address of are left out, and of IPv6 all that have no record.

import { h } from "./dom.js";

export const number = (address) => address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
export const text = (n) => [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");
export const isIPv4 = (address) => /^\d{1,3}(\.\d{1,3}){3}$/.test(address) && address.split(".").every((byte) => Number(byte) < 256);

const words = { gateway: "the gateway", aux: "an aux address", foreign: "a machine's on the wire", unreadable: "a record that cannot be read" };

// status says how an address is, and what it is shown as.
export function status(store, subnet, address) {
  const it = store.addresses.get(subnet.pool + "/" + address);
  if (!it) return { cell: "free", words: "free" };
  if (it.kind === "free") {
    const rests = it.rests_until && Date.parse(it.rests_until) > Date.now();
    return rests ? { cell: "resting", words: "resting until " + new Date(it.rests_until).toLocaleTimeString() } : { cell: "free", words: "free" };
  }
  if (it.kind !== "endpoint") return { cell: it.kind === "gateway" ? "gateway" : "other", words: [words[it.kind] ?? it.kind, it.name].filter(Boolean).join(" ") };
  const network = subnet.network, key = network && it.container ? network + "/" + it.container : "";
  const live = store.containers.has(key);
  return { cell: live ? "used" : "held", words: [it.name || "a container", "on", store.hostName(it.host)].join(" ") + (live ? "" : ", which is not there"), href: live ? "#container/" + key : "" };
}

export function map(store, state, subnet) {
  const owned = { ...subnet, network: [...store.networks].find(([, n]) => n.subnets.some((s) => s.pool === subnet.pool))?.[0] };
  const known = [...store.inPool.get(subnet.pool) ?? []].map((key) => key.slice(key.indexOf("/") + 1));
  const title = h("h3", {}, "Addresses of " + subnet.prefix);
  const key = h("p", { class: "legend" }, ["used", "gateway", "other", "held", "resting", "free"].map((cell) => h("span", {}, h("i", { class: "cell " + cell }), " ", cell)));
  if (!isIPv4(subnet.first)) {
    return [title, key, grid(store, state, owned, known.sort(), subnet.prefix)];
  }
  const first = number(subnet.first), last = number(subnet.last);
  const blocks = new Map();
  if (last - first < 256) blocks.set(Math.floor(first / 256), 0);
  for (const address of known) {
    const block = Math.floor(number(address) / 256);
    blocks.set(block, (blocks.get(block) ?? 0) + 1);
  }
  const parts = [...blocks].sort(([a], [b]) => a - b).map(([block, n]) => {
    const from = Math.max(first, block * 256), to = Math.min(last, block * 256 + 255);
    const cells = () => grid(store, state, owned, Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => text(from + i)), text(from));
    if (last - first < 256) return cells();
    const id = subnet.pool + "/" + block, open = state.unfolded.get(id) ?? blocks.size <= 4;
    return h("details", { "data-key": id, "data-fold": id, open }, h("summary", {}, `${text(from)} to ${text(to)} `, h("span", { class: "dim" }, `${n} with a record`)), open && cells());
  });
  return [title, key, parts, last - first >= 256 && h("p", { class: "dim" }, "All other addresses are free.")];
}

// grid is walked through with the arrow keys; the line below tells of the cell.
function grid(store, state, subnet, addresses, id) {
  if (addresses.length === 0) return h("p", { class: "dim" }, "No address is used.");
  const at = state.cell && addresses.includes(state.cell) ? state.cell : "";
  const told = at ? `${at}: ${status(store, subnet, at).words}` : "Point at a cell, or walk with the arrow keys.";
  return h("div", { class: "map", "data-key": "map/" + id },
    h("div", { class: "grid", role: "group", tabindex: 0, "aria-label": `${addresses.length} addresses from ${addresses[0]}; arrow keys walk, Enter opens`, "data-grid": id },
      addresses.map((address) => {
        const it = status(store, subnet, address);
        return h("i", { "data-key": address, class: `cell ${it.cell}${address === at ? " at" : ""}`, "data-href": it.href || null, title: `${address}: ${it.words}` });
      })),
    h("p", { class: "dim told", "aria-live": "polite" }, told));
}
