"""What several replicas show, as one server would show it; and what the ledger says that they have shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deploy.state import Release
from deploy.state.lines import Line
from deploy.types import Serving, VersionState, VersionStatus

_OVER = VersionState.END


def merged(statuses: Sequence[tuple[str, Mapping[int, VersionStatus]]]) -> dict[int, VersionStatus]:
    """What all show: a version is AVAILABLE when each serves it, has failed when one can't load it, and is over when it
    is over everywhere; until then it is on its way. Statuses stand beside the name of their replica."""
    versions = sorted({version for _, of in statuses for version in of})
    return {version: _merged(version, [(name, of.get(version)) for name, of in statuses]) for version in versions}


def _merged(version: int, each: Sequence[tuple[str, VersionStatus | None]]) -> VersionStatus:
    known = [(name, status) for name, status in each if status is not None]
    name, failed = next(((n, s) for n, s in known if s.failed), ("", None))
    if failed is not None:
        return VersionStatus(version, failed.state, failed.error_code, f"{name}: {failed.error}" if len(each) > 1 else
                             failed.error)
    states = {status.state if status is not None else _OVER for _, status in each}
    if len(states) == 1:
        return known[0][1]
    if states <= {_OVER, VersionState.UNLOADING}:
        return VersionStatus(version, VersionState.UNLOADING)
    return VersionStatus(version, VersionState.LOADING)


def agreed(labels: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The labels that resolve to the same version everywhere."""
    each = list(labels)
    return {label: version for label, version in (each[0] if each else {}).items()
            if all(one.get(label) == version for one in each)}


def last_shown(lines: Iterable[Line], release: Release) -> Serving:
    """What all have shown last in a release: what was served before it, or what an `apply` named that was confirmed."""
    shown, applied = release.before, release.before
    for line in lines:
        if line.get("release") == release.id and line["event"] == "apply":
            applied = Serving.from_json(line["config"])
        elif line.get("release") == release.id and line["event"] == "confirm":
            shown = applied
    return shown
