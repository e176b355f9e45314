"""Tensors of rank one as networks: outer products of vectors that learn, one tensor or two that share factors."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class TensorFactors(eqx.Module):
    """a (x) b (x) c. A factor learns where `free` is one; where it is zero it stays what it is."""

    vectors: tuple[Float[Array, "_"], ...]
    free: Float[Array, "_"]

    def learning(self) -> list[Float[Array, "_"]]:
        """The vectors, without a gradient where they are held."""
        free = jax.lax.stop_gradient(self.free)
        return [on * x + (1 - on) * jax.lax.stop_gradient(x) for on, x in zip(free, self.vectors, strict=True)]

    def __call__(self) -> Float[Array, "d1 d2 d3"]:
        """The tensor."""
        return outer(self.learning())


class TwoMechanisms(eqx.Module):
    """a (x) b (x) c and d (x) b (x) c, of vectors a, d, b, c, b', c'. If `shared` is zero the second has b' and c'."""

    vectors: tuple[Float[Array, "_"], ...]
    free: Float[Array, "_"]
    shared: Float[Array, ""]

    def __call__(self) -> tuple[Float[Array, "d1 d2 d3"], Float[Array, "d4 d2 d3"], Float[Array, "d1 d4"]]:
        """Both tensors, and a (x) d, on which they compete."""
        a, d, b, c, b2, c2 = TensorFactors(self.vectors, self.free).learning()
        shared = jax.lax.stop_gradient(self.shared)
        b2, c2 = shared * b + (1 - shared) * b2, shared * c + (1 - shared) * c2
        return outer([a, b, c]), outer([d, b2, c2]), jnp.outer(a, d)


def outer(vectors: Sequence[Float[Array, "_"]]) -> Float[Array, "d1 d2 d3"]:
    """The outer product of three vectors."""
    return jnp.einsum("i,j,k->ijk", *vectors)


def half_mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Half the mean of the squared entries."""
    return 0.5 * jnp.mean(x**2)


def contest_loss(
    first: Float[Array, ""],
    second: Float[Array, ""],
    overlap: Float[Array, "_ _"],
    floors: Float[Array, "_"],
    competition: Float[Array, ""],
) -> Float[Array, ""]:
    """(l_1 + mu_1) (l_2 + mu_2) + (alpha / 2) mean((a (x) d)^2)."""
    return (first + floors[0]) * (second + floors[1]) + competition * half_mean_square(overlap)
