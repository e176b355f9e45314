"""One attention layer: outputs and gradients by hand, gradients that do not cancel, steps of one length."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.attention_layer import (
    AttentionFactors,
    AttentionWeights,
    attended,
    logistic_loss,
    normalised_descent,
    scores,
)


def test_outputs_by_hand():
    rng = np.random.default_rng(0)
    x, z, w, v = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 4, 5), (3, 2), (5, 2), (5,)))
    labels = jnp.array([1.0, -1.0, 1.0])
    layer = AttentionWeights(jnp.asarray(w))
    expected = np.array([[x[i, t] @ w @ z[i] for t in range(4)] for i in range(3)])
    np.testing.assert_allclose(scores(layer, x, z), expected, rtol=1e-12)
    s = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    f = np.einsum("nt,ntd,d->n", s, x, v)
    np.testing.assert_allclose(
        logistic_loss(layer, x, z, v, labels), np.mean(np.log1p(np.exp(-labels * f))), rtol=1e-12
    )
    key, query = rng.normal(size=(5, 3)), rng.normal(size=(2, 3))
    factors = AttentionFactors(jnp.asarray(key), jnp.asarray(query))
    np.testing.assert_allclose(factors.product(), key @ query.T, rtol=1e-12)


def test_gradients():
    rng = np.random.default_rng(1)
    a, values = jnp.asarray(rng.normal(size=(2, 2, 3)))
    plain = lambda a, values: jnp.sum(jnp.sin(jnp.sum(jax.nn.softmax(a, axis=1) * values, axis=1)))  # noqa: E731
    ours = lambda a, values: jnp.sum(jnp.sin(attended(a, values)))  # noqa: E731
    for found, expected in zip(jax.grad(ours, (0, 1))(a, values), jax.grad(plain, (0, 1))(a, values), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-14)
    # Far out, where softmax (values - output) is zero for the selected token.
    far = jax.grad(lambda a: attended(a, jnp.array([[1.0, 0.0, 0.5]]))[0])(jnp.array([[300.0, 0.0, 1.0]]))[0]
    wrong = np.exp(-300.0), 0.5 * np.exp(-299.0)
    np.testing.assert_allclose(far, [sum(wrong), -wrong[0], -wrong[1]], rtol=1e-12)


def test_steps_of_one_length():
    optimiser = normalised_descent(0.3)
    gradient = {"a": jnp.array([3e-200, 0.0]), "b": jnp.array([[4e-200]])}
    step, _ = optimiser.update(gradient, optimiser.init(gradient))
    np.testing.assert_allclose(step["a"], [-0.18, 0], atol=1e-15)
    np.testing.assert_allclose(step["b"], [[-0.24]], atol=1e-15)
