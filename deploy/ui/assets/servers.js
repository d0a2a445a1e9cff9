// Servers beside each other; one server's head; its models.

import {state} from "./store.js";
import {ago, Command, Empty, html, Mark, modelsOf, modelTone, number, openRelease, places, plural, Problem, releaseTone, secondsSince, serverTone, serving, span, STEP_NAMES, to, useState, Versions, when, Word} from "./parts.js";

export function Fleet({servers}) {
  return html`<h1>Servers</h1><table class="rows"><thead><tr><th>Server</th><th>State</th><th class="num">Models</th><th>Release</th><th>Address</th></tr></thead>
    <tbody>${servers.map((server) => {
      const [tone, word] = serverTone(server), release = openRelease(server), last = release ?? server.releases.at(-1);
      return html`<tr key=${server.name}><td><a data-row href=${to(server.name)}>${server.name}</a></td><td><${Word} tone=${tone}>${word}<//></td>
        <td class="num">${modelsOf(server).length}</td><td>${last && html`<${ReleaseWord} server=${server} release=${last} />`}</td><td>${server.status?.endpoint?.rest ?? ""}</td></tr>`;
    })}</tbody></table>`;
}

export function ReleaseWord({server, release}) {
  const [tone, word] = releaseTone(release, server);
  return html`<a class="releaseword" href=${to(server.name, "releases", release.id)}><${Mark} tone=${tone} /><span>${release.kind === "rollback" ? "back to" : "to"} <b>${release.version}</b> ${word}${release.outcome === "open" ? "" : ` ${ago(release.ended)}`}</span></a>`;
}

const verdict = (server) => {
  const status = server.status, models = modelsOf(server);
  if (!status) return "Nothing is known of it.";
  if (status.running === null) return status.problems[0];
  if (!status.running) return "returncode" in status ? `It ended${status.returncode === null ? "" : ` with exit code ${status.returncode}`}. Nothing is served.` : "It isn't running. Nothing is served.";
  const bad = models.filter((m) => m.problems.length).length;
  if (!status.ready) return bad ? `${plural(bad, "model")} of ${models.length} ${bad === 1 ? "is" : "are"} not served as wanted.` : "It isn't ready.";
  return models.length === 1 ? "Its model is served as wanted." : `All ${models.length} models are served as wanted.`;
};

export function ServerHead({server, showing}) {
  const [tone, word] = serverTone(server), status = server.status, release = openRelease(server);
  const drift = (status?.drift ?? []).filter((d) => d.kind !== "release");
  const problems = status?.running ? status.problems : [];
  return html`<section class=${`head ${tone}`} aria-label="Server">
    <div class="headline"><h1>${server.name}</h1><span class="state" role="status"><${Word} tone=${tone}>${word}<//></span><p class="verdict">${verdict(server)}</p></div>
    <dl class="facts">
      ${status?.running && html`<div><dt>REST</dt><dd>${status.endpoint?.rest}</dd></div><div><dt>gRPC</dt><dd>${status.endpoint?.grpc}</dd></div>
        <div><dt>Runs in</dt><dd>${status.kind}</dd></div>${status.since && html`<div><dt>Since</dt><dd title=${status.since}>${when(status.since)}</dd></div>`}`}
      <div><dt>Spec</dt><dd title=${server.spec}>${server.spec.split("/").at(-1)}</dd></div>
    </dl>
    ${server.error && html`<${Problem} error=${server.error} />`}
    ${release && release.id !== showing && html`<${RunningRelease} server=${server} release=${release} />`}
    ${!release && server.changing && html`<p class="notice run"><${Mark} tone="run" /><span>${server.changing.why}, by ${server.changing.by}, for ${span(secondsSince(server.changing.since))}</span></p>`}
    ${!!problems.length && html`<${Sentences} tone="bad" title="Problems" items=${problems} />`}
    ${!!drift.length && html`<${Sentences} tone="warn" title="Drift" items=${drift.map((d) => d.message)} />`}
    ${!!status?.changes?.length && html`<${Sentences} tone="warn" title="The spec was edited since the start" items=${status.changes} />`}
    ${status && status.running === false && html`<p class="muted">Start it: <${Command} text="tfs up" />${"returncode" in status && html` Why did it end? <${Command} text="tfs doctor" />`}</p>`}
  </section>`;
}

