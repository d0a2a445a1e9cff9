"""A function of JAX with its parameters, trained with gradient descent: which of three irises is it?

The parameters become variables, the function becomes StableHLO, which the server compiles with XLA at the first request
of each batch size: serving.yaml needs `server: {flags: {xla_cpu_compilation_enabled: true}}`. `?` is a free batch.

    tfs export docs/examples/jax_iris.py:build --name iris
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

import deploy

CENTRES = jnp.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]])
Params = dict[str, jax.Array]


def classify(params: Params, centimetres: jax.Array) -> dict[str, jax.Array]:
    """Sepal length and width, petal length and width -> what it is, and how sure that is."""
    probabilities = jax.nn.softmax(centimetres @ params["weights"] + params["biases"])
    return {"species": probabilities.argmax(-1), "probability": probabilities.max(-1)}


def trained(steps: int = 500) -> Params:
    species = jnp.repeat(jnp.arange(3), 50)
    rows = CENTRES[species] + 0.2 * jax.random.normal(jax.random.key(1), (150, 4))
    params = {"weights": jnp.zeros((4, 3)), "biases": jnp.zeros(3)}

    @jax.jit
    def step(params: Params) -> Params:
        def loss(params: Params) -> jax.Array:
            scores = jax.nn.log_softmax(rows @ params["weights"] + params["biases"])
            return -scores[jnp.arange(150), species].mean()

        return jax.tree.map(lambda value, slope: value - 0.2 * slope, params, jax.grad(loss)(params))

    for _ in range(steps):
        params = step(params)
    return params


def build() -> deploy.Exportable:
    return deploy.from_jax(classify, trained(), "centimetres: float32[?, 4]",
                           examples={"centimetres": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]]})
