"""A server that somebody else started is read off: what it says of itself, and what somebody has to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import cast

import msgspec
import pytest

from deploy import client, rollout, serving
from deploy.client import monitoring
from deploy.client.monitoring import RequestCounts
from deploy.errors import BadReply, ClientError, DeployError, NotReady, ServerError, SpecError, Unreachable
from deploy.render import models_config, ssl_config
from deploy.serving import Known
from deploy.serving.ready import ready
from deploy.spec import RemotePart, RemoteTls, load_spec
from deploy.state import Ledger
from deploy.types import Latest, ServedModel, Serving, Specific
from tests.support.remote import LABELS_FLAG, Elsewhere, elsewhere
from tests.support.repository import savedmodel
from tests.support.servers import taken_port, until
from tests.support.tls import self_signed

ONE = Serving(frozenset({1}), {"stable": 1})


def part(there: Elsewhere, *, rest: bool = True, config: bool = False, tls: RemoteTls | None = None) -> RemotePart:
    return RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{there.rest}" if rest else None,
                      config_file=str(there.file) if config else None, tls=tls)


def test_its_config_file_says_everything(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", {"m": 1, "n": 3}) as there:
        before = there.file.read_text()
        adopted = serving.adopt(part(there, config=True), tmp_path / "ops" / "edge.yaml")
        assert {m.name: m.live for m in adopted.models} == {"m": ONE, "n": Serving(frozenset({3}), {"stable": 3})}
        assert not adopted.notes and there.file.read_text() == before, "nothing is told, nothing is written there"
        spec = load_spec(adopted.spec.path)
        assert spec == adopted.spec and spec.name == "edge" and spec.server.flags == {LABELS_FLAG: True}
        assert spec.repository == there.models and spec.server.monitoring is not None
        assert serving.status(spec).ready and ready(spec).ready and not serving.status(spec).drift
        events = [line["event"] for line in Ledger(spec.state_dir).read()]
        assert events == ["adopted", "started", "started"]


def test_without_its_file_the_metrics_tell_models_and_base_paths(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", {"m": 1, "n": 3}) as there:
        adopted = serving.adopt(part(there), tmp_path / "serving.yaml", Known({"m": None}))
        assert {m.name: m.base_path for m in adopted.models} == {
            name: str(there.models / name) for name in ("m", "n")}
        notes = " ".join(adopted.notes)
        assert "n wasn't named: it is served" in notes and "labels can't be listed" in notes
        assert "a restart of this server undoes what was released" in notes
        assert serving.status(adopted.spec).ready


def test_files_that_are_elsewhere_are_named_as_the_server_sees_them(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        away = tmp_path / "away"
        there.models.rename(away)  # what it has loaded stays; from here there is nothing
        adopted = serving.adopt(part(there), tmp_path / "serving.yaml")
        assert adopted.spec.server.remote is not None and adopted.spec.server.remote.models == str(there.models)
        assert any("its versions aren't on this machine" in note for note in adopted.notes)
        assert serving.status(adopted.spec).ready and ready(adopted.spec).ready
        away.rename(there.models)


def test_base_paths_with_names_of_their_own(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        savedmodel(tmp_path / "there" / "other" / "deep" / "7")
        models = [ServedModel("m", str(there.models / "m"), Specific((1,)), {"stable": 1}),
                  ServedModel("o", str(tmp_path / "there" / "other" / "deep"), Specific((7,)))]
        with client.connect(f"127.0.0.1:{there.grpc}") as asked:
            asked.reload(models_config(models, {m.name: m.base_path for m in models}))
        with pytest.raises(SpecError, match="the base path of model 'o' isn't known"):
            serving.adopt(part(there, rest=False), tmp_path / "serving.yaml", Known({"m": str(there.models / "m"),
                                                                                     "o": None}))
        assert not (tmp_path / "serving.yaml").exists() and not (tmp_path / ".tfs").exists()
        notes = serving.adopt(part(there), tmp_path / "a.yaml").notes
        assert any(f"has loaded something from {models[1].base_path} once" in note for note in notes)
        adopted = serving.adopt(part(there), tmp_path / "b.yaml", Known({"o": models[1].base_path}))
        assert {m.name: m.base_path for m in adopted.spec.models} == {m.name: m.base_path for m in models}
        assert serving.status(adopted.spec).ready


def test_a_policy_stays_one_unless_it_is_pinned(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there", labels=False, policy=Latest(2)) as there:
        adopted = serving.adopt(part(there, config=True), tmp_path / "a.yaml")
        assert adopted.spec.models[0].versions == Latest(2) and "adopt it with --pin" in adopted.notes[0]
        assert serving.status(adopted.spec).ready
        pinned = serving.adopt(part(there, config=True), tmp_path / "b.yaml", Known({}, pin=True))
        assert pinned.spec.models[0].versions == Specific((1,))


@pytest.mark.parametrize(("named", "message"), [
    ({}, "nobody can say which models it serves"), ({"m": None}, "the base path of model 'm' isn't known"),
    ({"x": "/x"}, "the server serves no version of 'x'")])
def test_what_nobody_knows_is_asked_for(tmp_path: Path, named: dict[str, str | None], message: str) -> None:
    with elsewhere(tmp_path / "there", monitoring=False) as there, pytest.raises((SpecError, NotReady), match=message):
        serving.adopt(part(there), tmp_path / "serving.yaml", Known(named))


def test_a_spec_that_is_there_stays(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        path = tmp_path / "serving.yaml"
        path.write_text("mine")
        with pytest.raises(SpecError, match="is there already"):
            serving.adopt(part(there), path)
        assert path.read_text() == "mine"
        path.unlink()
        serving.adopt(part(there), path)
        path.unlink()
        with pytest.raises(SpecError, match="remembers a server of this name already"):
            serving.adopt(part(there), path)
        serving.adopt(part(there), path, replace=True)


# -- addresses of something else

def test_wrong_addresses_are_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    with pytest.raises(Unreachable, match=r"^no connection to 127\.0\.0\.1:1: "):
        serving.adopt(RemotePart(grpc="127.0.0.1:1"), path)
    with elsewhere(tmp_path / "there") as there, elsewhere(tmp_path / "other", {"m": 2}) as other:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{there.rest}: HTTP/1 answers there, .*give the gRPC port"):
            serving.adopt(RemotePart(grpc=f"127.0.0.1:{there.rest}"), path)
        with pytest.raises(BadReply, match="it doesn't speak HTTP"):
            serving.adopt(RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{there.grpc}"), path)
        both = RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{other.rest}")
        with pytest.raises(SpecError, match="aren't the same server: m is served as"):
            serving.adopt(both, path, Known({"m": "/models/m"}))
        with pytest.raises(ServerError, match=r"the server's config file .*nowhere isn't there"):
            serving.adopt(RemotePart(grpc=both.grpc, config_file=str(tmp_path / "nowhere")), path)
        (tmp_path / "text").write_text("no config")
        with pytest.raises(SpecError, match="text: line 1"):
            serving.adopt(RemotePart(grpc=both.grpc, config_file=str(tmp_path / "text")), path)
        with pytest.raises(SpecError, match="model 'q' stands not at all in"):
            serving.adopt(part(there, config=True), path, Known({"q": None}))
    assert not path.exists()


def two(grpc: Elsewhere, rest: Elsewhere) -> RemotePart:
    return RemotePart(grpc=f"127.0.0.1:{grpc.grpc}", rest=f"http://127.0.0.1:{rest.rest}")


def test_addresses_of_two_servers_that_serve_the_same(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    with elsewhere(tmp_path / "there") as there, elsewhere(tmp_path / "other") as other:
        for one, another in ((there, other), (other, there)):
            with pytest.raises(SpecError, match=r"127\.0\.0\.1:\d+ and http://127\.0\.0\.1:\d+ aren't the same server: "
                                                r"a request over gRPC isn't in the other's metrics") as e:
                serving.adopt(two(one, another), path, Known({"m": str(there.models / "m")}))
            assert e.value.hint == "give the gRPC and the REST address of one server" and not path.exists()
        adopted = serving.adopt(two(there, there), path, Known({"m": None}))
        assert not any("one server" in note for note in adopted.notes)


def test_without_metrics_labels_tell_two_servers_apart_and_else_it_is_said_that_nobody_can(tmp_path: Path) -> None:
    path, known = tmp_path / "serving.yaml", Known({"m": "/models/m"})
    with elsewhere(tmp_path / "there", monitoring=False) as there:
        with elsewhere(tmp_path / "other", labels=False, monitoring=False) as other, \
                pytest.raises(SpecError, match="aren't the same server: m's label stable is version 1 there, and "
                                               "nothing here"):
            serving.adopt(two(there, other), path, known)
        adopted = serving.adopt(two(there, there), path, known)
        assert any(note.startswith("it isn't proven that ") and "are one server: its metrics are off" in note
                   for note in adopted.notes), adopted.notes


def test_a_server_whose_counters_know_no_unknown_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of TensorFlow Serving's other runtime: a request to a model that it has is counted, whatever its end."""
    with elsewhere(tmp_path / "there") as there:
        counted = monitoring.request_counts
        monkeypatch.setattr(monitoring, "request_counts", lambda rest, model, *args: RequestCounts({}) if
                            model.startswith("tfs-") else counted(rest, model, *args))
        serving.adopt(two(there, there), tmp_path / "serving.yaml", Known({"m": None}))


