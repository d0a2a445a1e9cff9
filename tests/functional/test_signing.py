"""Signatures: ours and OpenSSF model signing's own, both ways; and everything that isn't one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import model_signing
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deploy
from deploy import Repository, signing
from deploy.errors import DigestMismatch, Malformed, RepositoryError, SpecError, Untrusted
from deploy.repository.stores.attachments import BUNDLE, Attachment
from deploy.repository.stores.conditional import MemoryStore
from deploy.signing import SignatureBundle, TrustedSigners, statements
from deploy.types import ModelVersion
from tests.support.repository import savedmodel
from tests.support.signing import DAY, NOW, Certified, key_pair

ONE = ModelVersion("m", 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3))
STATEMENTS = JSON | st.fixed_dictionaries({"_type": st.just("https://in-toto.io/Statement/v1"), "subject": JSON,
                                           "predicateType": JSON, "predicate": JSON})
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A directory with m/1."""
    repo = Repository(tmp_path / "models")
    repo.publish(savedmodel(tmp_path / "source", weights=5000), "m")
    return repo


def bundle_file(repo: Repository, where: Path, mv: ModelVersion = ONE) -> Path:
    where.write_bytes(repo.attachments(mv)[-1].data)
    return where


# -- both ways

@pytest.mark.parametrize("curve", CURVES)
def test_model_signing_verifies_ours(repo: Repository, tmp_path: Path, curve: str) -> None:
    pair = key_pair(tmp_path, curve=CURVES[curve])
    deploy.sign(repo, ONE, pair.key)
    signature = bundle_file(repo, tmp_path / "model.sig")
    official = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=pair.public)
    official.verify(repo.path(ONE), signature)
    (repo.path(ONE) / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(ValueError, match="Signature mismatch"):
        official.verify(repo.path(ONE), signature)


@pytest.mark.parametrize("curve", CURVES)
def test_we_verify_model_signings(repo: Repository, tmp_path: Path, curve: str) -> None:
    pair, directory, signature = key_pair(tmp_path, curve=CURVES[curve]), tmp_path / "source", tmp_path / "model.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=pair.key).sign(directory, signature)
    signed = signing.verify_directory(directory, signature, [pair.public])
    assert signed.signer == "the key signer.pub" and signed.files == 2
    model_signing.signing.Config().use_elliptic_key_signer(private_key=pair.key).sign(repo.path(ONE), signature)
    repo.attach(ONE, Attachment(BUNDLE, signature.read_bytes()))
    assert deploy.verify_signature(repo, ONE, [pair.public]).files == 3


def test_certificates_both_ways(repo: Repository, tmp_path: Path) -> None:
    root = Certified.by(None, tmp_path, "root", ca=True)
    between = Certified.by(root, tmp_path, "between", ca=True)
    leaf = Certified.by(between, tmp_path, "leaf")
    chain = [leaf.certificate, between.certificate]
    deploy.sign(repo, ONE, deploy.load_signer(leaf.key, chain))
    model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[root.certificate]).verify(
        repo.path(ONE), bundle_file(repo, tmp_path / "ours.sig"))
    assert deploy.verify_signature(repo, ONE, [root.certificate]).signer == "CN=leaf, certified by CN=between"
    for trusted in chain:
        assert "CN=" in deploy.verify_signature(repo, ONE, [trusted]).signer
    model_signing.signing.Config().use_certificate_signer(
        private_key=leaf.key, signing_certificate=leaf.certificate, certificate_chain=[between.certificate]).sign(
        tmp_path / "source", tmp_path / "theirs.sig")
    signed = signing.verify_directory(tmp_path / "source", tmp_path / "theirs.sig", [root.certificate])
    assert signed.signer == "CN=leaf, certified by CN=between"


def test_their_signature_inside_the_directory_and_their_gits_files(tmp_path: Path) -> None:
    pair, directory = key_pair(tmp_path), savedmodel(tmp_path / "source")
    (directory / ".gitattributes").write_text("*.pb binary\n")
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[directory / "model.sig"])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=pair.key).set_hashing_config(hashing).sign(
        directory, directory / "model.sig")
    assert signing.verify_directory(directory, directory / "model.sig", [pair.public]).files == 1
    (directory / "added").write_text("not signed")
    with pytest.raises(DigestMismatch, match="not signed: added"):
        signing.verify_directory(directory, directory / "model.sig", [pair.public])


