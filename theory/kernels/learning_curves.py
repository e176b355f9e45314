"""Learning curves of kernel regression from the kernel's spectrum (Bordelon et al. 2020, Simon et al. 2023).

A kernel k(x, x') = sum_i lam_i phi_i(x) phi_i(x'), with phi_i orthonormal under the inputs' distribution, and a target
f = sum_i v_i phi_i. From n noisy samples, kernel ridge regression learns the share L_i = lam_i / (lam_i + kappa) of
mode i, where the effective ridge kappa is such that the shares (and the ridge) use up the n samples:

    sum_i L_i + ridge / kappa = n.

Units of this file: the ridge is added to the kernel matrix, K + ridge I, and is not divided by n. It minimises
sum |y - f|^2 + ridge |f|^2, so beside the mean loss of the house, 1/2n sum |y - f|^2, stands (ridge / 2n) |f|^2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from theory.checks import matrix, non_negative, positive, real, whole


class KernelTask(eqx.Module):
    """What the theory knows of a kernel and a target: levels of equal eigenvalue, and the target's power on each.

    eigenvalues: lam_i >= 0, shape (levels,); of the kernel operator, the limit of the eigenvalues of K / P.
    powers: sum of v_i^2 over the modes of the level, >= 0, shape (levels,); summed over outputs if there are several.
    multiplicities: modes in each level, >= 0, shape (levels,) or a scalar.
    noise: variance of the label noise (summed over outputs), >= 0, shape (...) that broadcasts with n and ridge.
    tail: trace of the modes that are left out, k(x, x) - sum_i m_i lam_i, >= 0. As long as each of them is far below
        kappa they act as a ridge. What power the target has on them goes into a level of eigenvalue 0.
    """

    eigenvalues: Real[ArrayLike, " levels"]
    powers: Real[ArrayLike, " levels"]
    multiplicities: Real[ArrayLike, "*levels"] = 1.0
    noise: Real[ArrayLike, "..."] = 0.0
    tail: Real[ArrayLike, ""] = 0.0


# The record, or its fields in order.
TaskLike = KernelTask | tuple


class LearningCurve(NamedTuple):
    """Means over training sets of n samples. Shape (...), of n, ridge and noise; with the levels last where noted.

    effective_ridge: kappa.
    learnability: L_i, shape (..., levels): the mean prediction has coefficients L_i v_i.
    overfitting_coefficient: E_0 >= 1, the factor by which fitting n samples multiplies every error.
    test_error: mean squared error on new noisy labels; without `noise` subtracted.
    training_error: mean squared error on the training labels.
    bias: error of the mean prediction, sum_i (1 - L_i)^2 v_i^2.
    variance: scatter of the prediction over training sets; test_error = bias + variance + noise.
    level_errors: mean squared error of the predicted coefficients of each level, shape (..., levels); with no noise of
        the labels in it, they sum to test_error - noise.
    """

    effective_ridge: Float[Array, "..."]
    learnability: Float[Array, "... levels"]
    overfitting_coefficient: Float[Array, "..."]
    test_error: Float[Array, "..."]
    training_error: Float[Array, "..."]
    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    level_errors: Float[Array, "... levels"]


def effective_ridge(
    n: Real[ArrayLike, "..."],
    eigenvalues: Real[ArrayLike, " levels"],
    ridge: Real[ArrayLike, "..."] = 0.0,
    multiplicities: Real[ArrayLike, "*levels"] = 1.0,
) -> Float[Array, "..."]:
    """The ridge kappa that the whole population of inputs would need to be learned as badly as n samples are.

    sum_i m_i lam_i / (lam_i + kappa) + ridge / kappa = n.

    Arguments, n and ridge of which broadcast:
        n: number of samples, > 0; need not be whole.
        eigenvalues, multiplicities: of the kernel, >= 0, shape (levels,).
        ridge: added to the kernel matrix, >= 0; the trace of modes that are left out is added to it.
    Returns:
        kappa, of the broadcast shape: falls with n, rises with the ridge. Without a ridge it is 0 from n = (number of
        modes with lam_i > 0) on: the whole function space is then determined.
    Holds when: n -> infinity and the modes behave as independent Gaussians of equal covariance; relative error of the
        solution about 1e-15 E_0.
    Source: Simon et al. 2023 (arXiv:2110.03922), eq. for kappa; Bordelon, Canatar & Pehlevan 2020 (arXiv:2002.02561),
        whose kappa is n times this one.
    """
    n, lam, ridge, m = checked_spectrum(n, eigenvalues, ridge, multiplicities)
    return self_consistent_ridge(n, lam, m, plain_ridge, (ridge,), (lam @ m + ridge) / n, ridge > 0)


def learnability(
    n: Real[ArrayLike, "..."],
    eigenvalues: Real[ArrayLike, " levels"],
    ridge: Real[ArrayLike, "..."] = 0.0,
    multiplicities: Real[ArrayLike, "*levels"] = 1.0,
) -> Float[Array, "... levels"]:
    """Share of each mode that is learned from n samples: L_i = lam_i / (lam_i + kappa).

    Arguments: as for `effective_ridge`.
    Returns:
        L_i in [0, 1], in the order of the eigenvalues, shape (..., levels); 0 for a mode of eigenvalue 0. They obey
        the conservation law sum_i m_i L_i + ridge / kappa = n: to learn one mode better is to learn others worse.
    Holds when: as for `effective_ridge`; without a ridge the law is exact on average, see `conserved_learnability`.
    Source: Simon et al. 2023 (arXiv:2110.03922), theorem on the conservation of learnability.
    """
    n, lam, ridge, m = checked_spectrum(n, eigenvalues, ridge, multiplicities)
    return shares(lam, effective_ridge(n, lam, ridge, m))[0]


def overfitting_coefficient(
    n: Real[ArrayLike, "..."],
    eigenvalues: Real[ArrayLike, " levels"],
    ridge: Real[ArrayLike, "..."] = 0.0,
    multiplicities: Real[ArrayLike, "*levels"] = 1.0,
) -> Float[Array, "..."]:
    """The factor E_0 by which learning from n samples multiplies the noise and the bias.

    E_0 = n / (n - sum_i m_i L_i^2) = n dkappa / dridge,   without a ridge   E_0 = - d ln kappa / d ln n.

    Arguments: as for `effective_ridge`.
    Returns:
        E_0 >= 1, of the broadcast shape: test error over noise for a target that is noise alone. Infinite without a
        ridge where n is the number of modes.
    Holds when: as for `effective_ridge`.
    Source: Simon et al. 2023 (arXiv:2110.03922); named in Mallinar et al. 2022 (arXiv:2207.06569).
    """
    task = KernelTask(eigenvalues, jnp.zeros_like(non_negative("eigenvalues", eigenvalues)), multiplicities)
    return learning_curve(n, task, ridge).overfitting_coefficient


def learning_curve(n: Real[ArrayLike, "..."], task: TaskLike, ridge: Real[ArrayLike, "..."] = 0.0) -> LearningCurve:
    """Test and training error of kernel ridge regression from n independent samples, and what they are made of.

    test = E_0 [sum_i (1 - L_i)^2 v_i^2 + noise],   training = (ridge / (n kappa))^2 test,
    bias = sum_i (1 - L_i)^2 v_i^2,   level i: (1 - L_i)^2 v_i^2 + m_i L_i^2 test / n.

    Arguments, n, ridge and the task's noise of which broadcast:
        n: number of samples, > 0.
        task: the kernel's spectrum, the target's powers and the noise.
        ridge: added to the kernel matrix, >= 0.
    Returns:
        a `LearningCurve`; without a ridge and with more samples than modes it is the one of least squares. Where n is
        the number of modes and nothing but a ridge could help, errors are infinite.
    Holds when: as for `effective_ridge`, with leading corrections of relative order E_0 / n.
    Source: Simon et al. 2023 (arXiv:2110.03922), section 4; Canatar, Bordelon & Pehlevan 2021 (arXiv:2006.13198).
    """
    n, ridge, task = checked_task(n, task, ridge)
    lam, powers, m, noise, tail = task.eigenvalues, task.powers, task.multiplicities, task.noise, task.tail
    kappa = effective_ridge(n, lam, ridge + tail, m)
    learned, missed = shares(lam, kappa)
    determined = kappa == 0
    per_kappa = 1 / jnp.where(determined, 1.0, kappa)
    # n - sum m L and n - sum m L^2 would cancel; where every mode is determined there is nothing to cancel.
    left = jnp.where(determined, n - jnp.sum(jnp.where(lam > 0, m, 0.0)), ridge * per_kappa)
    spread = (learned * missed) @ m
    free = left + tail * per_kappa + spread
    inverse = 1 / jnp.where(free > 0, free, 1.0)
    bias = missed**2 @ powers
    unlearned = bias + noise

    def amplified(factor):
        """factor / free times the unlearned: infinite where no sample is free, unless nothing is left to learn."""
        return jnp.where(free > 0, factor * inverse * unlearned, jnp.where(unlearned > 0, jnp.inf, 0.0))

    test = amplified(n)
    return LearningCurve(
        effective_ridge=kappa,
        learnability=learned,
        overfitting_coefficient=jnp.where(free > 0, n * inverse, jnp.inf),
        test_error=test,
        training_error=left / n * left * inverse * unlearned,
        bias=bias,
        variance=amplified(learned**2 @ m),
        level_errors=missed**2 * powers + m * learned**2 * (test / n)[..., None],
    )


def sampled_task(
    kernel: Real[ArrayLike, "P P"], targets: Real[ArrayLike, "P *outputs"], modes: int | None = None
) -> KernelTask:
    """The task that a kernel matrix and the targets on P points define: the points taken for the whole population.

    K / P = U diag(lam) U^T,   v = U^T y / sqrt P.

    Arguments:
        kernel: kernel matrix of the points, symmetric, positive semidefinite.
        targets: labels, noise included, shape (P,) or (P, outputs).
        modes: how many of the largest to keep; the others become one level that keeps their trace, number and power.
            None keeps all.
    Returns:
        a `KernelTask` of noise 0: on given points, noise is a part of the target. Eigenvalues that are rounding
        (below P eps times the largest) are 0.
    Holds when: exactly, if the P points are the population. n << P of them are as good as independent samples; for
        any n distinct ones, tested on the others, see `theory.kernels.finite_domain`. As an estimate for a population
        beyond the points: an eigenvalue is off by relative order (modes above it) / P, and at most P modes are seen.
    Source: Simon et al. 2023 (arXiv:2110.03922), appendix on experiments; Canatar, Bordelon & Pehlevan 2021.
    """
    kernel = matrix("kernel", kernel)
    points = kernel.shape[0]
    kernel = matrix("kernel", kernel, columns=points)
    y = real("targets", targets)
    y = matrix("targets", y[:, None] if y.ndim == 1 else y, rows=points)
    lam, vectors = jnp.linalg.eigh((kernel + kernel.T) / (2 * points))
    lam, vectors = lam[::-1], vectors[:, ::-1]
    lam = jnp.where(lam > points * jnp.finfo(lam.dtype).eps * lam[0], lam, 0.0)
    powers = jnp.sum((vectors.T @ y) ** 2, axis=-1) / points
    if modes is None or modes >= points:
        return KernelTask(lam, powers, jnp.ones_like(lam))
    kept, rest = whole("modes", modes), points - modes
    return KernelTask(
        eigenvalues=jnp.append(lam[:kept], jnp.sum(lam[kept:]) / rest),
        powers=jnp.append(powers[:kept], jnp.sum(powers[kept:])),
        multiplicities=jnp.append(jnp.ones(kept, lam.dtype), rest),
    )


def conserved_learnability(kernel: Real[ArrayLike, "n n"], ridge: Real[ArrayLike, ""] = 0.0) -> Float[Array, ""]:
    """What the learnabilities of all functions of a complete orthonormal basis sum to, on one training set, exactly.

    sum_i <phi_i, fhat[phi_i]> = tr K (K + ridge)^{-1} = sum_j mu_j / (mu_j + ridge).

    Arguments:
        kernel: kernel matrix of the n training points, symmetric, positive semidefinite, of eigenvalues mu_j.
        ridge: >= 0.
    Returns:
        the sum, a scalar; without a ridge the rank of the matrix, n for distinct points and a full-rank kernel.
    Holds when: the inputs come from a finite domain with the uniform measure; no approximation. In the mean over
        training sets, n - ridge / kappa.
    Source: Simon et al. 2023 (arXiv:2110.03922), theorem on the conservation of learnability.
    """
    kernel, ridge = matrix("kernel", kernel), non_negative("ridge", ridge)
    kernel = matrix("kernel", kernel, columns=kernel.shape[0])
    mu = jnp.linalg.eigvalsh((kernel + kernel.T) / 2)
    # Without a ridge the sum counts modes: rounding must not count as one.
    counts = mu > mu.shape[0] * jnp.finfo(mu.dtype).eps * mu[-1]
    return jnp.sum(jnp.where(counts, mu / jnp.where(counts, mu + ridge, 1.0), 0.0))


def shares(
    lam: Float[Array, " levels"], kappa: Float[Array, "..."]
) -> tuple[Float[Array, "... levels"], Float[Array, "... levels"]]:
    """What is learned of each mode, lam / (lam + kappa), and what is missed, kappa / (lam + kappa).

    Both to full relative precision; at kappa = 0 every mode with lam > 0 is learned and no other.
    """
    kappa = kappa[..., None]
    known = (lam > 0) | (kappa > 0)
    inverse = 1 / jnp.where(known, lam + kappa, 1.0)
    return lam * inverse, jnp.where(known, kappa * inverse, 1.0)


# Newton's method for kappa. With F = sum m L + load and D = -dF/dlog kappa, let r = (F - n) / D. F is convex in kappa
# and concave in 1/kappa (each term is), so that Newton's method in kappa, kappa (1 + r), stops short of the root
# from below, and in 1/kappa, kappa / (1 - r), from above: every evaluation brackets the root. In between lies Newton's
# method for log F in log kappa, exact where F is a power of kappa, as it is for a spectrum that decays as a power.


def plain_ridge(log_kappa: Float[Array, "..."], ridge: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    """ridge / kappa, and - its slope in log kappa, for `self_consistent_ridge`."""
    term = ridge * jnp.exp(-log_kappa)
    return term, term


@partial(jax.jit, static_argnames="load")
def self_consistent_ridge(
    n: Float[Array, "..."],
    lam: Float[Array, " levels"],
    m: Float[Array, " levels"],
    load: Callable[..., tuple[Float[Array, "..."], Float[Array, "..."]]],
    given: tuple[Float[Array, "..."], ...],
    most: Float[Array, "..."],
    loaded: Bool[Array, "..."],
) -> Float[Array, "..."]:
    """kappa with sum_i m_i lam_i / (lam_i + kappa) + load = n; 0 where there is no load and n modes or fewer.

    `load(log kappa, *given)` is (load, - dload / dlog kappa), convex in kappa and concave in 1/kappa; it is positive
    where `loaded` and zero elsewhere. `most` is an upper bound on kappa. Two Newton steps at the root make the result
    differentiable, twice, in all that is given.
    """
    n, most, loaded = jnp.broadcast_arrays(n, most, loaded)
    modes = jnp.sum(jnp.where(lam > 0, m, 0.0))
    determined = ~loaded & (n >= modes)
    # A root that exists must stand in for the one that does not, lest its NaN reach the gradient.
    target = jnp.where(determined, modes / 2, n)

    def law(x):
        kappa = jnp.exp(x)[..., None]
        inverse = 1 / (lam + kappa)
        term, slope = load(x, *given)
        return lam * inverse @ m + term, lam * kappa * inverse**2 @ m + slope

    def newton(x):
        counted, spread = law(x)
        return x + (counted - target) / spread

    # Each mode adds at least least / (least + kappa).
    least = jnp.min(jnp.where(lam > 0, lam, jnp.inf))
    fewest = jnp.where(loaded, 0.0, least * (modes - target) / target)
    most = jnp.where(determined, 2 * most, most)
    x = _root(law, *jax.lax.stop_gradient((target, fewest, most)))
    return jnp.where(determined, 0.0, jnp.exp(newton(newton(x))))


def _root(law, target, fewest, most) -> Float[Array, "..."]:
    """log kappa to about half the digits, between two bounds: safeguarded Newton steps until every root has them."""
    low, high = jnp.log(jnp.maximum(fewest, jnp.finfo(most.dtype).tiny)), jnp.log(most)
    near = jnp.finfo(most.dtype).eps ** 0.4

    def step(state):
        x, low, high, _, count = state
        counted, spread = jax.lax.stop_gradient(law(x))
        excess = (counted - target) / spread
        low = jnp.maximum(low, x + jnp.log1p(jnp.maximum(excess, -1.0)))
        high = jnp.minimum(high, x - jnp.log1p(-jnp.minimum(excess, 1.0)))
        guess = x + counted / spread * jnp.log(counted / target)
        guess = jnp.where((guess > low) & (guess < high), guess, (low + high) / 2)
        done = jnp.abs(excess) < near
        return jnp.where(done, x, guess), low, high, done, count + 1

    def going(state):
        *_, done, count = state
        return ~jnp.all(done) & (count < 200)

    start = (high, low, high, jnp.zeros(target.shape, bool), 0)
    return jax.lax.stop_gradient(jax.lax.while_loop(going, step, start)[0])


def checked_spectrum(n, eigenvalues, ridge, multiplicities) -> tuple[Float[Array, "..."], ...]:
    """n, eigenvalues, ridge and multiplicities, checked, of one precision; the multiplicities one per level."""
    n, lam = positive("n", n), non_negative("eigenvalues", eigenvalues)
    ridge, m = non_negative("ridge", ridge), non_negative("multiplicities", multiplicities)
    if lam.ndim != 1 or not lam.shape[0]:
        raise ValueError(f"eigenvalues must be a list of one or more, got shape {lam.shape}")
    if m.shape not in ((), lam.shape):
        raise ValueError(f"multiplicities must be one number or one per eigenvalue, {lam.shape}, got shape {m.shape}")
    dtype = jnp.result_type(n, lam, ridge, m)
    return n.astype(dtype), lam.astype(dtype), ridge.astype(dtype), jnp.broadcast_to(m, lam.shape).astype(dtype)


def checked_task(n, task: TaskLike, ridge) -> tuple[Float[Array, "..."], Float[Array, "..."], KernelTask]:
    """n, ridge and task, checked; n, ridge and noise of one shape."""
    task = KernelTask(*task) if isinstance(task, tuple) else task
    n, lam, ridge, m = checked_spectrum(n, task.eigenvalues, ridge, task.multiplicities)
    powers, noise, tail = (non_negative(name, getattr(task, name)) for name in ("powers", "noise", "tail"))
    if powers.shape != lam.shape:
        raise ValueError(f"powers must be one per eigenvalue, {lam.shape}, got shape {powers.shape}")
    n, ridge, noise = jnp.broadcast_arrays(n, ridge, noise)
    return n, ridge, KernelTask(lam, powers, m, noise, tail)
