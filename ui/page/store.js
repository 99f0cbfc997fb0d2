// The store has what the server told: objects by kind and key, and who belongs to whom.
// apply() merges one event and costs as much as changed.

const kinds = ["hosts", "networks", "containers", "addresses", "tunnels", "findings", "traffic"];

export class Store {
  constructor() { this.clear(); }

  clear() {
    for (const kind of kinds) this[kind] = new Map();
    this.agent = {};
    this.onHost = new Map();    // containers' keys, by host
    this.onNetwork = new Map(); // by network
    this.inPool = new Map();    // addresses' keys, by pool
  }

  apply(delta) {
    if (delta.all) this.clear();
    for (const key of delta.gone ?? []) this.set(key, undefined);
    for (const [key, object] of Object.entries(delta.put ?? {})) this.set(key, object);
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
    }
    if (kind === "addresses") note(this.inPool, key.slice(0, key.indexOf("/")), key, there);
  }

  hostName(key) { return this.hosts.get(key)?.name ?? key; }
  networkName(id) { return this.networks.get(id)?.name ?? id.slice(0, 12); }
  containerName(key) { const c = this.containers.get(key); return c ? c.name || c.endpoint.slice(0, 12) : key; }
  containersOn(index, key) { return this[index].get(key) ?? new Set(); }

  // findingsOn are those about an object, such as "host" and its key.
  findingsOn(kind, key) { return [...this.findings.values()].filter((f) => (f.about ?? []).includes(kind + "/" + key)); }
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
