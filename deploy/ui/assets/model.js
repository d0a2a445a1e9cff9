// One model: where each version stands, what got the traffic when, what its versions answer.

import {get, serverPath} from "./store.js";
import {ago, bytes, Empty, html, Label, Mark, modelsOf, modelTone, number, openRelease, places, plural, Problem, same, serving, to, useAsked, when, Word} from "./parts.js";
import {ActionButton} from "./actions.js";
import {Ribbon, ReleaseTable} from "./releases.js";

const STATES = {AVAILABLE: "ok", START: "run", LOADING: "run", UNLOADING: "run", END: "off", UNKNOWN: "off"};

export function Model({server, name}) {
  const model = modelsOf(server).find((m) => m.name === name);
  if (!model) return html`<${Empty} title=${`${server.name} has no model “${name}”.`}><a href=${to(server.name)}>Its models</a><//>`;
  const [tone, word] = modelTone(model, server);
  const releases = server.releases.filter((r) => r.model === name).reverse();
  const drift = (server.status?.drift ?? []).filter((d) => d.model === name && d.kind !== "release");
  return html`<div class="title"><h2>${name}</h2><${Word} tone=${tone}>${word}<//><span class="spring"></span>
      ${!openRelease(server) && html`<${ActionButton} verb="rollback" server=${server} model=${name} />`}</div>
    ${server.status?.running && model.problems.map((problem) => html`<p class="notice bad" key=${problem}><${Mark} tone="bad" /><span>${problem}</span></p>`)}
    ${drift.map((d) => html`<p class="notice warn" key=${d.message}><${Mark} tone="warn" /><span>${d.message}</span></p>`)}
    <section><h3>Where each version stands</h3><${Matrix} server=${server} model=${model} /></section>
    <section><h3>What <${Label} name=${server.label} label=${server.label} /> has pointed to</h3><${Ribbon} server=${server} model=${name} /></section>
    <section><h3>Golden answers</h3><${Answers} server=${server} model=${model} /></section>
    <section><h3>Releases</h3>${releases.length ? html`<${ReleaseTable} server=${server} releases=${releases} />` : html`<${Empty} title="No release yet." />`}</section>`;
}

const WHAT = {spec: "serving.yaml, with what is on disk", ledger: "known good since the last release", file: "the server's config file", live: "what the server answers now"};

function Matrix({server, model}) {
  const sources = places(model, server), states = Object.fromEntries(model.versions.map((v) => [v.version, v]));
  const all = new Set([...(model.on_disk ?? []), ...model.versions.map((v) => v.version), ...sources.flatMap(([, value]) => value?.versions ?? [])]);
  const versions = [...all].sort((a, b) => b - a);
  if (!versions.length) return html`<${Empty} title="There is no version on disk and none is served." />`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Where each version stands"><table class="matrix"><thead><tr><th>Version</th><th>On disk</th>${sources.map(([name, , judged]) => html`<th key=${name} class=${judged} title=${WHAT[name]}>${name}${judged === "differs" ? html` <span class="flag">differs</span>` : judged === "moving" ? html` <span class="flag quietly">moving</span>` : judged === "superseded" ? html` <span class="flag quietly">superseded</span>` : ""}</th>`)}<th>State on the server</th></tr></thead>
    <tbody>${versions.map((version) => {
      const state = states[version], failed = state?.state === "END" && state.error;
      return html`<tr key=${version}><th scope="row">${version}</th><td>${model.on_disk?.includes(version) ? html`<${Mark} tone="ok" label="on disk" />` : html`<span class="bad">gone</span>`}</td>
        ${sources.map(([name, value, judged]) => html`<td key=${name} class=${judged}>${value?.versions.includes(version) ? html`<span class=${`dot ${judged}`}><span class="hidden">yes</span></span>${Object.entries(value.labels).filter(([, v]) => v === version).map(([label]) => html`<${Label} key=${label} name=${label} label=${server.label} canary=${server.canary} />`)}` : value ? html`<span class="muted" aria-label="no">·</span>` : html`<span class="muted" aria-label="says nothing">–</span>`}</td>`)}
        <td>${state ? html`<${Word} tone=${failed ? "bad" : STATES[state.state]}>${failed ? "failed" : state.state === "END" ? "unloaded" : state.state.toLowerCase()}<//>${failed && html`<span class="why">${state.error}</span>`}` : html`<span class="muted">not loaded</span>`}</td></tr>`;
    })}</tbody></table></div>`;
}

function Answers({server, model}) {
  const asked = useAsked(() => get(serverPath(server.name, "models", model.name, "answers")), [server.name, model.name, (model.on_disk ?? []).join()]);
  if (asked.error && !asked.data) return html`<${Problem} error=${asked.error} />`;
  if (!asked.data) return html`<p class="muted loading">Reading …</p>`;
  const {versions, drift, cases, more} = asked.data;
  if (!versions.some((v) => v.goldens)) return html`<${Empty} title="No version of it has recorded answers."><p class="muted">Versions exported with <code>tfs export</code> have them; <code>tfs goldens add</code> records some for others.</p><//>`;
  return html`<${DriftChart} versions=${versions} drift=${drift} />
    ${!!more && html`<p class="muted">The newest ${versions.length} versions; ${plural(more, "older one")} left out.</p>`}
    ${!!cases.length && html`<${Cases} cases=${cases} versions=${versions.map((v) => v.version)} />`}`;
}