# -- versions

def test_a_signature_leaves_the_version_as_it_is_and_no_server_sees_it(repo: Repository, tmp_path: Path) -> None:
    before = sorted(path for path in (tmp_path / "models" / "m").rglob("*"))
    deploy.sign(repo, ONE, key_pair(tmp_path).key)
    assert sorted(path for path in (tmp_path / "models" / "m").rglob("*")) == before
    assert repo.models() == ["m"] and repo.versions("m") == [1] and repo.next_version("m") == 2
    assert repo.clean(0) == [] and len(repo.attachments(ONE)) == 1
    (kept,) = (tmp_path / "models" / ".tfs" / ".attached" / "m" / "1").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o644


def test_one_of_several_signers_is_enough(repo: Repository, tmp_path: Path) -> None:
    pairs = [key_pair(tmp_path, name) for name in ("ann", "bob", "eve")]
    for pair in pairs[:2]:
        deploy.sign(repo, ONE, pair.key)
    assert deploy.verify_signature(repo, ONE, [pairs[0].public]).signer == "the key ann.pub"
    assert deploy.verify_signature(repo, ONE, [pairs[2].public, pairs[1].public]).signer == "the key bob.pub"
    with pytest.raises(Untrusted, match=r"^m/1 is signed by the key \w{16}, which isn't trusted; trusted: eve.pub"):
        deploy.verify_signature(repo, ONE, [pairs[2].public])


