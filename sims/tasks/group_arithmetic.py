"""Group arithmetic: two elements as one-hot vectors, their product as the label.

A group of M elements is its multiplication table, (M, M): table[g, h] is the number of gh. Modular addition is the
cyclic group.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer


def addition_table(*moduli: int) -> Int[np.ndarray, "M M"]:
    """Addition of numbers modulo a number, or of tuples part by part modulo several; the last part varies fastest."""
    if not moduli or min(moduli) < 1:
        raise ValueError(f"moduli must be whole numbers from 1 on, got {moduli}")
    parts = np.indices(moduli).reshape(len(moduli), -1)
    sums = (parts[:, :, None] + parts[:, None, :]) % np.array(moduli)[:, None, None]
    return np.ravel_multi_index(tuple(sums), moduli)


def group_pairs(table: Integer[np.ndarray, "M M"]) -> tuple[Float[Array, "P D"], Float[Array, "P M"]]:
    """All P = M^2 pairs: inputs of length D = 2M, first element's one-hot vector before the second's, and labels.

    The second element varies fastest.
    """
    order = len(table)
    one_hot = jnp.eye(order)
    first, second = jnp.repeat(one_hot, order, axis=0), jnp.tile(one_hot, (order, 1))
    return jnp.concatenate([first, second], axis=1), one_hot[jnp.asarray(table).ravel()]


def centred_error(outputs: Float[Array, "P M"], y: Float[Array, "P M"], seen) -> Float[Array, ""]:
    """(1/2P) sum over the P seen pairs of |f - y|^2, f and y less their means over the M outputs of a pair."""
    wrong = outputs - y
    wrong = wrong - jnp.mean(wrong, axis=1, keepdims=True)
    return 0.5 * jnp.sum(seen[:, None] * wrong**2) / jnp.sum(seen)


def accuracy(outputs: Float[Array, "P M"], y: Float[Array, "P M"], seen) -> Float[Array, ""]:
    """Fraction of the seen pairs whose largest output is the label; zero where none is seen."""
    right = jnp.argmax(outputs, axis=1) == jnp.argmax(y, axis=1)
    return jnp.sum(seen * right) / jnp.maximum(jnp.sum(seen), 1)
