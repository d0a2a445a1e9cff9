"""Rules about what lies where the server looks: mounts, base paths, versions, permissions."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from deploy.serving.doctor.evidence import Cause, Evidence, ModelEvidence

_ELSEWHERE = ("keep the models where the engine sees them, under the same path, or bake them into an image (tfs image "
              "build), or use backend: embedded")
_AROUND = "\"' \t\r\n"
_WAITS = "the server waits for it for ever, with both ports closed"


def base_path(e: Evidence) -> Iterator[Cause]:
    """The base path itself: missing, not mounted, a file, empty, one level off."""
    for m in e.models:
        yield from _base_path(e, m)


def _base_path(e: Evidence, m: ModelEvidence) -> Iterator[Cause]:
    where = m.path or m.base_path
    if not m.base_path.startswith("/") and "://" not in m.base_path:
        return  # a rule of its own
    line = e.line("no versions of servable", m.name) or e.line("base path", m.base_path)
    if m.there == "unmounted":
        mounted = ", ".join(f"{k} at {v}" for k, v in e.mounts.items()) or "nothing at all"
        yield Cause("not-mounted", 92, f"model {m.name!r}: nothing is mounted at its base path {m.base_path} in the "
                    f"container, and its image has nothing there; mounted: {mounted}", _mount(e, m), line)
    elif m.there == "missing":
        yield Cause("base-path-missing", 92, f"model {m.name!r}: its base path {where} doesn't exist; {_WAITS}, and "
                    f"one missing path stops all models{_name_says(e, m)}", _meant(e, m), line)
    elif m.there == "file":
        yield Cause("base-path-file", 92, f"model {m.name!r}: its base path {where} is a file",
                    "name the directory that holds the version directories")
    elif m.engine_lacks:
        yield Cause("engine-elsewhere", 95, f"model {m.name!r}: {m.engine_lacks} is on this machine, and the container "
                    "doesn't have it: its Docker engine is on another machine, or sees other files", _ELSEWHERE, line)
    elif not m.found:
        yield _nothing_found(e, m, where, line)


def _nothing_found(e: Evidence, m: ModelEvidence, where: str, line: str) -> Cause:
    """A directory, and no version in it."""
    if m.is_version:
        return Cause("one-level-too-deep", 95, f"model {m.name!r}: {where} is itself a version (saved_model.pb lies in "
                     "it), so no version is found in it: the path is one level too deep",
                     f"name or mount the directory above, with the version as a number: {where}/1/saved_model.pb", line)
    if m.nested:
        inside = near(m.name, [n.rpartition("/")[2] for n in m.nested])
        inside = next((n for n in m.nested if n.rpartition("/")[2] == inside), m.nested[0])
        levels = "one level" if "/" not in inside else "two levels"
        variable = f"-e MODEL_NAME={inside}, or " if e.added and not m.name and "/" not in inside else ""
        return Cause("one-level-too-high", 95, f"model {m.name!r}: {where} holds models ({', '.join(m.nested[:3])}), "
                     f"not versions: the path is {levels} too high", f"{variable}name or mount {where}/{inside}", line)
    if m.unnumbered:
        return Cause("not-a-number", 93, f"model {m.name!r}: {where} has no version: a version is a directory named by "
                     f"a number, and {', '.join(m.unnumbered[:3])} isn't", f"rename it: {where}/1/saved_model.pb", line)
    other = f"; it has {', '.join(m.others[:3])}, which isn't a SavedModel" if m.others else ""
    return Cause("base-path-empty", 90, f"model {m.name!r}: there is no version in {where}{other}; {_WAITS}",
                 (f"export it as a SavedModel: tfs export {where}/{m.others[0]} --name {m.name}" if m.others else
                  f"publish one: tfs publish DIRECTORY --name {m.name}") +
                 "; a version is a directory named by a number", line)


def near(name: str, names: Sequence[str]) -> str:
    """The one of `names` that is most likely meant; the only one, if there is only one; else empty."""
    plain = {n.strip(_AROUND).casefold(): n for n in names}
    wanted = name.strip(_AROUND).casefold()
    if wanted in plain:
        return plain[wanted]
    close = difflib.get_close_matches(wanted, sorted(plain), 1, 0.6)
    return plain[close[0]] if close else names[0] if len(names) == 1 else ""


def _name_says(e: Evidence, m: ModelEvidence) -> str:
    """What is wrong with a name, as far as the name itself shows it."""
    source = "MODEL_NAME" if e.added and m.name == e.environment.get("MODEL_NAME", "model") else "its name"
    if m.name != m.name.strip("\"'"):
        return f"; {source} has quotes in it: Docker and env files keep them as they are"
    if m.name != m.name.strip():
        end = " (a Windows line end of an env file)" if m.name.endswith("\r") else ""
        return f"; {source} has white space around it{end}"
    return "; MODEL_NAME isn't set" if source == "MODEL_NAME" and m.name == "model" else ""


def _meant(e: Evidence, m: ModelEvidence) -> str:
    """What to write instead of a base path that doesn't exist."""
    directory, name = str(PurePosixPath(m.base_path).parent), near(m.name, m.beside)
    if m.above:
        return f"name the directory that holds the versions: {directory}" + (
            f", with -e MODEL_BASE_PATH={PurePosixPath(directory).parent} -e MODEL_NAME={PurePosixPath(directory).name}"
            if e.added else "")
    variable = e.added and m.base_path == f"{e.environment.get('MODEL_BASE_PATH', '/models')}/{m.name}"
    if name and variable:
        return f"write -e MODEL_NAME={name}"
    if m.beside:
        choice = f"{directory}/{name}" if name else f"one of {', '.join(m.beside[:5])} in {directory}"
        return f"write -e MODEL_NAME=, with one of {', '.join(m.beside[:5])}" if variable else \
            f"correct the base path: {choice}"
    if e.added and m.name != m.name.strip(_AROUND):
        return "write -e MODEL_NAME=" + m.name.strip(_AROUND)
    return "publish a version there (tfs publish), or correct the spec's repository or base_path"


