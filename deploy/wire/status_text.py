"""What a status of TensorFlow says, in one line of bounded length."""

from __future__ import annotations

import re

_MOST = 400  # characters
_TRAILING = re.compile(r"\.? (?:Make sure the Op and Kernel are registered|Note that if you are loading|"
                       r"To inspect available tag-sets).*", re.S)


def sentence(status: str) -> str:
    """What a status of TensorFlow says, in one line: of several lines the one that names the cause.

    "Graph execution error", the way there and `[[{{node}}]]` say where; of several root errors the first is shown.
    """
    lines = [line.strip() for line in status.splitlines() if line.strip()]
    if not lines:
        return ""
    code = re.match(r"[A-Z_]{2,}: ", lines[0])
    chosen = re.sub(r"\s*\[\[\{\{node.*", "", lines[0])
    if "root error(s) found" in chosen:
        chosen = next((re.sub(r"^\(\d+\) ", "", line) for line in lines if re.match(r"\(\d+\) ", line)), chosen)
    elif "Graph execution error" in chosen or chosen.startswith("Detected at node") or not chosen:
        node = next((i for i, line in enumerate(lines) if line.startswith("[[{{node")), 0)
        named = lines[node - 1] if node > 0 else lines[-1]
        chosen = named if not code or re.match(r"[A-Z_]{2,}: ", named) else f"{code[0]}{named}"
    return shortened(_TRAILING.sub("", chosen))


def shortened(text: str) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST else f"{line[:_MOST]} ..."