// Each version a station, between two of them how far their answers to the same requests are apart
function DriftChart({versions, drift}) {
  const between = Object.fromEntries(drift.map((d) => [d.after, d]));
  return html`<ol class="stations">${versions.map((v) => {
    const d = between[v.version];
    return html`<li key=${v.version}>${d && html`<${Gap} gap=${d} />`}
      <div class="station"><b>${v.version}</b><span>${v.error ? html`<span class="bad">${v.error}</span>` : plural(v.goldens, "golden")}</span><span class="muted">${[v.created && when(v.created), v.size && bytes(v.size)].filter(Boolean).join(" · ")}</span></div></li>`;
  })}</ol>`;
}

function Gap({gap}) {
  const d = gap.drift;
  if (!d) return html`<div class="gap off"><span>no request in common</span></div>`;
  const worst = Math.max(0, ...d.outputs.map((o) => o.max)), flips = d.outputs.reduce((n, o) => n + o.flips, 0), decisions = d.outputs.reduce((n, o) => n + o.decisions, 0);
  const changed = d.outputs.reduce((n, o) => n + o.changed, 0), values = d.outputs.reduce((n, o) => n + o.values, 0);
  const tone = !changed ? "ok" : d.within ? "ok" : flips ? "bad" : "warn";
  const text = !changed ? "the same answers" : `up to ${number(worst)} apart`;
  return html`<div class=${`gap ${tone}`}><span><${Mark} tone=${tone} />${text}</span>
    <span class="muted">${plural(gap.requests, "request")}${changed ? `, ${changed} of ${values} values changed` : ""}${decisions ? `, ${flips} of ${decisions} decisions` : ""}${changed ? d.within ? ", within tolerance" : ", outside tolerance" : ""}</span></div>`;
}

function Cases({cases, versions}) {
  return html`<details class="cases"><summary>${plural(cases.length, "recorded request")} and each version's answer</summary><div class="scroll" tabindex="0" role="region" aria-label="Recorded requests"><table><thead><tr><th>Request</th>${versions.map((v) => html`<th key=${v}>Version ${v}</th>`)}</tr></thead>
    <tbody>${cases.map((one, i) => html`<tr key=${i}><td><span class="muted">${one.signature}</span><${Arrays} arrays=${one.inputs} /></td>${versions.map((v, index) => {
      const answer = one.answers[v], before = versions.slice(0, index).map((w) => one.answers[w]).filter(Boolean).at(-1);
      return html`<td key=${v} class=${answer && before && !same(answer, before) ? "changedcell" : ""}>${answer ? html`<${Arrays} arrays=${answer} />` : html`<span class="muted">not recorded</span>`}</td>`;
    })}</tr>`)}</tbody></table></div></details>`;
}

const Arrays = ({arrays}) => html`<dl class="arrays">${Object.entries(arrays).map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}</dl>`;
