"""The doctor's rules as a table: one piece of evidence per pain, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.diagnosis.evidence import Evidence, Model, Port
from deploy.diagnosis.examine import RULES, examine
from deploy.types import VersionState, VersionStatus

FLAGS = ("tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_config_file=/etc/tfs/models.config",
         "--allow_version_labels_for_unavailable_models=true")
SINGLE = ("tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_name=m",
          "--model_base_path=/models/m")
EMPTY = frozenset[int]()


def model(**given: Any) -> Evidence:
    return Evidence(argv=FLAGS, models=(Model(**{"name": "m", "base_path": "/models/m", "path": "/srv/m", **given}),))


def argv(*flags: str, of: tuple[str, ...] = FLAGS, **given: Any) -> Evidence:
    return Evidence(argv=(*of, *flags), models=(Model("m", "/models/m", "/srv/m"),), **given)


def log(*lines: str, **given: Any) -> Evidence:
    return Evidence(log=("starting", *lines, "goodbye"), **given)


def failed(version: int, error: str) -> tuple[VersionStatus, ...]:
    return (VersionStatus(version, VersionState.END, 2, error),)


def without(argv: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(a for a in argv if not a.startswith(f"--{name}"))


NO_VERSIONS = ("W No versions of servable m found under base path /models/m. Did you forget to name your leaf dir"
               "ectory as a number (eg. '/1/')?")

CASES: dict[str, tuple[Evidence, str, str, str]] = {
    # evidence, rule, part of the cause, part of the fix
    "mounted one level too deep": (model(found=EMPTY, is_version=True), "one-level-too-deep", "is itself a version",
                                   "the directory above"),
    "mounted one level too high": (model(found=EMPTY, nested=("a", "m")), "one-level-too-high", "holds models (a, m)",
                                   "/srv/m/m"),
    "no version at all": (model(found=EMPTY), "base-path-empty", "no version in /srv/m", "tfs publish"),
    "base path missing": (model(there="missing", found=EMPTY), "base-path-missing", "/srv/m doesn't exist", "publish"),
    "base path is a file": (model(there="file", found=EMPTY), "base-path-file", "is a file", "directory"),
    "nothing mounted there": (
        Evidence(argv=FLAGS, mounts={"/srv/x": "/models/x"}, models=(Model("m", "/models/m", there="unmounted"),)),
        "not-mounted", "mounted: /srv/x at /models/x", "-v /path/to/m:/models/m:ro"),
    "a volume by accident": (Evidence(argv=FLAGS, mounts={"models": "/models"}), "relative-mount", "a volume", "$PWD"),
    "no versions, by the log alone": (log(NO_VERSIONS), "no-versions", "one level off", "whose children are 1, 2"),
    "missing path, by the log alone": (log("E FileSystemStoragePathSource encountered a filesystem access error: Could "
                                           "not find base path /models/m for servable m"),
                                       "base-path-missing", "doesn't exist where the server looks", "mount it"),
    "wanted version not there": (model(wanted=frozenset({3})), "version-missing", "version 3 isn't in /srv/m (there: 1",
                                 "publish"),
    "half-copied": (model(broken={1: "variables/variables.index is missing"}), "half-copied", "m/1 isn't whole",
                    "next number"),
    "half-copied and served": (
        model(broken={1: "no variables"}, statuses=(VersionStatus(1, VersionState.AVAILABLE),)), "half-copied",
        "served nevertheless", "next number"),
    "a file called 2": (model(strange=("2",)), "odd-version", "takes 2 in", "move it away"),
    "unreadable": (model(unreadable="/srv/m/1/saved_model.pb"), "permission-denied", "isn't readable",
                   "chmod -R a+rX /srv/m"),
    "unreadable, by the log": (log("E /models/m/1/saved_model.pb; Permission denied", user="65534:65534"),
                               "permission-denied", "65534:65534", "chmod"),
    "misspelled flag": (argv("--enable_bathing=true"), "unknown-flag", "--enable_bathing=true", "--enable_batching"),
    "unknown flag": (argv("--no_such_thing_at_all=1"), "unknown-flag", "--no_such_thing_at_all", "take it out"),
    "unknown flag, by the log": (log("unknown argument: --foo"), "unknown-flag", "unknown", "--flag=value"),
    "two words": (argv("--model_name", "m", of=without(SINGLE, "model_name")), "two-words",
                  "the model is then called `default`", "--model_name=m"),
    "bad boolean": (argv("--enable_batching=True"), "bad-value", "exactly true or false", "--enable_batching=false"),
    "bad number": (argv("--num_load_threads=many"), "bad-value", "a number", "--num_load_threads="),
    "one port for both": (argv("--rest_api_port=8500"), "same-port", "same port 8500", "--rest_api_port=8501"),
    "no REST port": (argv(of=without(FLAGS, "rest_api_port")), "no-rest", "no REST API", "--rest_api_port=8501"),
    "labels without the flag": (
        Evidence(argv=without(FLAGS, "allow_version"), models=(Model("m", "/models/m", "/m", labels={"stable": 1}),)),
        "labels-at-start", "m@stable", "--allow_version_labels_for_unavailable_models=true"),
    "label refused later": (log("Request to assign label to version 2 of model m, which is not currently available for "
                                "inference"), "label-refused", "isn't loaded", "second reload"),
    "config file broken": (Evidence(argv=FLAGS, config_error="line 3, column 1: expected }"), "config-unreadable",
                           "line 3", "tfs configure"),
    "relative base path": (model(base_path="models/m", path=""), "relative-base-path", "'models/m' is relative",
                           "absolute"),
    "platform missing": (model(platform=""), "platform-missing", "no model_platform", 'model_platform: "tensorflow"'),
    "platform unknown": (model(platform="onnx"), "platform-unknown", "'onnx'", "reload once without"),
    "platform poisoned": (log("INVALID_ARGUMENT: Illegal to change a model's platform. For model m platform was x"),
                          "platform-poisoned", "left a wrong platform", "without that model"),
    "listed twice": (Evidence(argv=FLAGS, models=(Model("m", "/m"), Model("m", "/n"))), "duplicate-name", "2 times",
                     "leave one"),
    "monitoring file": (Evidence(argv=FLAGS, files={"monitoring_config_file": "no such file"}), "file-unusable",
                        "without REST, for good", "as the server sees it"),
    "name beside a config file": (argv("--model_name=m"), "ignored-flags", "ignored, without a word", "config file"),
    "nothing to serve": (argv(of=("server", "--port=8500", "--rest_api_port=8501")), "nothing-to-serve",
                         "neither", "give one"),
    "batching parameters alone": (argv("--batching_parameters_file=/b"), "batching-off", "ends the server",
                                  "--enable_batching=true"),
    "tensor content with REST": (argv("--enable_serialization_as_tensor_content"), "tensor-content-rest", "zeros",
                                 "take the flag out"),
    "config poller": (argv("--model_config_file_poll_wait_seconds=5"), "config-poller", "every 5 s", "take"),
    "looks once": (argv("--file_system_poll_wait_seconds=0"), "looks-once", "only once", "at 1"),
    "op missing": (log("NOT_FOUND: Op type not registered 'SentencepieceOp' in binary running on h. Make sure the Op"),
                   "op-missing", "an op that this server doesn't have", "tfs check"),
    "op missing, by the status": (model(statuses=failed(1, "Op type not registered 'X'")), "op-missing", "an op",
                                  "export without it"),
    "producer newer": (log("NodeDef mentions attr 'grad_x' not in Op<name=MatMul; signature=..."), "producer-newer",
                       "newer TensorFlow", "server/image"),
    "serve tag": (log("Could not find meta graph def matching supplied tags: { serve }"), "serve-tag", "tagged `serve`",
                  "--saved_model_tags"),
    "warm-up": (log("corrupted record at 0 in /models/m/1/assets.extra/tf_serving_warmup_requests"), "warmup-broken",
                "a warm-up record", "record it anew"),
    "allocation": (log("terminate called after throwing an instance of 'std::bad_alloc'"), "memory", "out of memory",
                   "server/resources/memory"),
    "instruction": (log("Illegal instruction (core dumped)"), "cpu", "instructions that this CPU", "embedded"),
    "disk full": (log("W write failed: No space left on device"), "disk-full", "a disk is full", "make room"),
    "what tfs check says": (model(refused={1: ("Foo isn't in TensorFlow Serving 2.20",)}), "check-refuses",
                            "m/1 can't be served here: Foo", "tfs check /srv/m/1"),
    "burnt": (model(statuses=failed(1, "truncated")), "version-burnt", "doesn't try a failed number", "next number"),
    "failed": (model(found=frozenset({2}), statuses=failed(1, "truncated")), "version-failed", "m/1 failed to load",
               "next number"),
    "drift": (Evidence(running=True, drift=("m is served as 2; use tfs rollout",)), "drift", "m is served as 2",
              "use tfs rollout"),
    "spec changed": (Evidence(running=True, changes=("server/image is now x",)), "spec-changed", "image is now x",
                     "tfs down, then tfs up"),
    "no engine": (Evidence(engine_error="no Docker engine answers"), "engine-missing", "no Docker engine", "embedded"),
    "no program": (Evidence(kind="process", program_error="there is no program 'x'"), "program-missing", "'x'",
                   "server/binary"),
    "no image": (Evidence(image="a/b:1", image_here=False), "image-missing", "a/b:1", "docker pull a/b:1"),
    "image for other machines": (Evidence(image="a:1", image_platform="arm64", machine="x86_64"), "architecture",
                                 "arm64, this machine is amd64", "embedded"),
    "exec format": (log("exec /usr/bin/tensorflow_model_server: exec format error", exit_code=1), "architecture",
                    "another architecture", "embedded"),
    "out of memory": (Evidence(exit_code=137, out_of_memory=True), "out-of-memory", "more memory than",
                      "server/resources/memory"),
    "137": (Evidence(exit_code=137), "killed", "lack of memory", "server/resources/memory"),
    "-9": (Evidence(kind="process", exit_code=-9), "killed", "SIGKILL", "memory"),
    "killed, long ago": (log("I serving", kind="process", unstopped=True), "not-stopped", "ended without being stopped",
                         "start it again: tfs up"),
    "stopped by others": (Evidence(exit_code=0, unstopped=True), "not-stopped", "without being stopped", "tfs logs"),
    "132": (Evidence(exit_code=132), "sigill", "instructions that this CPU", "embedded"),
    "139": (Evidence(exit_code=139), "sigsegv", "gRPC port is taken", "port"),
    "127": (Evidence(exit_code=127), "program-missing", "no program", "serving image"),
    "255": (log("Failed to start server. Error: UNKNOWN: something new", exit_code=255), "ended",
            "it said: Failed to start server. Error: UNKNOWN: something new", "tfs logs"),
    "port taken": (Evidence(ports=(Port("REST", 8501, ours=False, owners=("nginx (pid 7)",)),)), "port-taken",
                   "REST port 8501 is taken by nginx (pid 7)", "server/rest_port"),
    "port shared": (Evidence(running=True, ports=(Port("gRPC", 8500, owners=("a (pid 1)", "b (pid 2)")),)),
                    "shared-port", "2 servers share the gRPC port 8500", "stop one"),
    "port not open": (Evidence(running=True, ports=(Port("gRPC", 8500, ours=False),)), "port-closed", "isn't open",
                      "waits for"),
    "port taken, by the log": (log("Failed to start HTTP Server at localhost:8501"), "port-taken", "without REST",
                               "another port"),
    "what up said": (Evidence(told="it isn't ready after 120 s", told_hint="raise it"), "told", "after 120 s",
                     "raise it"),
    "what status says": (Evidence(running=True, problems=("model 'm' serves nothing",)), "not-served", "serves nothing",
                         "tfs status"),
}


@pytest.mark.parametrize("pain", CASES)
def test_each_pain_has_a_cause_and_a_fix(pain: str) -> None:
    evidence, rule, cause, fix = CASES[pain]
    found = examine(evidence)
    (hit,) = [c for c in found.causes if c.rule == rule]
    assert cause in hit.cause and fix in hit.fix
    assert found.most_likely == hit, [c.rule for c in found.causes]


def test_every_rule_is_in_the_table() -> None:
    """A rule that no case provokes is a rule that nobody has seen work."""
    provoked = {rule for rule in RULES for evidence, *_ in CASES.values() if list(rule(evidence))}
    assert provoked == set(RULES)


def test_the_guide_names_every_rule() -> None:
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    named = {rule for _, rule, *_ in CASES.values()} - {"ended", "told", "not-served", "no-versions", "sigabrt"}
    assert {rule for rule in named if f"`{rule}`" not in text} == set()


def test_a_healthy_server_has_nothing() -> None:
    healthy = Evidence(running=True, argv=FLAGS, models=(Model("m", "/models/m", "/srv/m", labels={"stable": 1}),),
                       ports=(Port("gRPC", 8500), Port("REST", 8501)), image="a:1", image_here=True,
                       image_platform="amd64", machine="x86_64")
    found = examine(healthy)
    assert found.well and found.causes == () and found.most_likely is None


def test_symptoms_are_left_out_beside_their_cause() -> None:
    evidence = Evidence(exit_code=255, argv=FLAGS, told="it ended", log=("Failed to start server. Error: x",),
                        models=(Model("m", "/models/m", "/srv/m", found=EMPTY),), problems=("m isn't running",))
    assert [c.rule for c in examine(evidence).causes] == ["base-path-empty"]


def test_the_most_likely_cause_is_the_last() -> None:
    evidence = Evidence(argv=(*FLAGS, "--enable_bathing=true"), out_of_memory=True, exit_code=137)
    found = examine(evidence)
    assert [c.rule for c in found.causes] == ["unknown-flag", "out-of-memory"]
    assert found.to_json()["most_likely"] == found.causes[-1].to_json() and not found.well
