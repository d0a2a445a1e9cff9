// The server's own counters as plots, and the numbers of now as a table.

import {changed, get, serverPath, state} from "./store.js";
import {bytes, Command, Empty, html, modelsOf, number, plural, Problem, useAsked, useEffect, useRef, useState} from "./parts.js";

const KEEP = 450;

// While nobody watched nothing was measured: no line is drawn through that time
const withGaps = (samples) => samples.flatMap((s, i) => i && s.at - samples[i - 1].at > 15 ? [{at: samples[i - 1].at + 1, models: {}, memory: null, gap: true}, s] : [s]);

const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});

export function Metrics({server}) {
  const asked = useAsked(async () => {
    const data = await get(serverPath(server.name, "metrics"));
    state.samples.set(server.name, data.samples);
    changed();
    return data;
  }, [server.name, server.status?.running]);
  const [model, choose] = useState("");
  const samples = withGaps(state.samples.get(server.name) ?? []);
  if (asked.error) return html`<${Problem} error=${asked.error} />`;
  if (!server.status?.running) return html`<${Empty} title="The server isn't running: there is nothing to measure." />`;
  if (!samples.length) return html`<p class="muted loading">The first numbers come in a few seconds …</p>`;
  const off = asked.data?.reason && asked.data.reason.includes("off");
  const totals = new Map();
  for (const sample of samples) for (const [name, rates] of Object.entries(sample.models)) totals.set(name, (totals.get(name) ?? 0) + rates.rps);
  const busiest = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name), one = model || busiest[0];
  const times = samples.map((s) => s.at), value = (name, key) => samples.map((s) => s.models[name]?.[key] ?? (!s.gap && key === "rps" ? 0 : null));
  const top = busiest.slice(0, 5), rest = busiest.slice(5);
  const series = top.map((name) => ({label: name, values: value(name, "rps")}));
  if (rest.length) series.push({label: `${plural(rest.length, "other")}`, values: samples.map((s) => s.gap ? null : rest.reduce((sum, name) => sum + (s.models[name]?.rps ?? 0), 0))});
  const failed = samples.map((s) => s.gap ? null : Object.values(s.models).reduce((sum, r) => sum + r.failed, 0));
  const last = samples.at(-1);
  return html`${off ? html`<div class="notice warn"><span>Requests aren't counted: the server's metrics are off. Turn them on with <${Command} text="server: {monitoring: {}}" /> in ${server.spec.split("/").at(-1)}, then <${Command} text="tfs down && tfs up" /></span></div>` : html`
    <div class="plots"><${Plot} title="Requests a second" times=${times} series=${series.length ? series : [{label: "all", values: times.map(() => 0)}]} unit="/s" />
    <${Plot} title="Failed requests a second" times=${times} series=${[{label: "all models", values: failed, tone: "bad"}]} unit="/s" />
    ${one && html`<${Plot} title=${`Latency of ${one}`} times=${times} series=${[{label: "median", values: value(one, "p50")}, {label: "99th percentile", values: value(one, "p99")}]} unit=" ms">
      <label class="choose">Model <select value=${one} onChange=${(e) => choose(e.target.value)}>${[...busiest].sort().map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label><//>`}
    ${last.memory !== null && html`<${Plot} title="Memory of the server" times=${times} series=${[{label: "in use", values: samples.map((s) => s.memory)}]} format=${bytes} />`}</div>
    ${!busiest.length && html`<${Empty} title=${`No requests in the last ${samples.length > 1 ? "minutes" : "seconds"}.`} />`}
    ${!!busiest.length && html`<section><h3>Now</h3><table class="rows"><thead><tr><th>Model</th><th class="num">Requests/s</th><th class="num">Failed/s</th><th class="num">Median</th><th class="num">99th percentile</th></tr></thead><tbody>
      ${busiest.slice(0, 20).map((name) => { const r = last.models[name]; return html`<tr key=${name}><td>${name}</td><td class="num">${number(r?.rps ?? 0)}</td><td class=${`num ${r?.failed ? "bad" : ""}`}>${number(r?.failed ?? 0)}</td><td class="num">${r?.p50 ? `${number(r.p50)} ms` : "–"}</td><td class="num">${r?.p99 ? `${number(r.p99)} ms` : "–"}</td></tr>`; })}</tbody></table></section>`}`}
    ${off && last.memory !== null && html`<div class="plots"><${Plot} title="Memory of the server" times=${times} series=${[{label: "in use", values: samples.map((s) => s.memory)}]} format=${bytes} /></div>`}
    <p class="muted">Of the last quarter of an hour (${KEEP} looks), as far as this page was open. Failures that are the caller's own mistake don't count.</p>`;
}

const TONES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];

function Plot({title, times, series, unit = "", format, children}) {
  const place = useRef(null), plot = useRef(null), [theme, retheme] = useState(0);
  const shown = format ?? ((v) => v === null || v === undefined ? "–" : `${number(v)}${unit}`);
  useEffect(() => {
    const again = () => retheme((n) => n + 1);
    addEventListener("themechange", again);
    return () => removeEventListener("themechange", again);
  }, []);
  useEffect(() => {
    const css = getComputedStyle(document.documentElement), color = (name) => css.getPropertyValue(name).trim();
    const axis = {stroke: color("--muted"), grid: {stroke: color("--hair"), width: 1}, ticks: {stroke: color("--hair"), width: 1}, font: "12px system-ui"};
    const made = new window.uPlot({
      width: place.current.clientWidth, height: 190, cursor: {y: false}, legend: {show: false}, padding: [8, 8, 0, 0],
      scales: {y: {range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1]}},
      axes: [{...axis, space: 80, values: (_, ticks) => ticks.map((t) => clock.format(t * 1000))}, {...axis, size: 64, values: (_, ticks) => ticks.map(shown)}],
      series: [{}, ...series.map((s, i) => { const stroke = color(s.tone ? `--${s.tone}` : TONES[i % TONES.length]); return {label: s.label, stroke, width: 2, fill: series.length === 1 ? `${stroke}22` : undefined, points: {show: times.length < 3}, spanGaps: false, dash: i % 2 && series.length === 2 ? [5, 4] : undefined}; })],
    }, [times, ...series.map((s) => s.values)], place.current);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({width: place.current?.clientWidth || 300, height: 190}));
    watch.observe(place.current);
    return () => { watch.disconnect(); made.destroy(); plot.current = null; };
  }, [series.map((s) => s.label).join("\n"), theme, times.length < 3]);
  useEffect(() => plot.current?.setData([times, ...series.map((s) => s.values)]), [times.at(-1), times.length]);
  const now = series.map((s) => `${s.label} ${shown(s.values.at(-1))}`).join(", ");
  return html`<figure class="plot"><figcaption><h3>${title}</h3>${children}</figcaption><div ref=${place} role="img" aria-label=${`${title}, now: ${now}`}></div>
    <ul class="legend">${series.map((s, i) => html`<li key=${s.label}><span class=${`swatch line-${s.tone ?? i % TONES.length + 1}`}></span>${s.label} <b>${shown(s.values.at(-1))}</b></li>`)}</ul></figure>`;
}
