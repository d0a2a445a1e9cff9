// Continue, abort, roll back: asked twice, with what would happen; and what becomes of it.

import {changed, post, serverPath, state, token} from "./store.js";
import {html, Mark, openRelease, Problem, STEP_NAMES, to, useRef, useState} from "./parts.js";

const VERBS = {continue: "Continue", abort: "Abort", rollback: "Roll back"};

const running = (server) => [...state.recent.values()].some((a) => a.server === server.name && a.state === "running");

export function ActionButton({verb, server, model, release}) {
  const dialog = useRef(null), [asked, set] = useState({plan: null, error: null, busy: false});
  if (!state.actions || !token() || running(server)) return null;
  if (verb === "continue" && !release.paused && server.changing) return null;
  const open = async () => {
    set({plan: null, error: null, busy: false});
    dialog.current.showModal();
    if (verb !== "rollback") return;
    try { const plan = await post(serverPath(server.name, "models", model, "rollback"), {}); set((s) => ({...s, plan})); }
    catch (error) { set((s) => ({...s, error})); }
  };
  const act = async () => {
    set((s) => ({...s, busy: true, error: null}));
    try {
      const action = await post(serverPath(server.name, "actions"), {verb, model});
      state.recent.set(String(action.id), state.recent.get(String(action.id)) ?? action);
      dialog.current.close();
      changed();
    } catch (error) { set((s) => ({...s, error, busy: false})); }
  };
  const blocked = asked.busy || (verb === "rollback" && !asked.plan?.ok);
  return html`<button type="button" class=${verb === "continue" ? "primary" : "danger"} onClick=${open}>${VERBS[verb]}</button>
    <dialog ref=${dialog} aria-label=${`${VERBS[verb]} ${model}`}><h2>${{continue: `Let ${model} go on?`, abort: `Abort the release of ${model}?`, rollback: `Roll ${model} back?`}[verb]}</h2>
      ${verb === "continue" && html`<p>It goes on ${release.paused ? `with ${STEP_NAMES[release.paused] || release.paused}` : "where it was left"}, and what comes after it, towards version ${release.version}.</p>`}
      ${verb === "abort" && html`<p>Traffic goes back to what was served before${release.before.labels[server.label] ? `, version ${release.before.labels[server.label]}` : ""}, and version ${release.version} is unloaded.</p>`}
      ${verb === "rollback" && (asked.plan ? html`<p>Back to version ${asked.plan.version}:</p><ol>${asked.plan.steps.map((s) => html`<li key=${s}>${s}</li>`)}</ol>${asked.plan.problems.map((p) => html`<${Problem} error=${p} />`)}` : !asked.error && html`<p class="muted">Making the plan …</p>`)}
      ${asked.error && html`<${Problem} error=${asked.error} />`}
      <div class="buttons"><button type="button" onClick=${() => dialog.current.close()}>Cancel</button><button type="button" class=${verb === "continue" ? "primary" : "danger"} disabled=${blocked} onClick=${act}>${VERBS[verb]}</button></div></dialog>`;
}

export function ActionLog() {
  const [hidden, hide] = useState(0);
  const action = [...state.recent.values()].at(-1);
  if (!action || action.id <= hidden) return null;
  const tone = {running: "run", done: "ok", failed: "bad"}[action.state], server = state.servers.get(action.server), release = server && openRelease(server, action.model);
  return html`<aside class=${`actionlog ${tone}`} aria-label="The last action" role="status"><div class="title"><${Mark} tone=${tone} /><b>${VERBS[action.verb]} ${action.model}: ${{running: "running", done: "done", failed: "failed"}[action.state]}</b><span class="spring"></span>
      ${action.state !== "running" && html`<button type="button" class="quiet" aria-label="Close" onClick=${() => hide(action.id)}>✕</button>`}</div>
    ${action.state === "failed" ? html`<p>${action.error.message}</p>${action.error.hint && html`<p class="muted">${action.error.hint}</p>`}` : action.outcome ? html`<p>${action.outcome.text}</p>` : html`<p class="muted">${action.sentences.at(-1) ?? "beginning"}</p>`}
    ${release && html`<a href=${to(action.server, "releases", release.id)}>Step by step</a>`}</aside>`;
}
