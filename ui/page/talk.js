// Who talks to whom, as hosts measure it at their containers.

import { h } from "./dom.js";
import { containerLink, hostLink, networkLink, nothing, rate, table } from "./views.js";

const most = 100; // flows of one view

// flows are those that want says yes to, each one way, the busiest first. Where both of its
// ends were measured, the larger figure counts: the other is older, or of what did not arrive.
function flows(store, want) {
  const all = new Map();
  const add = (network, from, to, { bytes, packets }) => {
    const key = `${network} ${from} ${to}`;
    if (bytes > (all.get(key)?.bytes ?? 0)) all.set(key, { key, network, from, to, bytes, packets });
  };
  for (const { network, endpoint, peer, sent, received } of store.talk.values()) {
    const own = `${network}/${endpoint}`, other = store.atAddress.get(`${network}/${peer}`) ?? peer;
    add(network, own, other, sent);
    add(network, other, own, received);
  }
  return [...all.values()].filter(want).sort((a, b) => b.bytes - a.bytes);
}

// talkOf is a table of flows, without the network where all have the same.
function talkOf(store, want, fixed) {
  const found = flows(store, want);
  const end = (key) => store.containers.has(key) ? [containerLink(store, key), " ", h("span", { class: "dim" }, "on ", hostLink(store, store.containers.get(key).host))] : key;
  return [
    found.length > 0 && table(["from", "to", ...fixed ? [] : ["network"], "rate", "packets/s"], found.slice(0, most).map((it) => ({
      key: it.key, cells: [end(it.from), end(it.to), ...fixed ? [] : [networkLink(store, it.network)], rate(it.bytes), String(it.packets)],
    }))),
    found.length > most && nothing(`${found.length - most} more are slower.`),
    found.length === 0 && nothing("Nobody talks."),
  ];
}

export function talk(store) {
  const here = store.here.host ? store.hostName(store.here.host) : "this host", { error } = store.counting;
  return [
    nothing(`Measured all the time on ${here}, and on the others when doctor looks.`),
    error && h("p", { class: "gone" }, `${here} does not measure: ${error}`),
    talkOf(store, () => true),
  ];
}

// talkOn is what is said on a network, talkWith what one container says and hears.
export const talkOn = (store, network) => [h("h3", {}, "Who talks to whom"), talkOf(store, (it) => it.network === network, true)];
export const talkWith = (store, key) => [h("h3", {}, "Talks"), talkOf(store, (it) => it.from === key || it.to === key, true)];
