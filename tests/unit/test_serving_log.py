"""What a server's log says: what is over, what still holds, and the sentence that names a cause."""

from __future__ import annotations

import pytest

from deploy.serving.preflight import unreadable_flags
from deploy.serving.server_log import complaints, interrupted_warmup, last_words, load_failures
from deploy.wire.status_text import sentence
from tests.support.server_logs import (
    EMBEDDED,
    ENDED,
    EXHAUSTED,
    HEALTHY,
    LOADING,
    MEMORY_HINT,
    RETRIED,
    STAMP,
    WARM_UP_BEGUN,
)

OP = "Op type not registered 'SentencepieceOp' in binary running on 0d2b"
NODE = "\n\t [[{{node model/lookup}}]]"


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_log_complains_of_nothing_that_lasts(kind: str) -> None:
    lines = HEALTHY[kind].splitlines()
    assert complaints(lines) == []
    assert load_failures(lines) == [] and interrupted_warmup(lines) == ""


def test_a_load_that_fails_is_told_with_its_cause() -> None:
    (failed,) = load_failures((LOADING + RETRIED).splitlines())
    assert (failed.name, failed.version, failed.given_up) == ("m", 1, False)
    assert failed.why == f"NOT_FOUND: {OP}"
    assert load_failures((LOADING + RETRIED + EXHAUSTED).splitlines())[0].given_up
    newer = (RETRIED.replace("version: 1", "version: 2") + EMBEDDED.splitlines()[0]).splitlines()
    assert [f.version for f in load_failures(newer)] == [2], "an older version says nothing of a newer one"
    harness = f"{STAMP}E tensorflow_serving/core/loader_harness.cc:120] Servable: {{name: m version: 3}} load " \
              "failure: NOT_FOUND: no file"
    assert [(f.version, f.why) for f in load_failures([harness])] == [(3, "NOT_FOUND: no file")]


def test_a_warm_up_that_was_begun() -> None:
    assert interrupted_warmup((LOADING + WARM_UP_BEGUN).splitlines()) == \
        "/models/m/1/assets.extra/tf_serving_warmup_requests"


WORDS: dict[str, tuple[str, str]] = {
    "several lines": (LOADING + RETRIED + EXHAUSTED + ENDED, f"Failed to start server. Error: m/1: NOT_FOUND: {OP}"),
    "two models": ("Failed to start server. Error: UNKNOWN: 2 servable(s) did not become available: {{{name: a "
                   "version: 1} due to error: NOT_FOUND: gone}, {{name: b version: 7} due to error: DATA_LOSS: "
                   "bad {x}}, }",
                   "Failed to start server. Error: a/1: NOT_FOUND: gone; b/7: DATA_LOSS: bad {x}"),
    "no cause in the last line": (RETRIED + "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become "
                                  "available", f"Failed to start server. Error: m/1: NOT_FOUND: {OP}"),
    "one line": ("Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '/c/models.config'\n",
                 "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '/c/models.config'"),
    "a check that failed": (
        LOADING + WARM_UP_BEGUN + f"{STAMP}F tensorflow/core/framework/tensor.cc:870] Check failed: 0 < dims (0 vs. 0)"
        "\nAborted (core dumped)", "Check failed: 0 < dims (0 vs. 0)"),
    "an exception": ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
                     "uncaught exception: std::bad_alloc"),
    "the loader": ("exec /usr/bin/tensorflow_model_server: exec format error",
                   "exec /usr/bin/tensorflow_model_server: exec format error"),
    "an error after good news": (LOADING + f"{STAMP}E tensorflow/x.cc:1] it broke", "it broke"),
    "Python": ("2026-11-28 13:28:11,629: I Running\nTraceback (most recent call last):\n  File \"x.py\", line 1, in f\n"
               "    g()\nImportError: lib.so.2: no such file", "ImportError: lib.so.2: no such file"),
    "only hardware": (MEMORY_HINT + EMBEDDED, "Exporting HTTP/REST API at:localhost:8501 ..."),
    "nothing": ("\n\n", ""),
    "a TLS file": ("E0302 08:00:01.123456789       1 ssl_transport_security.cc:810] Invalid private key.\nFailed to "
                   "start server. Error: UNKNOWN: Failed to BuildAndStart gRPC server",
                   "Failed to start server. Error: UNKNOWN: Failed to BuildAndStart gRPC server: Invalid private key."),
    "a taken port": (LOADING + "E0000 00:00:1755162753.120393       1 chttp2_server.cc:1045] UNKNOWN:No address added "
                     "{children:[UNKNOWN:Address already in use]}\nFailed to start server. Error: UNKNOWN: Failed to "
                     "BuildAndStart gRPC server",
                     "Failed to start server. Error: UNKNOWN: Failed to BuildAndStart gRPC server: Address already in "
                     "use"),
    "where a config file is wrong": (
        "[libprotobuf ERROR external/com_google_protobuf/text_format.cc:335] Error parsing text-format M: 3:5: no field"
        "\nFailed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '/c'",
        "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '/c': [libprotobuf ERROR external/"
        "com_google_protobuf/text_format.cc:335] Error parsing text-format M: 3:5: no field"),
    "killed in the middle of a warning": (f"{STAMP}W tensorflow/x.cc:1] slow\nKilled", "Killed"),
    "usage": ("usage: tensorflow_model_server\nFlags:\n\t--port=8500\tint32\tTCP port\n", ""),
}


