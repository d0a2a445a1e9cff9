"""Recipes as they are recorded: what was put around a model when it was exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.types import DEFAULT_SIGNATURE

_PLAIN = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """One recipe of a version.

    name: as the command line has it, `image-bytes`. signature: which one it changed.
    parameters: text, numbers, bools, lists and dicts of these; of a file its name.
    digests: parameter that names a file -> `sha256:<hex>` of its lines, as they stand inside of the version.
    """

    name: str
    signature: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As `--recipe` takes it; the default signature isn't named."""
        flat: dict[str, object] = {}
        for key, value in self.parameters.items():
            flat |= value if isinstance(value, Mapping) else {key: value}
        given = [f"{_text(key)}={_text(value)}" for key, value in flat.items()]
        if self.signature != DEFAULT_SIGNATURE:
            given.append(f"signature={_text(self.signature)}")
        return f"{self.name}({', '.join(given)})" if given else self.name

    def to_json(self) -> dict[str, object]:
        """Plain JSON data; `from_json` is its inverse."""
        return {"recipe": self.name, "signature": self.signature, "parameters": dict(self.parameters),
                "digests": dict(self.digests)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RecipeRecord:
        """Raises KeyError, TypeError, ValueError or AttributeError for what isn't one."""
        return cls(str(data["recipe"]), str(data["signature"]), dict(data["parameters"]),
                   {str(key): str(value) for key, value in data["digests"].items()})


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, _PLAIN) else repr(value)
    return text if text and not set(text) & set(" ,=()[]'\"") else f"'{text}'" if "'" not in text else f'"{text}"'
