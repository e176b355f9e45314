"""Fully connected networks in any width scaling: a multiplier, a start and a learning rate for every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sims.networks.centred import Centred


class Scaled(eqx.Module):
    """W^l = multipliers[l] weights[l], without biases: h^1 = W^1 x, h^{l+1} = W^{l+1} phi(h^l), f = W^{L+1} phi(h^L).

    Only `weights` are trained: the multipliers pass no gradient.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    multipliers: Float[Array, " layers"]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def layers(self, x: Float[Array, "samples n_in"]) -> list[Float[Array, "samples _"]]:
        """h^1, ..., h^L and f for inputs in rows."""
        multipliers = jax.lax.stop_gradient(self.multipliers)
        outputs = []
        for multiplier, w in zip(multipliers, self.weights, strict=True):
            outputs.append(multiplier * (x @ w.T))
            x = self.activation(outputs[-1])
        return outputs

    def __call__(self, x: Float[Array, "samples n_in"]) -> Float[Array, "samples n_out"]:
        """Outputs for inputs in rows."""
        return self.layers(x)[-1]


def scaled(key, widths: Sequence[int], multipliers, deviations, activation=jnp.tanh) -> Scaled:
    """Gaussian weights of standard deviation `deviations[l]`; `widths` run from input to output."""
    keys = jax.random.split(key, len(widths) - 1)
    shapes = zip(widths[1:], widths[:-1], strict=True)
    weights = tuple(
        deviation * jax.random.normal(k, shape) for k, shape, deviation in zip(keys, shapes, deviations, strict=True)
    )
    return Scaled(weights, jnp.asarray(multipliers, float), activation)


def abc(key, inputs: int, width: int, a, b, activation=jnp.tanh, outputs: int = 1) -> Scaled:
    """A network of len(a) - 1 hidden layers of `width` n: multipliers n^{-a}, weights of deviation n^{-b}."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a and b must hold one exponent for each of two layers or more, got {a} and {b}")
    widths = [inputs, *[width] * (len(a) - 1), outputs]
    return scaled(key, widths, float(width) ** -jnp.asarray(a), float(width) ** -jnp.asarray(b), activation)


def layerwise(rates, direction: optax.GradientTransformation | None = None) -> optax.GradientTransformation:
    """An optimiser of a `Scaled` or `Centred` network with its own learning rate for each layer.

    `direction` makes the step of unit rate from the gradient: the gradient itself if not given,
    `optax.scale_by_adam()` for Adam, `sign_of_gradient()` for its first step without rounding.
    """

    def weights(tree):
        return tree.network.weights if isinstance(tree, Centred) else tree.weights

    def update(updates, state, parameters=None):
        del parameters
        steps = tuple(-rate * w for rate, w in zip(rates, weights(updates), strict=True))
        return eqx.tree_at(weights, updates, steps), state

    scale = optax.GradientTransformation(lambda _: optax.EmptyState(), update)
    return scale if direction is None else optax.chain(direction, scale)


def sign_of_gradient() -> optax.GradientTransformation:
    """Adam's first step, and Adam without memory: every weight moves by the learning rate."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates))
