"""A text read under names that are new in each piece: no symbol means the same twice, the text is always the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sims.tasks.urns import random_urns


def dealt(text: np.ndarray, block: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of so many symbols of a text, a third of them to test on and the rest to train on, (B, block) each."""
    if not 1 <= block <= len(text) // 3:
        raise ValueError(f"block must be from 1 to a third of the {len(text)} symbols of the text, got {block}")
    blocks = text[: len(text) // block * block].reshape(-1, block).astype(np.int32)
    test, train = np.split(np.random.default_rng(seed).permutation(blocks), [len(blocks) // 3])
    return test, train


def random_pieces(key, blocks: Int[Array, "B N"], count: int, length: int) -> Int[Array, "P T"]:
    """Pieces of `length` symbols from anywhere within the blocks of a text, none across two of them."""
    of_block, of_place = jax.random.split(key)
    block = jax.random.randint(of_block, (count, 1), 0, blocks.shape[0])
    start = jax.random.randint(of_place, (count, 1), 0, blocks.shape[1] - length + 1)
    return blocks[block, start + jnp.arange(length)]


def new_names(key, count: int, kinds: Int[Array, " L"], symbols: int) -> Int[Array, "P L"]:
    """For each piece the names of all letters: those of their kinds, 0 to K - 1, dealt out anew."""
    # In the order of random numbers: one sort is compiled, and soon.
    dealt = jnp.argsort(jax.random.uniform(key, (count, symbols)), axis=1)
    return dealt[:, kinds]


def new_classes(key, count: int, letters: int, symbols: int) -> Int[Array, "P L"]:
    """For each piece the class of every letter: each is thrown by itself, with shares that are uniform on the simplex.

    Shares are drawn once for each piece: some classes are large.
    """
    of_shares, of_letters = jax.random.split(key)
    edges: Float[Array, "P K"] = jnp.cumsum(random_urns(of_shares, count, symbols), axis=1)
    chance = jax.random.uniform(of_letters, (count, letters))
    return jnp.sum(chance[:, :, None] >= edges[:, None, :-1], axis=-1)


def thrown(key, pieces: Int[Array, "P T"], symbols: int) -> Int[Array, "P T"]:
    """Each piece with every different letter of it thrown into one of K classes by itself, all classes alike.

    A class is drawn for each place; letters have that of the place at which they stand for the first time. The
    alphabet may be of any size.
    """
    first = jnp.argmax(pieces[:, :, None] == pieces[:, None, :], axis=2)
    drawn = jnp.floor(symbols * jax.random.uniform(key, pieces.shape)).astype(pieces.dtype)
    return jnp.take_along_axis(drawn, first, axis=1)


def renamed(pieces: Int[Array, "P T"], names: Int[Array, "P L"]) -> Int[Array, "P T"]:
    """Each piece under its own names."""
    return jnp.take_along_axis(names, pieces, axis=1)
