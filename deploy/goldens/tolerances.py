"""How far an answer may be from the recorded one. Values only: numpy isn't loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An actual number may differ from the expected one by `absolute + relative * |expected|`. Zeros: bit for bit."""

    absolute: float = 0.0
    relative: float = 0.0


DEFAULT = Tolerance(absolute=1e-5, relative=1e-4)
"""Where nothing is stated: the rounding of one build of TensorFlow against another's."""

Tolerances = Mapping[str, Tolerance]
"""`default`, a signature, or `signature/output` -> Tolerance; the narrowest key that applies wins."""


def narrowest(tolerances: Tolerances, signature: str, output: str) -> Tolerance:
    """The tolerance of an output; DEFAULT where nothing is stated."""
    for key in (f"{signature}/{output}", signature, "default"):
        if key in tolerances:
            return tolerances[key]
    return DEFAULT


def overridden(tolerances: Tolerances, absolute: float | None = None, relative: float | None = None) -> Tolerances:
    """Tolerances of which every one has this absolute or relative part; None leaves it as it is."""
    return {key: Tolerance(given.absolute if absolute is None else absolute,
                           given.relative if relative is None else relative)
            for key, given in {"default": DEFAULT, **tolerances}.items()}


def from_json(data: Mapping[str, Mapping[str, float]]) -> dict[str, Tolerance]:
    """A manifest's tolerances as values."""
    return {name: Tolerance(values.get("absolute", 0.0), values.get("relative", 0.0)) for name, values in data.items()}
