"""A version's bill of materials: CycloneDX 1.6 with a model card (an ML-BOM), as JSON data."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy import signing
from deploy.repository import Manifest, Repository
from deploy.types import Contract, ModelVersion, TensorSpec
from deploy.version import __version__

_ALGORITHMS = {"blake3": "BLAKE3", "sha256": "SHA-256"}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:tfs-deploy:bom")
_FRAMEWORKS = {"tensorflow", "keras", "jax", "tf_keras"}


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a bill says. files: path -> hexadecimal. digest: of all of them; empty if nobody has published it."""

    algorithm: str
    files: Mapping[str, str]
    contract: Contract
    digest: str = ""
    manifest: Manifest | None = None


def ml_bom(repository: Repository, mv: ModelVersion) -> dict[str, Any]:
    """The bill of a version: its files with their digests, what made it, what it takes and answers, who has signed it.

    The same for the same version and signatures. A version that this toolkit hasn't published is read to be hashed.
    Raises VersionNotFound, RepositoryError.
    """
    contents = _contents(repository, mv)
    manifest, root = contents.manifest, f"{mv.name}@{mv.version}"
    tools = [{"type": "application", "name": "tfs-deploy", "version": __version__}]
    metadata = {"tools": {"components": tools}, "component": _model(repository, mv, contents, root)}
    producers = [_producer(name, version) for name, version in (manifest.producer if manifest else {}).items()
                 if name in _FRAMEWORKS or name == "tfs_deploy"]
    number = uuid.uuid5(_NAMESPACE, _identity(contents))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX",
            "specVersion": "1.6", "version": 1, "serialNumber": f"urn:uuid:{number}",
            "metadata": {**({"timestamp": manifest.created} if manifest else {}), **metadata}, "components": producers,
            "dependencies": [{"ref": root, "dependsOn": [part["bom-ref"] for part in producers]},
                             *({"ref": part["bom-ref"]} for part in producers)]}


def _contents(repository: Repository, mv: ModelVersion) -> _Contents:
    manifest = repository.find_manifest(mv)
    if manifest is not None:
        files = {path: record.digest for path, record in sorted(manifest.files.items())}
        return _Contents(manifest.algorithm, files, manifest.contract, manifest.digest, manifest)
    contract = repository.facts(mv).contract
    return _Contents("sha256", signing.file_digests(repository, mv), contract or Contract(()))


def _identity(contents: _Contents) -> str:
    name = str(contents.manifest.model_version) if contents.manifest else ""
    return "\0".join([name, *(f"{path}\0{digest}" for path, digest in contents.files.items())])


def _model(repository: Repository, mv: ModelVersion, contents: _Contents, ref: str) -> dict[str, Any]:
    files = [{"type": "file", "bom-ref": f"{ref}/{path}", "name": path,
              "hashes": [{"alg": _ALGORITHMS[contents.algorithm], "content": digest}]}
             for path, digest in contents.files.items()]
    return {"type": "machine-learning-model", "bom-ref": ref, "name": mv.name, "version": str(mv.version),
            "modelCard": {"modelParameters": {
                "inputs": [{"format": text} for text in _tensors(contents.contract, inputs=True)],
                "outputs": [{"format": text} for text in _tensors(contents.contract, inputs=False)]}},
            "properties": [{"name": name, "value": value} for name, value in _properties(repository, mv, contents)],
            "components": files}


def _tensors(contract: Contract, *, inputs: bool) -> Iterator[str]:
    """`serving_default: x: float32[?, 784]`."""
    for name, signature in contract.items():
        specs: tuple[TensorSpec, ...] = signature.inputs if inputs else signature.outputs
        yield from (f"{name}: {spec}" for spec in specs)


def _properties(repository: Repository, mv: ModelVersion, contents: _Contents) -> Iterator[tuple[str, str]]:
    if contents.manifest is not None:
        yield "tfs-deploy:digest", contents.digest
        yield "tfs-deploy:size", str(contents.manifest.size)
        yield "tfs-deploy:goldens", str(contents.manifest.goldens)
        yield from (("tfs-deploy:recipe", str(record)) for record in contents.manifest.recipes)
        known = {*_FRAMEWORKS, "tfs_deploy"}
        yield from ((f"tfs-deploy:producer:{name}", value) for name, value in contents.manifest.producer.items()
                    if name not in known)
    for bundle in signing.signatures_of(repository, mv):
        yield "tfs-deploy:signed-by-key", bundle.key_hint or "certificate"


def _producer(name: str, version: str) -> dict[str, Any]:
    kind = "framework" if name in _FRAMEWORKS else "application"
    return {"type": kind, "bom-ref": f"{name}@{version}", "name": name.replace("tfs_deploy", "tfs-deploy"),
            "version": version}
