"""Receipts: what was done to a version, as in-toto statements about the digest that its signatures are about.

    checked     the gate passed, and which findings were allowed: in-toto's test-result v0.1
    rollout     a release of it: from what, to what, which checks passed, who, when, how it ended

Signed where whoever did it has a key. The others say what happened, and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from deploy import locks, signing
from deploy.errors import Malformed
from deploy.repository import Manifest, Repository
from deploy.repository.stores.attachments import STATEMENT, Attachment
from deploy.signing import statements
from deploy.signing.envelope import SignatureBundle, Statement
from deploy.state import Release
from deploy.types import ModelVersion
from deploy.version import __version__

if TYPE_CHECKING:
    from deploy.signing.keys import Signer

CHECKED = "https://in-toto.io/attestation/test-result/v0.1"
ROLLOUT = "urn:tfs-deploy:rollout:v1"
_KINDS = {CHECKED: "checked", ROLLOUT: "rollout"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done to a version.

    kind: checked, rollout, or the predicate type of another tool's statement. at: ISO 8601, UTC. by: user and host.
    result: how it ended. passed: what was looked at and is fine. notes: warnings, allowances, reasons.
    key_hint: of the key that signed it; empty for nobody. Whether that one is trusted isn't said here.
    """

    kind: str
    at: str
    by: str
    result: str
    passed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    key_hint: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"kind": self.kind, "at": self.at, "by": self.by, "result": self.result, "passed": list(self.passed),
                "notes": list(self.notes), "key_hint": self.key_hint}


def checked(repository: Repository, mv: ModelVersion, *, passed: Iterable[str], notes: Iterable[str] = (),
            signer: Signer | None = None) -> None:
    """Note that a version passed the gate. passed: what was looked at. notes: warnings, and allowances with reasons.

    Raises RepositoryError where it can't be written down.
    """
    warned = list(notes)
    predicate = {"result": "WARNED" if warned else "PASSED", "configuration": [{"name": f"tfs-deploy {__version__}"}],
                 "passedTests": list(passed), "warnedTests": warned, "failedTests": [],
                 "at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "by": locks.whoami()["by"]}
    _record(repository, mv, CHECKED, predicate, signer)


def released(repository: Repository, mv: ModelVersion, release: Release, *, server: str, verdicts: Mapping[str, str],
             signer: Signer | None = None) -> None:
    """Note a release of a version that has ended. server: its name. verdicts: what each check found. As `checked`."""
    predicate = {"server": server, "kind": release.kind, "release": release.id, "before": release.before.to_json(),
                 "goal": release.goal.to_json(), "outcome": release.outcome, "reason": release.reason,
                 "passed": {check: verdicts.get(check, "") for check in release.passed}, "note": release.note,
                 "began": release.began, "at": release.ended, "by": str(release.by.get("by", "unknown"))}
    _record(repository, mv, ROLLOUT, predicate, signer)


def receipts_of(repository: Repository, mv: ModelVersion) -> list[Receipt]:
    """All receipts of a version, oldest first. What can't be read, or is about other files, is left out: anybody who
    can write beside a version may have put it there. Raises VersionNotFound, RepositoryError."""
    receipts: list[Receipt] = []
    attachments = repository.attachments(mv)
    known = _known(repository, mv) if attachments else {}
    for attachment in attachments:
        with suppress(Malformed):
            statement, hint = _statement(attachment)
            same = all(known.get(name, value) == value for name, value in statement.digests.items())
            if statement.predicate_type != statements.SIGNATURE_TYPE and same:
                receipts.append(_receipt(statement, hint))
    return sorted(receipts, key=lambda receipt: receipt.at)


def _record(repository: Repository, mv: ModelVersion, kind: str, predicate: Mapping[str, Any], signer: Signer | None
            ) -> None:
    statement = Statement(str(mv), _digests(repository, mv), kind, predicate)
    attachment = Attachment(STATEMENT, statement.to_bytes()) if signer is None else \
        signing.sign_statement(statement, signer).attachment()
    repository.attach(mv, attachment)


def _digests(repository: Repository, mv: ModelVersion) -> dict[str, str]:
    """What a version is called by. Its files are read if it has neither a manifest nor a signature."""
    return _known(repository, mv) or {
        statements.ALGORITHM: statements.root_digest(signing.file_digests(repository, mv))}


def _known(repository: Repository, mv: ModelVersion) -> dict[str, str]:
    """Its manifest's digest, and that of its signatures, without reading its files."""
    manifest: Manifest | None = repository.find_manifest(mv)
    digests = statements.manifest_digest(manifest)
    for bundle in signing.signatures_of(repository, mv):
        signed = bundle.statement().digests
        if all(signed.get(name) == value for name, value in digests.items()):
            return {**signed, **digests}
    return digests


def _statement(attachment: Attachment) -> tuple[Statement, str]:
    """What is said, and the hint of the key that has signed it."""
    where = "a receipt"
    if attachment.media_type == STATEMENT:
        return Statement.from_bytes(attachment.data, where), ""
    bundle = SignatureBundle.from_bytes(attachment.data, where)
    return bundle.statement(where), bundle.key_hint or "a certificate"


def _receipt(statement: Statement, hint: str) -> Receipt:
    data = statement.predicate
    passed, notes = data.get("passedTests", ()), data.get("warnedTests", ())
    result = str(data.get("result", ""))
    if statement.predicate_type == ROLLOUT:
        passed = [f"{check}: {verdict}" if verdict else check for check, verdict in _items(data.get("passed"))]
        notes = [note for note in (data.get("reason"), data.get("note")) if note]
        result = f"{data.get('kind', '')} on {data.get('server', '')} {data.get('outcome', '')}"
    return Receipt(_KINDS.get(statement.predicate_type, statement.predicate_type), str(data.get("at", "")),
                   str(data.get("by", "")), result.lower(), _texts(passed), _texts(notes), hint)


def _items(value: object) -> Iterable[tuple[object, object]]:
    return value.items() if isinstance(value, dict) else ()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
