// The store has what the server told: objects by kind and key, and who belongs to whom.
// apply() merges one event and costs as much as changed.

const kinds = ["hosts", "networks", "containers", "addresses", "tunnels", "findings", "traffic", "rates", "talk"];

export class Store {
  constructor() { this.clear(); }

  clear() {
    for (const kind of kinds) this[kind] = new Map();
    this.agent = {};
    this.doctor = {};
    this.here = {};
    this.counting = {};
    this.between = new Map();   // tunnels' keys, by FROM/TO
    this.about = new Map();     // findings, by what they are about
    this.onHost = new Map();    // containers' keys, by host
    this.onNetwork = new Map(); // by network
    this.inPool = new Map();    // addresses' keys, by pool
    this.atAddress = new Map(); // containers' keys, by NETWORK/ADDRESS
  }

  // apply gives the kinds that it touched.
  apply(delta) {
    const touched = new Set();
    if (delta.all) { this.clear(); touched.add("all"); }
    const set = (key, object) => { this.set(key, object); touched.add(key.split("/", 1)[0]); };
    for (const key of delta.gone ?? []) set(key, undefined);
    for (const [key, object] of Object.entries(delta.put ?? {})) set(key, object);
    return touched;
  }

  set(path, object) {
    const slash = path.indexOf("/");
    if (slash < 0) { this[path] = object ?? {}; return; }
    const kind = path.slice(0, slash), key = path.slice(slash + 1), table = this[kind];
    if (!table) return; // of a newer server
    this.index(kind, key, table.get(key), false);
    if (object === undefined) table.delete(key);
    else { table.set(key, object); this.index(kind, key, object, true); }
  }

  index(kind, key, object, there) {
    if (!object) return;
    if (kind === "containers") {
      note(this.onHost, object.host, key, there);
      note(this.onNetwork, object.network, key, there);
      for (const prefix of object.addresses ?? []) {
        const at = `${object.network}/${prefix.slice(0, prefix.indexOf("/"))}`;
        if (there) this.atAddress.set(at, key); else if (this.atAddress.get(at) === key) this.atAddress.delete(at);
      }
    }
    if (kind === "findings") {
      for (const about of object.about ?? []) {
        note(this.about, about, key, there);
        const [what, ...ends] = about.split("/");
        if (what === "tunnel") for (const end of ends) note(this.about, "end/" + end, key, there);
      }
    }
    if (kind === "tunnels") note(this.between, key.split("/", 2).join("/"), key, there);
    if (kind === "addresses") note(this.inPool, key.slice(0, key.indexOf("/")), key, there);
  }

  hostName(key) { return this.hosts.get(key)?.name ?? key; }
  networkName(id) { return this.networks.get(id)?.name ?? id.slice(0, 12); }
  containerName(key) { const c = this.containers.get(key); return c ? c.name || c.endpoint.slice(0, 12) : key; }
  containersOn(index, key) { return this[index].get(key) ?? new Set(); }

  // findingsAt are those about a host or a tunnel that ends there.
  findingsAt(host) { return [...this.findingsOn("host", host), ...this.findingsOn("end", host)]; }

  // findingsOn are those about an object, such as "host" and its key.
  findingsOn(kind, key) { return [...this.about.get(kind + "/" + key) ?? []].map((finding) => this.findings.get(finding)); }
}

function note(index, group, key, there) {
  let keys = index.get(group);
  if (!keys) index.set(group, keys = new Set());
  if (there) keys.add(key); else keys.delete(key);
  if (keys.size === 0) index.delete(group);
}

const collator = new Intl.Collator("en", { numeric: true });
export const compare = (a, b) => collator.compare(a, b);

// sorted gives a map's entries by the name of each.
export const sorted = (map, name) => [...map].sort((a, b) => compare(name(a), name(b)));
