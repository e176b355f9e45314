"""Fully connected networks: parametrisations that have a limit of infinite width, residual branches, LayerNorm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class MLP(eqx.Module):
    """Layers h^{l+1} = a_l W^l phi(h^l) + c_l b^l on samples in rows; phi of the first is the input itself.

    `weights[l]` is (n_{l+1}, n_l), `biases` holds a vector for each layer or nothing at all. The fixed multipliers a_l
    and c_l are the parametrisation. With `residual` alpha, a hidden layer of the width of the one below adds to it:
    h <- h + alpha (...). With `normalise`, LayerNorm without gains stands between h and phi.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    weight_multipliers: tuple[float, ...] = eqx.field(static=True)
    bias_multipliers: tuple[float, ...] = eqx.field(static=True)
    activation: Callable = eqx.field(static=True, default=jax.nn.relu)
    residual: float | None = eqx.field(static=True, default=None)
    normalise: bool = eqx.field(static=True, default=False)

    def __call__(self, x: Float[Array, "*P d"]) -> Float[Array, "*P C"]:
        """Outputs, without an activation on them."""
        h = self.layer(0, x)
        for i in range(1, len(self.weights)):
            new = self.layer(i, self.activation(layer_norm(h) if self.normalise else h))
            keeps_width = i < len(self.weights) - 1 and new.shape == h.shape
            h = new if self.residual is None or not keeps_width else h + self.residual * new
        return h

    def layer(self, i: int, x: Float[Array, "*P n_in"]) -> Float[Array, "*P n_out"]:
        """The affine map of one layer."""
        h = self.weight_multipliers[i] * (x @ self.weights[i].T)
        return h + self.bias_multipliers[i] * self.biases[i] if self.biases else h


def mlp(
    key,
    widths: Sequence[int],
    weight_variance=2.0,
    bias_variance=0.0,
    activation: Callable = jax.nn.relu,
    *,
    parametrisation: str = "ntk",
    bias: bool | None = None,
    residual=None,
    normalise: bool = False,
) -> MLP:
    """A network of the given widths, input first, with Gaussian weights whose pre-activations do not grow with width.

    "ntk":       f = sigma_w W phi(h) / sqrt(n) + sigma_b b,   all parameters N(0, 1);
    "standard":  f = W phi(h) + b,   W ~ N(0, sigma_w^2 / n), b ~ N(0, sigma_b^2),
    where n is the width below, sigma_w^2 = `weight_variance` and sigma_b^2 = `bias_variance`. Both are the same
    functions at the start; gradient descent moves them differently. Networks have biases if `bias` says so, by
    default where their variance is positive.
    """
    if parametrisation not in ("ntk", "standard"):
        raise ValueError(f"parametrisation must be 'ntk' or 'standard', got {parametrisation!r}")
    if len(widths) < 2:
        raise ValueError(f"widths must hold inputs and outputs at least, got {tuple(widths)}")
    for name, variance in (("weight_variance", weight_variance), ("bias_variance", bias_variance)):
        if not variance >= 0:
            raise ValueError(f"{name} must not be negative, got {variance}")
    layers = len(widths) - 1
    weight_scales = tuple(float((weight_variance / n) ** 0.5) for n in widths[:-1])
    bias_scales = (float(bias_variance**0.5),) * layers
    ones = (1.0,) * layers
    residual = None if residual is None else float(residual)
    bias = bias_variance > 0 if bias is None else bias
    if parametrisation == "ntk":
        return _drawn(key, widths, ones, ones, weight_scales, bias_scales, bias, activation, residual, normalise)
    return _drawn(key, widths, weight_scales, bias_scales, ones, ones, bias, activation, residual, normalise)


def squared_error(network: Callable, x: Float[Array, "P d"], y: Float[Array, "P C"]) -> Float[Array, ""]:
    """The base loss (1/2P) sum over samples of |y - f(x)|^2."""
    return 0.5 * jnp.sum((y - network(x)) ** 2) / x.shape[0]


def layer_norm(h: Float[Array, "*P n"], epsilon: float = 1e-6) -> Float[Array, "*P n"]:
    """h with mean 0 and variance 1 over the units of each sample."""
    centred = h - jnp.mean(h, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + epsilon)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x Phi(x). JAX's own `gelu` is by default an approximation with tanh, off by up to 5e-4."""
    return jax.nn.gelu(x, approximate=False)


def _drawn(
    key, widths, weight_scales, bias_scales, weight_multipliers, bias_multipliers, bias, activation, residual, normalise
) -> MLP:
    """Entries N(0, scale^2); networks with and without biases share their weights."""
    weight_key, bias_key = jax.random.split(key)
    weights = tuple(
        scale * jax.random.normal(k, (n_out, n_in))
        for k, scale, n_in, n_out in zip(
            jax.random.split(weight_key, len(widths) - 1), weight_scales, widths[:-1], widths[1:], strict=True
        )
    )
    biases = tuple(
        scale * jax.random.normal(k, (n,))
        for k, scale, n in zip(jax.random.split(bias_key, len(widths) - 1), bias_scales, widths[1:], strict=True)
    )
    biases = biases if bias else ()
    return MLP(weights, biases, weight_multipliers, bias_multipliers, activation, residual, normalise)
