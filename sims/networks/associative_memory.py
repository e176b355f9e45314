"""One matrix that answers keys by values: its cross-entropy, and descent by exact polar factors."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


class AssociativeMemory(eqx.Module):
    """Logits u_j . W x of values u_j for inputs x. Embeddings are given, only W is learned."""

    weights: Float[Array, "D N"]

    def __call__(self, inputs: Float[Array, "P N"], values: Float[Array, "K D"]) -> Float[Array, "P K"]:
        """Logits, an input in each row."""
        return inputs @ self.weights.T @ values.T


class Associations(NamedTuple):
    """Inputs in rows (P, N), values in rows (K, D), and `shares` (P, K): how often each value answers each input."""

    inputs: Float[Array, "P N"]
    values: Float[Array, "K D"]
    shares: Float[Array, "P K"]


def empty_memory(keys: int, values: int | None = None) -> AssociativeMemory:
    """Zero weights, for keys and values of these dimensions (the same, if one is given)."""
    return AssociativeMemory(jnp.zeros((values or keys, keys)))


def cross_entropy(model: AssociativeMemory, data: Associations) -> Float[Array, ""]:
    """Minus the sum of shares times ln p."""
    return -jnp.sum(data.shares * jax.nn.log_softmax(model(data.inputs, data.values)))


def attended_sequences(
    key, keys: Float[Array, "K N"], values: Float[Array, "K D"], batch: int, length: int, copies: int
) -> Associations:
    """Sequences under uniform attention: `copies` of the answer among tokens drawn uniformly, all answers as likely."""
    draw_answer, draw_rest = jax.random.split(key)
    answer = jax.random.randint(draw_answer, (batch, 1), 0, len(keys))
    rest = jax.random.randint(draw_rest, (batch, length - copies), 0, len(keys))
    rows = jnp.arange(batch)[:, None]
    counts = jnp.zeros((batch, len(keys))).at[rows, rest].add(1).at[rows, answer].add(copies)
    return Associations(counts @ keys / length, values, jax.nn.one_hot(answer[:, 0], len(values)) / batch)


def polar_descent(lr) -> optax.GradientTransformation:
    """Muon in exact arithmetic, without momentum: each matrix steps by the polar factor of its gradient.

    Singular values below 1e-11 of the largest are rounding of zero and are left out.
    """

    def polar(gradient):
        u, size, v = jnp.linalg.svd(gradient, full_matrices=False)
        return (u * (size > 1e-11 * size[0])) @ v

    def update(gradients, state, _=None):
        return jax.tree.map(lambda g: -lr * polar(g), gradients), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)
