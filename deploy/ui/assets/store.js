// What the page knows: everything once, then each event. Views subscribe; the address says which view.

export const state = {
  version: "", actions: false, servers: new Map(), recent: new Map(), samples: new Map(),
  connection: "connecting", failure: null, path: location.pathname, now: Date.now(),
};

const listeners = new Set();
let queued = false;

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function changed() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; for (const listener of listeners) listener(); });
}

// -- the token: from the address once, then of this tab alone

function takeToken() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem("tfs-token", found[1]);
    history.replaceState(null, "", location.pathname + location.search);
  }
}
takeToken();
export const token = () => sessionStorage.getItem("tfs-token") || "";

// -- asking

export class Refused extends Error {
  constructor(status, data) { super(data.message || `the page's server answered ${status}`); this.status = status; this.data = data; }
}

async function answered(response) {
  const data = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, data);
  return data;
}

export const get = async (path, options = {}) => answered(await fetch(path, options));

export const post = async (path, body) => answered(await fetch(path, {
  method: "POST", body: JSON.stringify(body),
  headers: {"content-type": "application/json", authorization: `Bearer ${token()}`},
}));

export const serverPath = (server, ...rest) =>
  ["/api/servers", server, ...rest].map((part, i) => i ? encodeURIComponent(part) : part).join("/");

// -- events

const handlers = {
  server: (name, data) => state.servers.set(name, data),
  metrics: (name, data) => { const known = state.samples.get(name); if (known && known.at(-1)?.at !== data.at) state.samples.set(name, [...known, data].slice(-450)); },
  action: (id, data) => state.recent.set(id, data),
};

function listen() {
  const source = new EventSource("/api/events");
  source.onopen = () => { state.connection = "live"; changed(); };
  source.onerror = () => { state.connection = "lost"; changed(); };
  for (const [what, handle] of Object.entries(handlers)) {
    source.addEventListener(what, (event) => { const {name, data} = JSON.parse(event.data); handle(name, data); changed(); });
  }
  addEventListener("pagehide", () => source.close());
}

export async function begin() {
  try {
    const all = await get("/api/state");
    state.version = all.version;
    state.actions = all.actions;
    for (const server of all.servers) state.servers.set(server.name, server);
    for (const action of all.recent) state.recent.set(String(action.id), action);
    listen();
  } catch (error) {
    state.failure = error;
  }
  changed();
}

// -- the address

export function go(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  arrive();
}

function arrive() {
  state.path = location.pathname;
  takeToken();
  scrollTo(0, 0);
  changed();
}

addEventListener("popstate", arrive);
addEventListener("hashchange", takeToken);
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.origin !== location.origin || link.target || link.hash) return;
  event.preventDefault();
  go(link.pathname);
});

setInterval(() => { state.now = Date.now(); changed(); }, 1000);
