// Releases on a timeline, and one of them step by step with the judge's numbers.

import {get, serverPath, state} from "./store.js";
import {ago, Command, Empty, html, Label, Mark, number, openRelease, plural, Problem, releaseTone, secondsSince, serving, span, STEP_NAMES, to, useAsked, when, Word} from "./parts.js";
import {ActionButton} from "./actions.js";

export function Releases({server}) {
  const releases = [...server.releases].reverse(), models = [...new Set(releases.map((r) => r.model))];
  if (!releases.length) return html`<${Empty} title="No release yet."><p class="muted">The first one: <${Command} text="tfs rollout MODEL --to VERSION" /></p><//>`;
  return html`<section><h2>What <${Label} name=${server.label} label=${server.label} /> has pointed to</h2>${models.slice(0, 12).map((model) => html`<div class="lane" key=${model}><a href=${to(server.name, "models", model)}>${model}</a><${Ribbon} server=${server} model=${model} /></div>`)}
      ${models.length > 12 && html`<p class="muted">The twelve models that were released last; the others on their own pages.</p>`}</section>
    <section><h2>Releases</h2><${ReleaseTable} server=${server} releases=${releases} withModel=${true} /></section>`;
}

// Time from left to right; each stretch is the version that the label pointed to, a tick is a release that was undone
export function Ribbon({server, model}) {
  const releases = server.releases.filter((r) => r.model === model);
  const live = server.status?.models.find((m) => m.name === model)?.live;
  if (!releases.length) return html`<p class="muted">No release yet: ${live ? `${serving(live)}, as it was started` : "nothing is served"}.</p>`;
  const label = server.label, of = (value) => value.labels[label] ?? Math.max(0, ...value.versions);
  const begin = Date.parse(releases[0].began), stretches = [{version: of(releases[0].before), from: null, undone: []}];
  for (const release of releases) {
    if (release.outcome === "done") stretches.push({version: of(release.goal), from: Date.parse(release.ended), release, undone: []});
    else stretches.at(-1).undone.push(release);
  }
  const seconds = stretches.map((s, i) => ((stretches[i + 1]?.from ?? state.now) - (s.from ?? begin)) / 1000);
  const longest = Math.max(...seconds, 1);
  return html`<div class="ribbon"><ol>${stretches.map((s, i) => html`<li key=${i} style=${{flexGrow: Math.max(0.04, seconds[i] / longest)}} class=${i === stretches.length - 1 ? "now" : ""} title=${`version ${s.version}${s.from ? ` since ${when(s.from)}` : " before the first release"}, for ${span(seconds[i])}`}>
      ${s.release ? html`<a href=${to(server.name, "releases", s.release.id)}><b>${s.version}</b><span>${span(seconds[i])}</span></a>` : html`<span class="first"><b>${s.version || "–"}</b><span>before</span></span>`}
      ${s.undone.map((r) => html`<a key=${r.id} class=${`tick ${releaseTone(r, server)[0]}`} href=${to(server.name, "releases", r.id)} title=${`${r.id} to ${r.version}: ${releaseTone(r, server)[1]}`}><${Mark} tone=${releaseTone(r, server)[0]} label=${`${r.id} to version ${r.version} ${releaseTone(r, server)[1]}`} />${r.version}</a>`)}</li>`)}</ol></div>`;
}

export function ReleaseTable({server, releases, withModel = false}) {
  const [all, more] = [releases.length, 60];
  return html`<table class="rows"><thead><tr><th>Release</th>${withModel && html`<th>Model</th>`}<th>What</th><th>Outcome</th><th>Began</th><th class="num">Took</th><th>By</th></tr></thead>
    <tbody>${releases.slice(0, more).map((r) => {
      const [tone, word] = releaseTone(r, server);
      return html`<tr key=${r.id} class=${tone}><td><a data-row href=${to(server.name, "releases", r.id)}>${r.id}</a></td>${withModel && html`<td>${r.model}</td>`}
        <td>${r.kind === "rollback" ? "back to" : "to"} <b>${r.version}</b></td><td><${Word} tone=${tone}>${word}<//>${(r.reason || r.undoing) && html`<span class="why">${r.reason || r.undoing}</span>`}</td>
        <td title=${r.began}>${when(r.began)}</td><td class="num">${span(r.seconds ?? secondsSince(r.began))}</td><td class="muted by" title=${r.by}>${r.by.split(" ")[0]}</td></tr>`;
    })}</tbody></table>${all > more && html`<p class="muted">The newest ${more} of ${all}; the others: <${Command} text="tfs history" /></p>`}`;
}

