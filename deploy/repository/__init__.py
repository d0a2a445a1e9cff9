"""Versions at rest: staged, verified, shown by one atomic step, listed, and never changed.

    repository   Repository
    stored       a model's versions, one version, with their repository; where those of a served model are
    publishing   from a stage to a version
    stores/      where the files are: one protocol, a local directory, memory
    versions     a version in a listing; a version against its manifest
    facts        VersionFacts: what is known of a version, by its manifest, its recorded requests and its graph
    manifest     what a version is made of, kept inside it
    survey       what a directory holds, before a byte of it is read
    copying      one pass over the bytes: copied, hashed, made durable
    naming       what the names in a repository mean
    failures     what the operating system refuses, said in a sentence
"""

from __future__ import annotations

from deploy.repository.facts import VersionFacts, read_facts
from deploy.repository.manifest import FileRecord, Manifest, read_manifest
from deploy.repository.publishing import Published, VersionStage
from deploy.repository.repository import Repository
from deploy.repository.stored import ModelVersions, StoredVersion, versions_of
from deploy.repository.stores import Store
from deploy.repository.versions import VersionEntry

__all__ = ["FileRecord", "Manifest", "ModelVersions", "Published", "Repository", "Store", "StoredVersion",
           "VersionEntry", "VersionFacts", "VersionStage", "read_facts", "read_manifest", "versions_of"]
