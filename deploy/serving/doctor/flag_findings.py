"""Rules about the command line and the config files that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from deploy.serving.doctor.evidence import Cause, Evidence
from deploy.serving.preflight import KNOWN, nearest, unreadable_flags
from deploy.serving.server_log import last_words
from deploy.wire.flags import FLAGS

_BOOLEANS = frozenset(f.name for f in FLAGS if f.kind == "bool")
_GOES_ON = "the server prints its usage text, goes on, and ignores it"


def unknown(e: Evidence) -> Iterator[Cause]:
    """Arguments that are no flags of any model server, and `--flag value`, which is one of them."""
    arguments = e.arguments
    bare = [a for a in e.flags.unknown if a.startswith("--") and a[2:] in KNOWN]
    for flag in bare:
        after = arguments.index(flag) + 1
        value = arguments[after] if after < len(arguments) and not arguments[after].startswith("--") else "VALUE"
        also = "; the model is then called `default`" if flag == "--model_name" else ""
        yield Cause("two-words", 91, f"`{flag} {value}` in two words is no flag: {_GOES_ON}{also}",
                    f"write {flag}={value}", e.line("unknown argument"))
    yield from _booleans_in_two_words(e)
    words = {arguments[arguments.index(flag) + 1] for flag in bare if arguments.index(flag) + 1 < len(arguments)}
    for argument in e.flags.unknown:
        name = argument.removeprefix("--").partition("=")[0]
        if argument in words or name in KNOWN or argument == "--help" or argument.lower() in ("true", "false"):
            continue
        fix = _instead(argument, name, entry_point=bool(e.added))
        yield Cause("unknown-flag", 60, f"{argument} is no flag of tensorflow_model_server: {_GOES_ON}", fix,
                    e.line("unknown argument"))
    line = e.line("unknown argument")
    if line and not e.flags.unknown:
        yield Cause("unknown-flag", 60, f"an argument is unknown: {_GOES_ON}",
                    "correct its spelling; write --flag=value", line)


def _booleans_in_two_words(e: Evidence) -> Iterator[Cause]:
    """`--flag false`: the flag alone means true, and the word is ignored."""
    for flag, word in pairwise(e.arguments):
        if word.lower() in ("true", "false") and flag.startswith("--") and flag[2:] in _BOOLEANS:
            yield Cause("two-words", 91, f"`{flag} {word}` in two words sets {flag} to true: {word} is no flag, "
                        f"{_GOES_ON}", f"write {flag}={word.lower()}", e.line("unknown argument"))


def _instead(argument: str, name: str, *, entry_point: bool) -> str:
    """What to write instead of an argument that is no flag."""
    if argument.endswith("tensorflow_model_server") and entry_point:
        return "take it out: the image's entry point starts the program already, and takes flags only"
    meant = nearest(name)
    if meant is None:
        return "take it out; `--help` lists all flags"
    value = argument.partition("=")[1:]
    return f"is --{meant} meant? write --{meant}{''.join(value)}; a spec has it below server/flags"


def values(e: Evidence) -> Iterator[Cause]:
    """Known flags with values that they don't take: these do end the server."""
    refused = bool(e.exit_code) and any(x.lstrip().lower().startswith("usage: ") for x in e.log)
    for unread in unreadable_flags(e.arguments, strict=refused):
        name, _, value = unread.argument.removeprefix("--").partition("=")
        takes = f"exactly {unread.expected}" if unread.expected == "true or false" else unread.expected
        yield Cause("bad-value", 94, f"{unread.argument}: --{name} takes {takes}, not {value!r}; the server ends with "
                    "its usage text and 255", f"write {unread.write or f'--{name}= with {unread.expected}'}",
                    e.line("couldn't interpret value"))


def unread_by_the_log(e: Evidence) -> Iterator[Cause]:
    """A value that the server says it can't read, where nobody shows the command line."""
    line = e.line("couldn't interpret value")
    value, _, flag = line.partition("value ")[2].partition(" for flag ")
    if flag.strip() and not e.arguments:
        name = flag.split()[0].rstrip(".")
        yield Cause("bad-value", 94, f"--{name} can't be {value.lstrip('=')!r}; the server ends with its usage text "
                    "and 255", "write a number, or exactly true or false, as the usage text has it", line)


# What ends a server at its start, in its own words -> rule, cause, fix
_AT_START = {
    "invalid protobuf file": ("config-unreadable", "a config file isn't protobuf text of its kind",
                              "correct it; tfs configure writes one"),
    "multiple times in config list": ("duplicate-name", "the config file lists a model twice", "leave one"),
    "to have an absolute path": ("relative-base-path", "a base path is relative", "write an absolute path"),
    "modelserverconfig::model_platform": ("platform-missing", "a model has no model_platform in the config file",
                                          'add model_platform: "tensorflow"'),
    "unsupported platform": ("platform-unknown", "a model's platform can't be served",
                             'write model_platform: "tensorflow"'),
    "model_config_file are empty": ("nothing-to-serve", "neither --model_config_file nor --model_base_path is given",
                                    "give one of them"),
    "without setting server_options.enable_batching": (
        "batching-off", "--batching_parameters_file without --enable_batching ends the server",
        "add --enable_batching=true"),
    "request to assign label": ("labels-at-start", "the config file has labels, and those end the server at its start",
                                "add --allow_version_labels_for_unavailable_models=true"),
    "no such file or directory": ("file-unusable", "a file that a flag names isn't there",
                                  "correct the path as the server sees it"),
}


