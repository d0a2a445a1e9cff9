"""What is known of a version, to compare what is served with: from the repository, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.errors import VersionNotFound
from deploy.goldens.compare import Tolerance, narrowest
from deploy.goldens.recorded import Golden
from deploy.repository import Repository, versions_of
from deploy.types import Contract, ModelVersion, ServedModel, TensorSpec


@dataclass(frozen=True, slots=True)
class Known:
    """A version as it was published.

    tolerances: `default`, a signature, or `signature/output` -> Tolerance.
    features: what the graph wants of string inputs that it parses as tf.Example, see savedmodel.examples.
    """

    contract: Contract | None = None
    goldens: Sequence[Golden] = ()
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    features: Mapping[str, Sequence[TensorSpec]] = field(default_factory=dict)

    def tolerance(self, signature: str, output: str) -> Tolerance:
        """The narrowest entry that applies."""
        return narrowest(self.tolerances, signature, output)


Source = Callable[[ModelVersion], "Known | None"]
"""None for a version that nothing is known of."""


def nothing(_: ModelVersion) -> None:
    """The source for servers whose repository isn't at hand."""


def from_models(models: Iterable[ServedModel], *, tflite: bool = False) -> Source:
    """As `from_repository`, of served models: each has its own base path, and perhaps another name there."""
    kept = {model.name: versions_of(model) for model in models}

    def known(mv: ModelVersion) -> Known | None:
        versions = kept.get(mv.name)
        if versions is None or not versions.here:
            return None
        return from_repository(versions.repository, tflite=tflite)(versions.version(mv.version).mv)

    return known


def from_repository(repository: Repository, *, tflite: bool = False) -> Source:
    """Contract, goldens and tolerances as published. Versions of other tools: the contract of their saved_model.pb.

    tflite: the server prefers the model.tflite of a version that has one.
    """
    from deploy import goldens, savedmodel
    from deploy.savedmodel.tflite_serving import served_beside

    def known(mv: ModelVersion) -> Known | None:
        try:
            path = repository.path(mv)
        except VersionNotFound:
            return None
        manifest = repository.find_manifest(mv)
        info = savedmodel.read(path)
        contract = manifest.contract if manifest else info.contract
        return Known(served_beside(path, contract) if tflite else contract, tuple(goldens.read(path)),
                     manifest.limits(tflite=tflite) if manifest else {}, info.features)

    return known
