"""Attention with frozen random scores, of which only the values are trained."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


class RandomFeatureAttention(eqx.Module):
    """f = (1 / sqrt M) sum_m (1 / N) sum_i relu(x_0 . W_m x_i) v_m . x_i, for queries x_0 and keys x_i."""

    scores: Float[Array, "M d d"]
    values: Float[Array, "M d"]

    def features(self, queries: Float[Array, "P d"], keys: Float[Array, "P N d"]) -> Float[Array, "P M d"]:
        """What each head attends to."""
        attended = jax.nn.relu(jnp.einsum("pmd,pnd->pmn", jnp.einsum("pc,mcd->pmd", queries, self.scores), keys))
        return jnp.einsum("pmn,pnd->pmd", attended, keys) / (keys.shape[1] * len(self.scores) ** 0.5)

    def __call__(self, queries: Float[Array, "P d"], keys: Float[Array, "P N d"]) -> Float[Array, " P"]:
        return jnp.einsum("pmd,md->p", self.features(queries, keys), self.values)


def drawn_scores(key, heads: int, d: int, deviation: ArrayLike, bias: ArrayLike) -> Float[Array, "M d d"]:
    """Gaussian matrices around a multiple of the identity."""
    return bias * jnp.eye(d) + deviation * jax.random.normal(key, (heads, d, d))


def fitted(
    scores: Float[Array, "M d d"],
    queries: Float[Array, "P d"],
    keys: Float[Array, "P N d"],
    y: Float[Array, " P"],
    ridge,
) -> RandomFeatureAttention:
    """Values that minimise sum (y - f)^2 + ridge sum |v|^2, for at least as many of them as samples."""
    network = RandomFeatureAttention(scores, jnp.zeros(scores.shape[:2]))
    h = network.features(queries, keys).reshape(len(y), -1)
    values = h.T @ jnp.linalg.solve(h @ h.T + ridge * jnp.eye(len(y)), y)
    return RandomFeatureAttention(scores, values.reshape(scores.shape[:2]))
