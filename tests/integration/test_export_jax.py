"""Functions of JAX and modules of Flax: exported, answered as JAX answers, served over both protocols, refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import deploy
from deploy import checks, goldens
from deploy.checks import targets
from deploy.errors import ExportError, SpecError
from deploy.export import export_model, jax_models, signatures
from deploy.export.options import Exportable, SignatureFunction
from deploy.regression import ComparedVersion, compare
from deploy.savedmodel import bundle
from deploy.spec import load_spec
from deploy.testing import start_server
from deploy.wire.model_pb2 import SavedModel

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore:::(jax|flax|orbax)")]

PARAMS = {"layers": [{"w": np.float32([[1, 2], [3, 4]])}, {"b": np.float32([1, -1])}], "scale": 2}


def affine(params: Any, x: Any) -> Any:
    first, second = params["layers"]
    return {"y": (x @ first["w"] + second["b"]) * params["scale"], "rows": x.sum(-1)}


def found(described: Exportable, **signature: object) -> SignatureFunction:
    return signatures.find(replace(described, **signature))[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One function, as most tests need it: JAX takes seconds for each."""
    root = tmp_path_factory.mktemp("jax") / "models"
    export_model(deploy.from_jax(affine, PARAMS, "x: float32[?, 2]"), root, "affine")
    yield root


def test_parameters_are_variables_and_answers_jaxs_own(published: Path) -> None:
    version = published / "affine" / "1"
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    module, = [node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def
               if node.op == "XlaCallModule"]
    assert (list(module.attr["platforms"].list.s), list(module.attr["disabled_checks"].list.s)) == ([b"CPU"], [])
    variables = bundle.read(version / "variables" / "variables.index").model_variables
    assert sorted(variable.shape for variable in variables.values()) == [(2,), (2, 2)]
    for case in goldens.read(version):
        expected = affine(PARAMS, jnp.asarray(case.inputs["x"]))
        for name, array in case.outputs.items():
            np.testing.assert_allclose(array, np.asarray(expected[name]), rtol=1e-6)


def test_served_over_both_protocols_and_compared(published: Path) -> None:
    x = np.float32([[1, 0], [0, 1], [5, 5]])
    expected = affine(PARAMS, jnp.asarray(x))
    with start_server(published, backend="embedded") as server:
        for address in (server.endpoint.rest_url, server.endpoint.grpc_target):
            with deploy.connect(address) as client:
                np.testing.assert_allclose(client.predict("affine", {"x": x})["y"], np.asarray(expected["y"]))
        assert server.smoke_test().ok
    same = ComparedVersion.of(published / "affine" / "1", "affine/1")
    assert compare(same, same).level == 0


