"""The page beside a real server: a rollout watched to its end, an approval, a rollback; and the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from deploy import rollout, serving
from deploy.repository import Repository
from deploy.spec import Spec, load_spec
from deploy.ui import UiServer, open_ui
from deploy.ui.watching import SpecSource
from tests.support.browser import chromium, watched

pytestmark = pytest.mark.tensorflow
TEXT = """
name: halves
models: [{name: half, versions: [1], labels: {stable: 1}}]
server: {backend: embedded, grpc_port: 0, rest_port: 0, start_timeout: 60, drain: 1, monitoring: {}}
rollout: {soak: 1, hold: 1, interval: 0.2}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def spec(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spec]:
    place = tmp_path_factory.mktemp("ui")
    for name in ("half_plus_two", "half_plus_three"):
        Repository(place / "models").publish(models / name, "half")
    (place / "serving.yaml").write_text(TEXT)
    loaded = load_spec(place / "serving.yaml")
    serving.up(loaded)
    yield loaded
    serving.down(loaded)


@pytest.fixture
def ui(spec: Spec) -> Iterator[UiServer]:
    with open_ui([SpecSource(spec.path)], port=0, allow_actions=True) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, ui: UiServer) -> Iterator[Page]:
    with watched(browser, base_url=ui.address) as opened:
        opened.goto(ui.url)
        yield opened


def test_a_rollout_is_approved_and_watched_to_its_end_and_rolled_back(page: Page, spec: Spec) -> None:
    expect(page.locator(".head .state")).to_have_text("ready")
    thread = threading.Thread(target=lambda: rollout.roll_out(spec, "half", 2, pause_before=["promote"]))
    thread.start()
    page.get_by_text("Watch it step by step").click()
    steps = page.locator(".steps li")
    expect(steps.nth(0)).to_have_class("done")
    waits = page.locator(".steps li.waiting")
    expect(waits).to_contain_text("Move stable to version 2")
    thread.join()
    expect(page.locator(".title .word")).to_have_text("waits before promotion")

    page.get_by_role("button", name="Continue").click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page.locator(".steps li.done")).to_have_count(9)
    expect(page.locator(".title .word").first).to_have_text("done")
    expect(page.get_by_role("heading", name="The judge's numbers")).to_be_visible()
    expect(page.get_by_text("Within the limits.")).to_be_visible()
    assert [r.outcome for r in rollout.history(spec)] == ["done"]

    page.goto("/servers/halves/models/half")
    expect(page.locator(".ribbon li.now")).to_contain_text("2")
    page.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Back to version 1:")).to_be_visible()
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator(".actionlog")).to_contain_text("half is served: 1")
    assert [(r.kind, r.outcome) for r in rollout.history(spec)] == [("rollout", "done"), ("rollback", "done")]

    page.keyboard.press("3")
    expect(page.locator("figure.plot").first).to_be_visible()
    page.keyboard.press("4")
    expect(page.locator("pre.log")).to_contain_text("half")


def test_a_rollout_that_waits_is_aborted_by_its_button(page: Page, spec: Spec) -> None:
    before = len(rollout.history(spec))
    waits = rollout.roll_out(spec, "half", 2, pause_before=["promote"]).release
    page.goto(f"/servers/halves/releases/{waits.id}")
    expect(page.locator(".title .word")).to_have_text("waits before promotion")
    expect(page.locator(".key.after")).to_have_css("white-space", "nowrap")  # a name stands in the line of its dot

    page.get_by_role("button", name="Abort").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Traffic goes back to what was served before, version 1, and version 2 is unloaded."
                              )).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    assert rollout.history(spec)[-1].outcome == "open"
    page.get_by_role("button", name="Abort").click()
    dialog.get_by_role("button", name="Abort").click()
    expect(page.locator(".actionlog")).to_contain_text("Abort half: done")
    expect(page.locator(".title .word").first).to_have_text("undone")
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)
    assert [r.outcome for r in rollout.history(spec)[before:]] == ["undone"]
    [half] = serving.status(spec).models
    assert (half.served, half.labels) == ([1], {"stable": 1}) and not half.problems


def told_and_ended(spec: Spec, *command: str) -> list[dict[str, Any]]:
    """The JSON objects of a command that shows the page, which is asked; Ctrl-C ends it."""
    ui = subprocess.Popen([sys.executable, "-m", "deploy", *command, "--spec", str(spec.path), "--json"],
                          stdout=subprocess.PIPE, text=True, start_new_session=True,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert ui.stdout is not None
    told, text = list[dict[str, Any]](), ""
    try:
        while not (told and "url" in told[-1]):
            line = ui.stdout.readline()
            assert line, f"it has ended; it printed {text}"
            text += line
            if line.startswith("}"):
                told.append(json.loads(text))
                text = ""
        with urllib.request.urlopen(f"{told[-1]['url']}api/state", timeout=20) as reply:
            assert json.loads(reply.read())["servers"][0]["status"]["ready"]
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(20) == 0
    return told


def test_the_command_says_where_and_ends_with_ctrl_c(spec: Spec) -> None:
    [told] = told_and_ended(spec, "ui", "--port", "0")
    assert told["actions"] is False and told["servers"] == ["halves"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", told["url"])


def test_up_shows_what_it_has_started(spec: Spec) -> None:
    serving.down(spec)
    up, told = told_and_ended(spec, "up", "--ui")
    assert up["backend"] == "embedded" and told["actions"] is False and told["servers"] == ["halves"]
    assert serving.status(spec).ready, "the page has ended, the server hasn't"
