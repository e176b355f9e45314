"""Training BatchNorm and only BatchNorm: the tangent kernel of its scales and shifts (Frankle, Schwab & Morcos 2021).

All weights stay at their random start. What is trained is a scale gamma and a shift beta for each unit, between the
normalisation and the activation, phi(gamma u + beta) from gamma = 1 and beta = 0:

    u^l = (h^l - mean h^l) / sd h^l,   h^{l+1} = W^{l+1} phi(gamma^l u^l + beta^l) / sqrt(n),   f = h^{L+1}.

That is 2 n L parameters against about n^2 L weights, and yet an infinite family of features: a shift contributes
phi'(u)(x), a scale phi'(u) u (x), of every random unit. Mean and standard deviation are those over a population of
inputs at the start, and stay fixed (the inference mode of BatchNorm, frozen running statistics): no gradient passes
through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole, within
from theory.kernels.activations import Activation, activation
from theory.kernels.pairs import Pair, pair, root


class NormKernels(NamedTuple):
    """Covariance of the outputs at the start, and the tangent kernel by what is trained.

    nngp: covariance of the outputs over the random weights.
    scale: tangent kernel of the scales gamma of all layers.
    shift: tangent kernel of the shifts beta of all layers.
    weights: tangent kernel of all weights, for comparison.
    """

    nngp: Float[Array, "..."]
    scale: Float[Array, "..."]
    shift: Float[Array, "..."]
    weights: Float[Array, "..."]

    @property
    def batchnorm(self) -> Float[Array, "..."]:
        """Tangent kernel of training BatchNorm and only BatchNorm."""
        return self.scale + self.shift

    @property
    def ntk(self) -> Float[Array, "..."]:
        """Tangent kernel of training everything."""
        return self.weights + self.scale + self.shift


def gain_dual(
    phi: str | Activation, q1: Real[ArrayLike, "*n"], q2: Real[ArrayLike, "*n"], c: Real[ArrayLike, "*n"]
) -> Float[Array, "*n"]:
    """The dual of u phi'(u), which is what a scale in front of the activation feels.

    E[u phi'(u) v phi'(v)] = c D + (q1 q2 + c^2) dD/dc + 2 c (q1 dD/dq1 + q2 dD/dq2),   D = E[phi'(u) phi'(v)].

    Arguments:
        phi: a name ("relu", "erf", ...) or a continuous `Activation`.
        q1, q2: variances, >= 0 (> 0 for activations without homogeneity); c: covariance, |c| <= sqrt(q1 q2).
    Returns:
        the dual, of the broadcast shape; E[phi phi] for ReLU and its kin, where u phi'(u) = phi(u).
    Holds when: (u, v) ~ N(0, [[q1, c], [c, q2]]); phi smooth, or homogeneous: `abrelu` and its kin, `rectified_power`.
    Source: integration by parts, twice (Price 1958).
    """
    q1, q2, c = non_negative("q1", q1), non_negative("q2", q2), real("c", c)
    bound = root(q1) * root(q2)
    excess = jnp.abs(c) <= bound * (1 + 8 * jnp.finfo(bound.dtype).eps)
    return _gain_dual(_continuous(phi), q1, q2, require("c", c, excess, "must be at most sqrt(q1 q2) in size"))


def batchnorm_kernels(
    x: Real[ArrayLike, "P d"],
    other: Real[ArrayLike, "R n"] | None = None,
    *,
    depth: int,
    phi: str | Activation = "relu",
    weight_variance: Real[ArrayLike, ""] = 1.0,
) -> NormKernels:
    """Kernels of a network with BatchNorm before every activation, its statistics taken over the rows of x.

    Forward:  K^{l+1} = E[phi phi],  C^{l+1} = centred K^{l+1} / s_{l+1},  s = its mean diagonal over the population;
    backward: S^{L+1} = s_w,  S^l = S^{l+1} E[phi' phi']^l / s_l;
    scale = sum_l S^{l+1} E[u phi' v phi']^l,   shift = sum_l S^{l+1} E[phi' phi']^l,   (u, v) ~ N(0, C^l).

    Arguments:
        x: the population in rows, (P, d); not all alike.
        other: further inputs, (R, d), which are normalised with the statistics of x.
        depth: number L of hidden layers, each with BatchNorm.
        phi: a name ("relu", "erf", ...) or a continuous `Activation`.
        weight_variance: s_w > 0 of the last layer, times its fan-in; that of the others is normalised away.
    Returns:
        `NormKernels`, each (P, P), or (P, R) between x and `other`.
    Holds when: infinite width, weights N(0, 1) with 1/sqrt(fan-in) in front (NTK parametrisation), statistics frozen
        at the start, and a population of many effective dimensions, (sum lam)^2 / sum lam^2 >> 1 for the eigenvalues
        lam of centred K: the variance of one unit over the population is then that of all. For ReLU at depth 1 and
        white inputs that last condition is not needed: its kernels do not feel |w|.
    Source: Frankle, Schwab & Morcos 2021 (arXiv:2003.00152) in the limit of Jacot, Gabriel & Hongler 2018
        (arXiv:1806.07572); mean-field BatchNorm: Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz 2019
        (arXiv:1902.08129).
    """
    phi, depth, s_w = _continuous(phi), whole("depth", depth), positive("weight_variance", weight_variance)
    x = matrix("x", x)
    size = x.shape[0]
    rows = x if other is None else jnp.concatenate([x, matrix("other", other, columns=x.shape[1]).astype(x.dtype)])

    def centred(k):
        """Covariance after the mean over the population has been taken off each unit, and its mean diagonal."""
        mean = jnp.mean(k[:size], axis=0)
        k = k - mean[:, None] - mean[None, :] + jnp.mean(mean[:size])
        return k, jnp.mean(jnp.diagonal(k)[:size])

    start = rows @ rows.T / x.shape[1]
    spread = centred(start)[1]
    require("x", x, spread > 0, "must hold inputs that differ")
    kernels = _propagated(start, centred, jnp.diagonal, phi, depth, s_w)
    keep = slice(None) if other is None else slice(size, None)
    return NormKernels(*(k[:size, keep] for k in kernels))


def batchnorm_kernels_of_cosine(
    t: Real[ArrayLike, "*n"],
    *,
    depth: int,
    phi: str | Activation = "relu",
    weight_variance: Real[ArrayLike, ""] = 1.0,
) -> NormKernels:
    """The kernels as functions of the cosine between inputs, for a population that fills a sphere of high dimension.

    Two random inputs are orthogonal there: centring takes off K(0), and s = K(1) - K(0).

    Arguments:
        t: cosine, -1 <= t <= 1, any shape.
        depth, phi, weight_variance: as for `batchnorm_kernels`.
    Returns:
        `NormKernels`, each of the shape of t. At depth 1, s_w [(pi - theta)(1 + t) + sin theta] / 2 pi for ReLU and
        s_w (4/pi) [1 / sqrt(9 - 4 t^2) + t / (9 - 4 t^2)^{3/2}] for erf, in `batchnorm`.
    Holds when: as for `batchnorm_kernels`, in high dimension; at depth 1 for ReLU in any dimension.
    Source: as for `batchnorm_kernels`; Cho & Saul 2009 for the kernels of ReLU.
    """
    phi, depth, s_w = _continuous(phi), whole("depth", depth), positive("weight_variance", weight_variance)
    t = within("t", t, -1.0, 1.0)
    # The cosines that the statistics need travel with the others: 0 and 1.
    cosines = jnp.concatenate([t.reshape(-1), jnp.array([0.0, 1.0], t.dtype)])

    def centred(k):
        return k - k[-2], k[-1] - k[-2]

    kernels = _propagated(cosines, centred, None, phi, depth, s_w)
    return NormKernels(*(k[:-2].reshape(t.shape) for k in kernels))


def trainable_rank(samples: int, width: int, depth: int, per_unit: int = 2) -> int:
    """Rank of the empirical tangent kernel of BatchNorm alone: min(samples, 2 width depth).

    Arguments:
        samples: P, training samples in general position.
        width: units in each hidden layer.
        depth: number of hidden layers.
        per_unit: trained numbers in each unit, 2 for scale and shift, 1 for either.
    Returns:
        the rank; the lazily trained network interpolates any labels if and only if it is P, that is 2 width depth >= P.
    Holds when: one output, generic weights and inputs, and P large enough that each unit is active on two of them.
    Source: counting; Frankle, Schwab & Morcos 2021 (arXiv:2003.00152) for how few that is.
    """
    units = whole("width", width) * whole("depth", depth)
    return min(whole("samples", samples), whole("per_unit", per_unit) * units)


def _propagated(start, centred: Callable, diagonal: Callable | None, phi: Activation, depth: int, s_w) -> NormKernels:
    """All kernels from the covariance `start` of the inputs; without `diagonal`, every variance is one.

    Backward factors multiply from the top: sums of what each layer trains are gathered on the way up, and each layer
    multiplies all that is below it.
    """
    k, scale, shift, weights = start, 0.0, 0.0, 0.0
    for _ in range(depth):
        raw = k
        covariance, spread = centred(k)
        covariance = covariance / spread
        q = jnp.ones_like(covariance) if diagonal is None else diagonal(covariance)
        q1, q2 = (q, q) if diagonal is None else (q[:, None], q[None, :])
        joint = pair(q1, q2, covariance)
        slope = phi.derivative(joint)
        # What is below reaches the output through this layer's slopes and its 1 / s.
        scale = scale * slope / spread + _gain_dual(phi, q1, q2, covariance)
        weights = (weights + raw) * slope / spread
        shift = (shift / spread + 1) * slope
        k = phi.dual(joint).covariance
    return NormKernels(s_w * k, s_w * scale, s_w * shift, s_w * (weights + k))


def _gain_dual(phi: Activation, q1, q2, c):
    degree = _degree(phi)
    if degree is not None:
        return degree**2 * phi.dual(pair(q1, q2, c)).covariance

    def slope(q1, q2, c):
        # Without the bounds of `pair`, at which a derivative would be cut.
        size = root(q1) * root(q2)
        rho = c / jnp.where(size > 0, size, 1.0)
        return phi.derivative(Pair(q1, q2, rho, (1 - rho) / 2, (1 + rho) / 2))

    q1, q2, c = jnp.broadcast_arrays(q1, q2, c)
    one, none = jnp.ones_like(c), jnp.zeros_like(c)
    d, in_c = jax.jvp(slope, (q1, q2, c), (none, none, one))
    # Along q1 d/dq1 + q2 d/dq2.
    in_q = jax.jvp(slope, (q1, q2, c), (q1, q2, none))[1]
    return c * d + (q1 * q2 + c**2) * in_c + 2 * c * in_q


def _degree(phi: Activation) -> int | None:
    """The degree p of a homogeneous activation, u phi'(u) = p phi(u); None for the others."""
    if phi.name.startswith("abrelu") or phi.name == "identity":
        return 1
    return 2 if phi.name == "rectified_power" else None


def _continuous(phi: str | Activation) -> Activation:
    phi = activation(phi)
    if phi.derivative is None:
        raise ValueError(f"phi must be continuous to have trainable scales and shifts, got {phi.name!r}, which jumps")
    return phi