def test_a_server_without_the_flag_isnt_started_and_refuses_like_the_real_one(published: Path, tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text(f"repository: {published}\nmodels: [{{name: affine, versions: 1}}]\n"
                    "server: {backend: embedded, grpc_port: 0, rest_port: 0}\n")
    with pytest.raises(SpecError, match="flags/xla_cpu_compilation_enabled: model 'affine': version 1 is a model of"):
        deploy.up(load_spec(path))
    done = subprocess.run([sys.executable, "-m", "deploy.modelserver", "--port=0", "--model_name=affine",
                           "--max_num_load_retries=0", f"--grpc_socket_path={tmp_path / 'socket'}",
                           f"--model_base_path={published / 'affine'}"], capture_output=True, text=True, check=False,
                          timeout=120)
    assert done.returncode != 0
    assert "XLA compilation disabled" in done.stdout + done.stderr


def test_rules(published: Path, tmp_path: Path) -> None:
    version = published / "affine" / "1"
    warning, = [f for f in checks.check(version).findings if f.rule == "xla-compilation"]
    assert "--xla_cpu_compilation_enabled" in warning.message
    compiling = replace(targets.default(), compiles=True)
    assert not [f for f in checks.check(version, compiling).findings if f.rule.startswith("xla")]
    saved = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "XlaCallModule":
                node.attr["version"].i = 11
                node.attr["disabled_checks"].list.s.append(b"platform")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (tmp_path / "variables").symlink_to(version / "variables")
    said = [f.message for f in checks.check(tmp_path, compiling).findings if f.rule == "xla-version"]
    assert said[0] == ("XlaCallModule has version 11 of JAX's calling convention, and TensorFlow 2.20 runs those up "
                       "to 10")
    assert "platform disabled" in said[1]


def test_the_op_lists_know_the_installed_tensorflows_limit() -> None:
    from tensorflow.compiler.tf2xla.python import xla

    installed = targets.installed()
    assert installed is not None
    assert targets.op_list(installed).xla_module == xla.call_module_maximum_supported_version()


def test_inputs_and_outputs_in_all_forms() -> None:
    one = found(deploy.from_jax(lambda batch: (batch["a"], batch["b"] + 1), None,
                                {"a": "float32[?]", "b": "int32[?, 3]"}))
    assert one.call(_eager(a=np.float32([1]), b=np.int32([[1, 2, 3]])))[1].numpy().tolist() == [[2, 3, 4]]
    keyword = found(deploy.from_jax(jax.jit(lambda p, x, y: x - y * p), np.float32(2), {"y": "float32[?]",
                                                                                       "x": "float32[?]"}))
    assert keyword.call(_eager(x=np.float32([5]), y=np.float32([1]))).numpy().tolist() == [3.0]
    half = found(deploy.from_jax(lambda x: [x.astype(jnp.bfloat16)], None, "x: float16[?, 2]"))
    assert half.call(_eager(x=np.float16([[1, 2]])))[0].dtype.name == "bfloat16"


def test_dimensions_that_are_equal(tmp_path: Path) -> None:
    def attend(params: Any, tokens: Any, mask: Any) -> Any:
        return (params[tokens] * mask[..., None]).sum(1)

    table = np.eye(4, dtype=np.float32)
    for described in ({"tokens": "int32[b, s]", "mask": "float32[b, s]"},
                      {"tokens": "int32[?, ?]", "mask": "float32[?, ?]"}):
        exported = export_model(deploy.from_jax(attend, table, described), tmp_path, "attend")
        assert str(exported.contract["serving_default"].inputs[1]) == "tokens: int32[?, ?]"


def test_random_keys_are_variables_too() -> None:
    params = {"key": jax.random.key(7), "raw": jax.random.PRNGKey(3), "none": None}

    def noisy(params: Any, x: Any) -> Any:
        return x + jax.random.normal(params["key"], x.shape[1:]) + jax.random.uniform(params["raw"], ())

    endpoint = found(deploy.from_jax(noisy, params, "x: float32[?, 2]"))
    x = np.zeros((1, 2), np.float32)
    np.testing.assert_allclose(_graph(endpoint, x=x), np.asarray(noisy(params, jnp.asarray(x))), rtol=1e-6)


def test_flax_modules_in_inference_mode() -> None:
    nnx, nn = pytest.importorskip("flax.nnx"), pytest.importorskip("flax.linen")

    class Net(nnx.Module):  # type: ignore[misc, name-defined]
        def __init__(self, rngs: Any) -> None:
            self.dense, self.drop = nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.drop(self.dense(x))

    class Two(nn.Module):  # type: ignore[misc, name-defined]
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(3)(x)

    x, net = np.ones((2, 2), np.float32), Net(nnx.Rngs(0))
    linen = Two()
    bound = linen.bind(linen.init(jax.random.key(0), jnp.ones((1, 2))))
    for module, answer in ((net, np.asarray(net.dense(x))), (bound, np.asarray(bound(x)))):
        endpoint = found(Exportable(module, "float32[?, 2]"))
        assert [spec.name for spec in endpoint.inputs] == ["x"]
        np.testing.assert_allclose(endpoint.call(_eager(x=x)).numpy(), answer, rtol=1e-5)
        np.testing.assert_allclose(_graph(endpoint, x=x), answer, rtol=1e-5)
    assert not net.drop.deterministic  # the user's module stays as it was
    with pytest.raises(ExportError, match=r"Two isn't bound to its variables"):
        found(Exportable(linen, "float32[?, 2]"))


def test_several_signatures_and_one_beside_classify(tmp_path: Path) -> None:
    double = deploy.from_jax(lambda x: {"y": x * 2}, None, "x: float32[?, 2]")
    model = Exportable(None, signatures={"serving_default": double,
                                         "half": deploy.from_jax(lambda x: x / 2, None, "x: float32[?, 2]")})
    assert [each.name for each in signatures.find(model)] == ["serving_default", "half"]


def test_what_was_exported_already() -> None:
    struct = jax.ShapeDtypeStruct((3,), jnp.float32)
    for_tpu = jax.export.export(jax.jit(jnp.sin), platforms=["tpu"])(struct)
    with pytest.raises(ExportError, match="exported for tpu, and the server has a CPU"):
        found(Exportable(for_tpu, "x: float32[3]"))
    unchecked = jax.export.export(jax.jit(jnp.sin), platforms=["cpu"], disabled_checks=[
        jax.export.DisabledSafetyCheck.platform()])(struct)
    with pytest.raises(ExportError, match="disabled checks"):
        found(Exportable(unchecked, "x: float32[3]"))
    exported = jax.export.export(jax.jit(jnp.sin), platforms=["cpu"])(struct)
    fine = found(deploy.from_jax(exported, inputs="x: float32[3]"))
    np.testing.assert_allclose(_graph(fine, x=np.float32([0, 1, 2])), np.sin([0, 1, 2]), rtol=1e-6)


@pytest.mark.parametrize(("function", "inputs", "said"), [
    (lambda x: x, None, "doesn't say what it takes"),
    (lambda x: x, "x: string[?]", "is text, which JAX doesn't have"),
    (lambda x: x, "x: int64[?]", "has 64 bits, and JAX computes with 32"),
    (lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x), "x: float32[3]",
     r"calls back into Python \(pure_callback\)"),
    (lambda x: (jax.debug.print("{}", x), x)[1], "x: float32[3]", "calls back into Python"),
    (lambda x: jnp.ones(int(x.shape[0])), "x: float32[?]", "exporting signature 'serving_default' of JAX"),
    (lambda x: jax.random.split(jax.random.key(0)), "x: float32[3]", "returns an array of key<fry>"),
    (lambda x: x + undefined, "x: float32[?]", "NameError"),  # type: ignore[name-defined]  # noqa: F821
])
def test_refusals(function: Any, inputs: object, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        found(deploy.from_jax(jax.jit(function), None, inputs))


def test_sharding_over_several_devices_is_refused() -> None:
    exported = SimpleNamespace(nr_devices=2, disabled_safety_checks=(), out_avals=(), mlir_module_serialized=b"")
    with pytest.raises(ExportError, match="sharded over 2 devices, and a server runs it on one"):
        jax_models.check_exported(exported)


def test_tflite_beside_it(published: Path, tmp_path: Path) -> None:
    """TensorFlow's converter reads the module: with it, a server that prefers TFLite has nothing to compile."""
    made = export_model(published / "affine" / "1", tmp_path, "affine", tflite="none").tflite
    assert made is not None and made.drift.within


def test_orbax_exports_a_directory_that_is_copied(tmp_path: Path) -> None:
    export = pytest.importorskip("orbax.export")
    import tensorflow as tf

    module = export.JaxModule({"w": jnp.ones((2, 3))}, lambda p, x: {"y": x @ p["w"]}, input_polymorphic_shape="b, ...")
    config = export.ServingConfig("serving_default", input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    export.ExportManager(module, [config]).save(str(tmp_path / "saved"))
    exported = export_model(tmp_path / "saved", tmp_path / "models", "orbax")
    case = goldens.read(exported.path)[0]
    np.testing.assert_allclose(case.outputs["y"], case.inputs["x"] @ np.ones((2, 3)), rtol=1e-6)


def _eager(**arrays: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def _graph(endpoint: SignatureFunction, **arrays: Any) -> Any:
    """The answer of what is saved, run by TensorFlow."""
    from deploy.export import saving

    outputs = saving.trace(endpoint)(**_eager(**arrays))
    return next(iter(outputs.values())).numpy()
