// Small things that every view is made of.

import {html, useEffect, useState} from "./vendor/preact.js";
import {state} from "./store.js";

export {html, useEffect, useState};
export {useMemo, useRef} from "./vendor/preact.js";

// -- words

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const secondsSince = (moment) => Math.max(0, (state.now - Date.parse(moment)) / 1000);

export function ago(moment) {
  const seconds = secondsSince(moment);
  return seconds < 5 ? "just now" : `${span(Math.max(1, Math.round(seconds)))} ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit"});
export const when = (moment) => moment ? clock.format(new Date(moment)) : "";

export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return `${count >= 100 || !unit ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : Number(value.toPrecision(3)).toLocaleString("en");
}

// -- marks: a shape and a word beside each colour

const SHAPES = {
  ok: "M3.5 8.5l3 3 6-7", bad: "M4.5 4.5l7 7m0-7l-7 7", warn: "M8 3.5v5.5m0 2.6v.2", run: "M8 2.8a5.2 5.2 0 1 1-5.2 5.2",
  wait: "M5.8 4.5v7m4.4-7v7", off: "M4.5 8h7", todo: "",
};

export const Mark = ({tone, label}) => html`
  <svg class=${`mark ${tone}`} viewBox="0 0 16 16" role=${label ? "img" : undefined} aria-label=${label} aria-hidden=${label ? undefined : "true"}>
    <circle cx="8" cy="8" r="7.2" /><path d=${SHAPES[tone] || ""} /></svg>`;

export const Word = ({tone, children}) => html`<span class=${`word ${tone}`}><${Mark} tone=${tone} />${children}</span>`;

export const Label = ({name, label, canary}) => html`<span class=${`label ${name === label ? "stable" : name === canary ? "canary" : ""}`}>${name}</span>`;

export function Versions({versions, labels = {}, server, dim = false}) {
  if (!versions.length) return html`<span class="muted">nothing</span>`;
  return html`<span class="versions">${versions.map((version) => html`<span class=${`version ${dim ? "dim" : ""}`} key=${version}>
    <b>${version}</b>${Object.entries(labels).filter(([, v]) => v === version).map(([name]) => html`<${Label} name=${name} label=${server.label} canary=${server.canary} />`)}</span>`)}</span>`;
}

export const Command = ({text}) => html`<code class="command">${text}</code>`;

export const Empty = ({title, children}) => html`<div class="empty"><p>${title}</p>${children}</div>`;

export function Problem({error}) {
  const data = error.data || error;
  return html`<div class="notice bad" role="alert"><${Mark} tone="bad" /><div><p>${data.message || String(error)}</p>${data.hint && html`<p class="muted">${data.hint}</p>`}</div></div>`;
}

// -- links

export const to = (server, ...rest) => ["/servers", server, ...rest].map((part, i) => i ? encodeURIComponent(part) : part).join("/");

// -- asking again whenever `keys` change; what was there stays until the answer has come

export function useAsked(ask, keys) {
  const [asked, set] = useState({data: null, error: null});
  useEffect(() => {
    let current = true;
    ask().then((data) => current && set({data, error: null}), (error) => current && set((before) => ({...before, error})));
    return () => { current = false; };
  }, keys);
  return asked;
}

// -- what the values mean

export const modelsOf = (server) => server.status?.models ?? [];

export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export const openRelease = (server, model) => server.releases.findLast((r) => r.outcome === "open" && (!model || r.model === model));

export function releaseTone(release, server) {
  if (release.outcome === "done") return ["ok", "done"];
  if (release.outcome === "undone") return ["bad", "undone"];
  if (release.paused) return ["wait", `waits before ${STEP_NAMES[release.paused] || release.paused}`];
  if (release.undoing) return ["warn", "going back"];
  return server.changing ? ["run", "running"] : ["warn", "left unfinished"];
}

export const STEP_NAMES = {load: "load", canary: "canary", gate: "smoke test", compare: "comparison", bake_before: "watching before promotion",
  promote: "promotion", confirm: "confirmation", bake_after: "watching after promotion", unload: "unloading"};

// Where a model stands, from four sources; the wanted one is what the ledger knows to be good, else the spec
export function places(model, server) {
  const apart = openRelease(server, model.name) ? "moving" : "differs";
  const wanted = model.ledger ?? model.spec;
  const judged = (value, fallback) => value === null || value === undefined ? fallback : same(value, wanted) ? "ok" : apart;
  return [
    ["spec", model.spec, model.ledger && !same(model.spec, model.ledger) ? "superseded" : "ok"],
    ["ledger", model.ledger, model.ledger ? "ok" : "none"],
    ["file", model.file, judged(model.file, "none")],
    ["live", model.live, judged(model.live, "none")],
  ];
}

export const serving = (value) => value ? `${value.versions.join(", ") || "nothing"}${Object.entries(value.labels).map(([k, v]) => `, ${k} on ${v}`).join("")}` : "says nothing";

export function modelTone(model, server) {
  if (!server.status?.running) return ["off", "not served"];
  const release = openRelease(server, model.name);
  if (release) return releaseTone(release, server);
  if (model.problems.length) return model.served.length ? ["warn", "not as wanted"] : ["bad", "not served"];
  if (server.status.drift.some((d) => d.model === model.name)) return ["warn", "drift"];
  return ["ok", "served"];
}

export function serverTone(server) {
  const status = server.status;
  if (!status) return ["bad", "unknown"];
  if (status.running === null) return ["warn", "not known"];
  if (!status.running) return "returncode" in status ? ["bad", "ended"] : ["off", "stopped"];
  if (!status.ready) return ["bad", "not ready"];
  return status.drift.some((d) => d.kind !== "release") ? ["warn", "ready, with drift"] : ["ok", "ready"];
}
