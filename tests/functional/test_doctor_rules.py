# ruff: noqa: E501  what servers print has long lines
"""The doctor's rules as a table: one piece of evidence per pain, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.backends.base import Fault
from deploy.serving.doctor.diagnosis import RULES, examine
from deploy.serving.doctor.evidence import Evidence, ModelEvidence, Port
from deploy.types import Specific, VersionState, VersionStatus
from deploy.wire.flags import FLAGS as FLAG_TABLE
from deploy.wire.flags import usage
from tests.support.server_logs import (
    ENDED,
    EXHAUSTED,
    HEALTHY,
    LOADING,
    NO_GPU,
    REFUSED,
    RETRIED,
    SERVING,
    STAMP,
    WARM_UP_BEGUN,
)

FLAGS = ("tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_config_file=/etc/tfs/models.config",
         "--allow_version_labels_for_unavailable_models=true")
SINGLE = ("tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_name=m",
          "--model_base_path=/models/m")
EMPTY = frozenset[int]()


def model(**given: Any) -> Evidence:
    return Evidence(argv=FLAGS, models=(ModelEvidence(**{"name": "m", "base_path": "/models/m", "path": "/srv/m", **given}),))


def argv(*flags: str, of: tuple[str, ...] = FLAGS, **given: Any) -> Evidence:
    return Evidence(argv=(*of, *flags), models=(ModelEvidence("m", "/models/m", "/srv/m"),), **given)


def lines(text: str) -> tuple[str, ...]:
    return tuple(text.splitlines())


def entry_point(name: str, environment: dict[str, str] | None = None, **given: Any) -> Evidence:
    """A container whose image's own entry point gives the model, and whose path isn't there."""
    base = given.pop("base_path", f"/models/{name}")
    made = ModelEvidence(**{"name": name, "base_path": base, "path": f"/srv{base}", "there": "missing", "found": EMPTY, **given})
    return Evidence(argv=("tensorflow_model_server", "--port=8500", "--rest_api_port=8501", f"--model_name={name}",
                          f"--model_base_path={base}"), added=4, mounts={"/srv/half": "/models/half"}, models=(made,),
                    environment={"MODEL_NAME": name} if environment is None else environment)


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
    "the place itself says it": (
        Evidence(kind="kubernetes", faults=(Fault("image-pull", "pod web-1 can't have the image a:1", "name another", weight=97),)),
        "image-pull", "can't have the image a:1", "name another"),
    "mounted one level too deep": (model(found=EMPTY, is_version=True), "one-level-too-deep", "is itself a version",
                                   "the directory above"),
    "mounted one level too high": (model(found=EMPTY, nested=("a", "m")), "one-level-too-high", "holds models (a, m)",
                                   "/srv/m/m"),
    "no version at all": (model(found=EMPTY), "base-path-empty", "no version in /srv/m", "tfs publish"),
    "base path missing": (model(there="missing", found=EMPTY), "base-path-missing", "/srv/m doesn't exist", "publish"),
    "base path is a file": (model(there="file", found=EMPTY), "base-path-file", "is a file", "directory"),
    "nothing mounted there": (
        Evidence(argv=FLAGS, mounts={"/srv/x": "/models/x"}, models=(ModelEvidence("m", "/models/m", there="unmounted"),)),
        "not-mounted", "mounted: /srv/x at /models/x", "-v /path/to/m:/models/m:ro"),
    "a volume by accident": (Evidence(argv=FLAGS, mounts={"models": "/models"}), "relative-mount", "a volume", "$PWD"),
    "no versions, by the log alone": (log(NO_VERSIONS), "no-versions", "one level off", "whose children are 1, 2"),
    "missing path, by the log alone": (log("E FileSystemStoragePathSource encountered a filesystem access error: Could "
                                           "not find base path /models/m for servable m"),
                                       "base-path-missing", "doesn't exist where the server looks", "mount it"),
    "wanted version not there": (model(policy=Specific((3,))), "version-missing", "version 3 isn't in /srv/m (there: 1",
                                 "publish"),
    "half-copied": (model(broken={1: "variables/variables.index is missing"}), "half-copied", "m/1 isn't whole",
                    "next number"),
    "half-copied and served": (
        model(broken={1: "no variables"}, statuses=(VersionStatus(1, VersionState.AVAILABLE),)), "half-copied",
        "served nevertheless", "next number"),
    "a file called 2": (model(unexpected=("2",)), "unexpected-version", "takes 2 in", "move it away"),
    "unreadable": (model(unreadable="/srv/m/1/saved_model.pb"), "permission-denied", "isn't readable",
                   "chmod -R a+rX /srv/m"),
    "unreadable, by the log": (log("E /models/m/1/saved_model.pb; Permission denied", user="65534:65534"),
                               "permission-denied", "65534:65534", "chmod"),
    "misspelled flag": (argv("--enable_bathing=true"), "unknown-flag", "--enable_bathing=true", "--enable_batching"),
    "unknown flag": (argv("--no_such_thing_at_all=1"), "unknown-flag", "--no_such_thing_at_all", "take it out"),
    "TLS files, without a word": (
        argv("--ssl_config_file=/s", exit_code=255, log=lines("Failed to start server. Error: UNKNOWN: Failed to "
                                                              "BuildAndStart gRPC server")),
        "tls", "ssl_config_file", "PEM"),
    "bad value, by the log": (log("E x.cc:54] Couldn't interpret value =abc for flag port."), "bad-value", "--port can't",
                              "a number"),
    "a model twice, by the log": (
        log("Failed to start server. Error: INVALID_ARGUMENT: Illegal to list model m multiple times in config list"),
        "duplicate-name", "lists a model twice", "leave one"),
    "saved_model.pb cut off": (model(broken={1: "/srv/m/1/saved_model.pb is truncated"}), "half-copied",
                               "it can't be loaded", "next number"),
    "unknown flag, by the log": (log("unknown argument: --foo"), "unknown-flag", "unknown", "--flag=value"),
    "two words": (argv("--model_name", "m", of=without(SINGLE, "model_name")), "two-words",
                  "the model is then called `default`", "--model_name=m"),
    "a boolean in two words": (argv("--enable_batching", "false"), "two-words", "sets --enable_batching to true",
                               "write --enable_batching=false"),
    "bad boolean": (argv("--enable_batching=yes"), "bad-value", "exactly true or false",
                    "write --enable_batching=true"),
    "bad boolean, meant as no": (argv("--enable_batching=Off"), "bad-value", "'Off'", "write --enable_batching=false"),
    "bad boolean, of no meaning": (argv("--enable_batching=maybe"), "bad-value", "'maybe'", "with true or false"),
    "a boolean that an older release refuses": (
        argv("--enable_batching=True", exit_code=255, log=("usage: tensorflow_model_server", "Flags:")),
        "bad-value", "'True'", "write --enable_batching=true"),
    "bad number": (argv("--num_load_threads=many"), "bad-value", "a whole number", "--num_load_threads="),
    "a number in quotes": (argv("--num_load_threads='4'"), "bad-value", "not \"'4'\"", "write --num_load_threads=4"),
    "a number with a space after it": (argv("--num_load_threads=4 "), "bad-value", "not '4 '", "num_load_threads=4"),
    "a flag in capitals": (argv("--Enable_Batching=true"), "unknown-flag", "--Enable_Batching=true is no flag",
                           "write --enable_batching=true"),
    "a copied dash": (argv("\u2013enable_batching=true"), "unknown-flag", "is no flag", "write --enable_batching=true"),
    "the program as an argument": (
        argv("tensorflow_model_server", of=SINGLE, added=4), "unknown-flag", "tensorflow_model_server is no flag",
        "starts the program already"),
    "one port for both": (argv("--rest_api_port=8500"), "same-port", "same port 8500", "--rest_api_port=8501"),
    "no REST port": (argv(of=without(FLAGS, "rest_api_port")), "no-rest", "no REST API", "--rest_api_port=8501"),
    "labels without the flag": (
        Evidence(argv=without(FLAGS, "allow_version"), models=(ModelEvidence("m", "/models/m", "/m", labels={"stable": 1}),)),
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
    "listed twice": (Evidence(argv=FLAGS, models=(ModelEvidence("m", "/m"), ModelEvidence("m", "/n"))), "duplicate-name", "2 times",
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
    "burnt": (model(statuses=failed(1, "truncated")), "permanently-failed", "doesn't try a failed number", "next number"),
    "burnt, its file was cut off": (
        replace(model(statuses=failed(1, "Can't parse /srv/m/1/saved_model.pb as binary proto")), log=lines(
            LOADING + RETRIED.replace("NOT_FOUND: Op type not registered", "DATA_LOSS: Can't parse"))),
        "permanently-failed", "its files are whole now", "next number"),
    "failed": (model(refused={1: ("no op",)}, statuses=failed(1, "truncated")), "version-failed", "m/1 failed to load",
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
    "two levels too high": (model(found=EMPTY, nested=("x/m",)), "one-level-too-high", "two levels too high",
                            "/srv/m/x/m"),
    "versions with names": (model(found=EMPTY, unnumbered=("v1",)), "not-a-number", "and v1 isn't", "/srv/m/1/saved"),
    "a Keras file": (model(found=EMPTY, others=("m.keras",)), "base-path-empty", "m.keras, which isn't a SavedModel",
                     "tfs export /srv/m/m.keras"),
    "MODEL_NAME in quotes": (entry_point('"m"', beside=("m",)), "base-path-missing", "MODEL_NAME has quotes in it",
                             "write -e MODEL_NAME=m"),
    "MODEL_NAME from Windows": (entry_point("m\r", beside=("m", "n")), "base-path-missing", "Windows line end",
                                "write -e MODEL_NAME=m"),
    "MODEL_NAME with a space": (entry_point("m ", beside=()), "base-path-missing", "white space", "-e MODEL_NAME=m"),
    "MODEL_NAME in other case": (entry_point("Half", beside=("half", "other")), "base-path-missing", "doesn't exist",
                                 "write -e MODEL_NAME=half"),
    "no MODEL_NAME": (entry_point("model", {}, beside=("half",)), "base-path-missing", "MODEL_NAME isn't set",
                      "write -e MODEL_NAME=half"),
    "no MODEL_NAME of several": (entry_point("model", {}, beside=("a", "b")), "base-path-missing", "isn't set",
                                 "one of a, b"),
    "no MODEL_NAME, one mounted": (
        entry_point("model", {}, there="unmounted"), "not-mounted", "nothing is mounted", "write -e MODEL_NAME=half"),
    "MODEL_BASE_PATH is the model's": (
        entry_point("m", {"MODEL_NAME": "m", "MODEL_BASE_PATH": "/models/m"}, base_path="/models/m/m", above=True),
        "base-path-missing", "doesn't exist", "-e MODEL_BASE_PATH=/models -e MODEL_NAME=m"),
    "a base path with a typo": (model(there="missing", found=EMPTY, base_path="/models/hlaf", name="m",
                                      beside=("half", "m")), "base-path-missing", "doesn't exist", "/models/m"),
    "an engine on another machine": (model(engine_lacks="/srv/m/1"), "engine-elsewhere", "on another machine",
                                     "tfs image build"),
    "a name with a space": (model(name="m "), "unexpected-model-name", "'m '", "correct its name"),
    "a load that is tried again": (
        Evidence(running=True, log=lines(LOADING + RETRIED.replace("Op type not registered", "No such thing"))),
        "load-fails", "m/1 fails to load: NOT_FOUND: No such thing", "max_num_load_retries"),
    "retried, of an op": (Evidence(running=True, log=lines(LOADING + RETRIED)), "op-missing", "an op that this",
                          "tfs check"),
    "a warm-up that failed": (
        log(*lines(LOADING + WARM_UP_BEGUN), f"{STAMP}E tensorflow_serving/util/retrier.cc:46] Loading servable: {{name: m "
            'version: 1} failed: FAILED_PRECONDITION: Serving signature key "absent" not found'),
        "warmup-broken", "a request of /models/m/1/assets.extra/tf_serving_warmup_requests failed", "record it anew"),
    "a warm-up that ended it": (
        Evidence(exit_code=134, log=lines(LOADING + WARM_UP_BEGUN + f"{STAMP}F tensorflow/core/framework/tensor.cc:870] "
                                          "Check failed: 0 < dims (0 vs. 0)")),
        "warmup-broken", "ended the server", "record it anew"),
    "no kernel": (log("E No OpKernel was registered to support Op 'CudnnRNN' used by {{node x}}"), "op-missing",
                  "no kernel", "device"),
    "no SavedModel": (log(f"{STAMP}E tensorflow_serving/util/retrier.cc:46] Loading servable: {{name: m version: 1}} failed: "
                          "NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                          "/models/m/1. Check that the directory exists and that you have the right permissions for "
                          "accessing it."), "no-saved-model", "no saved_model.pb", "tfs export"),
    "no variables": (log("E NOT_FOUND: Unsuccessful TensorSliceReader constructor: Failed to find any matching files for "
                         "/models/m/1/variables/variables"), "half-copied", "no variables", "next number"),
    "cut off": (log("E DATA_LOSS: Can't parse /models/m/1/saved_model.pb as binary proto"), "damaged", "cut off",
                "next number"),
    "can't be batched": (log("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: x "
                             "version: 1} due to error: FAILED_PRECONDITION: Batched output tensor has 0 dimensions}, }"),
                         "batching-refused", "can't be batched", "take batching out"),
    "AVX": (log(f"{STAMP}F tensorflow/core/platform/cpu_feature_guard.cc:37] The TensorFlow library was compiled to use "
                "AVX instructions, but these aren't available on your machine."), "cpu", "this CPU", "arm64"),
    "logging": (log("Failed to start server. Error: INVALID_ARGUMENT: No request-logger-creator provided."),
                "logging-config", "log collector", "take logging_config out"),
    "never started": (Evidence(state="created", name="c"), "not-started", "never started", "docker start c"),
    "no GPU": (Evidence(state="created", start_error='could not select device driver "" with capabilities: [[gpu]]'),
               "no-gpu", "could not select device driver", "NVIDIA Container Toolkit"),
    "no GPU, said by up": (Evidence(up_error='could not select device driver "nvidia" with capabilities: [[gpu]]'),
                           "no-gpu", "could not select", "--gpus"),
    "another machine's engine, said by up": (
        Evidence(up_error='the Docker engine says: invalid mount config for type "bind": bind source path does not exist: '
                 "/srv/m"), "engine-elsewhere", "bind source path", "tfs image build"),
    "a command that is no flag": (
        Evidence(state="created", start_error='exec: "bash2": executable file not found in $PATH: unknown'),
        "program-missing", "bash2", "has to be flags"),
    "an error of the engine's": (Evidence(state="created", start_error="OCI runtime create failed: weird"), "not-started",
                                 "weird", "correct what it names"),
    "again and again": (Evidence(state="restarting", name="c"), "restarting", "again and again", "docker logs c"),
    "paused": (Evidence(state="paused", running=True, name="c"), "paused", "answers nothing", "docker unpause c"),
    "ended with 0": (Evidence(state="exited", exit_code=0, argv=("bash",), name="c"), "ended", "with exit code 0",
                     "is bash the server?"),
    "a log alone": (Evidence(kind="unknown", log=(*lines(LOADING), "Failed to start server. Error: "
                                                          "INVALID_ARGUMENT: new")), "ended", "INVALID_ARGUMENT: new", "correct"),
    "an op, of a log alone": (Evidence(kind="unknown", log=lines(LOADING + RETRIED + EXHAUSTED + ENDED)), "op-missing",
                              "an op that this", "tfs check"),
    "emulated": (Evidence(exit_code=132, image="a:1", image_platform="arm64", machine="x86_64"), "architecture",
                 "arm64, this machine is amd64", "embedded"),
    "134": (Evidence(exit_code=134, log=(f"{STAMP}F a.cc:1] Check failed: x",)), "sigabrt", "aborted", "log"),
    "143": (Evidence(exit_code=143), "terminated", "SIGTERM", "start it again"),
    "SIGKILL isn't always memory": (Evidence(exit_code=137, state="exited"), "killed", "doesn't tell which",
                                    "docker run --init"),
    "port not published": (Evidence(running=True, ports=(Port("REST", 9001, unpublished=True),)), "port-unpublished",
                           "not its REST port 9001", "-p 9001:9001"),
    "what up said": (Evidence(up_error="it isn't ready after 120 s", up_hint="raise it"), "start-failed", "after 120 s",
                     "raise it"),
    "somebody else's": (Evidence(ours=False, problems=("s doesn't answer at h:8500",)), "not-answering", "h:8500",
                        "where it runs"),
    "what status says": (Evidence(running=True, problems=("model 'm' serves nothing",)), "not-served", "serves nothing",
                         "tfs status"),
}


# A log alone: rule that is named most likely, and a part of what is said with it
ALONE: dict[str, tuple[str, str, str]] = {
    "a value": ("E tensorflow/core/util/command_line_flags.cc:54] Couldn't interpret value =abc for flag port.\nusage: "
                "tensorflow_model_server\nFlags:\n\t--port=8500\tint32\tport", "bad-value", "--port can't be 'abc'"),
    "usage text": ("usage: tensorflow_model_server\nFlags:\n\t--port=8500\tint32\tport", "usage-text", "usage text"),
    "killed": (LOADING + "Killed", "killed", "SIGKILL"),
    "killed below a shell": ("/usr/bin/tf_serving_entrypoint.sh: line 3:     7 Killed   tensorflow_model_server",
                             "killed", "SIGKILL"),
    "a crash": (LOADING + "Segmentation fault (core dumped)", "sigsegv", "SIGSEGV"),
    "a check": (f"{STAMP}F tensorflow/core/framework/tensor.cc:870] Check failed: 0 < dims", "crashed", "0 < dims"),
    "a GPU": (f"{STAMP}F external/local_xla/xla/stream_executor/cuda/cuda_driver.cc:1] CUDA_ERROR_OUT_OF_MEMORY: x",
              "memory", "GPU's memory"),
    "a library": ("tensorflow_model_server: error while loading shared libraries: libcudnn.so.9: cannot open shared "
                  "object file: No such file or directory", "library", "libraries"),
    "glibc": ("tensorflow_model_server: /lib/libc.so.6: version `GLIBC_2.34' not found (required by tensorflow_model_s"
              "erver)", "library", "libraries"),
    "no program": ("/usr/bin/tf_serving_entrypoint.sh: line 3: tensorflow_model_server: command not found",
                   "program-missing", "entry point"),
    "Windows line ends": ("/usr/bin/env: 'bash\\r': No such file or directory", "program-missing", "Unix line ends"),
    "no thread": ("terminate called after throwing an instance of 'std::system_error'\n  what():  Resource temporarily "
                  "unavailable", "threads", "--pids-limit"),
    "TLS": ("E0302 08:00:01.123456789       1 ssl_transport_security.cc:810] Invalid cert chain file.\nFailed to start "
            "server. Error: UNKNOWN: Failed to BuildAndStart gRPC server", "tls", "ssl_config_file"),
    "no right to the base path": (
        "E x.cc:1] FileSystemStoragePathSource encountered a filesystem access error: Could not find base path /m for "
        "servable m with error PERMISSION_DENIED: /m; Permission denied", "permission-denied", "chmod"),
    "no right to a file": (LOADING + RETRIED.replace("NOT_FOUND: Op type not registered", "PERMISSION_DENIED: /m/1"),
                           "permission-denied", "chmod"),
    "a scheme": ("E x.cc:1] filesystem access error: Could not find base path s3://b for servable m with error "
                 "UNIMPLEMENTED: File system scheme 's3' not implemented", "remote-path", "mount it"),
    "cut off": (LOADING + RETRIED.replace("NOT_FOUND: Op type not registered", "OUT_OF_RANGE: Read less bytes than "
                                          "requested"), "damaged", "cut off"),
    "another device's op": (LOADING + RETRIED.replace("Op type not registered", "Could not find device for node: "),
                            "op-missing", "no kernel"),
    **{phrase: (f"Failed to start server. Error: INVALID_ARGUMENT: {phrase}", rule, phrase) for phrase, rule in {
        "Invalid protobuf file: '/c'": "config-unreadable", "/c; No such file or directory": "file-unusable",
        "Illegal to list model m multiple times in config list": "duplicate-name",
        "Expected model m to have an absolute path or URI; got base_path()=m": "relative-base-path",
        "Request to assign label to version 1 of model m, which is not currently available for inference":
            "labels-at-start"}.items()},
}


@pytest.mark.parametrize("case", ALONE)
def test_a_log_alone_shows_the_cause(case: str) -> None:
    text, rule, said = ALONE[case]
    found = examine(Evidence(kind="unknown", given_by_name=True, log=lines(text)))
    likely = found.most_likely
    assert likely is not None and not found.well
    assert likely.rule == rule and said in likely.cause + likely.fix
    behind_a_gpus_chatter = examine(Evidence(kind="unknown", given_by_name=True, log=lines(NO_GPU + text)))
    assert behind_a_gpus_chatter.most_likely == likely


def test_refused_requests_are_no_fault_of_the_server() -> None:
    ended = LOADING + SERVING + "/usr/bin/tf_serving_entrypoint.sh: line 3:     7 Terminated"
    for text in (LOADING + SERVING + REFUSED, REFUSED, ended, NO_GPU + LOADING):
        assert examine(Evidence(kind="unknown", given_by_name=True, log=lines(text))).causes == ()


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
    named = {rule for _, rule, *_ in CASES.values()} - {"ended", "start-failed", "not-served", "no-versions", "sigabrt"}
    assert {rule for rule in named if f"`{rule}`" not in text} == set()


def test_a_healthy_server_has_nothing() -> None:
    healthy = Evidence(running=True, argv=FLAGS, models=(ModelEvidence("m", "/models/m", "/srv/m", labels={"stable": 1}),),
                       ports=(Port("gRPC", 8500), Port("REST", 8501)), image="a:1", image_here=True,
                       image_platform="amd64", machine="x86_64")
    found = examine(healthy)
    assert found.well and found.causes == () and found.most_likely is None


@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.parametrize("server", ["container", "process", "embedded", "unknown"])
def test_a_healthy_servers_log_is_no_cause(kind: str, server: Any) -> None:
    for running in (True, False) if server == "unknown" else (True,):
        found = examine(Evidence(kind=server, running=running, log=lines(HEALTHY[kind])))
        assert found.well and found.causes == ()


@pytest.mark.parametrize("name", ["bad_alloc", "tf_serving_warmup_requests", "permission denied", "data_loss"])
def test_a_models_name_is_no_cause(name: str) -> None:
    text = HEALTHY["warm-up"].replace("/models/m", f"/models/{name}")
    assert examine(Evidence(running=True, log=lines(text))).causes == ()


@pytest.mark.parametrize("given", [{"policy": Specific((1,))}, {"found": frozenset({1})}])
def test_a_version_that_failed_and_was_given_up_is_past(given: Any) -> None:
    """After a rollout that went back: version 2 isn't wanted any more, or is gone."""
    text = HEALTHY["plain"] + f"{STAMP}W tensorflow/core/framework/op_kernel.cc:1857] OP_REQUIRES failed: DATA_LOSS: bad\n" \
        + RETRIED.replace("version: 1", "version: 2")
    found = examine(Evidence(running=True, log=lines(text), models=(ModelEvidence("m", "/models/m", "/srv/m", **given),)))
    assert found.causes == ()
    assert not examine(Evidence(running=True, log=lines(text))).well


