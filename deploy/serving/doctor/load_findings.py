"""Rules about versions that don't load, and about a server that serves something else than it should."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.serving.doctor.evidence import Cause, Evidence
from deploy.serving.server_log import interrupted_warmup, last_words, load_failures
from deploy.wire.status_text import sentence, shortened

_BATCHING = ("batching-refused", "the model can't be batched: an input or output has no batch dimension, or "
             "another one", "take batching out (server/batching, --enable_batching), or export every input and output "
             "with the same first dimension; tfs check --spec says which")
_WARM_UP = ("warmup-broken", "a warm-up record fails, and with it the version", "take assets.extra/tf_serving_warmup_"
            "requests out, or record it anew: publish the next version")
_KERNEL = ("op-missing",
           "an op of the model has no kernel for this server's devices: every request that needs it fails",
           "serve it on the device that it was made for, or export without that op")
TLS_PHRASES = ("invalid cert chain file", "invalid private key", "handshaker factory creation failed")
TLS = ("tls", "the files of --ssl_config_file can't be used, and so the gRPC port isn't opened",
        "give PEM texts that belong together: server_key, server_cert (server/tls writes the file)")
_LIBRARY = ("library", "the server's program can't run with the libraries that are there",
            "use the image as it is (a -gpu image has CUDA's libraries), or a program built for this system")
_PROGRAM = ("program-missing", "the entry point can't find or run its program",
            "is it a serving image, and is the script saved with Unix line ends? its program is "
            "/usr/bin/tensorflow_model_server")
_THREADS = ("threads", "the server could not start another thread",
            "raise the container's limit of processes (--pids-limit), or lower the numbers of threads")
_CPU = ("cpu", "the server's program uses instructions that this CPU doesn't have (AVX, say)",
        "use an image built for this CPU, or backend: embedded; on a Mac with an ARM chip use an image for arm64")
# A phrase of TensorFlow's complaints, in lower case -> (rule, cause, fix)
_PHRASES = {
    "op type not registered": (
        "op-missing", "the model uses an op that this server doesn't have",
        "serve it with an image that has the op (newer TensorFlow, or with that op library built in), or export "
        "without it; `tfs check` names it before anything is published"),
    "not in op<": (
        "producer-newer", "the model was written by a newer TensorFlow than the server's: an op has an attribute that "
        "the server doesn't know", "serve it with an image of that TensorFlow version or newer (server/image)"),
    "graph-interpreting binary": (
        "producer-newer", "the model was written by a newer TensorFlow than the server's",
        "serve it with an image of that TensorFlow version or newer (server/image)"),
    "could not find meta graph def matching": (
        "serve-tag", "the model has no graph tagged `serve`", "save it with the tag serve, or set --saved_model_tags"),
    "no opkernel was registered to support": _KERNEL,
    "could not find device for node": _KERNEL,
    "could not find savedmodel .pb or .pbtxt": (
        "no-saved-model", "a version's directory has no saved_model.pb",
        "publish a SavedModel (tfs export makes one); one with a model.tflite alone needs --prefer_tflite_model; a "
        ".keras, .h5 or checkpoint file can't be served"),
    "failed to find any matching files for": (
        "half-copied", "a version has no variables: its copy isn't whole", "publish it again under the next number"),
    "data_loss": ("damaged", "a file of the model is damaged or cut off", "publish it again under the next number"),
    "read less bytes than requested": (
        "damaged", "a file of the model is damaged or cut off", "publish it again under the next number"),
    "not an sstable": ("damaged", "the variables are damaged, or a Git LFS pointer", "publish the real files again"),
    "batched output tensor": _BATCHING,
    "batching run() input tensors must have": _BATCHING,
    "batching session run() input tensors must have": _BATCHING,
    "no request-logger-creator provided": (
        "logging-config", "a model's logging_config needs a log collector, which released servers don't have",
        "take logging_config out of the config file"),
    "failed to parse warmup record": _WARM_UP,
    "verify your warmup data": _WARM_UP,
    "number of warmup records exceeds": _WARM_UP,
    "tf_serving_warmup_requests": _WARM_UP,
    "compiled to use": _CPU,
    "too many open files": ("open-files", "the server ran out of file descriptors", "raise its limit: --ulimit nofile"),
    "undefined symbol": ("library", "a library doesn't fit the server's TensorFlow", "build it for that release"),
    "bad_alloc": ("memory", "the server ran out of memory while it loaded", "give it more: server/resources/memory"),
    "resource_exhausted: oom": (
        "memory", "the server ran out of memory while it loaded", "give it more, or lower server/threads"),
    "illegal instruction": _CPU,
    "cuda_error_out_of_memory": ("memory", "the GPU's memory ran out while it loaded",
                                 "free it, or leave some: --per_process_gpu_memory_fraction"),
    "driver version is insufficient": ("gpu-driver", "the GPU's driver is older than the image's CUDA wants",
                                       "install a newer driver, or use an image without GPU"),
    **dict.fromkeys(TLS_PHRASES, TLS),
    "error while loading shared libraries": _LIBRARY,
    "' not found (required by": _LIBRARY,
    "command not found": _PROGRAM,
    "/usr/bin/env: ": _PROGRAM,
    "bad interpreter": _PROGRAM,
    "pthread_create() failed": _THREADS,
    "resource temporarily unavailable": _THREADS,
    "file system scheme": (
        "remote-path", "the base path is in a storage that this server's program can't read",
        "copy the models to a directory, or mount it; released servers read no such scheme"),
    "no space left on device": ("disk-full", "a disk is full", "make room"),
}
_DAMAGE = frozenset({"damaged", "half-copied", "no-saved-model"})


def phrases(e: Evidence) -> Iterator[Cause]:
    """What TensorFlow says when it can't load a graph."""
    rules = set[str]()
    errors = [s.error for m in e.models for s in m.statuses if s.failed and m.wants(s.version)]
    for phrase, (rule, cause, fix) in _PHRASES.items():
        line = e.line(phrase) or next((shortened(error) for error in errors if phrase in error.lower()), "")
        if line and rule not in rules:
            rules.add(rule)
            yield Cause(rule, 92, cause, fix, line)


