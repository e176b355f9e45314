"""Curvature of a loss in all weights of a network: Hessian-vector products, largest eigenvalue, whole spectrum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float


def hessian_vector(loss: Callable[[Any], jax.Array], model: Any, direction: Any) -> Any:
    """The Hessian of `loss` at `model` times `direction`, all of the structure of the model; no matrix is formed."""
    return jax.jvp(jax.grad(loss), (model,), (direction,))[1]


def sharpness(loss: Callable[[Any], jax.Array], model: Any, key: jax.Array, steps: int = 20) -> Float[Array, ""]:
    """Largest Hessian eigenvalue of `loss` at `model`, by Lanczos iteration from a random direction.

    `steps` Hessian-vector products, each new direction orthogonalised against all earlier ones; a spectrum of that
    many distinct eigenvalues is resolved exactly.
    """
    start, unravel = ravel_pytree(model)
    steps = min(steps, start.size)

    def product(v):
        return ravel_pytree(hessian_vector(loss, model, unravel(v)))[0]

    first = jax.random.normal(key, start.shape, start.dtype)
    basis = jnp.zeros((steps, start.size), start.dtype).at[0].set(first / jnp.linalg.norm(first))

    def extend(k, carry):
        basis, images = carry
        image = product(basis[k])
        images = images.at[k].set(image)
        rest = image - basis.T @ (basis @ image)
        rest = rest - basis.T @ (basis @ rest)
        # Once the space is exhausted what is left is rounding: a zero direction then adds a zero eigenvalue.
        size = jnp.linalg.norm(rest)
        exhausted = size <= 100 * jnp.finfo(rest.dtype).eps * jnp.linalg.norm(image)
        following = jnp.where(exhausted, 0, rest / jnp.where(exhausted, 1, size))
        return basis.at[k + 1].set(following, mode="drop"), images

    basis, images = jax.lax.fori_loop(0, steps, extend, (basis, jnp.zeros_like(basis)))
    small = basis @ images.T
    return jnp.linalg.eigvalsh((small + small.T) / 2)[-1]


def hessian_spectrum(loss: Callable[[Any], jax.Array], model: Any) -> Float[Array, " parameters"]:
    """All Hessian eigenvalues of `loss` at `model`, in ascending order: for networks of a few hundred weights."""
    start, unravel = ravel_pytree(model)
    return jnp.linalg.eigvalsh(jax.hessian(lambda v: loss(unravel(v)))(start))
