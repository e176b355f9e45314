"""Attention layers that write beside what they read, and the task of undoing a permutation with them.

Rows of a sequence: n rows of a permutation, one-hot, row j with its one in column pi(j); n rows with the numbers
y_{pi(j)} in that order; and n scratch rows that hold nothing. Each row knows its position. Answers are read from the
scratch rows, or from the rows of the numbers: to a causal network the scratch rows are then as good as not there.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int


class ConcatenatingAttention(eqx.Module):
    """h^{l+1} = [h^l, s h^l],   s = softmax (h^l A_l h^lT), over visible rows; the last layer's rows are read out.

    `causal`: 1 where rows see those before them and themselves, 0 where they see all. It is not trained.
    """

    scores: tuple[Float[Array, "_ _"], ...]
    readout: Float[Array, " width"]
    causal: Float[ArrayLike, ""] = 1.0

    def attention(self, rows: Float[Array, "*P T D"]) -> list[Float[Array, "*P T T"]]:
        """The pattern of every layer."""
        return self._through(rows)[1]

    def __call__(self, rows: Float[Array, "*P T D"]) -> Float[Array, "*P T"]:
        """One number for every row."""
        return self._through(rows)[0] @ self.readout

    def _through(self, rows):
        size, patterns = rows.shape[-2], []
        visible = jnp.tril(jnp.ones((size, size), bool)) | (jax.lax.stop_gradient(self.causal) < 0.5)
        for form in self.scores:
            scores = jnp.einsum("...td,de,...se->...ts", rows, form, rows)
            patterns.append(jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1))
            rows = jnp.concatenate([rows, patterns[-1] @ rows], axis=-1)
        return rows, patterns


def sequences(permutations: Int[Array, "*P n"], y: Float[Array, "*P n"]) -> Float[Array, "*P T D"]:
    """Rows [one-hot permutation | number | position], T = 3 n, for the numbers y."""
    n = y.shape[-1]
    hot = jax.nn.one_hot(permutations, n, dtype=y.dtype)
    numbers = jnp.einsum("...jk,...k->...j", hot, y)
    nothing = jnp.zeros((*y.shape, n + 1), y.dtype)
    first = jnp.concatenate([hot, nothing[..., :1]], axis=-1)
    second = jnp.concatenate([nothing[..., :n], numbers[..., None]], axis=-1)
    content = jnp.concatenate([first, second, nothing], axis=-2)
    position = jnp.broadcast_to(jnp.eye(3 * n, dtype=y.dtype), (*y.shape[:-1], 3 * n, 3 * n))
    return jnp.concatenate([content, position], axis=-1)


def untrained(key, n: int, layers: int = 2, causal=1.0, scale: float = 0.5) -> ConcatenatingAttention:
    """Gaussian score matrices and readout, of standard deviation scale / sqrt(width)."""
    keys = jax.random.split(key, layers + 1)
    widths = [(4 * n + 1) * 2**i for i in range(layers + 1)]
    forms = tuple(scale * jax.random.normal(k, (w, w)) / w**0.5 for k, w in zip(keys[:-1], widths[:-1], strict=True))
    readout = scale * jax.random.normal(keys[-1], (widths[-1],)) / widths[-1] ** 0.5
    return ConcatenatingAttention(forms, readout, jnp.asarray(causal, readout.dtype))


def constructed(n: int, first, second, penalty) -> ConcatenatingAttention:
    """Weights set by hand that undo any permutation in the n scratch rows, in two layers.

    Layer 1: number j looks at row j of the permutation, with score `first`. Layer 2: scratch row i looks at rows that
    copied a one in column i, with score `second` times that copy, and not at others than numbers, by `penalty`.
    """
    width = 4 * n + 1
    place = n + 1 + jnp.arange(3 * n)
    one = jnp.zeros((width, width)).at[place[n : 2 * n], place[:n]].set(first)
    two = jnp.zeros((2 * width, 2 * width)).at[place[2 * n :], width + jnp.arange(n)].set(second)
    outside = jnp.concatenate([place[:n], place[2 * n :]])
    two = two.at[place[2 * n :, None], outside].set(-penalty)
    # What layer 2 copied of the numbers themselves.
    readout = jnp.zeros(4 * width).at[2 * width + n].set(1.0)
    return ConcatenatingAttention((one, two), readout)


def tasks(key, batch: int, n: int) -> tuple[Int[Array, "P n"], Float[Array, "P n"]]:
    """Uniform permutations and standard normal numbers."""
    order, numbers = jax.random.split(key)
    # Ranks of independent numbers, by comparison: quicker to compile than a sort.
    drawn = jax.random.uniform(order, (batch, n))
    ranks = jnp.sum(drawn[:, None, :] < drawn[:, :, None], axis=2)
    return ranks, jax.random.normal(numbers, (batch, n))


def row_errors(model: ConcatenatingAttention, permutations, y, scratch) -> Float[Array, "P n"]:
    """(f - y_i)^2 in the scratch rows where `scratch` is 1, in the rows of the numbers where it is 0."""
    n, outputs = y.shape[1], model(sequences(permutations, y))
    return (jnp.where(scratch > 0.5, outputs[:, 2 * n :], outputs[:, n : 2 * n]) - y) ** 2
