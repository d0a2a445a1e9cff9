// The server's last lines: errors and warnings stand out, and new ones come by themselves.

import {get, serverPath, state} from "./store.js";
import {html, plural, Problem, useAsked, useEffect, useRef, useState} from "./parts.js";

const level = (line) => /^(\S+ )?\S* ?[EF] |^\d{4}-\d\d-\d\d \S+: [EF] |\b(error|fatal|traceback)\b/i.test(line) ? "bad" : /^\d{4}-\d\d-\d\d \S+: W |\bwarn(ing)?\b/i.test(line) ? "warn" : "";

export function Logs({server}) {
  const [tail, setTail] = useState(200), [follow, setFollow] = useState(true), [filter, setFilter] = useState("");
  const asked = useAsked(() => get(`${serverPath(server.name, "logs")}?tail=${tail}`), [server.name, tail, follow ? Math.floor(state.now / 2000) : 0]);
  const end = useRef(null), lines = asked.data?.logs ?? [];
  const shown = filter ? lines.filter((line) => line.toLowerCase().includes(filter.toLowerCase())) : lines;
  useEffect(() => { if (follow && end.current) end.current.scrollTop = end.current.scrollHeight; }, [shown.length, shown.at(-1), follow]);
  if (asked.error && !asked.data) return html`<${Problem} error=${asked.error} />`;
  return html`<div class="toolbar"><label class="search">Filter <input type="search" value=${filter} onInput=${(e) => setFilter(e.target.value)} placeholder="text of a line" /></label>
      <label>Lines <select value=${tail} onChange=${(e) => setTail(Number(e.target.value))}>${[200, 500, 2000].map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select></label>
      <label class="check"><input type="checkbox" checked=${follow} onChange=${(e) => setFollow(e.target.checked)} />Follow</label>
      <span class="muted">${filter ? `${shown.length} of ${plural(lines.length, "line")}` : plural(lines.length, "line")}</span></div>
    <pre class="log" ref=${end} tabindex="0" role="log" aria-live="off" aria-label="The server's log">${shown.map((line, i) => html`<span key=${i} class=${level(line)}>${line}\n</span>`)}${!shown.length && html`<span class="muted">${asked.data ? asked.data.reason || "no lines" : "reading …"}</span>`}</pre>`;
}