def _mount(e: Evidence, m: ModelEvidence) -> str:
    """How to bring a model into a container that has something else mounted."""
    parent = PurePosixPath(m.base_path).parent
    beside = [PurePosixPath(t).name for t in e.mounts.values() if PurePosixPath(t).parent == parent]
    name = near(m.name, beside or m.beside)
    if name and e.added:
        return f"write -e MODEL_NAME={name}: {parent}/{name} is what {'is mounted' if beside else 'the image has'}"
    return f"mount the directory that holds the versions: -v /path/to/{m.name}:{m.base_path}:ro" + (
        f", or correct the base path: {parent}/{name}" if name else "")


def no_versions(e: Evidence) -> Iterator[Cause]:
    """The server says that it finds nothing, and nobody here can see why: the log alone."""
    line = e.line("no versions of servable")
    if line and not any(m.path for m in e.models):
        yield Cause("no-versions", 85, "the server finds no version under a model's base path: the mount is one level "
                    "off, or the directory isn't named by a number", "mount the directory whose children are 1, 2, "
                    "...; see docker exec CONTAINER ls BASE_PATH", line)
    line = e.line("could not find base path")
    if line and not any(m.path for m in e.models) and "permission" not in line.lower():  # a rule of its own
        yield Cause("base-path-missing", 85, "a base path doesn't exist where the server looks, or can't be read; no "
                    "version of any model is found until it can", "mount it, or correct base_path", line)


def wanted_versions(e: Evidence) -> Iterator[Cause]:
    """Versions that the configuration names, and that aren't there."""
    for m in e.models:
        missing = sorted(m.named - m.found)
        if missing and m.found:
            there = ", ".join(map(str, sorted(m.found)))
            yield Cause("version-missing", 90, f"model {m.name!r}: version {', '.join(map(str, missing))} isn't in "
                        f"{m.path or m.base_path} (there: {there}); the server waits for it without a word",
                        "publish it, or name one that is there")


def half_copied(e: Evidence) -> Iterator[Cause]:
    """Directories that aren't whole SavedModels."""
    for m in e.models:
        for version, why in sorted(m.broken.items()):
            served = any(s.version == version and s.serving for s in m.statuses)
            lacking = "without its variables a version loads all the same, and then fails every request"
            fate = "it is served nevertheless, and fails every request" if served else \
                lacking if "variables" in why and "saved_model.pb" not in why else "it can't be loaded"
            yield Cause("half-copied", 94 if m.wants(version) else 30, f"{m.name}/{version} isn't whole: {why}; {fate}",
                        "publish it again under the next number (tfs publish): this one won't be loaded a second time",
                        e.line(f"{m.name}", "failed"))


def unexpected_names(e: Evidence) -> Iterator[Cause]:
    """Names that the server takes for versions."""
    for m in e.models:
        if m.unexpected and not m.named:
            yield Cause("unexpected-version", 70, f"model {m.name!r}: the server takes {', '.join(m.unexpected)} in "
                        f"{m.path or m.base_path} for a version", "move it away, or name the versions in the spec")


def permissions(e: Evidence) -> Iterator[Cause]:
    """Files that the server's user can't read."""
    for m in e.models:
        if m.unreadable:
            who = f"the container's user {e.user}" if e.user else "the server's user"
            yield Cause("permission-denied", 93, f"model {m.name!r}: {m.unreadable} isn't readable for {who}",
                        f"chmod -R a+rX {m.path or m.base_path}", e.line("permission denied"))
    line = e.line("permission denied") or e.line("permission_denied")
    if line and not any(m.unreadable for m in e.models):
        who = f" (its user is {e.user})" if e.user else ""
        yield Cause("permission-denied", 91, f"the server may not read something{who}",
                    "chmod -R a+rX the models and the config files, or run it as their owner (--user)", line)


def shared_machine(e: Evidence) -> Iterator[Cause]:
    """A volume where a directory was meant: it is empty. One that holds the models is as good as a directory."""
    for source, target in e.mounts.items():
        empty = [m for m in e.models if not m.found and PurePosixPath(m.base_path).is_relative_to(target)]
        unknown = not e.models and not e.running
        if (empty or unknown) and not PurePosixPath(source).is_absolute():
            of = f", and has no version of {empty[0].name!r}" if empty else ""
            yield Cause("relative-mount", 94 if empty else 60, f"{source} is mounted at {target}{of}: a name without a "
                        "slash is a volume to Docker, not a directory", f"write the absolute path: $PWD/{source}")


def unusable_model_names(e: Evidence) -> Iterator[Cause]:
    """Names that no client will ask for."""
    for m in e.models:
        if m.found and (m.name != m.name.strip(_AROUND) or not m.name or "/" in m.name):
            yield Cause("unexpected-model-name", 60, f"the model is called {m.name!r}: clients that ask for "
                        f"{m.name.strip(_AROUND).strip('/')!r} get NOT_FOUND",
                        "correct its name in the config file or flags")


RULES = (base_path, no_versions, wanted_versions, half_copied, unexpected_names, permissions, shared_machine,
         unusable_model_names)