def at_start(e: Evidence) -> Iterator[Cause]:
    """What ends a server at its start, by the log alone: with the command line, other rules see more."""
    for phrase, (rule, cause, fix) in _AT_START.items():
        line = e.line("failed to start server. error", phrase)
        if line and not e.arguments and "did not become available" not in line:
            yield Cause(rule, 94, f"{cause}: {last_words(e.log)}", fix, line)
            return


def ports(e: Evidence) -> Iterator[Cause]:
    """Port flags that leave REST out."""
    grpc, rest = e.flags.values["port"], e.flags.values["rest_api_port"]
    if not e.arguments:
        return
    if grpc == rest:
        yield Cause("same-port", 93, f"gRPC and REST have the same port {grpc}: the server runs, without REST",
                    "give REST another one: --rest_api_port=8501 (server/rest_port)",
                    e.line("http_port cannot be same"))
    elif rest == 0:
        yield Cause("no-rest", 25, "there is no --rest_api_port, so the server offers no REST API",
                    "add --rest_api_port=8501")


def labels(e: Evidence) -> Iterator[Cause]:
    """Labels at the start need a flag."""
    labelled = [m for m in e.models if m.labels]
    line = e.line("request to assign label to version")
    if labelled and e.arguments and not e.flags.values["allow_version_labels_for_unavailable_models"]:
        names = ", ".join(f"{m.name}@{label}" for m in labelled for label in m.labels)
        yield Cause("labels-at-start", 94, f"the config file has labels ({names}), and those end the server at "
                    "its start, since no version is loaded yet",
                    "add --allow_version_labels_for_unavailable_models=true", line)
    elif line and (e.arguments or not line.startswith("Failed to start")):
        yield Cause("label-refused", 80, "a label was to point to a version that isn't loaded",
                    "load the version first, then move the label in a second reload: tfs rollout does", line)


def config(e: Evidence) -> Iterator[Cause]:
    """What the server refuses in a models.config."""
    if e.config_error:
        yield Cause("config-unreadable", 95, f"the config file can't be used: {e.config_error}",
                    "correct it, or have it written: tfs configure", e.line("model_config_file") or e.line("protobuf"))
    for m in e.models:
        if not m.base_path.startswith("/") and "://" not in m.base_path:
            yield Cause("relative-base-path", 95, f"model {m.name!r}: the base path {m.base_path!r} is relative",
                        "write an absolute path, as the server sees it", e.line("absolute path"))
        if not m.platform:
            yield Cause("platform-missing", 95, f"model {m.name!r} has no model_platform in the config file",
                        'add model_platform: "tensorflow"', e.line("model_platform"))
        elif m.platform != "tensorflow" and not e.flags.values["platform_config_file"]:
            yield Cause("platform-unknown", 95, f"model {m.name!r}: the platform {m.platform!r} can't be served",
                        'write model_platform: "tensorflow"; if a reload was refused for it, reload once without the '
                        "model first", e.line("unsupported platform"))
    for name, count in Counter(m.name for m in e.models).items():
        if count > 1:
            yield Cause("duplicate-name", 95, f"the config file lists model {name!r} {count} times",
                        "leave one", e.line("multiple times"))
    line = e.line("illegal to change a model's platform")
    if line:
        yield Cause("platform-poisoned", 90, "a refused reload has left a wrong platform behind",
                    "reload once without that model, then with it; or restart", line)


def files(e: Evidence) -> Iterator[Cause]:
    """Files that other flags name."""
    for flag, why in e.files.items():
        after = ("; it prints \"Failed to start server\" and then serves gRPC without REST, for good"
                 if flag == "monitoring_config_file" else "")
        yield Cause("file-unusable", 93, f"the file of --{flag} can't be used: {why}{after}",
                    "correct the path as the server sees it, and its contents", e.line("failed to start server"))


def combinations(e: Evidence) -> Iterator[Cause]:
    """Flags that have no effect, or a bad one, beside others."""
    flags, given = e.flags.values, e.flags.given
    if flags["model_config_file"] and e.given & {"model_name", "model_base_path"}:
        yield Cause("ignored-flags", 40, "--model_name and --model_base_path are ignored, without a word, beside "
                    "--model_config_file", "put the model into the config file")
    if e.arguments and not flags["model_config_file"] and not flags["model_base_path"]:
        yield Cause("nothing-to-serve", 90, "neither --model_config_file nor --model_base_path is given",
                    "give one of them", e.line("both server_options.model_base_path"))
    if flags["batching_parameters_file"] and not flags["enable_batching"]:
        yield Cause("batching-off", 93, "--batching_parameters_file without --enable_batching ends the server",
                    "add --enable_batching=true", e.line("enable_batching"))
    if flags["enable_serialization_as_tensor_content"] and flags["rest_api_port"]:
        yield Cause("tensor-content-rest", 55, "--enable_serialization_as_tensor_content makes REST answer zeros, and "
                    "crashes it for strings", "take the flag out, or do without REST")
    poll = int(flags["model_config_file_poll_wait_seconds"])
    if poll > 0:
        yield Cause("config-poller", 75 if e.drift else 20, f"the server reads its config file again every {poll} s, "
                    "and undoes whatever was pushed by RPC",
                    "take --model_config_file_poll_wait_seconds out, or let the file be the only thing that changes")
    if "file_system_poll_wait_seconds" in given and int(flags["file_system_poll_wait_seconds"]) <= 0:
        yield Cause("looks-once", 25, "the server looks for versions only once: new ones are never found, and a reload "
                    "with a new model doesn't return", "leave --file_system_poll_wait_seconds at 1")


RULES = (unknown, values, unread_by_the_log, at_start, ports, labels, config, files, combinations)
