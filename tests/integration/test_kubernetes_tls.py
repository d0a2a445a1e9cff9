"""server/tls of pods: gRPC with TLS from outside, through the API server and in the cluster; another certificate."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import client, rollout, serving
from deploy.backends import BACKENDS
from deploy.backends.kubernetes.cluster import Object
from deploy.backends.kubernetes.config_map import ConfigMapStore
from deploy.errors import DeployError, NotReady, ServerError, StartFailed, Unreachable
from deploy.render.configs import ssl_config
from deploy.render.kubernetes import manifests, role
from deploy.spec import Spec, load_spec
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.peers.pods import part_of, run_job, tool_image, watch_job
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip
from tests.support.tls import authority, self_signed, signed

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]
SECRET = ("v1", "Secret")
FILES = {"certificate": "server.pem", "key": "server.key", "ca": "ca.pem"}


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def spec(place: Namespace, tmp_path: Path) -> Iterator[Spec]:
    """A pod with a certificate for the name of their Service."""
    savedmodel(tmp_path / "models" / "m" / "1")
    authority(tmp_path / "tls")
    signed(tmp_path / "tls", f"half-grpc.{place.name}.svc")
    made = written(place, tmp_path, FILES)
    yield made
    with suppress(DeployError):
        serving.down(made)


def written(place: Namespace, directory: Path, tls: Mapping[str, str], **part: Any) -> Spec:
    """As a file says it, which a job in the cluster reads as well."""
    files = {name: f"tls/{file}" for name, file in tls.items()}
    (directory / "serving.yaml").write_bytes(msgspec.yaml.encode({
        "name": "half", "models": [{"name": "m", "versions": [1], "labels": {"stable": 1}}],
        "rollout": {"soak": 0, "hold": 0, "interval": 0.1, "patience": 5, "compare": False},
        "server": {"backend": "kubernetes", "start_timeout": 60.0, "drain": 0.0, "flags": {"tfs_loader": "echo"},
                   "image": server_image_or_skip(engine_or_skip()), "tls": files, "kubernetes": {
                       "version": VERSION, "namespace": place.name, "replicas": 1, "pull_policy": "Never",
                       "models": {"host_path": str(directory / "models")}, **part}}}))
    return load_spec(directory / "serving.yaml")


def changed(spec: Spec, **part: Any) -> Spec:
    return msgspec.structs.replace(spec, server=msgspec.structs.replace(
        spec.server, kubernetes=msgspec.structs.replace(part_of(spec), **part)))


def secrets(place: Namespace) -> dict[str, dict[str, str]]:
    """Ours, by their names."""
    return {one["metadata"]["name"]: {k: base64.b64decode(v).decode() for k, v in (one.get("data") or {}).items()}
            for one in place.cluster.list(SECRET) if one["type"] == "Opaque"}


def shown(spec: Spec) -> set[str]:
    """The certificates that pods show."""
    server = serving.find(spec)
    assert server is not None
    return {ssl.get_server_certificate((r.endpoint.host, int(r.endpoint.grpc_port or 0))).replace("\n", "")
            for r in server.replicas()}


def beside(spec: Spec) -> str:
    """The certificate in the spec's file."""
    return (spec.path.parent / "tls" / "server.pem").read_text().replace("\n", "")


def test_everything_talks_to_it_from_everywhere_and_a_certificate_is_exchanged(
        spec: Spec, place: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, name = changed(spec, reach="api"), f"half-grpc.{place.name}.svc"
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(place.account(role(outside, "up", manifests(outside))["rules"], tmp_path)))
        up = serving.up(outside)
        assert up.endpoint.host == "127.0.0.1" and up.endpoint.tls and up.endpoint.tls.server_name == name
        assert serving.status(outside).ready, serving.status(outside).problems
    assert serving.status(spec).ready and serving.up(spec).already and shown(spec) == {beside(spec)}
    found = serving.find(spec)
    assert found is not None and str(tmp_path) not in str(found.labels)  # another operator has the files elsewhere
    with (client.connect(found.endpoint.grpc_target, attempts=1) as clear,
          pytest.raises(Unreachable, match="it speaks TLS")):
        clear.status("m")
    inside(spec, place, name)

    before = secrets(place)["half-config"]
    signed(tmp_path / "tls", name)
    with pytest.raises(ServerError, match=r"annotations.org.tfs-deploy/certificate: .* -> ") as e:
        serving.up(spec)
    assert "tfs rollout --replace-pods" in e.value.hint and secrets(place)["half-config"] == before
    store = BACKENDS["kubernetes"].config(spec)
    assert isinstance(store, ConfigMapStore)
    for _ in range(2):  # as a replacement does that is undone
        store.exchange({"ssl.config": "another"})
    assert secrets(place)["half-config"]["ssl.config"] == "another"
    store.put_back()
    store.settle()
    assert secrets(place)["half-config"] == before and shown(spec) != {beside(spec)}
    assert rollout.replace_replicas(spec).outcome == "done"
    assert shown(spec) == {beside(spec)} and serving.status(spec).ready and serving.up(spec).already
    assert list(secrets(place)["half-config"]) == ["ssl.config"]
    assert serving.down(spec) and not secrets(place)


