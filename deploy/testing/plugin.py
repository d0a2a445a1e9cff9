"""The pytest plugin: fixtures that serve models, and `pytest --tfs serving.yaml`, where each smoke check is a test.

pytest loads this in every session, so nothing else is imported before somebody uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

from deploy.testing.session import BACKENDS, PluginSession, backend_of

if TYPE_CHECKING:
    from deploy.client import Client
    from deploy.export import Exported
    from deploy.repository import Repository
    from deploy.testing.echo import Running
    from deploy.testing.servers import ServerUnderTest

Scope = Literal["session", "package", "module", "class", "function"]
_MARKERS = (
    "tfs_backend(name): needs a server on this backend; skipped where it can't run, an error with --tfs-require",
    "tfs_smoke: a smoke check of `pytest --tfs`",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tfs", "TensorFlow Serving")
    group.addoption("--tfs", action="append", metavar="SPEC", default=[],
                    help="a serving.yaml: start its server, and run each of its smoke checks as a test")
    group.addoption("--tfs-backend", choices=BACKENDS, help="where servers run, instead of what the spec says")
    group.addoption("--tfs-server", metavar="NAME", default="", help="of a spec with several servers, the one to test")
    group.addoption("--tfs-image", metavar="IMAGE", help="the serving image, instead of the spec's")
    group.addoption("--tfs-grpc", metavar="HOST:PORT", help="ask this server instead of starting one; see --tfs-rest")
    group.addoption("--tfs-rest", metavar="URL", help="ask this server instead of starting one; see --tfs-grpc")
    group.addoption("--tfs-require", action="store_true", default=False,
                    help="a backend that a test needs and that can't run here is an error, not a skip")
    parser.addini("tfs_spec", "serving.yaml files, as --tfs", type="paths", default=[])
    parser.addini("tfs_backend", "as --tfs-backend")
    parser.addini("tfs_image", "as --tfs-image")
    parser.addini("tfs_require", "as --tfs-require", type="bool", default=False)
    parser.addini("tfs_server_scope", "scope of tfs_server and tfs_client", default="session")


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    for name, allowed in (("tfs_backend", ("", *BACKENDS)), ("tfs_server_scope", get_args(Scope))):
        if (value := config.getini(name)) not in allowed:
            raise pytest.UsageError(f"{name} = {value}: expected one of {', '.join(filter(None, allowed))}; look into "
                                    "pytest.ini or pyproject.toml")
    session = PluginSession(config)
    for path in session.specs:
        if not path.is_file():
            raise pytest.UsageError(f"--tfs {path}: there is no such file; name a serving.yaml (tfs init writes one)")
        if config.getoption("numprocesses", None):  # workers would go on, and every test that wants it would fail
            from deploy.testing.sources import readable
            readable(path, pytest.UsageError, config.getoption("--tfs-server"))
    config.pluginmanager.register(session, "tfs-session")
    # Collected like a file that was named, unless it is found on the way; a worker of xdist has been told already.
    # pytest up to 8.4 drops other files where both a directory and a file in it are named
    base = config.invocation_params.dir
    given = [Path(os.path.normpath(base / arg.split("::")[0])) for arg in config.args]
    config.args += [str(path) for path in session.specs if not any(path.is_relative_to(place) for place in given)]


def _session(config: pytest.Config) -> PluginSession:
    session = config.pluginmanager.get_plugin("tfs-session")
    assert isinstance(session, PluginSession)
    return session


def _scope(fixture_name: str, config: pytest.Config) -> Scope:  # noqa: ARG001
    scope: Scope = config.getini("tfs_server_scope")
    return scope


@contextmanager
def _serving(config: pytest.Config, source: object, **options: Any) -> Iterator[ServerUnderTest]:
    server = _session(config).start(source, **options)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _as_fixture(config: pytest.Config, source: object, **options: Any) -> Iterator[ServerUnderTest]:
    with ExitStack() as started:
        with _in_one_sentence():
            server = started.enter_context(_serving(config, source, **options))
        yield server


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What keeps a server from starting, without a traceback: no line of the test has to do with it."""
    from deploy.errors import DeployError

    try:
        yield
    except DeployError as e:
        from deploy.testing.items import with_evidence

        pytest.fail(with_evidence(e), pytrace=False)


