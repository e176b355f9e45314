"""Intrinsic dimension: training in a random subspace of the parameters (Li, Farkhoor, Liu & Yosinski 2018).

The D parameters move in d random directions only, theta = theta_0 + G phi, G a D x d matrix of independent Gaussian
entries (what can be reached depends on its range alone, so G may as well have orthonormal columns). How small can the
loss become? On a quadratic loss L = 1/2 sum_i curvature_i (theta_i - theta*_i)^2 that is a question about the angle
between a random subspace and one vector, the residual. A lazily trained network is such a quadratic: its curvatures
are the eigenvalues of its tangent kernel on the training set, one for each sample that can be fitted (`kernel_modes`).

The loss that is left depends on the *rank* s of the loss, not on D: it falls linearly in d where all curvatures are
equal, and vanishes at d = s. Random directions play the part of samples in kernel regression: the equation of
`effective_curvature` is that of the effective ridge, with d in the place of the number of samples.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, within
from theory.deep_linear.marchenko_pastur import bulk

# Nodes of the integral behind `expected_shares`; its error is exp(-2 pi^2 / step), and the step never exceeds 0.4.
NODES = 512


def mean_residual(d: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Mean of the lowest loss in a random subspace over the initial loss, equal curvatures: max(0, 1 - d/s).

    Arguments, which broadcast:
        d: dimension of the subspace, >= 0.
        s: rank of the loss, the number of directions that are curved, > 0.
    Returns:
        E L_min / L_0, of the broadcast shape; exact for whole numbers.
    Holds when: the non-zero curvatures are equal, or the offset theta_0 - theta* is so random that its energy
        curvature_i offset_i^2 is unrelated to the curvature (`expected_residual` then has the same mean over i).
    Source: Li, Farkhoor, Liu & Yosinski 2018 (arXiv:1804.08838), section 2 (their toy problem); the law of angles.
    """
    return jnp.maximum(1 - non_negative("d", d) / positive("s", s), 0)


