"""What an apply would change of objects that are there: paths and values, from the API's own forms. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
_SERVERS = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")  # of metadata
_OURS = "org.tfs-deploy."  # annotations that say which configuration it is
_REVISION = "deployment.kubernetes.io/"
_MOST = 80  # characters of a value that are told
_TEMPLATE = "spec.template."


def differences(live: Object, applied: Object) -> list[tuple[str, str]]:
    """(path, `old -> new`) of each value that differs. live, applied: the object now, and as it would be."""
    return sorted(_walk(_told(live), _told(applied), ""))


def of_template(path: str) -> bool:
    """Whether a path belongs to what pods are made from."""
    return f"{path}.".startswith(_TEMPLATE)


def _told(one: Object) -> dict[str, Any]:
    about = {k: v for k, v in one["metadata"].items() if k not in _SERVERS}
    about["annotations"] = {k: v for k, v in (about.get("annotations") or {}).items()
                            if not k.startswith((_OURS, _REVISION))}
    return {**{k: v for k, v in one.items() if k not in ("status", "apiVersion", "kind")}, "metadata": about}


def _walk(before: Any, after: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before.keys() | after.keys():
            yield from _walk(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(after, list) and _named(before) and _named(after):
        yield from _walk({one["name"]: one for one in before}, {one["name"]: one for one in after}, path)
    elif before != after and (before or after or before is False or after is False or 0 in (before, after)):
        yield path, _words(before, after) or f"{_shown(before)} -> {_shown(after)}"


def _words(before: Any, after: Any) -> str:
    """Of a command line: what goes and what comes."""
    if not (isinstance(before, list) and isinstance(after, list) and all(isinstance(w, str) for w in before + after)):
        return ""
    gone, come = ([word for word in one if word not in other] for one, other in ((before, after), (after, before)))
    parts = [f"{what} {_shown(' '.join(words))}" for what, words in (("without", gone), ("with", come)) if words]
    return ", ".join(parts) or "in another order"


def _named(values: list[Any]) -> bool:
    names = [one.get("name") for one in values if isinstance(one, Mapping)]
    return len(names) == len(values) == len(set(names)) and None not in names


def _shown(value: Any) -> str:
    text = "nothing" if value in (None, [], {}) else str(value)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."