@pytest.mark.parametrize("case", WORDS)
def test_last_words(case: str) -> None:
    log, words = WORDS[case]
    assert last_words(log.splitlines()) == words


STATUSES = {
    f"NOT_FOUND: {OP}. Make sure the Op and Kernel are registered in the binary.{NODE}": f"NOT_FOUND: {OP}",
    f"FAILED_PRECONDITION: 2 root error(s) found.\n  (0) FAILED_PRECONDITION: Table not initialized.{NODE}\n"
    "  (1) CANCELLED: stopped\n0 successful operations.": "FAILED_PRECONDITION: Table not initialized.",
    "INVALID_ARGUMENT: Graph execution error:\n\nDetected at node 'a' defined at (most recent call last):\nNode: 'a'\n"
    f"Incompatible shapes: [2] vs. [3]{NODE} [Op:__inference_f_1]":
        "INVALID_ARGUMENT: Incompatible shapes: [2] vs. [3]",
    f"DATA_LOSS: Checksum does not match{NODE}{NODE}": "DATA_LOSS: Checksum does not match",
    f"Could not parse{NODE}": "Could not parse",
    "": "",
}


@pytest.mark.parametrize("status", STATUSES)
def test_the_sentence_of_a_status(status: str) -> None:
    assert sentence(status) == STATUSES[status]


def test_a_sentence_is_bounded() -> None:
    assert len(sentence("INVALID_ARGUMENT: Failed to parse warmup record: " + "x" * 100_000)) < 500


VALUES = {"--enable_batching=yes": "--enable_batching=true", "--enable_batching=off": "--enable_batching=false",
          '--enable_batching="true"': "--enable_batching=true", "--port='8500'": "--port=8500",
          "--rest_api_port=8501.0": "--rest_api_port=8501", "--port=85OO": "", "--enable_batching=maybe": "",
          "--rest_api_timeout_in_ms=30_000": "--rest_api_timeout_in_ms=30000"}


@pytest.mark.parametrize("argument", VALUES)
def test_a_value_that_cant_be_read_keeps_its_meaning(argument: str) -> None:
    (found,) = unreadable_flags([argument])
    assert found.write == VALUES[argument] and argument in found.sentence


def test_values_that_some_releases_read() -> None:
    flags = ["--enable_batching=True", "--port=8500", "--enable_batching", "stray", "--nope=x"]
    assert list(unreadable_flags(flags)) == []
    assert [u.write for u in unreadable_flags(["--enable_batching=True", "--enable_batching"], strict=True)] == \
        ["--enable_batching=true"]
