// The frame: bar, navigation, the view that the address names, keys, actions.

import {render} from "./vendor/preact.js";
import {begin, changed, go, state, subscribe, token} from "./store.js";
import {html, Mark, serverTone, to, useEffect, useState, Word, Problem, Empty} from "./parts.js";
import {Fleet, ServerHead, Models} from "./servers.js";
import {Model} from "./model.js";
import {Releases, Release} from "./releases.js";
import {Metrics} from "./metrics.js";
import {Logs} from "./logs.js";
import {ActionLog} from "./actions.js";

const TABS = [["Models", ""], ["Releases", "releases"], ["Metrics", "metrics"], ["Logs", "logs"]];

function route() {
  const parts = state.path.split("/").filter(Boolean).map(decodeURIComponent);
  if (!parts.length) return state.servers.size === 1 ? {server: [...state.servers.keys()][0], tab: ""} : {};
  if (parts[0] !== "servers" || parts.length > 4) return {lost: true};
  const [, server, kind = "", item] = parts;
  if (!["", "models", "releases", "metrics", "logs"].includes(kind)) return {lost: true};
  return {server, tab: kind === "models" ? "" : kind, model: kind === "models" ? item : undefined, release: kind === "releases" ? item : undefined};
}

function theme() {
  localStorage.setItem("tfs-theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  window.applyTheme();
}

function Bar({at}) {
  const connection = {live: ["ok", "live"], lost: ["bad", "connection lost"], connecting: ["off", "connecting"]}[state.connection];
  return html`<header class="bar">
    <a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="24" height="24" />tfs</a>
    <nav aria-label="Servers" class="serverlist">${state.servers.size > 1 && [...state.servers.values()].map((server) => html`
      <a key=${server.name} href=${to(server.name)} aria-current=${at.server === server.name ? "page" : undefined}><${Mark} tone=${serverTone(server)[0]} label=${serverTone(server)[1]} />${server.name}</a>`)}</nav>
    <span class="spring"></span>
    <span class="mode">${state.actions ? token() ? "actions allowed" : "no token: read only" : "read only"}</span>
    <span role="status" class="connection"><${Word} tone=${connection[0]}>${connection[1]}<//></span>
    <button type="button" class="quiet" onClick=${theme} aria-label="Switch between light and dark" title="Light or dark (t)">◐</button>
    <button type="button" class="quiet" onClick=${() => document.getElementById("keys").showModal()} aria-label="Keys" title="Keys (?)">?</button>
  </header>`;
}

const KEYS = [["/", "filter"], ["1 … 4", "models, releases, metrics, logs"], ["↑ ↓", "next row of a table"], ["Enter", "open it"], ["u", "one level up"], ["t", "light or dark"], ["?", "this list"]];

const Keys = () => html`<dialog id="keys" aria-labelledby="keys-title"><h2 id="keys-title">Keys</h2>
  <dl>${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
  <form method="dialog"><button>Close</button></form></dialog>`;

function View({at}) {
  if (state.failure) return html`<h1>tfs</h1><${Problem} error=${state.failure} />`;
  if (!state.servers.size) return html`<p class="muted loading">Looking …</p>`;
  if (at.lost || (at.server && !state.servers.has(at.server))) return html`<h1>Not found</h1><${Empty} title="There is nothing at this address."><a href="/">All servers</a><//>`;
  if (!at.server) return html`<${Fleet} servers=${[...state.servers.values()]} />`;
  const server = state.servers.get(at.server);
  return html`<${ServerHead} server=${server} showing=${at.release} />
    <nav class="tabs" aria-label="Of this server">${TABS.map(([name, tab]) => html`<a key=${tab} href=${to(server.name, ...(tab ? [tab] : []))} aria-current=${at.tab === tab ? (at.model || at.release ? "true" : "page") : undefined}>${name}</a>`)}</nav>
    ${at.model ? html`<${Model} key=${at.model} server=${server} name=${at.model} />`
      : at.release ? html`<${Release} key=${at.release} server=${server} id=${at.release} />`
      : at.tab === "releases" ? html`<${Releases} server=${server} />`
      : at.tab === "metrics" ? html`<${Metrics} key=${server.name} server=${server} />`
      : at.tab === "logs" ? html`<${Logs} key=${server.name} server=${server} />`
      : html`<${Models} key=${server.name} server=${server} />`}`;
}

function App() {
  const [, again] = useState(0);
  useEffect(() => subscribe(() => again((n) => n + 1)), []);
  const at = route();
  const server = state.servers.get(at.server);
  useEffect(() => { document.title = [at.model || at.release, server && `${server.name} ${serverTone(server)[1]}`, "tfs"].filter(Boolean).join(" · "); });
  return html`<a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); document.getElementById("main").focus(); }}>Skip to content</a>
    <${Bar} at=${at} /><main id="main" tabindex="-1"><${View} at=${at} /></main><${ActionLog} /><${Keys} />`;
}

addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (typing) { if (event.key === "Escape") event.target.blur(); return; }
  const at = route(), rows = [...document.querySelectorAll("[data-row]")], here = rows.indexOf(document.activeElement);
  const doing = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    "?": () => document.getElementById("keys").showModal(),
    t: theme,
    u: () => go(at.model ? to(at.server) : at.release ? to(at.server, "releases") : "/"),
    ArrowDown: rows.length ? () => rows[Math.min(rows.length - 1, here + 1)].focus() : null,
    ArrowUp: rows.length && here >= 0 ? () => rows[Math.max(0, here - 1)].focus() : null,
  }[event.key] ?? (at.server && TABS[event.key - 1] ? () => go(to(at.server, ...(TABS[event.key - 1][1] ? [TABS[event.key - 1][1]] : []))) : null);
  if (doing) { event.preventDefault(); doing(); }
});

render(html`<${App} />`, document.getElementById("app"));
begin().then(changed);
