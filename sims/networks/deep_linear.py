"""Deep linear networks `yhat = W_N ... W_1 x`, and the ways to start them."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class DeepLinear(eqx.Module):
    """Weights from the input up: `weights[0]` is W_1 (hidden x input), `weights[-1]` is W_N (output x hidden)."""

    weights: tuple[Float[Array, "_ _"], ...]

    def __call__(self, x: Float[Array, "n_in * samples"]) -> Float[Array, "n_out * samples"]:
        """Outputs for inputs in columns."""
        for w in self.weights:
            x = w @ x
        return x

    def product(self) -> Float[Array, "n_out n_in"]:
        """The network map W = W_N ... W_1."""
        w = self.weights[0]
        for upper in self.weights[1:]:
            w = upper @ w
        return w


def gaussian(key, widths: Sequence[int], scale) -> DeepLinear:
    """Independent Gaussian weights of standard deviation `scale`; `widths` run from input to output."""
    keys = jax.random.split(key, len(widths) - 1)
    return DeepLinear(
        tuple(
            scale * jax.random.normal(k, (n_out, n_in))
            for k, n_in, n_out in zip(keys, widths[:-1], widths[1:], strict=True)
        )
    )


def orthogonal(key, widths: Sequence[int], scale) -> DeepLinear:
    """Each layer `scale` times a (semi-)orthogonal matrix drawn uniformly."""
    keys = jax.random.split(key, len(widths) - 1)
    return DeepLinear(
        tuple(
            scale * semi_orthogonal(k, n_out, n_in)
            for k, n_in, n_out in zip(keys, widths[:-1], widths[1:], strict=True)
        )
    )


def aligned(
    key,
    left: Float[Array, "n_out k"],
    right: Float[Array, "n_in k"],
    layers: Float[Array, "N k"],
    hidden: int,
) -> DeepLinear:
    """A start whose modes decouple: layer l has strength `layers[l, i]` on mode i.

    `left` and `right` hold the modes' singular vectors in columns; hidden layers carry the modes in random
    orthonormal directions. Equal rows of `layers` make the start balanced. Needs `hidden` >= k.
    """
    depth, modes = layers.shape
    if hidden < modes:
        raise ValueError(f"hidden must be at least the {modes} modes, got {hidden}")
    keys = jax.random.split(key, max(depth - 1, 1))
    inner = [semi_orthogonal(k, hidden, modes) for k in keys[: depth - 1]]
    frames = [right, *inner, left]
    return DeepLinear(tuple((frames[i + 1] * layers[i]) @ frames[i].T for i in range(depth)))


def semi_orthogonal(key, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """A matrix with orthonormal rows or columns (whichever are fewer), drawn from the Haar measure."""
    tall = jax.random.normal(key, (max(rows, columns), min(rows, columns)))
    q, r = jnp.linalg.qr(tall)
    # The signs make the distribution uniform: QR alone fixes the sign of r's diagonal.
    q = q * jnp.sign(jnp.diagonal(r))
    return q if rows >= columns else q.T


def squared_error(network: DeepLinear, x: Float[Array, "n_in P"], y: Float[Array, "n_out P"]) -> Float[Array, ""]:
    """The base loss (1/2P) sum over samples of |y - W x|^2."""
    return 0.5 * jnp.sum((y - network(x)) ** 2) / x.shape[1]


def correlation_loss(
    network: DeepLinear, sxx: Float[Array, "n_in n_in"], syx: Float[Array, "n_out n_in"]
) -> Float[Array, ""]:
    """The same loss from the data's correlations, up to the constant tr Syy / 2: tr(W Sxx W^T)/2 - tr(W Syx^T)."""
    w = network.product()
    return 0.5 * jnp.sum((w @ sxx) * w) - jnp.sum(w * syx)
