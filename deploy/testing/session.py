"""What a pytest session has of ours: its options, and the servers that it started.

pytest loads this in every session, so nothing else is imported before somebody uses it.
"""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from deploy.spec import BackendKind, Spec
    from deploy.testing.items import SpecNode
    from deploy.testing.runs import TestRun
    from deploy.testing.servers import ServerUnderTest

BACKENDS = ("auto", "container", "process", "embedded")
_MARKED = (*BACKENDS, "swarm", "kubernetes")
_RUN = "tfs_run"  # in a worker's input


class PluginSession:
    """What a pytest session has of ours: its options, and the servers that it started.

    No property does any work: pytest before 8.1 asks for all attributes of a plugin.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._kept = config, ExitStack()
        self._run: TestRun | None = None
        self._shared = False  # have workers started servers?
        self._servers: dict[Path, ServerUnderTest] = {}
        self._failed: set[Path] = set()  # specs whose server was asked for, and couldn't be started
        given = config.getoption("--tfs") or config.getini("tfs_spec")
        base = config.invocation_params.dir
        self.specs = tuple(dict.fromkeys(Path(os.path.normpath(base / str(path))) for path in given))
        self._id = _of_worker(config, "id") or uuid.uuid4().hex
        self._owner = int(_of_worker(config, "owner") or 0)

    # Servers

    def run(self) -> TestRun:
        """This session's, which ends with it. Workers of xdist share that of the process that started them."""
        if self._run is None:
            from deploy.testing.runs import TestRun

            self._run = TestRun.begin(self._id, self._owner)
        return self._run

    @property
    def backend(self) -> Any:
        return self._config.getoption("--tfs-backend") or self._config.getini("tfs_backend") or None

    def start(self, source: object, *, backend: str | None = None, **options: Any) -> ServerUnderTest:
        """A server of its own, or for a spec and `shared` the one that all workers share."""
        from deploy.testing.servers import start

        image = self._config.getoption("--tfs-image") or self._config.getini("tfs_image") or None
        chosen: Any = backend or self.backend
        return start(self.run(), source, backend=chosen, image=options.pop("image", image), **options)

    def serve(self, spec: Spec) -> ServerUnderTest:
        """The server of a spec: the one that the options name, else one that is started on first use and kept.

        One that couldn't be started isn't tried again: the first who asks gets the error, the others one line.
        """
        if spec.path in self._failed:
            pytest.fail(f"not asked: the server of {spec.path.name} didn't start; the first failure says why",
                        pytrace=False)
        if spec.path not in self._servers:
            self._failed.add(spec.path)
            self._servers[spec.path] = self.given(spec) or self.start(spec, shared=True)
            self._failed.remove(spec.path)
            self._kept.callback(self._servers[spec.path].close)
        return self._servers[spec.path]

    def given(self, spec: Spec) -> ServerUnderTest | None:
        """What the options name to be asked instead of a server of ours."""
        grpc, rest = self._config.getoption("--tfs-grpc"), self._config.getoption("--tfs-rest")
        if not (grpc or rest):
            return None
        from deploy.client import connect_to
        from deploy.testing.servers import ServerUnderTest

        return ServerUnderTest(spec, lambda: connect_to(grpc, rest, timeout=spec.smoke.timeout))

    def require(self, backend: BackendKind) -> None:
        """Skip the test, or fail it with --tfs-require, if servers can't run there."""
        from deploy.testing.servers import why_not

        if reason := why_not(backend):
            text = f"needs a server on backend {backend}: {reason}"
            if self._config.getoption("--tfs-require") or self._config.getini("tfs_require"):
                pytest.fail(text, pytrace=False)
            pytest.skip(text)

    # Hooks

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SpecNode | None:
        if file_path.absolute() not in self.specs:
            return None
        from deploy.testing.items import SpecNode

        node: SpecNode = SpecNode.from_parent(parent, path=file_path)
        node.serve, node.server = self.serve, self._config.getoption("--tfs-server")
        return node

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for marker in item.iter_markers("tfs_backend"):
            self.require(backend_of(marker))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of xdist starts: it takes part in this session's run."""
        node.workerinput[_RUN] = {"id": self._id, "owner": str(os.getpid())}

    def pytest_sessionfinish(self) -> None:
        if self._owner and self._run is not None:
            self._config.workeroutput[_RUN] = True  # type: ignore[attr-defined]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended: it may have started servers."""
        self._shared |= bool(error) or _RUN in getattr(node, "workeroutput", {})

    def pytest_unconfigure(self) -> None:
        """The servers end with the session; those of xdist's workers with the session that started them."""
        self._kept.close()
        if self._owner or not (self._run or self._shared):
            return
        from deploy.errors import DeployError
        from deploy.testing import runs

        try:
            run = self._run or runs.TestRun.read(runs.root() / self._id)
            if run is not None:
                run.end()
        except DeployError as e:
            sys.stderr.write(f"tfs: a server of this session couldn't be ended: {' '.join(str(e).split())}; once that "
                             "is mended, `tfs down --leftovers` ends it\n")


def backend_of(marker: pytest.Mark) -> BackendKind:
    """The one that a marker `tfs_backend` names. Fails the test for any other argument."""
    if marker.kwargs or len(marker.args) != 1 or marker.args[0] not in _MARKED:
        given = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
        pytest.fail(f"tfs_backend({given}): expected one of {', '.join(_MARKED)}", pytrace=False)
    backend: BackendKind = marker.args[0]
    return backend


def _of_worker(config: pytest.Config, key: str) -> str:
    return str(getattr(config, "workerinput", {}).get(_RUN, {}).get(key, ""))