def residual_deviation(d: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Standard deviation of L_min / L_0 over random subspaces, equal curvatures: sqrt(2 d (s - d) / (s^2 (s + 2))).

    Arguments, which broadcast, and regime: as for `mean_residual`; 0 for d >= s.
    Returns: the standard deviation, of the broadcast shape.
    Source: the variance of Beta((s - d)/2, d/2).
    """
    d, s = non_negative("d", d), positive("s", s)
    variance = 2 * d * jnp.maximum(s - d, 0) / (s**2 * (s + 2))
    return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)


def residual_probability(
    fraction: Real[ArrayLike, "..."], d: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Probability that a random subspace reaches a loss of at most `fraction` of the initial one, equal curvatures.

    L_min / L_0 ~ Beta((s - d)/2, d/2):   P = I_fraction((s - d)/2, d/2), the regularised incomplete beta function.

    Arguments, which broadcast:
        fraction: L_min / L_0, in [0, 1].
        d: dimension of the subspace, > 0.
        s: rank of the loss, > 0.
    Returns:
        the probability, of the broadcast shape; 1 for d >= s, where the loss vanishes. Differentiable in `fraction`.
    Holds when: as for `mean_residual`, with d and s whole numbers.
    Source: the squared cosine between a fixed vector and a random subspace; Li et al. 2018 (arXiv:1804.08838).
    """
    fraction, d, s = within("fraction", fraction, 0.0, 1.0), positive("d", d), positive("s", s)
    open_ = d < s
    # A probability is flat in what it is asked of where it is 1.
    share = jax.scipy.special.betainc(jnp.where(open_, s - d, 1.0) / 2, d / 2, fraction)
    return jnp.where(open_, share, 1.0)


def residual_quantile(
    probability: Real[ArrayLike, "..."], d: Real[ArrayLike, "..."], s: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The fraction of the initial loss that a random subspace undercuts with this probability, equal curvatures.

    Arguments, which broadcast:
        probability: in [0, 1].
        d, s: as for `residual_probability`.
    Returns:
        L_min / L_0 with `residual_probability(., d, s)` = probability, to 1e-12; 0 for d >= s.
    Holds when: as for `residual_probability`.
    Source: as for `residual_probability`.
    """
    probability, d, s = within("probability", probability, 0.0, 1.0), positive("d", d), positive("s", s)

    inside = d < s
    return jnp.where(inside, _quantile(probability, jnp.where(inside, d, s / 2), s), 0.0)


def effective_curvature(d: Real[ArrayLike, "..."], curvatures: Real[ArrayLike, " s"]) -> Float[Array, "..."]:
    """The curvature below which a random subspace leaves directions alone: kappa.

    sum_i curvature_i / (curvature_i + kappa) = d.

    Arguments:
        d: dimension of the subspace, > 0, shape (...).
        curvatures: eigenvalues of the Hessian (of the mean-half loss, or of the tangent kernel), >= 0, shape (s,).
    Returns:
        kappa, of d's shape; 0 from d = rank on, curvature (s - d) / d where all are equal. Differentiable.
    Holds when: as for `expected_residual`.
    Source: Derezinski, Liang, Liao & Mahoney 2020 (arXiv:2006.10653), the surrogate of random projections.
    """
    return _effective_curvature(positive("d", d), spectrum(curvatures))


def expected_residual(
    d: Real[ArrayLike, "..."], curvatures: Real[ArrayLike, " s"], energies: Real[ArrayLike, " n"]
) -> Float[Array, "..."]:
    """Mean of the lowest loss in a random subspace over the initial loss, any curvatures.

    E L_min / L_0 = sum_i e_i kappa / (kappa + curvature_i) / sum_i e_i,   kappa the `effective_curvature`.

    Arguments:
        d: dimension of the subspace, > 0, shape (...).
        curvatures: as for `effective_curvature`.
        energies: e_i = curvature_i (theta_0 - theta*)_i^2, twice the initial loss along each of them, >= 0 and not all
            zero, shape (s,); what no direction can reduce stands at curvature 0.
    Returns:
        E L_min / L_0, of d's shape; max(0, 1 - d/s) for equal curvatures; the energy at curvature 0 from d = rank on.
    Holds when: sum_i p_i (1 - p_i) >> 1, p_i = curvature_i / (curvature_i + kappa): many directions are partly
        reached. The next order is `residual_correction`.
    Source: Derezinski, Liang, Liao & Mahoney 2020 (arXiv:2006.10653); like the learning curve of kernel regression.
    """
    d, curvatures = positive("d", d), spectrum(curvatures)
    weights = shares_of(energies, curvatures)
    kappa = effective_curvature(d, curvatures)[..., None]
    return jnp.sum(weights * (1 - _reached(kappa, curvatures)), axis=-1)


def residual_correction(
    d: Real[ArrayLike, "..."], curvatures: Real[ArrayLike, " s"], energies: Real[ArrayLike, " n"]
) -> Float[Array, "..."]:
    """What finite size adds to `expected_residual`, to leading order.

    sum_i e_i c_i / sum_i e_i,   c_i = v_i (p_i - sum_j v_j p_j / sum_j v_j) / sum_j v_j,   v_i = p_i (1 - p_i),
    p_i = curvature_i / (curvature_i + kappa).

    Arguments: as for `expected_residual`.
    Returns: the correction, of d's shape; 0 for equal curvatures and from d = rank on; it sums to zero over i.
    Holds when: Gaussian (real) directions; relative order 1 / sum_i v_i, the next order is its square.
    Source: derived by leaving one direction out; each q_i = 1 - p_i then follows 1 / (1 + curvature_i g^T W^{-1} g).
    """
    d, curvatures = positive("d", d), spectrum(curvatures)
    weights = shares_of(energies, curvatures)
    reached = _reached(effective_curvature(d, curvatures)[..., None], curvatures)
    v = reached * (1 - reached)
    total = jnp.sum(v, axis=-1, keepdims=True)
    safe = jnp.where(total > 0, total, 1.0)
    centre = jnp.sum(v * reached, axis=-1, keepdims=True) / safe
    return jnp.sum(weights * v * (reached - centre) / safe, axis=-1)


def intrinsic_dimension(
    tolerance: Real[ArrayLike, "..."], curvatures: Real[ArrayLike, " s"], energies: Real[ArrayLike, " n"]
) -> Float[Array, "..."]:
    """Dimension at which a random subspace leaves a fraction `tolerance` of the initial loss in the mean.

    d = sum_i curvature_i / (curvature_i + kappa) at the kappa where `expected_residual` = tolerance.

    Arguments:
        tolerance: E L_min / L_0 that counts as solved, in [0, 1]: 0.1 for the d_int90 of Li et al., shape (...).
        curvatures, energies: as for `expected_residual`.
    Returns:
        d, a real number to be rounded up, of tolerance's shape; s (1 - tolerance) for equal curvatures; the rank if
        no smaller one does it (in particular at tolerance 0).
    Holds when: as for `expected_residual`; "solved" is measured by the loss, not by an accuracy.
    Source: Li, Farkhoor, Liu & Yosinski 2018 (arXiv:1804.08838), section 2: d_int90.
    """
    tolerance, curvatures = within("tolerance", tolerance, 0.0, 1.0), spectrum(curvatures)
    return _intrinsic_dimension(tolerance, curvatures, shares_of(energies, curvatures))


def kernel_modes(
    kernel: Real[ArrayLike, "P samples"], residual: Real[ArrayLike, " outputs"]
) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
    """Curvatures and energies of a lazily trained network: the arguments of `expected_residual`.

    curvature_i = eigenvalue_i(Theta),   e_i = (v_i . (y - f_0))^2:   f moves by J G phi, and J G G^T J^T projects as
    Theta^{1/2} G does.

    Arguments:
        kernel: tangent kernel on the training set, symmetric and positive semi-definite up to rounding, shape (P, P).
        residual: y - f_0 on the training set, shape (P,).
    Returns:
        (curvatures, energies), each of shape (P,), curvatures rising; those below P eps max are set to 0. For the
        mean-half loss divide the curvatures by P (no share depends on their scale).
    Holds when: the network stays linear on its way; then d = rank(kernel), that is P in general, interpolates, and
        fewer directions do not. Width alone does not keep it so: with d random directions |theta - theta_0|^2 is D/d
        times what free training needs, so that each weight moves by |residual| / sqrt d whatever the width. The
        residual must be small against sqrt d (or the output scaled up: Chizat, Oyallon & Bach 2019).
    Source: Li et al. 2018 (arXiv:1804.08838) in the regime of Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572).
    """
    kernel = matrix("kernel", kernel)
    kernel = matrix("kernel", kernel, kernel.shape[0], kernel.shape[0])
    residual = real("residual", residual)
    if residual.shape != kernel.shape[:1]:
        raise ValueError(f"residual must be a vector of {kernel.shape[0]} samples, got shape {residual.shape}")
    values, vectors = jnp.linalg.eigh(kernel)
    floor = kernel.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    values = require("kernel", values, values >= -10 * floor, "must be positive semi-definite, it has an eigenvalue")
    return jnp.where(values > floor, values, 0.0), (vectors.T @ residual) ** 2


def expected_shares(curvatures: Real[ArrayLike, " s"]) -> Float[Array, " s"]:
    """Mean share of each direction in one random direction, exactly: E[c_i g_i^2 / sum_j c_j g_j^2].

    int_0^infinity c_i / (1 + 2 u c_i) prod_j (1 + 2 u c_j)^{-1/2} du.

    Arguments:
        curvatures: c_i > 0, shape (s,).
    Returns:
        the shares, shape (s,), of sum 1, to 1e-13. At d = 1 the residual is 1 - sum_i e_i shares(c)_i / sum_i e_i; at
        d = s - 1 it is sum_i e_i shares(1/c)_i / sum_i e_i: what is left is one random direction of inverse curvature.
    Holds when: Gaussian directions; always exact.
    Source: the Laplace transform of a ratio of quadratic forms; duality of a subspace and its complement.
    """
    c = require("curvatures", spectrum(curvatures), spectrum(curvatures) > 0, "must be positive and finite")
    low, high = -jnp.log(jnp.max(c)) - 40, -jnp.log(jnp.min(c)) + 80
    x = jnp.linspace(low, high, NODES)
    # e^{-sum ln} rather than a product, which underflows in many dimensions.
    damping = -0.5 * jnp.sum(jnp.log1p(2 * jnp.exp(x)[:, None] * c), axis=1) + x
    terms = c / (1 + 2 * jnp.exp(x)[:, None] * c) * jnp.exp(damping)[:, None]
    return jnp.sum(terms, axis=0) * (x[1] - x[0])


def subspace_flow_residual(
    t: Real[ArrayLike, "..."],
    d: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    rate: Real[ArrayLike, "..."] = 1.0,
    rank: int | None = None,
) -> Float[Array, "..."]:
    """Mean loss over initial loss at time t of gradient flow in a random subspace, equal curvatures.

    E L(t) / L_0 = (1 - d/s)_+ + int rho(lam) e^{-2 rate lam t} dlam,   rate = curvature s / D,
    rho the Marchenko-Pastur bulk of alpha = d/s, on [(1 - sqrt(d/s))^2, (1 + sqrt(d/s))^2].

    Arguments, which broadcast:
        t: time of gradient flow in phi, >= 0, in units of 1 / learning rate.
        d: dimension of the subspace, > 0.
        s: rank of the loss, > 0.
        rate: curvature s / D, for directions (columns of G) of unit length among D parameters, > 0.
        rank: s as a whole number, to add the leading correction of finite size, of order 1/s; None for s = infinity.
    Returns:
        E L(t) / L_0, of the broadcast shape; it settles in the time 1 / (2 rate (1 - sqrt(d/s))^2), which diverges at
        d = s: there it decays like 1 / sqrt(2 pi rate t) only. Too few directions make training slow, not only poor.
    Holds when: s and d large, D >> s, d (orthonormal and normalised directions are then Gaussian).
    Source: Marchenko & Pastur 1967; the flow of Advani & Saxe 2017 (arXiv:1710.03667) with directions for samples.
    """
    t, d = non_negative("t", t), positive("d", d)
    s, rate = positive("s", s), positive("rate", rate)
    shape = jnp.broadcast_shapes(t.shape, d.shape, s.shape, rate.shape)
    modes = bulk(jnp.broadcast_to(d / s, shape), rank)
    return modes.frozen + modes.sum(jnp.exp(-2 * modes.rates * jnp.broadcast_to(rate * t, shape)[..., None]))


def spectrum(curvatures: Real[ArrayLike, " s"]) -> Float[Array, " s"]:
    """`curvatures` as a checked vector: finite, >= 0, and not all zero."""
    c = non_negative("curvatures", curvatures)
    if c.ndim != 1 or not c.size:
        raise ValueError(f"curvatures must be a vector, got shape {c.shape}")
    return require("curvatures", c, jnp.max(c) > 0, "must not all be zero")


def shares_of(energies: Real[ArrayLike, " n"], curvatures: Float[Array, " s"]) -> Float[Array, " s"]:
    """The checked energies over their sum."""
    e = non_negative("energies", energies)
    if e.shape != curvatures.shape:
        raise ValueError(f"energies must have the shape of the curvatures, {curvatures.shape}, got {e.shape}")
    e = require("energies", e, jnp.sum(e) > 0, "must not all be zero")
    return e / jnp.sum(e)


def _reached(kappa, curvatures):
    """p_i = c_i / (c_i + kappa); at kappa = 0 it is 1 where there is curvature."""
    curved = curvatures > 0
    return jnp.where(curved, curvatures, 0.0) / jnp.where(curved, curvatures + kappa, 1.0)


def _span(curvatures):
    """Logarithms of the smallest and the largest curvature above zero."""
    curved = curvatures > 0
    smallest = jnp.min(jnp.where(curved, curvatures, jnp.inf))
    return jnp.log(smallest), jnp.log(jnp.max(curvatures))


@jax.jit
@jnp.vectorize
def _quantile(probability, d, s):
    def excess(fraction, given):
        p, d, s = given
        return jax.scipy.special.betainc((s - d) / 2, d / 2, fraction) - p

    inside = (probability > 0) & (probability < 1)
    given = jnp.where(inside, probability, 0.5), d, s
    return jnp.where(inside, _root(excess, 0 * probability, 0 * probability + 1, given), probability)


@jax.jit
@partial(jnp.vectorize, signature="(),(s)->()")
def _effective_curvature(d, curvatures):
    def excess(log_kappa, given):
        curvatures, d = given
        return jnp.sum(_reached(jnp.exp(log_kappa), curvatures)) - d

    rank = jnp.sum(curvatures > 0)
    short = d < rank
    safe = jnp.where(short, d, rank / 2)
    low, high = _span(curvatures)
    # As if all curvatures were the smallest, or the largest.
    ratio = jnp.log(rank - safe) - jnp.log(safe)
    kappa = jnp.exp(_root(excess, low + ratio - 1, high + ratio + 1, (curvatures, safe)))
    return jnp.where(short, kappa, 0.0)


@jax.jit
@partial(jnp.vectorize, signature="(),(s),(s)->()")
def _intrinsic_dimension(tolerance, curvatures, weights):
    def excess(log_kappa, given):
        curvatures, weights, tolerance = given
        return jnp.sum(weights * (1 - _reached(jnp.exp(log_kappa), curvatures))) - tolerance

    floor = jnp.sum(jnp.where(curvatures > 0, 0.0, weights))
    inside = (tolerance > floor) & (tolerance < 1)
    safe = jnp.where(inside, tolerance, (1 + floor) / 2)
    low, high = _span(curvatures)
    # As if all curvatures were the smallest, or the largest.
    ratio = jnp.log(safe - floor) - jnp.log1p(-safe)
    kappa = jnp.exp(_root(excess, low + ratio - 1, high + ratio + 1, (curvatures, weights, safe)))
    rank = jnp.sum(curvatures > 0).astype(kappa.dtype)
    return jnp.where(inside, jnp.sum(_reached(kappa, curvatures)), jnp.where(tolerance >= 1, 0.0, rank))


def _root(law, low, high, given):
    """The root of a monotone law between two bounds; its derivative is that of the implicit function theorem."""
    low, high = jax.lax.stop_gradient((low, high))
    tolerance = 4 * float(jnp.finfo(low.dtype).eps)
    solver = optx.Bisection(rtol=tolerance, atol=tolerance, flip="detect")
    options = {"lower": low, "upper": high}
    # Rounding of the law can keep the last bits from settling: the bracket is then as small as it gets.
    return optx.root_find(law, solver, (low + high) / 2, given, options, max_steps=100, throw=False).value
