"""The page in a real browser: what it shows of servers that play a part, and whom it answers."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy import backends, testing
from deploy.backends import MemoryUse
from deploy.errors import PortTaken, SpecError
from deploy.state import Ledger
from deploy.types import All
from deploy.ui import UiServer, open_ui
from deploy.ui.watching import SpecSource
from tests.support.browser import check_accessible, chromium, watched
from tests.support.serving import FakeServer

MANY = 200
SPEC = "name: fleet\nmodels:\n" + "".join(
    f"  - {{name: model-{i:03}, versions: all, labels: {{stable: 1}}}}\n" for i in range(MANY))


class Played(FakeServer):
    def describe(self) -> dict[str, Any]:
        return {"name": "fleet", "running": self.alive(), "returncode": self.code, "kind": "process",
                "endpoint": {"rest": self.endpoint.rest_url, "grpc": self.endpoint.grpc_target}}

    def memory(self) -> MemoryUse:
        return MemoryUse(300_000_000, 2_000_000_000)


def written(directory: Path) -> SpecSource:
    """A spec of 200 models of which one is missing on the server, with a release that was undone."""
    for i in range(MANY):
        (directory / f"models/model-{i:03}/1").mkdir(parents=True)
    (directory / "serving.yaml").write_text(SPEC)
    source = SpecSource(directory / "serving.yaml")
    ledger = Ledger(source.load().state_dir)
    served = {"versions": [1], "labels": {"stable": 1}}
    ledger.append("begin", release="r1", model="model-003", kind="rollout", version=2, before=served,
                  goal={"versions": [2], "labels": {"stable": 2}}, by={"by": "me@here (process 1)"},
                  options={"label": "stable", "trial": ["gate"], "after": []})
    ledger.append("undo", release="r1", reason="2 of 9 checks failed")
    ledger.append("end", release="r1", outcome="undone", reason="2 of 9 checks failed")
    return source


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[UiServer, Played]]:
    source = written(tmp_path_factory.mktemp("fleet"))
    models = {f"model-{i:03}": {1: None} for i in range(MANY - 1)}
    labels = {name: {"stable": 1} for name in models}
    with pytest.MonkeyPatch.context() as patch, testing.serve(models, versions=All(), labels=labels) as running:
        ports = frozenset(p for p in running.endpoint.ports.values() if p)
        server = Played(name="fleet", endpoint=running.endpoint, open=ports, said="2026-11-28 W a warning\nplain\n")
        patch.setattr(backends, "find", lambda *_, **__: server)
        patch.setattr(backends, "logs", lambda *_: server.said)
        with open_ui([source], port=0, allow_actions=True) as ui:
            yield ui, server


@pytest.fixture
def page(browser: Browser, played: tuple[UiServer, Played]) -> Iterator[Page]:
    with watched(browser, viewport={"width": 1280, "height": 800}, color_scheme="light",
                 base_url=played[0].address) as opened:
        yield opened


def test_two_hundred_models_the_bad_one_first(page: Page) -> None:
    page.goto("/")
    rows = page.locator("table.models tbody tr")
    expect(rows).to_have_count(MANY)
    expect(rows.first).to_contain_text("model-199")
    expect(page.get_by_text("1 model of 200 is not served as wanted.")).to_be_visible()
    expect(page).to_have_title(re.compile("fleet not ready"))
    page.keyboard.press("/")
    page.keyboard.type("model-01")
    expect(rows).to_have_count(10)
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("h2", has_text="model-010")).to_be_visible()
    expect(page).to_have_url(re.compile("/servers/fleet/models/model-010$"))
    page.keyboard.press("2")
    expect(page.get_by_text("2 of 9 checks failed")).to_be_visible()
    page.go_back()
    expect(page.locator("h2", has_text="model-010")).to_be_visible()


PATHS = ["/", "/servers/fleet/models/model-003", "/servers/fleet/releases", "/servers/fleet/releases/r1",
         "/servers/fleet/metrics", "/servers/fleet/logs", "/servers/nobody", "/a/b"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_quiet(scheme: Any, browser: Browser, played: tuple[UiServer, Played]) -> None:
    with watched(browser, color_scheme=scheme, base_url=played[0].address) as page:
        for path in PATHS:
            page.goto(path)
            expect(page.locator(".loading")).to_have_count(0)
            expect(page.locator("main :is(h1, h2, .empty, table)").first).to_be_visible()
            check_accessible(page)


@pytest.mark.parametrize("path", PATHS)
def test_a_narrow_window_needs_no_scrolling_sideways(path: str, browser: Browser, played: tuple[UiServer, Played]
                                                     ) -> None:
    with watched(browser, viewport={"width": 360, "height": 640}, base_url=played[0].address) as page:
        page.goto(path)
        expect(page.locator("main :is(h1, h2, .empty, table)").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_server_that_dies_while_it_is_watched(page: Page, played: tuple[UiServer, Played]) -> None:
    page.goto("/")
    expect(page.locator(".head .state")).to_have_text("not ready")
    played[1].code = -9
    try:
        expect(page.locator(".head .state")).to_have_text("ended")
        expect(page.get_by_text("It ended with exit code -9. Nothing is served.")).to_be_visible()
    finally:
        played[1].code = None
    expect(page.locator(".head .state")).to_have_text("not ready")


def test_what_nobody_expected_is_shown_and_the_watching_goes_on(page: Page, played: tuple[UiServer, Played],
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    page.goto("/servers/fleet/releases")

    def broken(*_: object, **__: object) -> None:
        raise OSError("the cable is cut")

    with monkeypatch.context() as patch:
        patch.setattr(backends, "find", broken)
        expect(page.get_by_text("the cable is cut")).to_be_visible()
    expect(page.get_by_text("the cable is cut")).to_have_count(0)
    expect(page.locator(".head .state")).to_have_text("not ready")


def test_the_token_leaves_the_address_and_light_stays_chosen(page: Page, played: tuple[UiServer, Played]) -> None:
    page.goto(played[0].url)
    expect(page.get_by_text("actions allowed")).to_be_visible()
    assert "token" not in page.url
    page.keyboard.press("t")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()


def asked(ui: UiServer, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
    host, _, port = ui.address.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    assert "default-src 'none'" in (reply.headers["content-security-policy"] or "")
    data = json.loads(reply.read())
    connection.close()
    return reply.status, data


def test_whom_it_answers(played: tuple[UiServer, Played]) -> None:
    ui = played[0]
    assert asked(ui, "GET", "/api/state")[1]["actions"] is True
    assert asked(ui, "GET", "/api/state", Host="evil.example")[0] == 403
    assert asked(ui, "GET", "/api/state", Origin="http://evil.example")[0] == 403
    path, body = "/api/servers/fleet/actions", {"verb": "rollback", "model": "model-003"}
    assert asked(ui, "POST", path, body, **{"content-type": "application/json"})[0] == 401
    allowed = {"content-type": "application/json", "authorization": f"Bearer {ui.token}"}
    assert asked(ui, "POST", path, {"verb": "destroy", "model": "m"}, **allowed)[0] == 400
    assert asked(ui, "POST", path, {"verb": "abort", "model": "nobody"}, **allowed)[0] == 400
    assert asked(ui, "GET", "/api/servers/nobody/logs")[0] == 404
    assert asked(ui, "GET", "/api/servers/fleet/releases/r9")[1]["message"] == "there is no release r9 of fleet"
    assert asked(ui, "GET", "/api/x")[0] == 404


def test_what_it_cannot_begin_with(tmp_path: Path, played: tuple[UiServer, Played]) -> None:
    (tmp_path / "serving.yaml").write_text("name: s\nmodels: [{name: m, versions: all}]\n")
    source = SpecSource(tmp_path / "serving.yaml")
    with pytest.raises(SpecError, match="two specs are called 's'"), open_ui([source, source], port=0):
        pass
    with pytest.raises(SpecError, match="--allow-actions"), open_ui([source], host="0.0.0.0", allow_actions=True):
        pass
    port = int(played[0].address.rstrip("/").rpartition(":")[2])
    with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1 is taken"), open_ui([source], port=port):
        pass
