"""Assertions about what is served, with messages that say what is different, and how to see it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploy.client import Client
from deploy.client.interfaces import Inputs
from deploy.export import Exported
from deploy.goldens.compare import differences
from deploy.goldens.tolerances import Tolerance
from deploy.inspection import inspect
from deploy.regression import ComparedVersion, compare
from deploy.savedmodel import contract_differences
from deploy.savedmodel.signatures import Level
from deploy.types import DEFAULT_SIGNATURE, Contract
from deploy.wire.dtypes import Array, Arrays

if TYPE_CHECKING:
    from deploy.testing.echo import Running
    from deploy.testing.servers import ServerUnderTest

_SHOWN = 6  # values of an output that a message lists


def assert_predicts(server: Client | ServerUnderTest | Running, model: str, inputs: Inputs,
                    outputs: Mapping[str, object], *, signature: str = DEFAULT_SIGNATURE, rtol: float = 1e-4,
                    atol: float = 1e-5) -> None:
    """Over each protocol that the server offers, `model` answers `inputs` with `outputs`.

    model: `ranking`, `ranking/3`, `ranking@stable`. inputs, outputs: arrays or nested lists by name; outputs that
    aren't named here aren't looked at. rtol, atol: for floats, of the expected value and absolute; the rest has to be
    equal. Raises AssertionError, BadRequest for inputs that the signature doesn't take, ClientError for others.
    """
    connected = _client(server)
    for protocol, one in (("gRPC", connected.rpc), ("REST", connected.rest)):
        if one is None:
            continue
        live = one.predict(model, inputs, signature=signature)
        expected = {name: _like(value, live.get(name)) for name, value in outputs.items()}
        actual = {name: array for name, array in live.items() if name in expected}
        wrong = differences(signature, expected, actual, {"default": Tolerance(atol, rtol)})
        if wrong:
            raise AssertionError("\n".join((
                f"{model} answers otherwise over {protocol} (rtol {rtol:g}, atol {atol:g}):",
                *(f"  {sentence}" for sentence in wrong), *_values(expected, actual),
                f"  the answer has {', '.join(map(repr, live)) or 'no outputs'}")))


def assert_contract(server: Client | ServerUnderTest | Running, model: str, expected: Contract | str | Path) -> None:
    """The live signatures of `model` are these, with names, dtypes and shapes, over each protocol that is offered.

    expected: a contract, or the directory of a version or SavedModel that has it. Raises AssertionError, ClientError,
    IncompleteVersion if the directory has none.
    """
    contract = expected if isinstance(expected, Contract) else inspect(expected).contract
    connected = _client(server)
    for protocol, one in (("gRPC", connected.rpc), ("REST", connected.rest)):
        if one is not None and (wrong := contract_differences(contract, one.metadata(model).contract)):
            raise AssertionError("\n".join((f"{model} has another contract over {protocol}:",
                                            *(f"  {sentence}" for sentence in wrong))))


def assert_no_breaking_change(old: str | Path | Exported, new: str | Path | Exported, *, review: bool = False,
                              answers: bool = False) -> None:
    """`new` may take the place of `old`, as `tfs diff` judges: signatures, graph, assets.

    old, new: directories of versions or SavedModels, or what `export_model` returned. review: changes that somebody has
    to look at are refused as well. answers: also run both, and compare their answers to the goldens of `old`.
    Raises AssertionError, IncompleteVersion, RepositoryError; with answers also CheckFailed, EngineError.
    """
    before, after = (ComparedVersion.of(_directory(each)) for each in (old, new))
    compared = compare(before, after, answers=answers)
    if compared.level >= (Level.REVIEW if review else Level.BREAKING):
        drift = [] if compared.drift is None or compared.drift.within else ["answers differ by more than they may"]
        raise AssertionError("\n".join((f"{after.name} can't take the place of {before.name}: {compared.level}",
                                        *(f"  {reason}" for reason in compared.verdict.reasons),
                                        *(f"  {sentence}" for sentence in drift))))


def _directory(version: str | Path | Exported) -> Path:
    return version.path if isinstance(version, Exported) else Path(version)


def _client(server: Client | ServerUnderTest | Running) -> Client:
    return server if isinstance(server, Client) else server.client


def _like(value: object, live: Array | None) -> Array:
    """What is expected as an array; of the live dtype if only Python's numbers and strings were given."""
    if live is None or isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if live.dtype.kind == "O":
        return np.array(np.vectorize(_encoded, otypes=[object])(np.asarray(value, object)), object)
    return np.asarray(value, live.dtype)


def _encoded(text: object) -> object:
    return text.encode() if isinstance(text, str) else text


def _values(expected: Arrays, actual: Arrays) -> list[str]:
    """The first values that differ, beside each other."""
    lines: list[str] = []
    for name, wanted in expected.items():
        live = actual.get(name)
        if live is None or live.shape != wanted.shape or not live.size:
            continue
        apart = np.argwhere(np.atleast_1d(live != wanted))
        lines += [f"  {name}{[int(i) for i in index]}  expected {np.atleast_1d(wanted)[tuple(index)]!s:<14} "
                  f"got {np.atleast_1d(live)[tuple(index)]!s}" for index in apart[:_SHOWN]]
    return lines
