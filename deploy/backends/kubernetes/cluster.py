"""One Kubernetes API server: requests, objects by their manifests, server-side apply. Nothing here knows models.

The official client reads the kubeconfig, logs in and keeps connections; objects are the API's own JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import yaml

from deploy import extras, leases
from deploy.backends.kubernetes.refusals import refusal, translated, unknown_kind
from deploy.errors import BackendMissing, ServerError
from deploy.lazy import LOADING
from deploy.leases import check_held
from deploy.spec import KubernetesPart
from deploy.waiting import Deadline

if TYPE_CHECKING:
    from kubernetes.client import Configuration

Object = dict[str, Any]  # as the API has it
MANAGER = "tfs-deploy"  # who sets fields, as server-side apply calls it
_TIMEOUT = 30.0  # seconds in which something has to come
_WHOLE = 60.0  # seconds for one answer
_MOST_ANSWER = 64 << 20  # bytes of one answer
MOST_TEXT = 4 << 20  # bytes of a log
_CHUNK = 1 << 16
_PAGE = 500  # objects in one answer
_MOST_PAGES = 200
_AGAIN = 3  # times that a list is begun again
_EXPIRED = 410  # a list changed so much meanwhile that it can't be gone on with
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HERE = "TFS_IN_CLUSTER"  # 1: this pod is in the spec's cluster, whatever operators elsewhere call that
# What is asked most, so that the API server needn't be asked where it is
_PATHS = {("v1", "ConfigMap"): "configmaps", ("v1", "Service"): "services", ("v1", "Pod"): "pods",
          ("v1", "Event"): "events", ("v1", "Secret"): "secrets", ("apps/v1", "Deployment"): "deployments",
          ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims", ("apps/v1", "StatefulSet"): "statefulsets",
          ("apps/v1", "ReplicaSet"): "replicasets"}


@dataclass
class Cluster:
    """One that a kubeconfig names, or the one that this pod runs in.

    where: its address, for people. namespace: of objects that name none. inside: we are a pod of it.
    """

    configuration: Configuration
    where: str
    namespace: str
    inside: bool = False
    _pool: Any = field(default=None, repr=False)
    _kinds: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict, repr=False)
    _clock: tuple[datetime, float] | None = field(default=None, repr=False)  # its time, and when that was asked

    # -- objects

    def get(self, kind: tuple[str, str], name: str) -> Object | None:
        """The object of this kind (apiVersion, kind) and name; None if it isn't there."""
        doing = f"read {kind[1]} {name}"
        status, body = self._ask("GET", self.path(kind, name), doing=doing)
        return None if status == 404 else self._object(doing, status, body)

    def list(self, kind: tuple[str, str], labels: Mapping[str, str] | None = None, fields: Mapping[str, str] | None =
             None) -> list[Object]:
        """All objects of a kind with these labels and fields, sorted by name."""
        query = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{k}={v}" for k, v in labels.items())
        if fields:
            query["fieldSelector"] = ",".join(f"{k}={v}" for k, v in fields.items())
        return sorted(self._pages(kind, query), key=lambda o: str(o["metadata"]["name"]))

    def _pages(self, kind: tuple[str, str], query: dict[str, str]) -> Sequence[Object]:
        objects: Sequence[Object] = ()
        more, begun = "", 0
        for _ in range(_MOST_PAGES):
            page = {**query, **({"continue": more} if more else {})}
            try:
                answer = self.request("GET", self.path(kind), f"list {self.plural(kind)}", query=page)
            except ServerError as e:
                if e.details.get("status") != _EXPIRED or not more or begun == _AGAIN:
                    raise
                objects, more, begun = (), "", begun + 1  # from the beginning
                continue
            objects = (*objects, *(answer.get("items") or ()))
            more = answer["metadata"].get("continue") or ""
            if not more:
                return objects
        raise ServerError(f"can't list {self.plural(kind)}: the cluster at {self.where} has more than "
                          f"{_MOST_PAGES * _PAGE} of them", id="kubernetes-answer",
                          hint="use a namespace of its own (server/kubernetes/namespace)")

    def apply(self, manifest: Object, *, force: bool = False, dry_run: bool = False, manager: str = MANAGER) -> Object:
        """Server-side apply: our fields are as the manifest says, those of others stay. force: take theirs over.
        dry_run: only say what the object would be. manager: as whom.

        Raises ServerError (kubernetes-conflict) naming fields and owner where they say otherwise.
        """
        kind, name = (manifest["apiVersion"], manifest["kind"]), manifest["metadata"]["name"]
        return self.request("PATCH", self.path(kind, name, manifest["metadata"].get("namespace")),
                            f"apply {kind[1]} {name}", body=manifest, content_type="application/apply-patch+yaml",
                            query={"fieldManager": manager, **({"force": "true"} if force else {}),
                                   **({"dryRun": "All"} if dry_run else {})})

    def delete(self, manifest: Object) -> bool:
        """False if it wasn't there. What it owns goes after it."""
        kind, name = (manifest["apiVersion"], manifest["kind"]), manifest["metadata"]["name"]
        doing = f"delete {kind[1]} {name}"
        status, body = self._ask("DELETE", self.path(kind, name), body={"propagationPolicy": "Background"}, doing=doing)
        if status == 404:
            return False
        self._object(doing, status, body)
        return True

    def path(self, kind: tuple[str, str], name: str = "", namespace: str | None = None) -> str:
        """Where objects of a kind are, or one of them. Raises ServerError for a kind that the cluster doesn't know."""
        version, _ = kind
        plural, namespaced = (_PATHS[kind], True) if kind in _PATHS else self._kind(kind)
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        place = f"/namespaces/{quote(namespace or self.namespace)}" if namespaced else ""
        return f"{root}{place}/{plural}" + (f"/{quote(name)}" if name else "")

    def plural(self, kind: tuple[str, str]) -> str:
        """As a Role calls it."""
        return self.path(kind).rpartition("/")[2]

    def knows(self, kind: tuple[str, str]) -> bool:
        """Whether the cluster has objects of a kind at all."""
        return kind in _PATHS or kind[1] in self._kinds_of(kind[0])

    def _kind(self, kind: tuple[str, str]) -> tuple[str, bool]:
        version, name = kind
        known = self._kinds_of(version)
        if name not in known:
            raise unknown_kind(self.where, kind)
        return known[name]

    def _kinds_of(self, version: str) -> dict[str, tuple[str, bool]]:
        if version not in self._kinds:
            path = f"/api/{version}" if "/" not in version else f"/apis/{version}"
            doing = f"ask what {version} has"
            status, body = self._ask("GET", path, doing=doing)
            answer = {} if status == 404 else self._object(doing, status, body)
            self._kinds[version] = {r["kind"]: (r["name"], bool(r["namespaced"]))
                                    for r in answer.get("resources") or () if "/" not in r["name"]}
        return self._kinds[version]

    # -- requests

    def request(self, method: str, path: str, doing: str, *, query: Mapping[str, str] | None = None,
                body: Object | None = None, content_type: str = "application/json") -> Object:
        """What the API server answers. doing: completes "can't ...". Raises BackendMissing, ServerError."""
        status, answer = self._ask(method, path, query=query, body=body, content_type=content_type, doing=doing)
        return self._object(doing, status, answer)

    def text(self, path: str, doing: str, query: Mapping[str, str]) -> str:
        """What isn't JSON: a log. Raises as `request`."""
        status, body = self._ask("GET", path, query=query, doing=doing, most=2 * MOST_TEXT)
        if status >= 300:
            raise refusal(doing, status, body, self.where)
        return body.decode(errors="replace")

    def _object(self, doing: str, status: int, body: bytes) -> Object:
        if status >= 300:
            raise refusal(doing, status, body, self.where)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ServerError(f"can't {doing}: what answers at {self.where} is no Kubernetes API server",
                              id="kubernetes-refused")
        return answer

    def _ask(self, method: str, path: str, *, doing: str, query: Mapping[str, str] | None = None, body: Object | None =
             None, content_type: str = "application/json", most: int = _MOST_ANSWER) -> tuple[int, bytes]:
        if method != "GET":
            check_held()
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        with translated(doing, self.where):
            headers = {"accept": "application/json, */*", **self.authorization()}
            if body is not None:
                headers["content-type"] = content_type
            answer = self._connections().request(method, url, headers=headers, timeout=_TIMEOUT, retries=False,
                                                 body=json.dumps(body).encode() if body is not None else None,
                                                 preload_content=False)
            self._set_clock(answer.headers.get("date"))
            return int(answer.status), self._whole(answer, doing, most)

    def _whole(self, answer: Any, doing: str, most: int) -> bytes:
        """The body. Raises ServerError if it is too long, TimeoutError if it doesn't come to its end."""
        data, deadline = bytearray(), Deadline(_WHOLE)
        try:
            for chunk in answer.stream(_CHUNK):
                data += chunk
                if len(data) > most:
                    raise ServerError(f"can't {doing}: the cluster at {self.where} answers with more than {most} "
                                      "bytes", id="kubernetes-answer")
                if deadline.over:
                    raise TimeoutError(f"its answer hasn't ended after {_WHOLE:g} s")
            answer.release_conn()
        except BaseException:
            answer.close()
            raise
        return bytes(data)

    def time(self) -> datetime:
        """By the clock of the API server, to a second, as its last answer has said; before any, by ours."""
        if self._clock is None:
            return datetime.now(timezone.utc)
        date, asked = self._clock
        return date + timedelta(seconds=leases.now() - asked)

    def _set_clock(self, date: str | None) -> None:
        with suppress(TypeError, ValueError):
            self._clock = parsedate_to_datetime(date or ""), leases.now()

    def authorization(self) -> dict[str, str]:
        """The headers of who is asking; a token that ends is made anew."""
        settings = self.configuration.auth_settings()
        return {str(s["key"]): str(s["value"]) for s in settings.values() if s.get("value")}

    def _connections(self) -> Any:
        from kubernetes.client.rest import RESTClientObject

        if self._pool is None:
            self._pool = RESTClientObject(self.configuration).pool_manager
        return self._pool


