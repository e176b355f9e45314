"""Ridge regression on finitely many random features: between a narrow network and a kernel (Simon et al. 2024).

f(x) = sum_j a_j h(x, w_j) / sqrt k with k frozen random features h and trained a: a network whose last layer alone
learns. Infinitely many features are kernel regression with K(x, x') = E_w h(x, w) h(x', w). With k of them the
features, too, are a sample of what the kernel has, and the two samples enter alike: with z = sum_i L_i modes learned,

    (n - z) (k - z) = ridge k / kappa,   L_i = lam_i / (lam_i + kappa).

Test error peaks at k = n, where the features can just interpolate (double descent).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive
from theory.kernels.learning_curves import TaskLike, checked_spectrum, checked_task, self_consistent_ridge, shares


class RandomFeatureCurve(NamedTuple):
    """Means over training sets and features. Shape (...), of n, features, ridge and noise; levels last where noted.

    effective_ridge: kappa, what the kernel of infinitely many features is smoothed by.
    feature_ridge: gamma = kappa (k - z) / k <= kappa, what the kernel of the k features is smoothed by.
    learnability: L_i, shape (..., levels): the mean prediction has coefficients L_i v_i.
    overfitting_coefficient: the factor by which fitting n samples multiplies noise and misfit; infinite at the peak.
    test_error: mean squared error on new noisy labels.
    training_error: mean squared error on the training labels.
    bias: error of the mean prediction, sum_i (1 - L_i)^2 v_i^2.
    variance: scatter over training sets and features; test_error = bias + variance + noise.
    """

    effective_ridge: Float[Array, "..."]
    feature_ridge: Float[Array, "..."]
    learnability: Float[Array, "... levels"]
    overfitting_coefficient: Float[Array, "..."]
    test_error: Float[Array, "..."]
    training_error: Float[Array, "..."]
    bias: Float[Array, "..."]
    variance: Float[Array, "..."]


def random_feature_ridge(
    n: Real[ArrayLike, "..."],
    features: Real[ArrayLike, "..."],
    eigenvalues: Real[ArrayLike, " levels"],
    ridge: Real[ArrayLike, "..."] = 0.0,
    multiplicities: Real[ArrayLike, "*levels"] = 1.0,
    tail: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """The effective ridge kappa of n samples and k random features.

    z + 2 c / (|n - k| + sqrt((n - k)^2 + 4 c)) = min(n, k),   c = ridge k / kappa,
    z = sum_i m_i lam_i / (lam_i + kappa) + tail / kappa.

    Arguments, n, features and ridge of which broadcast:
        n: number of samples, > 0.
        features: number k of random features, > 0.
        eigenvalues, multiplicities, tail: of the kernel of infinitely many features, as in `KernelTask`.
        ridge: added to the kernel matrix of the features, sum_j h_j h_j' / k, >= 0.
    Returns:
        kappa, of the broadcast shape; `effective_ridge` as k -> infinity. Without a ridge it is that of min(n, k)
        samples.
    Holds when: n, k -> infinity; modes and features behave as independent Gaussians of equal covariance.
    Source: Simon, Karkada, Ghosh & Belkin 2024 (arXiv:2311.14646), random-feature eigenframework; solved for z, which
        leaves one equation. Special cases: Mei & Montanari 2022 (arXiv:1908.05355), Bach 2024 (arXiv:2303.01372).
    """
    n, lam, ridge, m = checked_spectrum(n, eigenvalues, ridge, multiplicities)
    return _kappa(n, positive("features", features), lam, m, ridge, non_negative("tail", tail))


def random_feature_curve(
    n: Real[ArrayLike, "..."],
    features: Real[ArrayLike, "..."],
    task: TaskLike,
    ridge: Real[ArrayLike, "..."] = 0.0,
) -> RandomFeatureCurve:
    """Test and training error of ridge regression on k random features from n samples.

    With q = sum_i m_i L_i^2 and s = (z - q) / (k - q), the share of what is learned that the choice of features costs:
    test = n / (n - z + (k - z) s) [sum_i (1 - L_i) (1 - L_i + s L_i) v_i^2 + noise],
    training = (1 - z/n)^2 test.

    Arguments, n, features, ridge and the task's noise of which broadcast:
        n: number of samples, > 0.
        features: number k of random features, > 0.
        task: spectrum of the kernel of infinitely many features, the target's powers and the noise.
        ridge: added to the kernel matrix of the features, >= 0; on the sum loss |y - f|^2 beside ridge |a|^2.
    Returns:
        a `RandomFeatureCurve`; `learning_curve` as k -> infinity. Without a ridge, infinite at k = n if there is
        noise or anything left to learn.
    Holds when: as for `random_feature_ridge`, with corrections of relative order E/n and 1/k, E the overfitting
        coefficient. Of the training error at a weak ridge, beyond k = n, they are largest: for ReLU features and
        k = 5/4 n it is above this one by some 20 % at n = 100 and 10 % at n = 200.
    Source: Simon, Karkada, Ghosh & Belkin 2024 (arXiv:2311.14646), random-feature eigenframework.
    """
    n, ridge, task = checked_task(n, task, ridge)
    n, k, ridge, noise = jnp.broadcast_arrays(n, positive("features", features), ridge, task.noise)
    lam, powers, m, tail = task.eigenvalues, task.powers, task.multiplicities, task.tail
    kappa = _kappa(n, k, lam, m, ridge, tail)
    learned, missed = shares(lam, kappa)
    determined = kappa == 0
    per_kappa = 1 / jnp.where(determined, 1.0, kappa)
    # Samples and features that no mode takes; min(n, k) - z would cancel.
    spare = jnp.where(determined, jnp.minimum(n, k) - jnp.sum(jnp.where(lam > 0, m, 0.0)), 0.0)
    spare = jnp.where(determined, spare, _spare(n, k, ridge * per_kappa)[0])
    samples, spare_features = jnp.maximum(n - k, 0.0) + spare, jnp.maximum(k - n, 0.0) + spare
    spread = (learned * missed) @ m + tail * per_kappa
    squares = learned**2 @ m
    cost = spread / jnp.where(spare_features + spread > 0, spare_features + spread, 1.0)
    free = samples + spare_features * cost
    bias = missed**2 @ powers
    by_features = cost * ((learned * missed) @ powers)
    unlearned = bias + by_features + noise

    def amplified(factor):
        """factor / free times the unlearned: infinite where nothing is free, unless nothing is left to learn."""
        finite = factor / jnp.where(free > 0, free, 1.0) * unlearned
        return jnp.where(free > 0, finite, jnp.where(unlearned > 0, jnp.inf, 0.0))

    return RandomFeatureCurve(
        effective_ridge=kappa,
        feature_ridge=kappa * spare_features / k,
        learnability=learned,
        overfitting_coefficient=jnp.where(free > 0, n / jnp.where(free > 0, free, 1.0), jnp.inf),
        test_error=amplified(n),
        training_error=(samples / n) * samples / jnp.where(free > 0, free, 1.0) * unlearned,
        bias=bias,
        variance=amplified((1 - cost) * squares + cost * (n - samples)) + by_features,
    )


def _spare(n, k, ridge_per_kappa):
    """What ridge and the smaller of two samples leave of it, min(n, k) - z, and - its slope in log kappa."""
    gap, c = jnp.abs(n - k), ridge_per_kappa * k
    loaded = c > 0
    root = jnp.sqrt(jnp.where(loaded, gap**2 + 4 * c, 1.0))
    return jnp.where(loaded, 2 * c / (gap + root), 0.0), jnp.where(loaded, c / root, 0.0)


def _load(log_kappa, n, k, ridge, tail):
    """What is left of min(n, k) by the modes that are listed, and - its slope in log kappa."""
    left_out = tail * jnp.exp(-log_kappa)
    spare, slope = _spare(n, k, ridge * jnp.exp(-log_kappa))
    return left_out + spare, left_out + slope


def _kappa(n, k, lam, m, ridge, tail) -> Float[Array, "..."]:
    """kappa of checked arguments."""
    n, k, ridge = jnp.broadcast_arrays(n, k, ridge)
    fewer = jnp.minimum(n, k)

    # z <= trace / kappa and the other term <= sqrt(ridge k / kappa): each is below half of min(n, k) from here on.
    most = jnp.maximum(2 * (lam @ m + tail) / fewer, 4 * ridge * k / fewer**2)
    return self_consistent_ridge(fewer, lam, m, _load, (n, k, ridge, tail), most, (ridge > 0) | (tail > 0))
