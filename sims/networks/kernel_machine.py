"""Kernel machines, solved as they stand. Samples are rows."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def relu_tangent_kernel(
    x: Float[Array, "P d"], other: Float[Array, "R d"], depth: int, weight_variance: float, bias_variance: float
) -> Float[Array, "P R"]:
    """Tangent kernel of an infinitely wide ReLU network with `depth` hidden layers, by the arc-cosine functions."""
    d = x.shape[1]
    covariance = weight_variance * x @ other.T / d + bias_variance
    own, others = (weight_variance * jnp.sum(y**2, axis=1) / d + bias_variance for y in (x, other))
    tangent = covariance
    for _ in range(depth):
        lengths = jnp.sqrt(own[:, None] * others)
        angle = jnp.arccos(jnp.clip(covariance / lengths, -1.0, 1.0))
        # Half-space moments of a Gaussian pair: E relu relu and E step step.
        covariance = weight_variance * lengths * (jnp.sin(angle) + (jnp.pi - angle) * jnp.cos(angle)) / (2 * jnp.pi)
        covariance = covariance + bias_variance
        tangent = covariance + tangent * weight_variance * (jnp.pi - angle) / (2 * jnp.pi)
        own, others = weight_variance * own / 2 + bias_variance, weight_variance * others / 2 + bias_variance
    return tangent


def dual_weights(kernel: Float[Array, "P P"], y: Float[Array, "P *C"], ridge) -> Float[Array, "P *C"]:
    """The dual weights of ridge regression, (K + ridge)^{-1} y; predictions are K(x, x_train) times these."""
    return jnp.linalg.solve(kernel + ridge * jnp.eye(len(kernel)), y)


def on_sphere(gaussian: Float[Array, "P d"]) -> Float[Array, "P d"]:
    """Rows scaled to unit length: Gaussian rows become uniform on the sphere."""
    return gaussian / jnp.linalg.norm(gaussian, axis=1, keepdims=True)
