"""Versions at rest: staged, verified, shown by one atomic step, listed, and never changed.

    repository   Repository
    stored       a model's versions, one version, with their repository; where those of a served model are
    publishing   from a stage to a version
    mirroring    versions from one repository to another, byte for byte
    stores/      where the files are: one protocol, a local directory, memory
    versions     one version: in a listing, against its manifest; VersionFacts: what is known of it
    manifest     what a version is made of, kept inside it
    listing      which versions a store has
    outlines     a version that is elsewhere, without its weights
    survey       what a directory holds, before a byte of it is read
    copying      one pass over the bytes: copied, hashed, made durable
    naming       what the names in a repository mean
    failures     what the operating system refuses, said in a sentence
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
