"""What each message means: errors, rules of `tfs check`, smoke checks, findings of `tfs doctor`, by their ids.

explanations.md beside this module is the one table; what a rule of `tfs check` is about, the rule itself says. Ids
never change: scripts, logs and people's notes name them.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.checks.rules import RULES
from deploy.errors import SpecError

_SECTION = re.compile(r"^### (\S+)\n(.+)\n((?:.+\n?)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """id: as it stands behind a message. topic: the heading that it belongs to. title: what is wrong, as a sentence.
    text: why that happens, and what to do, as Markdown; never empty."""

    id: str
    topic: str
    title: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Plain JSON data."""
        return asdict(self)


@functools.cache
def explanations() -> Mapping[str, Explanation]:
    """All of them by id, in the order of docs/troubleshooting.md."""
    page = (Path(__file__).parent / "explanations.md").read_text(encoding="utf-8")
    topics = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)[1:]
    sections = [Explanation(name, topic, title, text.strip())
                for topic, body in zip(topics[::2], topics[1::2], strict=True)
                for name, title, text in _SECTION.findall(body)]
    rules = [Explanation(rule.name, "Rules of tfs check", f"Rule: {rule.title[:1].lower()}{rule.title[1:]}.",
                         f"{_sentence(rule.reason)} What to do: {rule.fix}.") for rule in RULES.values()]
    named = {section.id for section in sections}
    return {one.id: one for one in (*sections, *(rule for rule in rules if rule.id not in named))}


def explain(name: str) -> Explanation:
    """What the message with this id means. Raises SpecError for an unknown one."""
    if found := explanations().get(name):
        return found
    near = difflib.get_close_matches(name, explanations(), n=3) or [one.id for one in mentioning(name)][:3]
    raise SpecError(f"no message has the id {name!r}", id="unknown-id",
                    hint=f"did you mean {', '.join(near)}?" if near else "`tfs explain` lists all")


def mentioning(words: str) -> list[Explanation]:
    """Those with all of these words in their id, title or text."""
    wanted = words.lower().split()
    return [one for one in explanations().values()
            if all(word in f"{one.id} {one.title} {one.text}".lower() for word in wanted)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