def test_in_memory_and_as_a_copy_on_this_machine(tmp_path: Path) -> None:
    repo, pair = Repository(MemoryStore()), key_pair(tmp_path)
    repo.publish(savedmodel(tmp_path / "source", weights=5000), "m")
    deploy.sign(repo, ONE, pair.key)
    assert deploy.verify_signature(repo, ONE, [pair.public]).files == 3
    copy = tmp_path / "staged"
    for item in repo.store.list("m/1", deep=True):
        target = copy / item.name.removeprefix("m/1/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(repo.store.open(item.name).read())
    assert signing.require_signed(repo, ONE, [pair.public], at=copy)
    (copy / "saved_model.pb").write_bytes(b"changed on the way")
    with pytest.raises(DigestMismatch, match=r"m/1 isn't what was signed: changed: saved_model\.pb"):
        signing.require_signed(repo, ONE, [pair.public], at=copy)
    assert signing.require_signed(repo, ONE, []) is None


def test_a_key_elsewhere_is_a_callable(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path, curve=ec.SECP384R1())
    real = deploy.load_signer(pair.key)
    deploy.sign(repo, ONE, deploy.Signer(pair.public.read_bytes(), real.sign))
    assert deploy.verify_signature(repo, ONE, [pair.public])
    other = key_pair(tmp_path, "other").public.read_bytes()
    with pytest.raises(SpecError, match="its own public key doesn't accept"):
        deploy.sign(repo, ONE, deploy.Signer(other, real.sign))

    def away(_: bytes) -> bytes:
        raise ConnectionError("the token is out")

    with pytest.raises(RepositoryError, match=r"m/1 isn't signed: the signer failed with ConnectionError: the token"):
        deploy.sign(repo, ONE, deploy.Signer(pair.public.read_bytes(), away))
    assert len(repo.attachments(ONE)) == 1


# -- what isn't as signed

def test_files_changed_added_or_gone(repo: Repository, tmp_path: Path) -> None:
    pair, path = key_pair(tmp_path), repo.path(ONE)
    deploy.sign(repo, ONE, pair.key)
    (path / "assets" / "weights.bin").write_bytes(b"x" * 5000)
    (path / "added.pb").write_bytes(b"x")
    (path / "saved_model.pb").unlink()
    with pytest.raises(DigestMismatch) as caught:
        deploy.verify_signature(repo, ONE, [pair.public])
    assert caught.value.message == ("m/1 isn't what was signed: missing: saved_model.pb; not signed: added.pb; "
                                    "changed: assets/weights.bin")


def test_what_was_changed_isnt_signed(repo: Repository, tmp_path: Path) -> None:
    (repo.path(ONE) / "assets" / "weights.bin").write_bytes(b"x" * 5000)
    with pytest.raises(DigestMismatch):
        deploy.sign(repo, ONE, key_pair(tmp_path).key)
    assert repo.attachments(ONE) == []


def test_unsigned(repo: Repository, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match=r"m/1 in .*/models isn't signed; .*tfs sign m/1"):
        deploy.verify_signature(repo, ONE, [key_pair(tmp_path).public])


def test_the_signature_of_another_version(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    repo.publish(tmp_path / "source", "m")
    bundle = deploy.sign(repo, ONE, pair.key)
    two = ModelVersion("m", 2)
    repo.attach(two, bundle.attachment())
    with pytest.raises(DigestMismatch, match=r"changed: assets.extra/tfs_manifest.json"):
        deploy.verify_signature(repo, two, [pair.public])
    shutil.copytree(repo.path(ONE), repo.root / "m" / "3")  # a whole copy, under a newer number
    three = ModelVersion("m", 3)
    repo.attach(three, bundle.attachment())
    with pytest.raises(DigestMismatch, match="m/3 was signed as m/1"):
        deploy.verify_signature(repo, three, [pair.public])
    deploy.sign(repo, two, pair.key)
    assert deploy.verify_signature(repo, two, [pair.public])  # whatever else lies beside it


def test_a_changed_signature(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    good = json.loads(deploy.sign(repo, ONE, pair.key).to_bytes())
    signature = repo.root / ".tfs" / ".attached" / "m" / "1"
    (path,) = signature.iterdir()
    payload = good["dsseEnvelope"]["payload"]
    for change, problem in (
            ({"payload": "A" + payload[1:]}, (Untrusted, Malformed)), ({"payload": "%%%"}, Malformed),
            ({"signatures": []}, Malformed), ({"payloadType": "text/plain"}, Malformed)):
        path.write_text(json.dumps({**good, "dsseEnvelope": {**good["dsseEnvelope"], **change}}))
        with pytest.raises(problem):
            deploy.verify_signature(repo, ONE, [pair.public])
    for text in ("", "[]", "{", "[" * 100_000, '{"mediaType": "x"}'):
        path.write_text(text)
        with pytest.raises(Malformed, match="a signature of m/1 is no"):
            deploy.verify_signature(repo, ONE, [pair.public])


@pytest.mark.parametrize(("certificate", "message"), [
    ({"until": NOW - DAY}, r"certificate of CN=leaf that expired on \d{4}-\d\d-\d\d"),
    ({"signs": False}, "that isn't for signing"),
])
def test_certificates_that_dont_count(repo: Repository, tmp_path: Path, certificate: dict[str, object], message: str
                                      ) -> None:
    root = Certified.by(None, tmp_path, "root", ca=True)
    leaf = Certified.by(root, tmp_path, "leaf", **certificate)  # type: ignore[arg-type]
    deploy.sign(repo, ONE, deploy.load_signer(leaf.key, [leaf.certificate]))
    with pytest.raises(Untrusted, match=message):
        deploy.verify_signature(repo, ONE, [root.certificate])
    other = Certified.by(None, tmp_path, "other", ca=True)
    with pytest.raises(Untrusted):
        deploy.verify_signature(repo, ONE, [other.certificate])


def test_an_authority_that_is_none(repo: Repository, tmp_path: Path) -> None:
    root = Certified.by(None, tmp_path, "root", ca=True)
    nobody = Certified.by(root, tmp_path, "nobody")
    leaf = Certified.by(nobody, tmp_path, "leaf")
    deploy.sign(repo, ONE, deploy.load_signer(leaf.key, [leaf.certificate, nobody.certificate]))
    with pytest.raises(Untrusted, match="CN=leaf, whose certificate none of the trusted ones vouches for"):
        deploy.verify_signature(repo, ONE, [root.certificate])


def test_an_expired_certificate_that_is_trusted_itself(repo: Repository, tmp_path: Path) -> None:
    leaf = Certified.by(None, tmp_path, "leaf", until=NOW - DAY)
    deploy.sign(repo, ONE, deploy.load_signer(leaf.key, [leaf.certificate]))
    with pytest.raises(Untrusted, match="expired"):
        deploy.verify_signature(repo, ONE, [leaf.certificate])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_bundle_is_it_is_told_or_untrusted(tmp_path: Path, data: st.DataObject) -> None:
    good = json.loads(SignatureBundle(b"{}", b"sig", "hint", (b"der",)).to_bytes())
    for part in (good, good["verificationMaterial"], good["dsseEnvelope"]):
        key = data.draw(st.sampled_from([None, *part]))
        if key is not None:
            part[key] = data.draw(JSON)
    statement = data.draw(STATEMENTS)
    if isinstance(good["dsseEnvelope"], dict) and data.draw(st.booleans()):
        good["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    pair = key_pair(tmp_path)
    try:
        bundle = SignatureBundle.from_bytes(json.dumps(good).encode(), "it")
        statements.signed_digests(bundle.statement(), "it")
        TrustedSigners.load([pair.public]).check(bundle, "it")
    except (Malformed, Untrusted) as error:
        assert error.message


def test_too_many_and_too_big(repo: Repository) -> None:
    for number in range(3):
        repo.attach(ONE, Attachment(BUNDLE, b"%d" % number))
    place = repo.root / ".tfs" / ".attached" / "m" / "1"
    with (place / f"{'0' * 64}.sigstore.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(Malformed, match="more than 67,108,864 bytes"):
        repo.attachments(ONE)
    for number in range(1000):
        (place / f"{number:064}.intoto.json").touch()
    with pytest.raises(Malformed, match="more than 1,000 signatures and receipts"):
        repo.attachments(ONE)


# -- keys

def pem(key: object) -> bytes:
    assert isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


@pytest.mark.parametrize(("text", "message"), [
    (pem(ec.generate_private_key(ec.SECP256K1())), "expected an elliptic curve key on P-256, P-384 or P-521"),
    (pem(ed25519.Ed25519PrivateKey.generate()), "got one of the kind Ed25519"),
    (pem(rsa.generate_private_key(65537, 2048)), "got one of the kind RSA"),
    (b"no key", "expected a private key in PEM"),
    (b"", "expected a private key in PEM"),
])
def test_keys_that_cant_sign(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "k.key"
    path.touch(0o600)
    path.write_bytes(text)
    with pytest.raises(SpecError, match=message) as caught:
        deploy.load_signer(path)
    assert len(text) < 60 or text.decode()[30:60] not in str(caught.value)


@pytest.mark.parametrize(("mode", "why"), [(0o644, "every user of this machine can read it"), (0o620, "others may")])
def test_a_private_key_that_isnt_private(tmp_path: Path, mode: int, why: str) -> None:
    pair = key_pair(tmp_path)
    pair.key.chmod(mode)
    with pytest.raises(SpecError, match=f"isn't private: {why}.*chmod 600") as caught:
        deploy.load_signer(pair.key)
    assert caught.value.id == "key-not-private"


@pytest.mark.parametrize("text", ["key", "certificate"])
def test_a_public_key_signs_nothing(tmp_path: Path, text: str) -> None:
    """Not called a private key that others may have read."""
    public = key_pair(tmp_path).public
    if text == "certificate":
        public.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    public.chmod(0o644)
    with pytest.raises(SpecError, match=f"expected a private key in PEM, got .*: it is a public {text}") as caught:
        deploy.load_signer(public)
    assert caught.value.id == "wrong-key" and "isn't private" not in str(caught.value)


def test_an_encrypted_key(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path, passphrase=b"open sesame")
    with pytest.raises(SpecError, match="is encrypted, and no passphrase is given"):
        deploy.load_signer(pair.key)
    with pytest.raises(SpecError, match="the passphrase doesn't open it") as caught:
        deploy.load_signer(pair.key, passphrase=lambda: b"sesame")
    assert "--passphrase-file" in caught.value.hint
    deploy.sign(repo, ONE, deploy.load_signer(pair.key, passphrase=lambda: b"open sesame"))
    assert deploy.verify_signature(repo, ONE, [pair.public])


def test_a_signer_says_nothing_of_its_key(tmp_path: Path) -> None:
    signer = deploy.load_signer(key_pair(tmp_path).key)
    assert "PRIVATE" not in repr(signer) and "sign=" not in repr(signer)


def test_keys_that_cant_verify(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    deploy.sign(repo, ONE, pair.key)
    for paths, message in (([pair.key], "is a private key"), ([tmp_path / "gone"], "can't read the key"),
                           ([], "no key"), ([repo.path(ONE) / "saved_model.pb"], "expected a public key or certif")):
        with pytest.raises(SpecError, match=message):
            deploy.verify_signature(repo, ONE, paths)


def test_the_certificate_of_another_key(tmp_path: Path) -> None:
    leaf = Certified.by(None, tmp_path, "leaf")
    with pytest.raises(SpecError, match="isn't the one of"):
        deploy.load_signer(key_pair(tmp_path).key, [leaf.certificate])


# -- the command line

def tfs(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    from deploy.cli.outcome import run

    code = run([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_publish_sign_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
                             ) -> None:
    monkeypatch.chdir(tmp_path)
    pair, secret = key_pair(tmp_path, passphrase=b"open sesame"), tmp_path / "passphrase"
    savedmodel(tmp_path / "build")
    secret.touch(0o600)
    secret.write_text("open sesame\n")
    done = tfs(capsys, "publish", "build", "--name", "m", "--sign-with", pair.key, "--passphrase-file", secret)
    assert done[0] == 0 and "signed with " in done[1]
    told = tfs(capsys, "verify", "m", "--key", pair.public)[1]
    assert told.startswith("m/1 is as signed by the key signer.pub (2 files")
    monkeypatch.setenv("TFS_PASSPHRASE_FILE", str(secret))
    assert tfs(capsys, "sign", "m/1", "--key", pair.key)[0] == 0
    assert len(signing.signatures_of(Repository(tmp_path / "models"), ONE)) == 2
    secret.chmod(0o644)
    assert tfs(capsys, "sign", "m/1", "--key", pair.key)[0] == 2
    assert tfs(capsys, "sign", "build", "--key", pair.key)[0] == 2


def test_a_publisher_without_its_passphrase_publishes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = key_pair(tmp_path, passphrase=b"open sesame")
    savedmodel(tmp_path / "build")
    code, _, err = tfs(capsys, "publish", "build", "--name", "m", "--sign-with", pair.key)
    assert code == 2 and "no passphrase is given" in err and not (tmp_path / "models").exists()


def test_directories_and_signers_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = key_pair(tmp_path)
    savedmodel(tmp_path / "build")
    (tmp_path / "our_kms.py").write_text("import deploy\ndef signer(): return deploy.load_signer('signer.key')\n")
    assert tfs(capsys, "sign", "build", "--key", "our_kms:signer", "--output", "b.sig")[0] == 0
    code, out, _ = tfs(capsys, "verify", "./build", "--signature", "b.sig", "--key", pair.public, "--json")
    assert code == 0 and json.loads(out)["signer"] == "the key signer.pub"
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=pair.public).verify("build", "b.sig")
    code, _, err = tfs(capsys, "sign", "build", "--key", "our_kms:nobody", "--output", "b.sig")
    assert code == 2 and "can't get a signer from our_kms:nobody" in err
    code, _, err = tfs(capsys, "sign", "build", "--key", pair.key, "--output", "build/b.sig")
    assert code == 2 and "would be a file of build" in err


def test_a_certificate_that_is_not_valid_now_signs_nothing(repo: Repository, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    leaf = Certified.by(None, tmp_path, "leaf", until=NOW - DAY)
    code, _, err = tfs(capsys, "sign", "m/1", "--key", leaf.key, "--certificate", leaf.certificate, "-r", repo.root)
    assert code == 2 and "the certificate of CN=leaf expired on " in err and "nobody would accept" in err
    assert not signing.signatures_of(repo, ONE)


def test_exit_codes(repo: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = key_pair(tmp_path)
    code, _, err = tfs(capsys, "verify", "m/1", "-r", repo.root, "--key", pair.public)
    assert code == 4 and err.count("\n") == 1 and "isn't signed" in err
    assert tfs(capsys, "verify", "m/7", "-r", repo.root, "--key", pair.public)[0] == 4
    assert tfs(capsys, "verify", "m/1", "-r", repo.root)[0] == 2


def test_a_passphrase_typed_on_a_terminal(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path, passphrase=b"open sesame")
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "deploy", "sign", "m/1", "-r", str(repo.root), "--key", str(pair.key), "--verbose"]
    for typed, code in ((b"open sesame\n", 0), (b"sesame street\n", 2)):
        with subprocess.Popen(argv, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True) as process:
            assert process.stderr is not None
            asked = os.read(process.stderr.fileno(), 1000)  # what is typed before isn't taken
            os.write(ours, typed)
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert asked.startswith(b"passphrase of ") and b"sesame" not in asked + out + err
    os.close(ours)
    os.close(theirs)
    assert len(repo.attachments(ONE)) == 1
