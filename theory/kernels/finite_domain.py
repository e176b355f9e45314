"""Learning curves on a finite domain: n of M given points are learned from, the other M - n are tested on.

Data sets are finite: whoever trains on a part of one and tests on the rest draws without replacement. Then no sample
comes twice and none is tested, and the theory of independent samples, made for n << M, is off by factors 1 - n/M. Two
facts make the domain as simple. On unseen points, a ridge is the same as adding it to the kernel's diagonal,
lam_i -> lam_i + ridge / M, since K enters there only off the diagonal. And noise on the labels is a target with equal
power on every mode.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require
from theory.kernels.learning_curves import TaskLike, checked_task, effective_ridge, shares


class DomainCurve(NamedTuple):
    """Means over the training sets of n among M points. Shape (...), of n, ridge and noise.

    effective_ridge: kappa.
    learnability: L_i = lam_i / (lam_i + kappa), shape (..., levels): on the whole domain the mean prediction has
        coefficients L_i v_i.
    test_error: mean squared error on the labels of the M - n unseen points.
    training_error: mean squared error on the labels of the n seen ones.
    """

    effective_ridge: Float[Array, "..."]
    learnability: Float[Array, "... levels"]
    test_error: Float[Array, "..."]
    training_error: Float[Array, "..."]


def domain_curve(n: Real[ArrayLike, "..."], task: TaskLike, ridge: Real[ArrayLike, "..."] = 0.0) -> DomainCurve:
    """Test and training error of kernel ridge regression on n of M points, drawn without replacement.

    With l_i = lam_i + ridge / M, k and F_i = k / (l_i + k) such that sum_i m_i (1 - F_i) = n:

    test = n M / (M - n) sum_i F_i^2 (v_i^2 + m_i noise / M) / sum_i m_i F_i (1 - F_i),
    training = ((M - n) ridge / (n M k))^2 test,   kappa = k + ridge / M.

    Arguments, n, ridge and the task's noise of which broadcast:
        n: number of training points, 0 < n < M, where M = sum of the task's multiplicities.
        task: as `theory.kernels.learning_curves.sampled_task` makes it of all M points: modes of eigenvalue 0 count,
            and the tail is 0.
        ridge: added to the kernel matrix, >= 0.
    Returns:
        a `DomainCurve`. sum_i m_i L_i + (ridge / kappa) (1 - sum_i m_i L_i / M) = n. As M -> infinity it is
        `learning_curve`; without ridge and noise the error over ALL points, (1 - n/M) test, is that at any M.
    Holds when: n, M -> infinity and the eigenvectors lie at random (Haar) to the points; leading corrections are of
        relative order 1/n and 1/(M - n). Real points differ, and without a ridge this theory errs on them, by 14 % on
        digits at n = 4/9 M; `pointwise_curve` does not.
    Source: free compression of K (Voiculescu); as for independent samples in Simon et al. 2023 (arXiv:2110.03922),
        whose experiments on discrete domains it matches. Derived in derivations/kernels/finite_domain.py.
    """
    n, ridge, task = checked_task(n, task, ridge)
    lam, powers, m, noise = task.eigenvalues, task.powers, task.multiplicities, task.noise
    require("tail", task.tail, task.tail == 0, "must be 0 on a finite domain")
    points = jnp.sum(m)
    n = require("n", n, n < points, "must be below the number of points")
    # Least squares is the limit of no ridge; this one is far below the rounding of every mode.
    least = jnp.finfo(lam.dtype).eps ** 2 * jnp.max(lam)
    ridge = jnp.maximum(ridge, points * least)

    def one(n, ridge, noise):
        raised = lam + ridge / points
        k = effective_ridge(n, raised, 0.0, m)
        learned, missed = shares(raised, k)
        unlearned = missed**2 @ (powers + m * noise / points)
        test = n * points / (points - n) * unlearned / ((learned * missed) @ m)
        training = ((points - n) / n * ridge / (points * k)) ** 2 * test
        kappa = k + ridge / points
        return kappa, lam / (lam + kappa), test, training

    return DomainCurve(*jnp.vectorize(one, signature="(),(),()->(),(k),(),()")(n, ridge, noise))


class PointwiseCurve(NamedTuple):
    """Means over the training sets of n among M points, for one n and ridge.

    self_energies: omega_i, shape (M,): what the random choice of the others puts on the kernel's diagonal at point i;
        M kappa at every point, where points are alike.
    test_error: mean squared error on the labels of the M - n unseen points.
    training_error: mean squared error on the labels of the n seen ones.
    """

    self_energies: Float[Array, " M"]
    test_error: Float[Array, ""]
    training_error: Float[Array, ""]


def pointwise_curve(
    n: Real[ArrayLike, ""],
    kernel: Real[ArrayLike, "M M"],
    targets: Real[ArrayLike, "M *outputs"],
    ridge: Real[ArrayLike, ""] = 0.0,
) -> PointwiseCurve:
    """Test and training error on n of M points that are not alike: for real data, of which some points are outliers.

    (omega_i - ridge) g_i = 1 - n/M,   R = (K + diag(omega))^{-1},   g_i = R_ii,
    test = (n/M) (1/M) sum_i h_i (R y)_i^2,   training = (ridge^2 / n) sum_i w_i (R y)_i^2,
    J h = 1/g,   J w = g,   J = diag(g) - diag(omega - ridge) (R * R), entry by entry.

    Arguments:
        n: number of training points, 0 < n < M, one number.
        kernel: kernel matrix of the M points, symmetric, positive definite.
        targets: labels, noise included, shape (M,) or (M, outputs).
        ridge: >= 0, one number.
    Returns:
        a `PointwiseCurve`; `domain_curve` if all g_i are equal. It needs the matrix, where that needs the spectrum, and
        costs some ten inversions of it. Not differentiable in reverse: the number of iterations is open.
    Holds when: n, M -> infinity, with corrections of relative order E_0/n; the eigenvectors may be any.
    Source: coherent potential approximation (Soven 1967) of a diagonal chosen at random; derived in
        derivations/kernels/finite_domain.py.
    """
    kernel, y, ridge = matrix("kernel", kernel), real("targets", targets), non_negative("ridge", ridge)
    points = kernel.shape[0]
    kernel = matrix("kernel", kernel, columns=points)
    y = matrix("targets", y[:, None] if y.ndim == 1 else y, rows=points)
    n = positive("n", n)
    fraction = require("n", n, n < points, "must be below the number of points") / points
    task = (jnp.maximum(jnp.linalg.eigvalsh((kernel + kernel.T) / 2)[::-1] / points, 0.0), jnp.zeros(points))
    start = jnp.full(points, points * domain_curve(n, task, ridge).effective_ridge)
    omega, inverse, g, slope = _self_energies(kernel, ridge, fraction, start)
    squares = jnp.sum((inverse @ y) ** 2, axis=1)
    unseen, seen = jnp.linalg.solve(slope, jnp.stack([1 / g, g], axis=1)).T
    return PointwiseCurve(omega, fraction * jnp.mean(unseen * squares), ridge**2 / n * jnp.sum(seen * squares))


@jax.jit
def _self_energies(kernel, ridge, fraction, start):
    """omega, R, its diagonal and J: Newton's method on (omega_i - ridge) g_i = 1 - n/M."""

    def state(omega):
        inverse = jnp.linalg.inv(kernel + jnp.diag(omega))
        g = jnp.diagonal(inverse)
        return inverse, g, jnp.diag(g) - (omega - ridge)[:, None] * inverse**2

    def newton(carry):
        omega, _, count = carry
        _, g, slope = state(omega)
        step = jnp.linalg.solve(slope, 1 - fraction - (omega - ridge) * g) / omega
        # In the logarithm: a self-energy is positive.
        return omega * jnp.exp(jnp.clip(step, -1.0, 1.0)), jnp.max(jnp.abs(step)), count + 1

    near = jnp.finfo(kernel.dtype).eps ** 0.6
    start = (start, jnp.full((), jnp.inf, kernel.dtype), 0)
    omega, *_ = jax.lax.while_loop(lambda carry: (carry[1] > near) & (carry[2] < 100), newton, start)
    return omega, *state(omega)
