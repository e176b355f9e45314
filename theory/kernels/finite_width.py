"""What is left of chance and of learning at finite width: fluctuations of kernels, and orders in 1/width.

A network of width n has the kernels of infinite width on average only (one hidden layer: exactly so); a single one
misses them by order n^{-1/2}. In training its tangent kernel moves by order 1/n, and by as much its outputs depart from
those of the network linearised at the start.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, whole
from theory.kernels.activations import Activation, activation, dual, dual_derivative
from theory.kernels.quadrature import quadrature

# Powers of the width in the NTK parametrisation at a fixed learning rate (Lee et al. 2019, section 2.4; smooth phi:
# Dyer & Gur-Ari 2020, arXiv:1909.11304, conjecture 1): |Theta_0 - Theta| and f_0, |Theta_t - Theta_0|, f_t - f_t^lin.
FLUCTUATION_ORDER, DRIFT_ORDER, LINEARISATION_ORDER = -0.5, -1.0, -1.0


class KernelVariances(NamedTuple):
    """Variances over networks of kernel entries: NNGP, NTK of an output with itself, NTK between two outputs."""

    nngp: Float[Array, "..."]
    ntk: Float[Array, "..."]
    ntk_between: Float[Array, "..."]


def kernel_variances(
    q1: Real[ArrayLike, "..."],
    q2: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."],
    *,
    width: int,
    phi: str | Activation = "relu",
    weight_variance: Real[ArrayLike, ""] = 2.0,
) -> KernelVariances:
    """How much the empirical kernels of networks with one hidden layer scatter between random starts.

    K = s_b + (s_w/n) sum phi phi',   Theta = s_b + (s_w/n) sum (phi phi' + a^2 c d d'),   sums over units:
        n Var K            = s_w^2 (E[phi^2 phi'^2] - T^2)
        n Var Theta        = s_w^2 (E[phi^2 phi'^2] + 2 c E[phi phi' d d'] + 3 c^2 E[d^2 d'^2] - (T + c T')^2)
        n Var Theta_{k!=m} = s_w^2 c^2 E[d^2 d'^2]
    with phi = phi(u), phi' = phi(v), d and d' its derivatives there, T = E[phi phi'], T' = E[d d'], readout weights a.

    Arguments:
        q1, q2, c: kernel of the pre-activations, K^1(x, x), K^1(x', x') and K^1(x, x'); they broadcast.
        width: n, number of hidden units.
        phi: activation, a name or an `Activation`, continuous.
        weight_variance: s_w > 0.
    Returns:
        `KernelVariances`, each of the broadcast shape; `ntk_between` is of the entries between two different outputs,
        whose mean is zero. The output biases add nothing.
    Holds when: one hidden layer in the NTK parametrisation with Gaussian weights, for any width, exactly (by
        quadrature). Their means are exactly the kernels of infinite width.
    Source: sums over independent units; fourth moments of Gaussian weights.
    """
    phi, s = activation(phi), positive("weight_variance", weight_variance)
    n = whole("width", width)
    q1, q2, c = jnp.broadcast_arrays(*(real(name, q) for name, q in (("q1", q1), ("q2", q2), ("c", c))))
    slope, t = dual_derivative(phi, q1, q2, c), dual(phi, q1, q2, c)
    squares, mixed, slopes = (dual(product, q1, q2, c) for product in _products(phi))
    own = squares + 2 * c * mixed + 3 * c**2 * slopes - (t + c * slope) ** 2
    return KernelVariances(*(s**2 / n * v for v in (squares - t**2, own, c**2 * slopes)))


def relu_norm_moment(widths: Sequence[int]) -> Float[Array, ""]:
    """Second moment over first moment squared of the mean squared activation of a deep ReLU network without biases.

    E[q_L^2] / E[q_L]^2 = prod_l (1 + 5 / n_l),   q_L = |phi(h^L(x))|^2 / n_L, of one input

    Arguments:
        widths: n_1 ... n_L of the hidden layers, at least one.
    Returns:
        the ratio; it grows as exp(5 sum_l 1/n_l): the kernels of deep networks fluctuate with depth over width.
    Holds when: Gaussian weights of any variance, no biases, any input but zero, any width, exactly.
    Source: Hanin & Nica 2018 (arXiv:1812.05994), theorem 1, whose exponent has this leading term.
    """
    if not widths:
        raise ValueError(f"widths must hold at least one hidden layer, got {widths!r}")
    return jnp.prod(1 + 5 / jnp.asarray([float(whole("widths", n)) for n in widths]))


class ParameterRates(NamedTuple):
    """Learning rates layer by layer: of weights and of biases."""

    weights: Float[Array, " layers"]
    biases: Float[Array, " layers"]


def standard_rates(
    widths: Sequence[int],
    weight_variance: Real[ArrayLike, ""] = 2.0,
    bias_variance: Real[ArrayLike, ""] = 0.0,
) -> ParameterRates:
    """Rates at which a network in the standard parametrisation learns as one in the NTK parametrisation at rate 1.

    eta_W^l = s_w / n_{l-1},   eta_b^l = s_b

    Arguments:
        widths: n_0 (inputs) ... n_{L+1} (outputs).
        weight_variance: s_w > 0, variance of a weight times its fan-in; bias_variance: s_b >= 0.
    Returns:
        `ParameterRates`, each of shape (L+1,). With them the tangent kernel of the standard network, sum over
        parameters of rate times squared derivative, is that of the NTK parametrisation, at any width, and so is
        every step of gradient descent; with one rate for all it grows with the width.
    Holds when: weights W = sqrt(s_w/n) w and biases sqrt(s_b) b; exactly.
    Source: Lee et al. 2019 (arXiv:1902.06720), appendix F; Sohl-Dickstein et al. 2020 (arXiv:2001.07301).
    """
    if len(widths) < 2:
        raise ValueError(f"widths must hold inputs and outputs at least, got {widths!r}")
    s_w, s_b = positive("weight_variance", weight_variance), non_negative("bias_variance", bias_variance)
    below = jnp.asarray([float(whole("widths", n)) for n in widths[:-1]], s_w.dtype)
    return ParameterRates(s_w / below, jnp.broadcast_to(s_b, below.shape))


@functools.lru_cache(maxsize=64)
def _products(phi: Activation) -> tuple[Activation, Activation, Activation]:
    """phi^2, phi phi' and phi'^2 as activations: their duals are the fourth moments."""

    def slope(x):
        return jax.jvp(phi.function, (x,), (jnp.ones_like(x),))[1]

    return (
        quadrature(lambda x: phi.function(x) ** 2),
        quadrature(lambda x: phi.function(x) * slope(x)),
        quadrature(lambda x: slope(x) ** 2),
    )