def test_several_versions_with_labels(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        for number in (2, 3):
            savedmodel(there.models / "m" / str(number))
        with client.connect(f"127.0.0.1:{there.grpc}") as asked:
            for labels in ({"stable": 1}, {"stable": 2, "canary": 3, "ours": 1}):
                many = ServedModel("m", "", Specific((1, 2, 3)), labels)
                asked.reload(models_config([many], {"m": str(there.models / "m")}))
                until(lambda: len([s for s in asked.status("m") if s.serving]) == 3, "all three are served")
        adopted = serving.adopt(part(there), tmp_path / "serving.yaml", Known({}, labels=["ours"]))
        assert adopted.models[0].live == Serving(frozenset({1, 2, 3}), {"stable": 2, "canary": 3, "ours": 1})
        spec = load_spec(adopted.spec.path)
        assert spec.models[0].versions == Specific((1, 2, 3)) and spec.models[0].labels == adopted.models[0].live.labels
        assert serving.status(spec).ready and ready(spec).ready and not serving.status(spec).drift


def test_a_rest_address_behind_a_prefix(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there, web(Prefixed.of(there)) as port:
        at = RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{port}/tf/serving/")
        adopted = serving.adopt(at, tmp_path / "serving.yaml")
        assert adopted.models[0].live == ONE and adopted.models[0].base_path == str(there.models / "m")
        assert not any("one server" in note for note in adopted.notes)
        spec = load_spec(adopted.spec.path)
        assert spec == adopted.spec and serving.status(spec).ready and ready(spec).ready
        outside = RemotePart(grpc=at.grpc, rest=f"http://127.0.0.1:{port}")
        with pytest.raises(ClientError, match=f"http://127.0.0.1:{port} is no TensorFlow Serving") as e:
            serving.adopt(outside, tmp_path / "b.yaml")
        assert "behind a proxy its path belongs to it" in e.value.hint


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class Prefixed(Quiet):
    """A proxy that gives a server a path of its own, and knows no other one."""

    port = 0

    @classmethod
    def of(cls, there: Elsewhere) -> type[Prefixed]:
        return type("Prefixed", (cls,), {"port": there.rest})

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None) -> None:
        if not self.path.startswith("/tf/serving/v1/") and not self.path.startswith("/tf/serving/monitoring/"):
            self.send_error(404)
            return
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(self.command, self.path.removeprefix("/tf/serving"), body)
        reply = connection.getresponse()
        answer = reply.read()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        connection.close()


@contextmanager
def web(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A web server; its port."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_base_path_that_the_server_has_not_loaded_from(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        with pytest.raises(SpecError, match="has loaded m from .*there/models/m, and nothing from /wrong: ") as e:
            serving.adopt(part(there), tmp_path / "serving.yaml", Known({"m": "/wrong"}))
        assert e.value.hint == f"--model m={there.models / 'm'}"


@pytest.mark.parametrize("page", [None, b"<html>hello</html>", b"{}"])
def test_another_web_server_is_no_tensorflow_serving(tmp_path: Path, page: bytes | None) -> None:
    class Other(Quiet):
        def do_GET(self) -> None:
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with elsewhere(tmp_path / "there") as there, web(Other) as port:
        with pytest.raises(ClientError) as e:
            serving.adopt(RemotePart(grpc=f"127.0.0.1:{there.grpc}", rest=f"http://127.0.0.1:{port}"),
                          tmp_path / "serving.yaml", Known({"m": str(there.models / "m")}))
        assert e.value.id == "not-tensorflow-serving", e.value
        assert f"{port} is no TensorFlow Serving: " in e.value.message


def test_nobody_answers_where_somebody_listens(tmp_path: Path) -> None:
    with taken_port() as port, pytest.raises(ClientError):
        serving.adopt(RemotePart(grpc=f"127.0.0.1:{port}"), tmp_path / "serving.yaml", timeout=1.0)


def test_tls_is_spoken_by_both_or_told(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    tls = self_signed(keys)
    texts = [Path(cast("str", path)).read_text() for path in (tls.certificate, tls.key)]
    (tmp_path / "ssl.config").write_text(ssl_config(texts[0], texts[1], None))
    with elsewhere(tmp_path / "there", flags=[f"--ssl_config_file={tmp_path / 'ssl.config'}"]) as there:
        path = tmp_path / "serving.yaml"
        with pytest.raises(ClientError):
            serving.adopt(part(there), path)
        with pytest.raises(Unreachable, match="TLS: "):
            serving.adopt(part(there, tls=RemoteTls(server_name="x.example.com")), path)
        adopted = serving.adopt(part(there, tls=RemoteTls(ca=tls.ca)), path)
        assert load_spec(path) == adopted.spec and serving.status(adopted.spec).ready


def test_a_server_that_wants_to_know_its_clients(tmp_path: Path) -> None:
    """One sentence at once, where gRPC says that the socket was closed, and a release waited for the server."""
    own, keys, others = (tmp_path / name for name in ("own", "keys", "others"))
    for directory in (own, keys, others):
        directory.mkdir()
    tls, client_tls, stranger = self_signed(own), self_signed(keys, "client"), self_signed(others, "client")
    texts = [Path(cast("str", path)).read_text() for path in (tls.certificate, tls.key, client_tls.ca)]
    (tmp_path / "ssl.config").write_text(ssl_config(texts[0], texts[1], texts[2]))
    path, ours = tmp_path / "serving.yaml", RemoteTls(ca=tls.ca, client_certificate=client_tls.certificate,
                                                      client_key=client_tls.key)
    with elsewhere(tmp_path / "there", flags=[f"--ssl_config_file={tmp_path / 'ssl.config'}"]) as there:
        for given, why in (
                (None, "it speaks TLS, and is asked without"),
                (RemoteTls(ca=tls.ca), "it wants to know its clients, and no client certificate is given"),
                (RemoteTls(ca=tls.ca, client_certificate=stranger.certificate, client_key=stranger.key),
                 "it doesn't accept the client certificate")):
            with pytest.raises(Unreachable, match=f"no connection to 127.0.0.1:{there.grpc}: TLS: {why}"):
                serving.adopt(part(there, tls=given), path)
        spec = serving.adopt(part(there, tls=ours), path).spec
        assert serving.status(spec).ready
        remote = msgspec.structs.replace(part(there, tls=RemoteTls(ca=tls.ca)))
        without = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, remote=remote))
        assert "no client certificate is given" in serving.status(without).problems[0]
        for verb in (lambda: rollout.roll_out(without, "m", 1), lambda: serving.up(without)):
            began = time.monotonic()
            with pytest.raises(DeployError, match="no client certificate is given"):
                verb()
            assert time.monotonic() - began < 15, "it isn't waited for"


def test_a_server_that_is_loading_is_waited_for_by_whoever_adopts(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        (there.models / "m" / "2").mkdir()
        with client.connect(f"127.0.0.1:{there.grpc}") as asked:
            config = models_config([ServedModel("m", "", Specific((1, 2)), {})], {"m": str(there.models / "m")})
            asked.reload(config)
            until(lambda: len(asked.status("m")) > 1, "version 2 is tried")
            states = {s.version: s for s in asked.status("m")}
        if states[2].failed:
            adopted = serving.adopt(part(there), tmp_path / "serving.yaml")
            assert any("m/2 failed to load" in note for note in adopted.notes)
        else:
            with pytest.raises(NotReady, match="m/2 is still loading"):
                serving.adopt(part(there), tmp_path / "serving.yaml")
