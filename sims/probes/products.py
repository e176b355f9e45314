"""What a product of many random layers does to lengths and volumes, without ever forming it.

The product of N layers has singular values from order one down to e^-N, more than the columns of one matrix can
hold. So a frame of orthonormal vectors is carried through the layers and made orthonormal again behind each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.engine import Simulation


class Product(NamedTuple):
    """A product of layers: what draws them, their number, a frame carried through, its log lengths."""

    key: Array
    gain: Array
    depth: Array
    frame: Array
    logs: Array


def gaussian_product(n: int, sweeps: int = 4) -> Simulation:
    """Each step multiplies by one more n x n layer of entries N(0, gain^2/n), gain being a hyperparameter.

    Records `carried`, the logarithms of the carried frame's lengths (the first is ln |W v|), and `log_sigma`, those of
    the singular values.
    """

    def init(key, hyper):
        return Product(key, jnp.asarray(hyper["gain"]), jnp.zeros((), jnp.int32), jnp.eye(n), jnp.zeros(n))

    def layer(product, k):
        return product.gain * jax.random.normal(jax.random.fold_in(product.key, k), (n, n)) / jnp.sqrt(n)

    def step(product):
        frame, grown = carried(layer(product, product.depth), product.frame)
        return product._replace(depth=product.depth + 1, frame=frame, logs=product.logs + grown)

    def record(product):
        log_sigma = log_singular_values(lambda k: layer(product, k), product.depth, n, sweeps)
        return {"carried": product.logs, "log_sigma": log_sigma}

    return Simulation(init, step, record)


def carried(layer: Float[Array, "n n"], frame: Float[Array, "n k"]) -> tuple[Float[Array, "n k"], Float[Array, " k"]]:
    """The frame behind one layer, and the growth of the logarithms of its lengths.

    The first is the growth of ln |W v| for the frame's first vector, the sum of the first k that of a k-volume.
    """
    images = (layer @ frame).T
    basis, lengths = [], []
    for image in images:
        # Gram-Schmidt, twice for accuracy: the library's QR is slow for many small matrices.
        for _ in range(2):
            for direction in basis:
                image = image - jnp.dot(direction, image) * direction
        lengths.append(jnp.sqrt(jnp.sum(image**2)))
        basis.append(image / lengths[-1])
    return jnp.stack(basis, axis=1), jnp.log(jnp.stack(lengths))


def log_singular_values(
    layer: Callable[[Array], Float[Array, "n n"]], depth: Array, n: int, sweeps: int = 4
) -> Float[Array, " n"]:
    """ln of the singular values of layer(depth - 1) ... layer(0), by orthogonal iteration up and down the layers.

    Each sweep multiplies the error by (sigma_{i+1} / sigma_i)^2.
    """

    def up(k, state):
        frame, grown = carried(layer(k), state[0])
        return frame, state[1] + grown

    def down(k, frame):
        return carried(layer(depth - 1 - k).T, frame)[0]

    def sweep(_, frame):
        frame, _ = jax.lax.fori_loop(0, depth, up, (frame, jnp.zeros(n)))
        return jax.lax.fori_loop(0, depth, down, frame)

    frame = jax.lax.fori_loop(0, sweeps, sweep, jnp.eye(n))
    return jax.lax.fori_loop(0, depth, up, (frame, jnp.zeros(n)))[1]