function Sentences({tone, title, items}) {
  const [all, setAll] = useState(false);
  const shown = all ? items : items.slice(0, 4);
  return html`<div class=${`notice ${tone}`}><${Mark} tone=${tone} /><div><h2>${title}</h2><ul>${shown.map((item) => html`<li key=${item}>${item}</li>`)}</ul>
    ${items.length > shown.length && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>${plural(items.length - shown.length, "more", "more")}</button>`}</div></div>`;
}

function RunningRelease({server, release}) {
  const [tone, word] = releaseTone(release, server);
  const passed = Object.keys(release.passed).map((name) => STEP_NAMES[name] || name);
  return html`<a class=${`notice link ${tone}`} href=${to(server.name, "releases", release.id)}><${Mark} tone=${tone} /><span><b>${release.kind === "rollback" ? "Rollback" : "Rollout"} of ${release.model} to version ${release.version}</b> ${word}, for ${span(secondsSince(release.began))}${passed.length ? html`; passed: ${passed.join(", ")}` : ""}</span><span class="more">Watch it step by step</span></a>`;
}

const WORDS = {ok: "as wanted", moving: "in a release", differs: "differs: drift", superseded: "superseded by a release", none: "says nothing"};
const ORDER = {bad: 0, warn: 1, wait: 2, run: 3, off: 4, ok: 5};

export function Models({server}) {
  const [filter, setFilter] = useState("");
  const models = modelsOf(server), words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = models.map((model) => ({model, tone: modelTone(model, server)}))
    .filter(({model, tone}) => words.every((word) => `${model.name} ${tone[1]} ${Object.keys(model.labels).join(" ")}`.toLowerCase().includes(word)))
    .sort((a, b) => ORDER[a.tone[0]] - ORDER[b.tone[0]] || a.model.name.localeCompare(b.model.name));
  const rates = state.samples.get(server.name)?.at(-1)?.models;
  if (!models.length) return html`<${Empty} title=${server.status ? "The spec names no models." : "Its models aren't known yet."} />`;
  return html`<div class="toolbar"><label class="search">Filter <input type="search" value=${filter} onInput=${(e) => setFilter(e.target.value)} placeholder="name, state or label" /></label>
      <span class="muted" role="status">${rows.length === models.length ? plural(models.length, "model") : `${rows.length} of ${plural(models.length, "model")}`}</span></div>
    <table class="rows models"><thead><tr><th>Model</th><th>State</th><th>Served now</th><th><span class="four" title="Where its versions and labels are written: spec, ledger, config file, live server"><span>spec</span><span>ledger</span><span>file</span><span>live</span></span></th><th>Last release</th>${rates && html`<th class="num">Requests/s</th>`}</tr></thead>
      <tbody>${rows.map(({model, tone}) => html`<${ModelRow} key=${model.name} server=${server} model=${model} tone=${tone} rates=${rates} />`)}</tbody></table>
    <ul class="places-key" aria-label="What the marks of spec, ledger, file and live mean">${Object.entries(WORDS).filter(([judged]) => models.some((m) => places(m, server).some(([, , j]) => j === judged))).map(([judged, word]) => html`<li key=${judged}><span class=${`place ${judged}`}></span>${word}</li>`)}</ul>
    ${!rows.length && html`<${Empty} title=${`No model matches “${filter}”.`}><button type="button" onClick=${() => setFilter("")}>Show all</button><//>`}`;
}

function ModelRow({server, model, tone: [tone, word], rates}) {
  const last = openRelease(server, model.name) ?? server.releases.findLast((r) => r.model === model.name);
  const live = model.live ?? {versions: [], labels: {}};
  return html`<tr class=${tone}><td><a data-row href=${to(server.name, "models", model.name)}>${model.name}</a></td>
    <td><${Word} tone=${tone}>${word}<//>${tone !== "ok" && server.status?.running && model.problems[0] && html`<span class="why" title=${model.problems.join("\n")}>${model.problems[0]}</span>`}</td>
    <td><${Versions} versions=${live.versions} labels=${live.labels} server=${server} /></td>
    <td><span class="four">${places(model, server).map(([name, value, judged]) => html`<span key=${name} class=${`place ${judged}`} title=${`${name}: ${serving(value)}`}><span class="hidden">${name}: ${WORDS[judged]}</span></span>`)}</span></td>
    <td>${last ? html`<${ReleaseWord} server=${server} release=${last} />` : html`<span class="muted">no release yet</span>`}</td>
    ${rates && html`<td class="num">${rates[model.name] ? number(rates[model.name].rps) : html`<span class="muted">0</span>`}</td>`}</tr>`;
}