def inside(spec: Spec, place: Namespace, name: str) -> None:
    """A client in the cluster, by the Service's name and by its address; and the watch job."""
    watched = written(place, spec.path.parent, FILES, watch=True, tool=tool_image())
    for one in manifests(watched):
        if one["metadata"]["name"].endswith(("-watch", "-spec")):
            place.cluster.apply(one)
    job: Object = watch_job(watched)
    done = run_job(place, job, "watch")
    assert done.code == 0, done.log
    pod = job["spec"]["template"]["spec"]
    grpc = place.cluster.get(("v1", "Service"), "half-grpc")
    assert grpc is not None
    pod["hostAliases"] = [{"ip": grpc["spec"]["clusterIP"], "hostnames": [name]}]  # the tests' cluster has no DNS
    code = ("from deploy import client; from deploy.types import Tls\n"
            f"for host in {[name, grpc['spec']['clusterIP']]}:\n"
            f"    try: print(len(client.connect(f'{{host}}:{spec.server.grpc_port}', attempts=1, "
            "tls=Tls('/etc/tfs-spec/tls/ca.pem')).status('m')))\n"
            "    except Exception as e: print(e)\n")
    pod["containers"][0] |= {"command": ["python3", "-c", code], "args": []}
    done = run_job(place, job, "by-name")
    assert done.log.splitlines()[0] == "1" and "Hostname Verification Check failed" in done.log, done.log


def test_a_certificate_for_another_name_is_told_with_the_name_that_is_wanted(spec: Spec, place: Namespace,
                                                                             tmp_path: Path) -> None:
    signed(tmp_path / "tls", "elsewhere.example")
    with pytest.raises(NotReady, match="can't talk to it: .*Hostname Verification") as e:
        serving.up(spec)
    assert f"server_name if the certificate isn't for half-grpc.{place.name}.svc" in e.value.hint
    assert not secrets(place) and not place.cluster.list(("apps/v1", "Deployment"))


def test_a_start_that_fails_leaves_no_key(spec: Spec, place: Namespace) -> None:
    broken = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, image="tfs-deploy/nowhere:1"))
    with pytest.raises(StartFailed, match="nowhere"):
        serving.up(broken)
    assert not secrets(place)


def test_a_secret_of_somebody_elses(spec: Spec, place: Namespace, tmp_path: Path) -> None:
    """No key is on this machine; what is missing is told before anything is applied."""
    texts = [(tmp_path / "tls" / name).read_text() for name in ("server.pem", "server.key")]
    theirs = written(place, tmp_path, {"ca": "ca.pem"}, tls_secret="theirs")
    for name in ("server.pem", "server.key"):
        (tmp_path / "tls" / name).unlink()
    for data, says in ((None, r"there is no Secret theirs in namespace tfs-\w+, which server/kubernetes/tls_secret"),
                       ({}, "has nothing, and no ssl.config"),
                       ({"tls.crt": "x", "tls.key": "y"}, "has tls.crt and tls.key, and no ssl.config"),
                       ({"ssl.config": "server_key: 'x'"}, "ssl.config in Secret theirs .* has no server_cert"),
                       ({"ssl.config": ssl_config(*texts, None)}, "")):
        if data is not None:
            place.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"},
                                 "stringData": data}, force=True)
        if says:
            with pytest.raises(ServerError, match=says) as e:
                serving.up(theirs)
            assert e.value.id == "kubernetes-certificate" and "kubectl create secret generic theirs" in e.value.hint
            assert not place.cluster.list(("apps/v1", "Deployment"))
            place.cluster.delete({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"}})
    serving.up(theirs)
    assert serving.status(theirs).ready and list(secrets(place)) == ["theirs"]
    assert serving.down(theirs) and list(secrets(place)) == ["theirs"]


def test_an_authority_that_did_not_sign_it(spec: Spec, place: Namespace, tmp_path: Path) -> None:
    self_signed(tmp_path / "tls")
    other = written(place, tmp_path, {**FILES, "ca": "cert.pem"})
    with pytest.raises(NotReady, match="CERTIFICATE_VERIFY_FAILED"):
        serving.up(other)
    assert not secrets(place)
