"""How far answers are apart."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.goldens.compare import AnswerPair, measure
from deploy.goldens.tolerances import Tolerance, narrowest

LIMITS = {"default": Tolerance(0.1)}


def one(before: object, after: object, limits: dict[str, Tolerance] | None = None) -> object:
    drift = measure([AnswerPair("s", {"y": np.asarray(before)}, {"y": np.asarray(after)})], limits or LIMITS)
    return drift.outputs[0]


def test_numbers() -> None:
    found = one(np.float32([[1, 2], [3, 4]]), np.float32([[1, 2.5], [5, 4]]))
    assert (found.max, found.mean, found.changed, found.values) == (2.0, 0.625, 2, 4)
    assert (found.flips, found.decisions, found.within) == (1, 2, False)


def test_nan_and_infinity() -> None:
    nan, inf = np.nan, np.inf
    found = one([nan, 1.0, inf, inf], [nan, nan, inf, -inf])
    assert (found.nan_before, found.nan_after, found.max, found.changed) == (0.25, 0.5, 0.0, 2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "bool", "float16", "complex64", "S3"])
def test_equal_answers_of_all_kinds(dtype: str) -> None:
    values = np.array([1, 0, 1]).astype(dtype)
    values = values.astype(object) if dtype == "S3" else values
    found = one(values, values)
    assert (found.max, found.changed, found.within) == (0.0, 0, True)


def test_integers_beyond_the_floats() -> None:
    found = one(np.int64([2**53]), np.int64([2**53 + 1]))
    assert (found.changed, found.within) == (1, False)
    assert one(np.uint8([0]), np.uint8([255])).max == 255


def test_strings() -> None:
    found = one(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object))
    assert (found.changed, found.values, found.max, found.within) == (1, 2, 0.0, False)


def test_shapes_names_and_refusals() -> None:
    y = np.zeros((2, 3), np.float32)
    pairs = [AnswerPair("s", {"y": y}, {"y": y[:1]}), AnswerPair("s", {"y": y}, {"z": y}),
             AnswerPair("t", {"y": y}, "no such")]
    drift = measure(pairs, LIMITS)
    assert drift.refused == ("case 3 of t: no such",)
    assert not drift.within
    found = {output.output: output for output in drift.outputs}
    assert "expected float32[2, 3], got float32[1, 3]" in found["y"].outside[0]
    assert "missing" in found["y"].outside[1]
    assert "not expected" in found["z"].outside[0]


def test_a_vector_of_examples_holds_no_decisions() -> None:
    assert one(np.float32([1, 2]), np.float32([2, 1])).decisions == 0


def test_each_output_has_its_own_tolerance() -> None:
    limits = {"default": Tolerance(0.0), "s": Tolerance(0.5), "s/z": Tolerance(5.0)}
    assert [narrowest(limits, *key).absolute for key in (("t", "y"), ("s", "y"), ("s", "z"))] == [0.0, 0.5, 5.0]
    assert one([1.0], [1.4], limits).within
    assert not one([1.0], [1.6], limits).within


def test_outputs_that_have_changed_places() -> None:
    a, b = np.float32([1, 2]), np.float32([3, 4])
    swapped = [AnswerPair("s", {"a": a, "b": b}, {"a": b, "b": a})]
    assert measure(swapped, LIMITS).swapped == (("s", "a", "b"),)
    assert not measure([*swapped, AnswerPair("s", {"a": a, "b": b}, {"a": b, "b": b})], LIMITS).swapped
    assert not measure([AnswerPair("s", {"a": a, "b": a}, {"a": a, "b": a})], LIMITS).swapped