def test_the_usage_text_is_no_complaint() -> None:
    text = "unknown argument: --foo\n" + usage("tensorflow_model_server", FLAG_TABLE)
    assert [c.rule for c in examine(Evidence(running=True, log=lines(text))).causes] == ["unknown-flag"]


def test_what_an_entry_point_adds_is_nobodys_mistake() -> None:
    """A container as the documentation starts it: the image's entry point, and a config file after it."""
    started = Evidence(running=True, argv=(*SINGLE, "--model_config_file=/c"), added=4, models=(ModelEvidence("m", "/models/m"),))
    assert examine(started).causes == ()
    assert [c.rule for c in examine(replace(started, added=0)).causes] == ["ignored-flags"]


def test_what_is_deliberate_is_worth_a_look_and_no_fault() -> None:
    for flags in (argv("--model_config_file_poll_wait_seconds=60", running=True), argv("--file_system_poll_wait_seconds=0"),
                  argv(of=without(FLAGS, "rest_api_port"), running=True)):
        found = examine(flags)
        assert found.well and found.causes


def test_a_volume_that_holds_the_models_is_no_fault() -> None:
    held = Evidence(running=True, argv=SINGLE, mounts={"models": "/models"}, models=(ModelEvidence("m", "/models/m"),))
    assert examine(held).causes == ()