export function Release({server, id}) {
  const known = server.releases.find((r) => r.id === id);
  const asked = useAsked(() => get(serverPath(server.name, "releases", id)), [server.name, id, JSON.stringify(known ?? null), Boolean(server.changing)]);
  const ticking = known?.outcome === "open" ? Math.floor(state.now / 2000) : 0;
  const fresh = useAsked(() => ticking ? get(serverPath(server.name, "releases", id)) : Promise.resolve(null), [ticking]);
  if (!known && asked.error) return html`<${Problem} error=${asked.error} />`;
  const newest = known?.outcome === "open" && fresh.data ? fresh.data : asked.data;
  if (!newest) return html`<p class="muted loading">Reading …</p>`;
  const release = {...newest, ...(known ?? {})}, [tone, word] = releaseTone(release, server);
  return html`<div class="title"><h2>${release.kind === "rollback" ? "Rollback" : "Rollout"} of <a href=${to(server.name, "models", release.model)}>${release.model}</a> to version ${release.version}</h2><${Word} tone=${tone}>${word}<//><span class="spring"></span>
      ${release.outcome === "open" && html`<${ActionButton} verb="continue" server=${server} model=${release.model} release=${release} /><${ActionButton} verb="abort" server=${server} model=${release.model} release=${release} />`}</div>
    <dl class="facts"><div><dt>Before</dt><dd>${serving(release.before)}</dd></div><div><dt>Goal</dt><dd>${serving(release.goal)}</dd></div><div><dt>Began</dt><dd>${when(release.began)} (${ago(release.began)})</dd></div>
      <div><dt>${release.outcome === "open" ? "For" : "Took"}</dt><dd>${span(release.seconds ?? secondsSince(release.began))}</dd></div><div><dt>By</dt><dd>${release.by}</dd></div>${release.note && html`<div><dt>Note</dt><dd>${release.note}</dd></div>`}</dl>
    ${release.paused && html`<p class="notice wait"><${Mark} tone="wait" /><span>It waits before ${STEP_NAMES[release.paused] || release.paused} until somebody lets it go on: <${Command} text=${`tfs rollout ${release.model} --continue`} /> or takes it back: <${Command} text=${`tfs rollout ${release.model} --abort`} /></span></p>`}
    ${tone === "warn" && release.outcome === "open" && !release.undoing && html`<p class="notice warn"><${Mark} tone="warn" /><span>Nobody is working on it: its process has ended. Go on with it: <${Command} text=${`tfs rollout ${release.model} --continue`} /> or take it back: <${Command} text=${`tfs rollout ${release.model} --abort`} /></span></p>`}
    ${(release.reason || release.undoing) && html`<p class="notice bad"><${Mark} tone="bad" /><span>${release.undoing || release.reason}</span></p>`}
    <section><h3>Step by step</h3><${Steps} steps=${newest.steps} /></section>
    ${newest.report && html`<section><h3>The judge's numbers</h3><${Report} report=${newest.report} /></section>`}`;
}

const STEP_TONES = {done: "ok", running: "run", waiting: "wait", failed: "bad", pending: "todo", skipped: "off"};
const STEP_WORDS = {done: "done", running: "running", waiting: "waits for approval", failed: "failed", pending: "to come", skipped: "not reached"};

