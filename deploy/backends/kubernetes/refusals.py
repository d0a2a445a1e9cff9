"""What an API server refuses, or what keeps us from asking it, as our errors. The one place that knows theirs."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.errors import BackendMissing, DeployError, ServerError

_FORBIDDEN = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" in API group '
                        r'"(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?')
_NOBODY = 'User "system:anonymous"'  # no login, or a login program of the kubeconfig that failed
_MANAGER = re.compile(r'conflicts? with "([^"]*)"')
_NAMESPACE = re.compile(r'namespaces "([^"]*)" not found')
# API group -> who brings it, and which part of server/kubernetes needs it
_BRINGS = {"keda.sh": ("KEDA", "keda"), "monitoring.coreos.com": ("the Prometheus operator", "service_monitor"),
           "serving.kserve.io": ("KServe", "kind")}
# What the client says of a kubeconfig that names what isn't in it
_ABSENT = re.compile(r"Expected object with name (?P<name>\S+) in (?P<file>.*)/(?P<kind>context|cluster|user)s list")
_REACH = "is the cluster up, and its address in the kubeconfig (server/kubernetes/context) right?"


def refusal(doing: str, status: int, body: bytes, where: str) -> DeployError:
    """What the API server answered instead of 2xx. doing: completes "can't ...". where: the cluster, for people."""
    told = _told(body)
    message = str(told.get("message") or body[:200].decode(errors="replace") or f"HTTP status {status}")
    details = {"status": status, "reason": told.get("reason", ""), "cluster": where}
    if status == 401 or (status == 403 and _NOBODY in message):
        return ServerError(f"can't {doing}: the cluster at {where} doesn't know who is asking", id="kubernetes-login",
                           hint="log in again, or take another context (server/kubernetes/context)", details=details)
    if namespace := _NAMESPACE.search(message):
        return ServerError(f"can't {doing}: there is no namespace {namespace[1]} in the cluster at {where}",
                           hint=f"kubectl create namespace {namespace[1]}, or name another one in "
                                "server/kubernetes/namespace", id="kubernetes-namespace", details=details)
    if status == 403 and "exceeded quota" in message:
        return ServerError(f"can't {doing}: {_after(message, 'is forbidden: ')}", id="kubernetes-quota",
                           hint="ask for less (server/resources, server/kubernetes/replicas), or have the namespace's "
                                "quota raised", details=details)
    if status == 403:
        return forbidden(doing, message, details)
    if status == 409 and told.get("reason") == "Conflict" and _MANAGER.search(message):
        return conflict(doing, message, told, details)
    hint = "correct what it names in server/kubernetes, or in what fills it" if doing.startswith("apply ") else ""
    return ServerError(f"can't {doing}: the cluster at {where} says: {message}", id="kubernetes-refused", hint=hint,
                       details=details)


def unknown_kind(where: str, kind: tuple[str, str]) -> ServerError:
    """kind: apiVersion and kind of an object that the cluster can't have."""
    version, name = kind
    brings = _BRINGS.get(version.partition("/")[0])
    hint = (f"install {brings[0]} there, which brings the CRD, or take out server/kubernetes/{brings[1]}" if brings else
            "is it older than server/kubernetes/version says?")
    return ServerError(f"the cluster at {where} knows no {name} of {version}", id="kubernetes-kind", hint=hint)


def forbidden(doing: str, message: str, details: Mapping[str, object]) -> ServerError:
    """Names who may not do what, and the rule of a Role that would let them."""
    match = _FORBIDDEN.search(message)
    if match is None:
        return ServerError(f"can't {doing}: {message}", id="kubernetes-forbidden", details=details)
    user, verb, resource, group = (match[name] for name in ("user", "verb", "resource", "group"))
    place = f" in namespace {match['namespace']}" if match["namespace"] else ""
    rule = f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]}}'
    kind = "Role" if match["namespace"] else "ClusterRole"
    return ServerError(f"can't {doing}: {user} may not {verb} {resource}{place}", id="kubernetes-forbidden",
                       hint=f"give them a {kind} with the rule {rule}; `tfs configure` writes the Roles that "
                            "commands need",
                       details={**details, "user": user, "verb": verb, "resource": resource, "group": group})


def conflict(doing: str, message: str, told: Mapping[str, Any], details: Mapping[str, object]) -> ServerError:
    """Server-side apply: somebody else has set a field, and owns it."""
    causes = [c for c in (told.get("details") or {}).get("causes") or () if c.get("reason") == "FieldManagerConflict"]
    managers = sorted({m for text in (message, *(str(c.get("message")) for c in causes))
                       for m in _MANAGER.findall(text)})
    fields = [str(c.get("field")) for c in causes]
    owner = " and ".join(managers) or "another field manager"
    return ServerError(f"can't {doing}: {owner} has set {', '.join(fields) or 'fields of it'} to another value",
                       hint="agree with them whose it is: take it out of theirs, say the same in the spec, or take "
                            "it over: --force-conflicts",
                       id="kubernetes-conflict", details={**details, "managers": managers, "fields": fields})


def _told(body: bytes) -> Mapping[str, Any]:
    """The API's Status object; empty if it is none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _after(message: str, mark: str) -> str:
    return message.partition(mark)[2] or message


@contextmanager
def translated(doing: str, where: str) -> Iterator[None]:
    """Turn whatever the client and what it stands on raise into BackendMissing. `doing` completes "can't ..."."""
    import urllib3.exceptions
    import websocket
    from kubernetes.config import ConfigException

    try:
        yield
    except ConfigException as e:
        absent = _ABSENT.search(str(e))
        why = f"{absent['file']} has no {absent['kind']} {absent['name']}" if absent else f"it can't be used: {e}"
        raise BackendMissing(f"can't {doing} of the kubeconfig: {why}", id="kubernetes-config",
                             hint="see `kubectl config get-contexts`; KUBECONFIG names the file, "
                                  "server/kubernetes/context the context") from e
    except websocket.WebSocketBadStatusException as e:
        raise refusal(doing, e.status_code, e.resp_body or b"", where) from e
    except (websocket.WebSocketTimeoutException, websocket.WebSocketConnectionClosedException,
            websocket.WebSocketAddressException) as e:
        raise unreachable(doing, where, e) from e
    except websocket.WebSocketException as e:
        raise ServerError(f"can't {doing} at {where}: {e}", id="kubernetes-refused") from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise unreachable(doing, where, e) from e


def unreachable(doing: str, where: str, error: BaseException) -> BackendMissing:
    """Why nobody there could be asked: the innermost reason says it best."""
    reason = getattr(error, "reason", None) or error
    if "CERTIFICATE_VERIFY_FAILED" in str(error) or "doesn't match" in str(error):
        return BackendMissing(f"can't {doing}: the cluster at {where} can't prove who it is: {_last(reason)}",
                              hint="is its certificate-authority in the kubeconfig the right one?", id="kubernetes-tls",
                              details={"cluster": where})
    return BackendMissing(f"can't {doing}: the Kubernetes API server at {where} doesn't answer: {_last(reason)}",
                          hint=_REACH, id="kubernetes-unreachable", details={"cluster": where})


def _last(error: BaseException) -> str:
    """`HTTPSConnection(...): Failed to establish a new connection: [Errno 111] Connection refused`: its end. Of
    `('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))` the innermost."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    if isinstance(error, ssl.SSLEOFError):
        return "it ends the connection"
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return text.rpartition("Errno ")[2].partition("] ")[2] or text.rpartition("): ")[2] or text