def connect(part: KubernetesPart) -> Cluster:
    """The cluster that the spec's part names. Nothing is asked yet. Raises BackendMissing."""
    extras.require("kubernetes", "backend: kubernetes")
    with LOADING:
        from kubernetes.client import Configuration

    configuration, file = Configuration(), os.environ.get("KUBECONFIG")
    ours = part.context is None or os.environ.get(_HERE) == "1"  # a context may be another cluster
    inside = ours and not _exists(file) and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        with translated("use the cluster", file or "the kubeconfig"):
            namespace = _load_account(configuration) if inside else _load_file(configuration, file, part.context)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:  # it trusts the file
        raise BackendMissing(f"the kubeconfig {file or '~/.kube/config'} can't be used: {' '.join(str(e).split())}",
                             hint="see `kubectl config view`", id="kubernetes-config") from e
    configuration.retries = False
    return Cluster(configuration, str(configuration.host), part.namespace or namespace or "default", inside)


def _exists(file: str | None) -> bool:
    names = file.split(os.pathsep) if file else ["~/.kube/config"]
    return any(Path(name).expanduser().exists() for name in names if name)


def _load_account(configuration: Configuration) -> str:
    from kubernetes import config

    config.load_incluster_config(client_configuration=configuration)
    return (_ACCOUNT / "namespace").read_text().strip()


def _load_file(configuration: Configuration, file: str | None, context: str | None) -> str:
    """The context's namespace, "" if it has none."""
    from kubernetes import config

    if not _exists(file):
        here = f", or set {_HERE}=1 if context {context} is the cluster of this pod"
        raise BackendMissing(f"there is no kubeconfig: {file or '~/.kube/config'} doesn't exist",
                             hint="name it in KUBECONFIG" + (here if "KUBERNETES_SERVICE_HOST" in os.environ else ""),
                             id="kubernetes-config")
    name = file or str(Path("~/.kube/config").expanduser())
    if Path(name).is_dir():
        raise BackendMissing(f"the kubeconfig {name} is a directory", hint="KUBECONFIG names the file in it",
                             id="kubernetes-config")
    config.load_kube_config(name, context=context, client_configuration=configuration)
    contexts, current = config.list_kube_config_contexts(name)
    chosen = next((c for c in contexts if c["name"] == context), current)
    return str((chosen.get("context") or {}).get("namespace") or "")
