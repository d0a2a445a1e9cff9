"""What is known of a version before anybody asks it: by its manifest, its recorded requests, and its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import goldens, savedmodel
from deploy.errors import BadReply, Malformed
from deploy.goldens.tolerances import Tolerances
from deploy.repository.manifest import read_manifest
from deploy.types import Contract, TensorSpec

if TYPE_CHECKING:
    from deploy.goldens import Golden
    from deploy.savedmodel import SavedModelInfo


@dataclass(frozen=True)
class VersionFacts:
    """A version as it lies there. The empty one: nothing is known, as of a server whose repository isn't at hand.

    contract: as published; of another tool's version that of its saved_model.pb; None: unknown.
    goldens: recorded requests with their answers, each with the tolerances of the version.
    tolerances: as published, by `default`, signature, or `signature/output`.
    digest: of all files, as published; empty for another tool's version.
    skipped: recorded requests without an answer, which only warm a server up.
    graph: reads saved_model.pb, for what only the graph knows.
    """

    contract: Contract | None = None
    goldens: Sequence[Golden] = ()
    tolerances: Tolerances = field(default_factory=dict)
    digest: str = ""
    skipped: int = 0
    graph: Callable[[], SavedModelInfo] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def features(self) -> Mapping[str, Sequence[TensorSpec]]:
        """What the graph wants of each string input that it parses as tf.Example; `examples.generate` takes it.

        Read when it is first asked for, since graphs may be large. Raises IncompleteVersion for a damaged one.
        """
        return self.graph().features if self.graph else {}

    @property
    def published(self) -> bool:
        """By this toolkit, so that its answers were checked when it was made."""
        return bool(self.digest)


def read_facts(directory: str | Path, *, tflite: bool = False) -> VersionFacts:
    """What the version in a directory says of itself.

    tflite: for a server that prefers the version's model.tflite: the signatures that it sees there, and their
        tolerances.
    Raises RepositoryError for whatever is there and can't be read: Malformed for a manifest, recorded requests or a
    model.tflite that are damaged, IncompleteVersion for a SavedModel.
    """
    directory = Path(directory)
    graph = cache(lambda: savedmodel.read(directory))
    manifest, recorded = read_manifest(directory), goldens.scan(directory)
    contract = manifest.contract if manifest else graph().contract
    if tflite:
        try:
            contract = savedmodel.served_beside(directory, contract)
        except BadReply as error:
            raise Malformed(f"{directory}: {error.message}", hint=error.hint or "export the version again") from error
    limits = manifest.limits(tflite=tflite) if manifest else {}
    return VersionFacts(contract, tuple(replace(golden, tolerances=limits) for golden in recorded.goldens), limits,
                        manifest.digest if manifest else "", recorded.skipped, graph)
