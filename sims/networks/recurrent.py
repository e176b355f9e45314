"""Small recurrent networks as models of circuits, and initial weights with structure for them."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Recurrent(eqx.Module):
    """h_{t+1} = phi(W h_t + W_in x_t), h_0 = 0, f = readout . h_T: one output after the last input."""

    recurrent: Float[Array, "n n"]
    inputs: Float[Array, "n d"]
    readout: Float[Array, " n"]
    activation: Callable[[Array], Array] = eqx.field(static=True, default=jax.nn.relu)

    def states(self, x: Float[Array, "P T d"]) -> Float[Array, "P n"]:
        """Hidden states after the last input, for sequences in rows."""

        def step(h, now):
            return self.activation(h @ self.recurrent.T + now @ self.inputs.T), None

        start = jnp.zeros((x.shape[0], self.readout.size), x.dtype)
        return jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0]

    def __call__(self, x: Float[Array, "P T d"]) -> Float[Array, " P"]:
        """Outputs for sequences in rows."""
        return self.states(x) @ self.readout


def of_rank(w: Float[Array, "n d"], rank: int) -> Float[Array, "n d"]:
    """The part of w with the largest singular values, scaled back to the Frobenius norm of w."""
    left, sizes, right = jnp.linalg.svd(w, full_matrices=False)
    kept = (left[:, :rank] * sizes[:rank]) @ right[:rank]
    return kept * (jnp.linalg.norm(w) / jnp.linalg.norm(kept))


def under_dales_law(key, signs: Float[Array, " d"], scales: Float[Array, " d"], units: int) -> Float[Array, "n d"]:
    """Weights of which all from one unit have its sign: sign_j |z_ij|, z_ij ~ N(0, scale_j^2)."""
    return signs * jnp.abs(scales * jax.random.normal(key, (units, len(signs))))


def evidence(key, samples: int, times: int, signal: float) -> tuple[Float[Array, "P T two"], Float[Array, " P"]]:
    """Noisy evidence in two channels: which of them has the larger mean? Inputs (P, T, 2) and labels of +-1."""
    which, noise = jax.random.split(key)
    y = jnp.where(jax.random.bernoulli(which, shape=(samples,)), 1.0, -1.0)
    x = jax.random.normal(noise, (samples, times, 2)) + signal * jnp.stack([y, -y], axis=1)[:, None, :]
    return x, y
