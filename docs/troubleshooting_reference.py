"""Prints docs/troubleshooting.md: `make configs`.

What each message means is in deploy/report/explanations.md, the text of `tfs explain ID`. Which messages there are is
read from the source, so that a search for a message's words finds its section.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from deploy import errors
from deploy.engine.library import EngineError
from deploy.net.ssh import SshRefused
from deploy.report.explanations import explanations
from deploy.rollout.driver import Unfinished

DEPLOY = Path(errors.__file__).parent
CLASSES = {c.__name__: c for c in (*vars(errors).values(), EngineError, SshRefused, Unfinished)
           if isinstance(c, type) and issubclass(c, errors.DeployError)}
INTRODUCTION = """# Troubleshooting

Each message ends with an id, `(tfs explain port-taken)`, and `--json` has it as `id` (findings of `tfs check` and
`tfs doctor`, and checks of `tfs smoke`: as `rule`). `tfs explain ID` prints what stands here; `tfs explain WORD...`
looks for words. Search this page for the words of a message; what differs from case to case is written as …

A server that doesn't start, or doesn't serve: first `tfs doctor`, which looks at its log, flags, files and ports.

| exit code | what it means |
|---|---|
| 0 | done |
| 1 | a bug of the toolkit |
| 2 | a file or an argument is wrong |
| 3 | the model can't be exported, or is refused |
| 4 | the repository isn't as it should be |
| 5 | another operation holds the lock |
| 6 | a server can't be started, or isn't ready |
| 7 | a request failed |
| 8 | a rollout didn't end as it should |
| 9 | what is served isn't right |
| 10 | look, then decide |
| 130 | interrupted |

Written by `make configs` from the explanations and the source."""


def template(node: ast.expr) -> list[str]:
    """The texts that an expression can be, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)]
    if isinstance(node, ast.IfExp):
        return template(node.body) + template(node.orelse)
    if isinstance(node, ast.BinOp):
        return [a + b for a in template(node.left) for b in template(node.right)]
    return []


def messages() -> dict[str, list[str]]:
    """All messages of errors in the source, by id."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in sorted(DEPLOY.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            for name in ids(node):
                for text in template(node.args[0]):
                    line = re.sub(r"…(?:…|, …)+", "…", " ".join(text.split()))
                    if len(re.findall(r"[a-z]{2,}", line)) > 1 and line not in found[name]:
                        found[name].append(line)
    return found


def ids(call: ast.Call) -> list[str]:
    """The ids that an error made by this call can have; none for other calls."""
    called = getattr(call.func, "id", "")
    given = next((k.value for k in call.keywords if k.arg == "id"), None)
    if called == "Refused":  # a store's, which becomes a RepositoryError
        return template(call.args[2]) if len(call.args) > 2 else []
    if called not in CLASSES:
        return []
    return [str(given.value)] if isinstance(given, ast.Constant) else [CLASSES[called].id]


def page() -> str:
    """The whole page."""
    parts, said, topic = [INTRODUCTION], messages(), ""
    for one in explanations().values():
        if one.topic != topic:
            topic = one.topic
            parts.append(f"## {topic}")
        text = f"### {one.id}\n\n**{one.title}** {one.text}"
        if lines := said.get(one.id):
            text += "\n\n" + "\n".join(f"- `{line.replace('`', chr(39))}`" for line in sorted(lines))
        parts.append(text)
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(page())