def test_no_advice_points_to_findings_that_arent_there() -> None:
    for evidence in (Evidence(up_error="it failed"), Evidence(running=True, problems=("m serves nothing",))):
        (only,) = examine(evidence).causes
        assert "other findings" not in only.fix and "logs" in only.fix


def test_hardware_that_is_missing_is_no_missing_permission() -> None:
    assert examine(Evidence(running=True, log=lines(NO_GPU + LOADING))).causes == ()
    assert "permission-denied" in [c.rule for c in examine(log("E /models/m: Permission denied")).causes]


def test_symptoms_are_left_out_beside_their_cause() -> None:
    evidence = Evidence(exit_code=255, argv=FLAGS, up_error="it ended", log=("Failed to start server. Error: x",),
                        models=(ModelEvidence("m", "/models/m", "/srv/m", found=EMPTY),), problems=("m isn't running",))
    assert [c.rule for c in examine(evidence).causes] == ["base-path-empty"]


def test_the_most_likely_cause_is_the_last() -> None:
    evidence = Evidence(argv=(*FLAGS, "--enable_bathing=true"), out_of_memory=True, exit_code=137)
    found = examine(evidence)
    assert [c.rule for c in found.causes] == ["unknown-flag", "out-of-memory"]
    assert found.to_json()["most_likely"] == found.causes[-1].to_json() and not found.well
