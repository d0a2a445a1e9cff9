"""May one version take the place of another? Each rule has a pair of contracts that it is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.savedmodel import Producer, SavedModelInfo, diff
from deploy.savedmodel.diff import Asset, Level, Subject
from deploy.types import CLASSIFY_METHOD, Contract, Signature, TensorSpec

X, Y = TensorSpec("x", "float32", (None, 3)), TensorSpec("y", "float32", (None, 10))


def contract(*signatures: Signature) -> Contract:
    return Contract(signatures)


def default(inputs: tuple[TensorSpec, ...] = (X,), outputs: tuple[TensorSpec, ...] = (Y,), **changes: str) -> Contract:
    return contract(replace(Signature("serving_default", inputs, outputs), **changes))


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


ANY = TensorSpec("x", "float32", None)
OTHER = Signature("other", (X,), (Y,))

CASES = {
    "the same": (default(), default(), None, Level.COMPATIBLE),
    "signature added": (default(), contract(*default().values(), OTHER), "signature-added", Level.COMPATIBLE),
    "signature removed": (contract(*default().values(), OTHER), default(), "signature-removed", Level.BREAKING),
    "default gone": (contract(*default().values(), OTHER), contract(OTHER), "default-signature-gone", Level.BREAKING),
    "input removed": (default((X, spec("z", "int64"))), default(), "input-removed", Level.BREAKING),
    "input added": (default(), default((X, spec("z", "int64"))), "input-added", Level.BREAKING),
    "input renamed": (default(), default((replace(X, name="features"),)), "input-renamed", Level.BREAKING),
    "input dtype": (default(), default((replace(X, dtype="float64"),)), "input-dtype", Level.BREAKING),
    "input rank": (default(), default((spec("x", "float32", None),)), "input-rank", Level.BREAKING),
    "rank becomes known": (default((ANY,)), default(), "input-rank", Level.REVIEW),
    "rank becomes free": (default(), default((ANY,)), "input-rank", Level.COMPATIBLE),
    "batch lost": (default(), default((spec("x", "float32", 8, 3),)), "batch-dimension-lost", Level.BREAKING),
    "size changed": (default(), default((spec("x", "float32", None, 4),)), "input-size", Level.BREAKING),
    "size fixed": (default((spec("x", "float32", None, None),)), default(), "input-size", Level.REVIEW),
    "size freed": (default(), default((spec("x", "float32", None, None),)), "input-size", Level.COMPATIBLE),
    "output removed": (default(outputs=(Y, spec("z", "int64", None))), default(), "output-removed", Level.BREAKING),
    "output renamed": (default(), default(outputs=(replace(Y, name="p"),)), "output-renamed", Level.BREAKING),
    "second output": (default(), default(outputs=(Y, spec("z", "int64", None))), "row-form-changed", Level.BREAKING),
    "third output": (default(outputs=(Y, spec("a", "int64", None))),
                     default(outputs=(Y, spec("a", "int64", None), spec("b", "bool", None))), "output-added",
                     Level.COMPATIBLE),
    "output dtype": (default(), default(outputs=(replace(Y, dtype="float16"),)), "output-dtype", Level.BREAKING),
    "more classes": (default(), default(outputs=(spec("y", "float32", None, 11),)), "output-size", Level.BREAKING),
    "output freed": (default(), default(outputs=(spec("y", "float32", None, None),)), "output-size", Level.REVIEW),
    "outputs swapped": (default(outputs=(spec("output_0", "float32", None, 2), spec("output_1", "int64", None))),
                        default(outputs=(spec("output_0", "int64", None), spec("output_1", "float32", None, 2))),
                        "output-order", Level.BREAKING),
    "no longer classify": (default(method_name=CLASSIFY_METHOD), default(), "method-changed", Level.BREAKING),
    "classify now": (default(), default(method_name=CLASSIFY_METHOD), "method-changed", Level.REVIEW),
}


@pytest.mark.parametrize("name", CASES)
def test_contracts(name: str) -> None:
    before, after, rule, level = CASES[name]
    verdict = diff.compare(before, after)
    assert verdict.level is level, list(map(str, verdict.reasons))
    assert rule is None or verdict.reasons[0].rule == rule
    assert len(verdict.reasons) == (0 if rule is None else 1 + (rule in ("row-form-changed",)))


def test_a_reason_says_what_happens_to_whom() -> None:
    verdict = diff.compare(default(), default((replace(X, name="features"),)))
    assert str(verdict.reasons[0]) == \
        "serving_default: input 'x' is called 'features' now: requests with the old name are refused"
    assert verdict.to_json() == {"verdict": "breaking", "reasons": [{
        "level": "breaking", "rule": "input-renamed", "where": "serving_default",
        "what": "input 'x' is called 'features' now: requests with the old name are refused"}]}


INFO = SavedModelInfo(default(), frozenset({"MatMul"}), ("serve",), ("words.txt",), Producer("2.20.0", 2400), 1000)


@pytest.mark.parametrize(("changes", "rule"), [
    ({"ops": frozenset({"MatMul", "Conv2D"})}, "new-op"),
    ({"producer": Producer("2.21.0", 2400)}, "producer-newer"),
    ({"producer": Producer("2.20.0", 2474)}, "producer-newer"),
    ({"size": 2000}, "size-doubled"),
])
def test_graphs(changes: dict[str, object], rule: str) -> None:
    verdict = diff.compare(INFO, replace(INFO, **changes))
    assert [(r.rule, r.level) for r in verdict.reasons] == [(rule, Level.REVIEW)]


@pytest.mark.parametrize("changes", [{"producer": Producer("2.20.1", 2400)}, {"producer": Producer("2.9.0", 2400)},
                                     {"size": 1999}, {"ops": frozenset()}, {"producer": Producer("", 0)}])
def test_graphs_that_are_no_trouble(changes: dict[str, object]) -> None:
    assert not diff.compare(INFO, replace(INFO, **changes)).reasons


def test_features_of_examples() -> None:
    parsed = default((spec("e", "string", None),))
    tensor = replace(parsed["serving_default"].inputs[0], tensor="e:0")
    one = replace(INFO, contract=default((tensor,)), features={"e:0": (spec("age", "float32", 1),)})
    for features, rule in (((spec("age", "int64", 1),), "feature-changed"), ((), "feature-removed"),
                           ((spec("age", "float32", 1), spec("size", "float32", 1)), "feature-added")):
        verdict = diff.compare(one, replace(one, features={"e:0": features}))
        assert [r.rule for r in verdict.reasons] == [rule]


def test_vocabularies(tmp_path: Path) -> None:
    def assets(text: str) -> dict[str, Asset]:
        (tmp_path / "assets").mkdir(exist_ok=True)
        (tmp_path / "assets" / "words.txt").write_text(text)
        return diff.digest_assets(tmp_path, INFO)

    one, other = assets("the\nfox"), assets("the\nquick\nfox\n")
    verdict = diff.compare(Subject(default(), INFO, one), Subject(default(), INFO, other))
    assert [(r.rule, r.level) for r in verdict.reasons] == [("vocabulary-changed", Level.REVIEW)]
    assert "2 lines before, 3 now" in verdict.reasons[0].what
    rules = [r.rule for r in diff.compare(Subject(default(), INFO, one), Subject(default(), INFO, {})).reasons]
    assert rules == ["asset-removed"]


def test_a_tflite_model_that_is_gone() -> None:
    one, other = Subject(default(), tflite=True), Subject(default(), tflite=False)
    assert [r.rule for r in diff.compare(one, other).reasons] == ["tflite-removed"]
    assert not diff.compare(other, one).reasons
    assert not diff.compare(one, Subject(default())).reasons  # a live server doesn't tell
