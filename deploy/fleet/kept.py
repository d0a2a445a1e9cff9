"""What a release keeps of rollout/ in the spec, whatever the spec says when it is gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from deploy.rollout.checks import BAKE_TIMES
from deploy.spec import ComparePart, RolloutPart


def written(part: RolloutPart) -> dict[str, Any]:
    """As options of the fleet's release, by the names that a server's own release has for them. The file of recorded
    requests isn't kept: each operator's machine has it in another place."""
    compare = msgspec.to_builtins(part.compare)
    if isinstance(compare, dict):
        compare.pop("requests", None)
    return {**{name: getattr(part, spec_name) for name, spec_name in BAKE_TIMES.items()}, "canary": part.canary,
            "compare": compare}


def kept(options: Mapping[str, Any], now: RolloutPart) -> dict[str, Any]:
    """What a release with these options began with, by the spec's names; not what it didn't write down. now: what the
    spec says."""
    part: dict[str, Any] = {spec_name: options.get(name) for name, spec_name in BAKE_TIMES.items()}
    part |= {"canary": options.get("canary"), "compare": options.get("compare")}
    if isinstance(part["compare"], dict):
        today, limits = now.comparison or ComparePart(), part.pop("compare")
        with suppress(msgspec.ValidationError):  # of another release of ours
            part["compare"] = msgspec.convert({**limits, "requests": today.requests}, ComparePart)
    return {name: value for name, value in part.items() if value is not None}
