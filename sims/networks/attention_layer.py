"""One layer of softmax attention with one query a sample and a frozen readout, as trained weights or as two factors."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


@jax.custom_vjp
def attended(scores: Float[Array, "P T"], values: Float[Array, "P T"]) -> Float[Array, " P"]:
    """sum_t softmax(scores)_t values_t, with a gradient in the scores that stays accurate where attention is sharp.

    The usual one, s_t (values_t - output), cancels once 1 - s_t is below rounding; differences of values do not.
    """
    return jnp.sum(jax.nn.softmax(scores, axis=1) * values, axis=1)


def _forward(scores, values):
    return attended(scores, values), (jax.nn.softmax(scores, axis=1), values)


def _backward(kept, slope):
    s, values = kept
    differences = values[:, :, None] - values[:, None, :]
    return slope[:, None] * s * jnp.einsum("ptu,pu->pt", differences, s), slope[:, None] * s


attended.defvjp(_forward, _backward)


class AttentionWeights(eqx.Module):
    """Scores x_t . W z with W trained."""

    weights: Float[Array, "d e"]

    def product(self) -> Float[Array, "d e"]:
        return self.weights


class AttentionFactors(eqx.Module):
    """Scores x_t . K Q^T z with K and Q trained."""

    key: Float[Array, "d r"]
    query: Float[Array, "e r"]

    def product(self) -> Float[Array, "d e"]:
        return self.key @ self.query.T


def scores(layer, tokens: Float[Array, "P T d"], queries: Float[Array, "P e"]) -> Float[Array, "P T"]:
    """Attention scores of every token."""
    return jnp.einsum("ptd,pd->pt", tokens, queries @ layer.product().T)


def logistic_loss(layer, tokens, queries, readout: Float[Array, " d"], labels: Float[Array, " P"]) -> Float[Array, ""]:
    """(1/P) sum ln(1 + exp(-y f)), f what attention reads of readout . x_t."""
    values = labels[:, None] * (tokens @ readout)
    return jnp.mean(jax.nn.softplus(-attended(scores(layer, tokens, queries), values)))


def normalised_descent(lr: float) -> optax.GradientTransformation:
    """Steps of length lr against the gradient, however small that is."""

    def update(gradient, _):
        leaves = jax.tree.leaves(gradient)
        # Squares of what is below 1e-154 would vanish.
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
        length = jnp.sqrt(sum(jnp.sum((leaf / largest) ** 2) for leaf in leaves))
        return jax.tree.map(lambda leaf: -lr * (leaf / largest) / length, gradient)

    return optax.stateless(update)
