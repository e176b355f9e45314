"""Random-feature attention: outputs by hand, the ridge solution, the mean of the scores."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.random_feature_attention import RandomFeatureAttention, drawn_scores, fitted

RNG = np.random.default_rng(0)
X, KEYS, SCORES, Y = (jnp.asarray(RNG.normal(size=shape)) for shape in ((4, 3), (4, 2, 3), (6, 3, 3), (4,)))


def test_outputs_by_hand():
    values = RNG.normal(size=(6, 3))
    expected = [
        sum(max(X[p] @ SCORES[m] @ k, 0) * (values[m] @ k) for m in range(6) for k in KEYS[p]) / (2 * np.sqrt(6))
        for p in range(4)
    ]
    np.testing.assert_allclose(RandomFeatureAttention(SCORES, jnp.asarray(values))(X, KEYS), expected, rtol=1e-10)


def test_ridge_solution():
    ridge = 0.3
    network = fitted(SCORES, X, KEYS, Y, ridge)

    def objective(values):
        return jnp.sum((RandomFeatureAttention(SCORES, values)(X, KEYS) - Y) ** 2) + ridge * jnp.sum(values**2)

    np.testing.assert_allclose(jax.grad(objective)(network.values), 0, atol=1e-10)


def test_scores():
    scores = np.asarray(drawn_scores(jax.random.key(0), 4000, 3, 0.5, 2.0))
    np.testing.assert_allclose(scores.mean(axis=0), 2 * np.eye(3), atol=5 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(scores.std(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(8000))