function Steps({steps}) {
  const took = (s) => s.seconds ?? (s.state === "running" ? secondsSince(s.began) : 0);
  const longest = Math.max(0.001, ...steps.map((s) => Math.max(took(s), s.expected && s.state === "running" ? s.expected : 0)));
  return html`<ol class="steps">${steps.map((step) => html`<li key=${step.name} class=${step.state} aria-current=${step.state === "running" || step.state === "waiting" ? "step" : undefined}>
    <${Mark} tone=${STEP_TONES[step.state]} label=${STEP_WORDS[step.state]} /><div class="what"><b>${step.title}</b>${step.approval && step.state === "pending" && html`<span class="muted"> (after approval)</span>`}<span class="note">${step.note.replace(/ \(\/\S+\.html\)$/, "") || (step.state === "done" ? "" : STEP_WORDS[step.state])}</span></div>
    <div class="took"><span class="track"><span class="fill" style=${{width: `${Math.min(100, 100 * took(step) / longest)}%`}}></span></span><span class="num">${step.state === "running" && step.expected ? `${span(Math.min(took(step), step.expected))} of ${span(step.expected)}` : took(step) ? span(took(step)) : step.expected && step.state === "pending" ? span(step.expected) : ""}</span></div></li>`)}</ol>`;
}

function Report({report}) {
  const {before, after, drift} = report;
  return html`<p class=${`notice ${report.ok ? "ok" : "bad"}`}><${Mark} tone=${report.ok ? "ok" : "bad"} /><span>${report.ok ? "Within the limits." : "Outside the limits."} ${plural(report.requests, "request")} sent to both${report.seconds ? ` in ${span(report.seconds)}` : ""}; ${after.errors.length ? `${after.errors.length} refused by ${after.ref}` : "none was refused"}.</span></p>
    ${!!report.problems.length && html`<ul class="problems">${report.problems.map((p) => html`<li key=${p}>${p}</li>`)}</ul>`}
    <div class="judge"><div><h4>Latency</h4><${Latencies} sides=${[before, after]} /></div>
    <div><h4>Answers</h4><div class="scroll" tabindex="0" role="region" aria-label="Answers compared"><table><thead><tr><th>Output</th><th class="num">Changed</th><th class="num">Largest</th><th class="num">Mean</th><th class="num">Decided otherwise</th><th class="num">NaN</th></tr></thead><tbody>${drift.outputs.map((o) => html`<tr key=${o.signature + o.output}><td>${o.signature}/${o.output}</td>
      <td class="num">${o.changed} of ${o.values}</td><td class="num">${number(o.max)}</td><td class="num">${number(o.mean)}</td><td class="num">${o.decisions ? `${o.flips} of ${o.decisions}` : "–"}</td><td class="num">${number(o.nan_before)} → ${number(o.nan_after)}</td></tr>`)}</tbody></table></div></div></div>`;
}

// Two dots on one line for each percentile: before, after
function Latencies({sides: [before, after]}) {
  const rows = ["p50", "p90", "p99"].map((p) => [p, before.seconds[p] * 1000, after.seconds[p] * 1000]);
  const most = Math.max(...rows.flatMap(([, a, b]) => [a, b]), 0.001) * 1.08;
  const x = (value) => `${(100 * value / most).toFixed(2)}%`;
  return html`<table class="latencies"><thead><tr><th></th><th class="wide"><span class="key before">${before.ref}</span><span class="key after">${after.ref}</span></th><th class="num">before</th><th class="num">after</th></tr></thead>
    <tbody>${rows.map(([p, a, b]) => html`<tr key=${p}><th scope="row">${p}</th><td><span class="dumbbell" aria-hidden="true"><span class="rod" style=${{left: x(Math.min(a, b)), width: x(Math.abs(a - b))}}></span><span class="end before" style=${{left: x(a)}}></span><span class="end after" style=${{left: x(b)}}></span></span></td><td class="num">${number(a)} ms</td><td class="num">${number(b)} ms</td></tr>`)}</tbody></table>`;
}
