"""Recipes as text and as values, and what they refuse, before TensorFlow is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.errors import ExportError
from deploy.export import recipes
from deploy.export.options import SignatureFunction
from deploy.export.recipes.parsing import RECIPES, read
from deploy.export.recipes.recipe import Recipe, apply
from deploy.savedmodel import diff
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import CLASSIFY_METHOD, Contract


def signature(*inputs: str, name: str = "serving_default", method: str = "tensorflow/serving/predict"
              ) -> SignatureFunction:
    from deploy.export import specs

    return SignatureFunction(name, specs.parse(list(inputs)), dict, method_name=method)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nowl\n")
    return path


@pytest.mark.parametrize(("text", "name", "parameters"), [
    ("image-bytes(-1..1)", "image-bytes", {"scale": "-1..1"}),
    ("image_bytes( scale = 0..1 , size=28x28, antialias=true )", "image-bytes",
     {"scale": "0..1", "size": "28x28", "antialias": True}),
    ("image-bytes(mean=[0.5, 0.4, 0.3], std='0.1')", "image-bytes", {"mean": [0.5, 0.4, 0.3], "std": [0.1]}),
    ("keys", "keys", {"name": "key", "dtype": "string"}),
    ("keys(id, dtype=int64)", "keys", {"name": "id", "dtype": "int64"}),
    ("keys(id: int64)", "keys", {"name": "id", "dtype": "int64"}),
    ('keys("the, id")', "keys", {"name": "the, id", "dtype": "string"}),
    ("top-k(5)", "top-k", {"k": 5}),
    ("top-k(2, labels=[cat, dog])", "top-k", {"k": 2, "labels": "labels.txt"}),
    ("rename-outputs(outputs=probabilities, 'a,b'=c)", "rename-outputs",
     {"outputs": {"outputs": "probabilities", "a,b": "c"}}),
    ("cast-outputs(float32)", "cast-outputs", {"dtypes": "float32"}),
    ("cast-outputs(scores=float32)", "cast-outputs", {"outputs": {"scores": "float32"}}),
    ("regress()", "regress", {}),
])
def test_texts(text: str, name: str, parameters: dict[str, object]) -> None:
    record = recipes.parse(text).record
    assert record.name == name
    assert parameters.items() <= record.parameters.items()
    assert record.signature == "serving_default"


@pytest.mark.parametrize("text", [
    "image-bytes(scale=-1..1, size=28x28, mean=[1.0, 2.0, 3.0])", "keys(name=id, dtype=int64, signature=bytes)",
    "rename-inputs(a=b, c=d)", "cast-outputs(scores=float32)", "top-k(k=3, activation=softmax)",
    "keys(name='a b', dtype=string)", "tf-example"])
def test_what_is_shown_can_be_typed(text: str) -> None:
    recipe = recipes.parse(text)
    assert recipes.parse(str(recipe)).record == recipe.record
    assert RecipeRecord.from_json(recipe.record.to_json()) == recipe.record


def test_a_file_is_recorded_by_its_name_and_digest(labels: Path) -> None:
    record = recipes.top_k(2, labels=labels).record
    assert record.parameters["labels"] == "labels.txt"
    assert record.digests["labels"].startswith("sha256:")
    other = labels.with_name("other.txt")
    other.write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\nowl")
    assert recipes.top_k(2, labels=str(other)).record.digests == record.digests, "the same lines"


REFUSED: list[tuple[str, str]] = [
    ("", "can't read the recipe ''"),
    ("image-bytes(scale", "can't read the recipe"),
    ("image-bytes(scale=)", "can't read the recipe"),
    ("image-bytes(a=1 b=2)", "can't read the recipe"),
    ("image-bytes()x", "can't read the recipe"),
    ("top-k(,)", "can't read the recipe"),
    ("top-k([[1]])", "can't read the recipe"),
    ("top-k(5, 'x", "from \"'x\" on"),
    ("image-byte(x)", "there is no recipe 'image-byte': did you mean image-bytes?"),
    ("resize", "there is no recipe 'resize'"),
    ("image-bytes(scale=2)", "scale is '2': possible: 0..255, 0..1, -1..1, imagenet, caffe"),
    ("image-bytes(resize=cubic)", "resize is 'cubic'"),
    ("image-bytes(fit=zoom)", "fit is 'zoom': possible: stretch, crop, pad"),
    ("image-bytes(size=28)", "size is '28': write height x width: 224x224"),
    ("image-bytes(size=0x28)", "size is '0x28'"),
    ("image-bytes(std=0)", "std is [0.0]"),
    ("image-bytes(mean=x)", "mean is 'x': expected a number"),
    ("image-bytes(antialias=perhaps)", "antialias is 'perhaps': expected true or false"),
    ("image-bytes(scael=0..1)", "there is no option 'scael': its options: scale, input"),
    ("image-bytes(0..1, scale=0..1)", "scale is given twice"),
    ("image-bytes(scale=0..1, scale=0..1)", "says scale twice"),
    ("image-bytes(0..1, pixels)", "'pixels' has no option's name"),
    ("image-bytes(scale=[a, b])", "scale is a list: expected one text"),
    ("top-k", "k isn't given: write top-k(k=...)"),
    ("top-k(0)", "k is 0"),
    ("top-k(many)", "k is 'many': expected a whole number"),
    ("top-k(1, activation=relu)", "activation is 'relu'"),
    ("top-k(1, classes=a, scores=a)", "'a' and 'a'"),
    ("top-k(3, labels=[a, b])", "k is 3, and labels.txt has 2 labels"),
    ("top-k(1, labels=[a, a])", "'a' stands in the list of labels twice, on the lines 1 and 2"),
    ("top-k(1, labels=[])", "the list of labels has no label in it"),
    ("top-k(1, labels=nowhere.txt)", "nowhere.txt can't be read: No such file"),
    ("text", "vocabulary isn't given"),
    ("text(vocabulary=['', '[UNK]'])", "has no word in it"),
    ("text([a], split=words)", "split is 'words'"),
    ("text([a], standardize=upper)", "standardize is 'upper'"),
    ("keys(id, dtype=text)", "'text' in the input spec 'text' is no dtype"),
    ("keys(' ')", "the name is"),
    ("rename-inputs", "no names are given"),
    ("rename-outputs(a)", "expected names only"),
    ("cast-outputs(text)", "is no dtype that can be served"),
    ("copy-signature(__saved_model_init_op)", "can't be a signature's name"),
    ("keys(signature='')", "signature is ''"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ExportError) as caught:
        recipes.parse(text)
    assert sentence in f"{caught.value.message}: {caught.value.hint}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "has no label in it"), (b"\n", "line 1 of"), (b"cat\n\ndog\n", "line 2 of"), (b"cat\ncat\n", "twice"),
    (b"\xff\xfe", "isn't UTF-8"), (b"caf\xe9\n", "isn't UTF-8")])
def test_files_of_labels(labels: Path, content: bytes, sentence: str) -> None:
    labels.write_bytes(content)
    with pytest.raises(ExportError, match="top-k") as caught:
        recipes.top_k(1, labels=labels)
    assert sentence in caught.value.message


PIXELS = "pixels: float32[?, 24, 32, 3]"
UNFIT: list[tuple[Recipe | Callable[[], Recipe], SignatureFunction, str]] = [
    (recipes.image_bytes(), signature(PIXELS), "how the pixels of pixels: float32[?, 24, 32, 3] are scaled isn't said"),
    (recipes.image_bytes("0..1"), signature("p: uint8[?, 8, 8, 3]"), "holds whole numbers"),
    (recipes.image_bytes("0..1", size="9x9"), signature(PIXELS), "size is 9x9, and the input is"),
    (recipes.image_bytes("0..1"), signature("p: float32[?, ?, ?, 3]"), "doesn't say its height and width"),
    (recipes.image_bytes("0..1"), signature("p: float32[?, 784]"), "so their height and width are unknown"),
    (recipes.image_bytes("0..1", size="20x20"), signature("p: float32[?, 784]"), "doesn't hold 20x20 pixels"),
    (recipes.image_bytes("0..1"), signature("p: float32[?, 8, 8, 5]"), "is no image"),
    (recipes.image_bytes("0..1"), signature("p: float32, any shape"), "no known shape"),
    (recipes.image_bytes("0..1"), signature("p: string[?]"), "takes no pixels"),
    (recipes.image_bytes("0..1"), signature(PIXELS, "b: float32[?, 1]"), "has 2 inputs (pixels, b)"),
    (recipes.image_bytes("0..1", input="x"), signature(PIXELS), "has no input 'x'"),
    (recipes.image_bytes("0..1", input="pixels", name="b"), signature(PIXELS, "b: float32[?]"), "input 'b' already"),
    (recipes.image_bytes("imagenet"), signature("p: float32[?, 8, 8]"), "mean has 3 numbers"),
    (recipes.image_bytes("0..1", channel_order="bgr"), signature("p: float32[?, 8, 8]"), "channel_order is bgr"),
    (recipes.image_bytes("0..1", signature="other"), signature(PIXELS), "there is no signature 'other'"),
    (recipes.keys("pixels"), signature(PIXELS), "has an input 'pixels' already"),
    (recipes.keys("id"), signature("inputs: string[?]", method=CLASSIFY_METHOD), "tensorflow/serving/classify"),
    (recipes.top_k(1), signature("inputs: string[?]", method=CLASSIFY_METHOD), "in front of the one that made it so"),
    (recipes.classify(), signature("inputs: string[?]", method=CLASSIFY_METHOD), "already"),
    (recipes.rename_inputs({"x": "y"}), signature(PIXELS), "has no input 'x'"),
    (recipes.rename_inputs({"a": "b"}), signature("a: float32[?]", "b: float32[?]"), "two inputs would be called 'b'"),
    (recipes.copy_signature("serving_default"), signature(PIXELS), "a signature 'serving_default' already"),
    (recipes.text(["a"]), signature("words: string[?]"), "takes no numbers of words"),
]


@pytest.mark.parametrize(("recipe", "base", "sentence"), UNFIT)
def test_what_does_not_fit(recipe: Recipe, base: SignatureFunction, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        apply([recipe], [base], tmp_path)
    assert sentence in f"{caught.value.message}: {caught.value.hint}"


def test_signatures_are_changed_in_order(tmp_path: Path) -> None:
    done = apply([recipes.copy_signature("tensors"), recipes.image_bytes("0..1"), recipes.keys("id"),
                  recipes.rename_inputs({"image_bytes": "photo"}), recipes.keys("row", "int32", signature="tensors")],
                 [signature(PIXELS)], tmp_path)
    assert [(each.name, [str(spec) for spec in each.inputs]) for each in done] == [
        ("serving_default", ["photo: string[?]", "id: string[?]"]), ("tensors", [PIXELS, "row: int32[?]"])]
    assert set(done[0].samples) == {"photo"}
    assert not done[1].samples
    assert done[0].no_tflite
    assert not done[1].no_tflite


def test_lists_of_recipes() -> None:
    assert [str(each) for each in read(["keys(id)", recipes.keys("row")])] == [
        "keys(name=id, dtype=string)", "keys(name=row, dtype=string)"]
    assert len(read("keys(id)")) == len(read(recipes.keys())) == 1
    for wrong, sentence in ((5, "recipes are 5"), ([recipes.keys], "keys is a function that makes recipes: call it"),
                            ([5], "this is no recipe: 5")):
        with pytest.raises(ExportError, match=sentence):
            read(wrong)


def test_every_recipe_is_public_and_explained() -> None:
    public = {name.replace("_", "-") for name in recipes.__all__}
    assert set(RECIPES) == public - {"parse", "Recipe"}
    assert all("Raises ExportError" in (function.__doc__ or "") for function in RECIPES.values())


def test_diff_tells_recipes() -> None:
    def verdict(before: tuple[RecipeRecord, ...] | None, after: tuple[RecipeRecord, ...]) -> list[str]:
        subjects = (diff.Subject(Contract(()), recipes=records) for records in (before, after))
        return [f"{reason.rule} {reason.level}: {reason.what}" for reason in diff.compare(*subjects).reasons]

    one, other = recipes.image_bytes("0..1").record, recipes.image_bytes("-1..1").record
    assert verdict((one,), (one,)) == verdict(None, (one,)) == []
    [changed] = verdict((one,), (other,))
    assert changed.startswith("recipe-changed review required: recipes were image-bytes(scale=0..1")
    assert "now none" in verdict((one,), ())[0]
    same_name = recipes.top_k(1, ["a", "b"]).record, recipes.top_k(1, ["b", "a"]).record
    assert "the file of top-k's labels has other lines" in verdict((same_name[0],), (same_name[1],))[0]