def failing(e: Evidence) -> Iterator[Cause]:
    """Versions that fail to load, by the log: tried again behind closed ports, or given up."""
    known = {(m.name, s.version) for m in e.models for s in m.statuses if s.failed}
    for failure in load_failures(e.log):
        version = failure.name, failure.version
        if version in known or not e.concerns(version):
            continue
        if failure.given_up or not e.running:
            fate, fix = "", "correct what it names; then publish it under the next number"
        else:
            fate = "; the load is tried again (once a minute, five times, by default), and the ports open only after it"
            fix = "correct what it names; --max_num_load_retries=0 makes a server say so at once"
        yield Cause("load-fails", 87, f"{failure.name}/{failure.version} fails to load: {failure.why}{fate}", fix,
                    shortened(failure.line))


def warming(e: Evidence) -> Iterator[Cause]:
    """A warm-up after which nothing came: it failed, or it ended the server."""
    file = interrupted_warmup(e.log)
    failed = any(f"/{f.version}/assets.extra/" in file for f in load_failures(e.log))
    if file and (failed or (not e.running and e.exit_code)):
        how = "failed" if failed else "ended the server"
        yield Cause("warmup-broken", 91, f"a request of {file} {how}", _WARM_UP[2], last_words(e.log))


def checked(e: Evidence) -> Iterator[Cause]:
    """What `tfs check` refuses of the versions that should be served."""
    for m in e.models:
        for version, findings in sorted(m.refused.items()):
            if any(s.version == version and s.serving for s in m.statuses):
                continue
            yield Cause("check-refuses", 88, f"{m.name}/{version} can't be served here: {findings[0]}",
                        f"see all of it: tfs check {m.path or m.base_path}/{version}")


def failed_versions(e: Evidence) -> Iterator[Cause]:
    """A version that failed once isn't tried again, even if it is whole by now."""
    for m in e.models:
        for s in m.statuses:
            if not s.failed or not m.wants(s.version):
                continue
            repaired = s.version in m.found and s.version not in m.broken and s.version not in m.refused
            fixed = "; its files are whole now, but the server doesn't try a failed number again" if repaired else ""
            weight = 90 if not repaired else 93 if _of_files(s.error) else 86
            yield Cause("permanently-failed" if repaired else "version-failed", weight,
                        f"{m.name}/{s.version} failed to load{fixed}: {sentence(s.error)}",
                        f"publish it under the next number, or restart the server: then {s.version} is tried again")


def _of_files(error: str) -> bool:
    """Files were at fault, as far as is known: once they are whole, that they were damaged is no news."""
    return not any(phrase in error.lower() for phrase in _PHRASES if _PHRASES[phrase][0] not in _DAMAGE)


def drifted(e: Evidence) -> Iterator[Cause]:
    """Spec, ledger, config file and server disagree."""
    for message in e.drift:
        cause, _, fix = message.rpartition("; ")
        yield Cause("drift", 70, cause or message, fix if cause else "see tfs status")
    for change in e.changes:
        yield Cause("spec-changed", 40, f"the spec was changed since the server was started: {change}",
                    "tfs down, then tfs up")


RULES = (phrases, failing, warming, checked, failed_versions, drifted)
