"""Items at the leaves of a tree, with properties that diffuse down it; and a small table of living things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Table(NamedTuple):
    """Which item has which property: `values` is (properties, items)."""

    items: tuple[str, ...]
    properties: tuple[str, ...]
    values: np.ndarray

    def entry(self, item: str, prop: str) -> tuple[int, int]:
        """Row and column of a property and an item."""
        return self.properties.index(prop), self.items.index(item)


LIVING_THINGS = Table(
    items=("canary", "salmon", "oak", "rose"),
    properties=("grow", "move", "roots", "fly", "swim", "bark", "petals"),
    values=np.array(
        [
            [1, 1, 1, 1],
            [1, 1, 0, 0],
            [0, 0, 1, 1],
            [1, 0, 0, 0],
            [0, 1, 0, 0],
            [0, 0, 1, 0],
            [0, 0, 0, 1],
        ],
        dtype=float,
    ),
)


def tree_table(key, branching: Sequence[int], eps, properties: int) -> Float[Array, "properties items"]:
    """Properties of the leaves of a tree, each +1 or -1 at the root and flipped with probability `eps` per edge.

    `branching` holds the children of a node at each level; siblings are next to each other among the items.
    """
    root, *levels = jax.random.split(key, 1 + len(branching))
    values = jax.random.rademacher(root, (properties, 1), dtype=float)
    for level, children in zip(levels, branching, strict=True):
        values = jnp.repeat(values, children, axis=1)
        flipped = jax.random.bernoulli(level, eps, values.shape)
        values = jnp.where(flipped, -values, values)
    return values
