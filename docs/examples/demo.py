"""The way through, as a program: train -> export -> publish -> configure -> start -> smoke -> stop.

    make demo                      or: python docs/examples/demo.py [--backend container --image name:tag] [--json]

It uses the library as any program would. What stays is the published versions in ./models, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

import deploy
from deploy.backends.engine import connect
from deploy.errors import BackendMissing, DeployError
from deploy.spec import Spec

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "serving_configs" / "demo.yaml"
OURS = "tfs-deploy/modelserver:dev"  # what `make server-image` makes

talk = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Say at once what is being done, and in the end how long it took. Yields a function for sentences in between."""
    began = time.monotonic()
    if talk.is_terminal:
        with talk.status(title) as status:
            yield lambda sentence: status.update(f"{title}: {sentence}")
    else:
        talk.print(f"{title} ...")
        yield lambda sentence: talk.print(f"     {time.monotonic() - began:4.1f} s  {sentence}")
    talk.print(f"{title} [dim]({time.monotonic() - began:.1f} s)[/]")


def require_image(spec: Spec) -> None:
    """Pull the server's image if it isn't here: before minutes are spent on training. Raises BackendMissing."""
    with step(f"look for the image {spec.server.image}") as say:
        try:
            connect().require_image(spec.server.image, say)
        except BackendMissing as error:
            if "image" in error.details:  # an engine answered
                error.hint = ("build the embedded server's: make server-image, then make demo BACKEND=container "
                              f"IMAGE={OURS}; BACKEND=embedded needs none")
            raise


def export_all(spec: Spec) -> list[Any]:
    """Train each model of docs/examples, export it, prove what was saved, publish it."""
    exported = []
    for model in spec.models:
        with step(f"train, export and publish {model.name}") as say:
            target = f"{HERE / model.name}.py:build"
            exported.append(deploy.export_model(target, spec.repository, model.name, progress=say))
    return exported


def prove(spec: Spec) -> Any:
    """Start the spec's server, smoke-test it, stop it, whatever happens."""
    try:
        with step("write the server's config files and start it") as say:
            running = deploy.up(spec, progress=say)
        talk.print(f"     REST {running.endpoint.rest_url}, gRPC {running.endpoint.grpc_target}; "
                   f"backend {running.backend}: {running.why}")
        with step("ask every model over REST and gRPC") as say:
            return running, deploy.smoke_test(running.endpoint, spec.models, deploy.Repository(spec.repository))
    finally:
        with step("stop the server"):
            deploy.down(spec)
            shutil.rmtree(spec.state_dir)
            with contextlib.suppress(OSError):  # other servers' records are in it
                spec.state_dir.parent.rmdir()


def summary(exported: list[Any], report: Any) -> Table:
    """One line per signature: what was verified of it."""
    table = Table(title="What was verified", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("model", "signature", "inputs", "outputs", "saved = trained", "REST = gRPC = golden"):
        table.add_column(column, overflow="fold")
    for one in exported:
        checks = [c for c in report.checks if c.model == one.model_version.name]
        passed = f"{sum(c.ok is True for c in checks)} of {sum(c.ok is not None for c in checks)} checks"
        same = "bit for bit" if one.parity.exact else f"to {one.parity.worst:.0e}"
        first = (str(one.model_version), f"{one.parity.cases} answer{'s' * (one.parity.cases != 1)}, {same}", passed)
        for signature in one.contract.values():
            model, parity, smoke = first
            table.add_row(model, signature.name, "\n".join(map(str, signature.inputs)),
                          "\n".join(map(str, signature.outputs)), parity, smoke)
            first = ("", "", "")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--backend", choices=["auto", "container", "process", "embedded"])
    parser.add_argument("--image", help="serving image for the container backend")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--svg", type=Path, help="draw the table into this file, too")
    args = parser.parse_args()
    spec = deploy.load_spec(SPEC)
    changes = {k: v for k, v in (("backend", args.backend), ("image", args.image)) if v}
    # A name of its own: what `make up` started from the same file is none of the demo's business
    spec = msgspec.structs.replace(spec, name=f"demo-{os.getpid()}",
                                   server=msgspec.structs.replace(spec.server, **changes))
    try:
        if spec.server.backend == "container":
            require_image(spec)
        exported = export_all(spec)
        running, report = prove(spec)
    except DeployError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps({"exported": [e.to_json() for e in exported], "server": running.to_json(),
                          "smoke": report.to_json()}, indent=2, default=str))
    else:
        console = Console(width=None if sys.stdout.isatty() else 132, highlight=False, record=args.svg is not None)
        console.print(summary(exported, report))
        if args.svg:
            console.save_svg(str(args.svg), title="make demo")
    return 0 if report.ok else 9


if __name__ == "__main__":
    sys.exit(main())
