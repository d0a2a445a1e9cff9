"""The config store of pods: the ConfigMap that they mount, and a Secret for what nobody else may read."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping

from deploy.backends.kubernetes.cluster import Object
from deploy.backends.kubernetes.site import Site
from deploy.errors import ServerError
from deploy.render.configs import TLS

MAP, SECRET = ("v1", "ConfigMap"), ("v1", "Secret")
MOST_BYTES = 1 << 20  # of one ConfigMap, by Kubernetes' own limit
_ATTEMPTS = 3
_BEFORE = ".before"  # ends the key of a text that was replaced


class ConfigMapStore:
    """See backend.ConfigStore. labels: those of the objects.

    A write is for what was read: whoever else has changed the texts meanwhile isn't overwritten.
    """

    def __init__(self, site: Site, labels: Mapping[str, str]) -> None:
        self._site, self._labels = site, dict(labels)
        self._read = threading.local()  # .texts: as this thread has read them last

    lost_on_restart = ""  # each pod mounts it

    @property
    def place(self) -> str:
        return f"ConfigMap {self._site.config} in namespace {self._site.cluster.namespace}"

    def path(self, name: str) -> str:
        return f"{name} in {self.place}"

    def read(self, name: str) -> str | None:
        self._read.texts = _texts(self._site.cluster.get(MAP, self._site.config))
        text = self._read.texts.get(name)
        # Who may read the config files may not read Secrets, and needs not: only a key is in one
        return self._secrets().get(name) if text is None and name == TLS else text

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        if secrets:
            self._write_secrets({**self._secrets(), **secrets})
        for attempt in range(_ATTEMPTS):
            one = self._site.cluster.get(MAP, self._site.config)
            texts = _texts(one)
            self._require_unchanged(texts, files)
            try:
                self._apply(one, {**texts, **files})
            except ServerError as e:
                if e.details.get("status") != 409 or e.id == "kubernetes-conflict" or attempt == _ATTEMPTS - 1:
                    raise
            else:
                self._read.texts = {**texts, **files}
                return

    def differs(self, secrets: Mapping[str, str]) -> bool:
        """Whether the Secret holds other texts than these."""
        return bool(secrets) and not secrets.items() <= self._secrets().items()

    def exchange(self, secrets: Mapping[str, str]) -> None:
        """Write these; what they replace is kept for `put_back`, until `settle`. May be called again."""
        there = self._secrets()
        before = {name + _BEFORE: there[name] for name, text in secrets.items() if there.get(name, text) != text}
        if not secrets.items() <= there.items():
            self._write_secrets({**there, **before, **secrets})

    def put_back(self) -> None:
        """What `exchange` has replaced."""
        there = self._secrets()
        if before := {k.removesuffix(_BEFORE): v for k, v in there.items() if k.endswith(_BEFORE)}:
            self._write_secrets({**there, **before})

    def settle(self) -> None:
        """Nothing is put back any more."""
        there = self._secrets()
        if kept := {k: v for k, v in there.items() if not k.endswith(_BEFORE)}:
            self._write_secrets(kept)

    def _write_secrets(self, texts: Mapping[str, str]) -> None:
        self._site.cluster.apply(self._object(SECRET, data={k: base64.b64encode(v.encode()).decode()
                                                            for k, v in texts.items()}))

    def _apply(self, one: Object | None, data: Mapping[str, str]) -> None:
        size = sum(len(k.encode()) + len(v.encode()) for k, v in data.items())
        if size > MOST_BYTES:
            raise ServerError(f"{self.place} can't take {size} bytes: Kubernetes lets a ConfigMap have {MOST_BYTES}",
                              hint="serve fewer models with one spec", id="kubernetes-too-big")
        manifest = self._object(MAP, data=dict(data))
        if one is not None:  # by nobody else's leave: it is refused if it has changed since
            manifest["metadata"]["resourceVersion"] = one["metadata"]["resourceVersion"]
        self._site.cluster.apply(manifest)

    def _require_unchanged(self, texts: Mapping[str, str], files: Mapping[str, str]) -> None:
        before: dict[str, str] | None = getattr(self._read, "texts", None)
        changed = [name for name in files if before is not None and before.get(name) != texts.get(name)]
        if changed:
            raise ServerError(f"somebody else has changed {self.path(changed[0])} meanwhile", id="kubernetes-changed",
                              hint="see who it is (kubectl get configmap --show-managed-fields), then run it again")

    def _secrets(self) -> dict[str, str]:
        one = self._site.cluster.get(SECRET, self._site.config)
        return {k: base64.b64decode(v).decode() for k, v in ((one or {}).get("data") or {}).items()}

    def _object(self, kind: tuple[str, str], *, data: Mapping[str, str]) -> Object:
        return {"apiVersion": kind[0], "kind": kind[1], "data": dict(data),
                "metadata": {"name": self._site.config, "labels": self._labels}}


def _texts(one: Object | None) -> dict[str, str]:
    return dict((one or {}).get("data") or {})