@pytest.fixture(scope=_scope)
def tfs_source(pytestconfig: pytest.Config) -> object:
    """What `tfs_server` serves: the spec of --tfs or `tfs_spec`. Override it, with at least the scope of tfs_server
    (`session` if `tfs_server_scope` isn't set), to serve something else."""
    session = _session(pytestconfig)
    default = pytestconfig.rootpath / "serving.yaml"
    specs = session.specs or ((default,) if default.exists() else ())
    if len(specs) != 1:
        pytest.fail(
            f"tfs_server doesn't know what to serve: {len(specs)} specs are named; give one with --tfs or `tfs_spec`, "
            "put a serving.yaml into the root directory, or define a fixture `tfs_source` with "
            f"@pytest.fixture(scope=\"{_scope('', pytestconfig)}\") that returns a spec, a repository, a SavedModel "
            "directory or a model", pytrace=False)
    return specs[0]


@pytest.fixture(scope=_scope)
def tfs_server(pytestconfig: pytest.Config, tfs_source: object) -> Iterator[ServerUnderTest]:
    """A server of what `tfs_source` returns, ready: endpoint, client, spec, logs(), smoke_test()."""
    session = _session(pytestconfig)
    yaml = isinstance(tfs_source, str | Path) and Path(tfs_source).suffix in (".yaml", ".yml")
    if not yaml:
        with _as_fixture(pytestconfig, tfs_source) as server:
            yield server
        return
    from deploy.testing.sources import readable

    spec = readable(str(tfs_source), lambda why: pytest.fail.Exception(why, pytrace=False),
                    pytestconfig.getoption("--tfs-server"))
    if _scope("", pytestconfig) == "session":  # shared by all workers, and ended with the run
        with _in_one_sentence():
            server = session.serve(spec)
        yield server
    elif (given := session.given(spec)) is not None:
        with closing(given):
            yield given
    else:
        with _as_fixture(pytestconfig, spec) as server:
            yield server


@pytest.fixture(scope=_scope)
def tfs_client(tfs_server: ServerUnderTest) -> Client:
    """A client of `tfs_server`: numpy arrays in and out."""
    return tfs_server.client


def server_fixture(source: object, *, scope: Scope = "session", backend: str | None = None, image: str | None = None,
                   name: str = "", labels: Mapping[str, Mapping[str, int]] | None = None) -> Any:
    """A fixture with a server of its own, as in `ranking = server_fixture("serving.yaml", scope="module")`.

    source: as for start_server, or a function without arguments that returns it when the fixture is needed.
    scope: how long the server lives. backend, image, name, labels: as for start_server.
    """
    @pytest.fixture(scope=scope)
    def server(pytestconfig: pytest.Config) -> Iterator[ServerUnderTest]:
        from types import FunctionType

        directory = source() if isinstance(source, FunctionType) and not source.__code__.co_argcount else source
        options = {"image": image} if image else {}
        with _as_fixture(pytestconfig, directory, backend=backend, name=name, labels=labels, **options) as started:
            yield started

    return server


@pytest.fixture
def tfs_start(request: pytest.FixtureRequest) -> Iterator[Callable[..., ServerUnderTest]]:
    """A function as start_server, for servers that end with the test. On the backend of its mark `tfs_backend`."""
    marker = request.node.get_closest_marker("tfs_backend")
    backend = backend_of(marker) if marker else None
    with ExitStack() as started:
        yield lambda source, **options: started.enter_context(
            _serving(request.config, source, **{"backend": backend, **options}))


@pytest.fixture
def tfs_models() -> Mapping[str, object]:
    """Models that `tfs_repository` starts with: name -> model, or a list of them for versions 1, 2, ... Override it."""
    return {}


@pytest.fixture
def tfs_repository(tmp_path: Path, tfs_models: Mapping[str, object]) -> Repository:
    """A repository in a temporary directory, with what `tfs_models` returns."""
    from deploy.repository import Repository
    from deploy.testing.sources import publish

    repository = tmp_path / "models"
    repository.mkdir()
    for name, model in tfs_models.items():
        publish(model, name, repository)
    return Repository(repository)


@pytest.fixture
def tfs_export(tfs_repository: Repository) -> Callable[..., Exported]:
    """`tfs_export(model, "name", ...)`: as deploy.export_model, into `tfs_repository`."""
    from deploy.export import export_model

    def export(model: object, name: str, version: int | None = None, **options: Any) -> Exported:
        return export_model(model, tfs_repository, name, version, **options)

    return export


@pytest.fixture
def tfs_echo() -> Iterator[Callable[..., Running]]:
    """`tfs_echo({"half": {1: lambda inputs: {...}}})`: a server in this process, without TensorFlow."""
    from deploy.testing.echo import serve

    with ExitStack() as started:
        yield lambda models, **options: started.enter_context(serve(models, **options))
