"""Ridge regression in high dimension: what early stopping is measured against (Advani & Saxe 2017).

The student is w = (X^T X + g)^{-1} X^T y. At the best ridge, noise / signal, it is the Bayes-optimal one for Gaussian
weights and noise, and its test error falls with every sample: the double-descent peak is gone.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive
from theory.deep_linear.generalization import RegressionLike, checked
from theory.deep_linear.marchenko_pastur import Spectrum


def ridge_generalization_error(
    g: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Mean squared error on new samples, label noise included, of ridge regression.

    E_g = noise + (1 - alpha)_+ signal + int rho(lam) (g^2 signal + lam noise) / (lam + g)^2 dlam.

    Arguments, which broadcast:
        g: ridge, > 0: the weight of 1/2 g |w|^2 beside the SUM loss 1/2 |y - X w|^2 (beside the mean loss: g / P).
        regression: alpha, signal, noise; `start` plays no part.
        spectrum: as for `generalization_error` (for given inputs the result is exact).
    Returns:
        E_g, of the broadcast shape; signal + noise as g -> infinity, `final_generalization_error` as g -> 0.
    Holds when: inputs of independent entries of variance 1/N; teacher and noise independent.
    Source: Advani & Saxe 2017 (arXiv:1710.03667), regularisation against early stopping.
    """
    g, (r, s) = positive("g", g), checked(regression, spectrum)
    kept = g[..., None] / (s.rates + g[..., None])
    noise = r.noise[..., None] * (1 - kept) / (s.rates + g[..., None])
    return r.noise + s.frozen * r.signal + s.sum(r.signal[..., None] * kept**2 + noise)


def ridge_training_error(
    g: Real[ArrayLike, "..."], regression: RegressionLike, spectrum: Spectrum | None = None
) -> Float[Array, "..."]:
    """Mean squared error of ridge regression on its training samples, (1/P) |y - X w|^2, without the penalty.

    E_t = (1 - 1/alpha)_+ noise + (1/alpha) int rho(lam) (lam signal + noise) g^2 / (lam + g)^2 dlam.

    Arguments, which broadcast, regime and source: as for `ridge_generalization_error`.
    Returns: E_t, of the broadcast shape.
    """
    g, (r, s) = positive("g", g), checked(regression, spectrum)
    kept = g[..., None] / (s.rates + g[..., None])
    residual = s.rates * r.signal[..., None] + r.noise[..., None]
    return s.unfit * r.noise + s.sum(residual * kept**2) / s.alpha


def optimal_ridge(regression: RegressionLike) -> Float[Array, "..."]:
    """The ridge of lowest test error, noise / signal = 1 / SNR, whatever alpha and the spectrum.

    Arguments: regression: signal (> 0) and noise.
    Returns: g, on the scale of the SUM loss, of the fields' shape.
    Holds when: as for `ridge_generalization_error`, also at finite N.
    Source: Advani & Saxe 2017 (arXiv:1710.03667).
    """
    r, _ = checked(regression)
    return r.noise / positive("signal", r.signal)


def optimal_ridge_error(regression: RegressionLike) -> Float[Array, "..."]:
    """Test error at the best ridge: noise (1 + m(g)) at g = noise / signal, m the `resolvent`.

    E_g = noise + signal [sqrt(b^2 + 4 g) - b] / 2,   b = g + alpha - 1.

    Arguments: regression: alpha, signal (> 0), noise.
    Returns: E_g, of the fields' shape; (1 - alpha)_+ signal without noise. No student does better on Gaussian teachers.
    Holds when: N, P -> infinity; as for `ridge_generalization_error`.
    Source: Advani & Saxe 2017 (arXiv:1710.03667).
    """
    r, _ = checked(regression)
    g = optimal_ridge(r)
    b = g + (r.alpha - 1)
    edge = (g == 0) & (b == 0)
    root = jnp.where(edge, 0.0, jnp.sqrt(jnp.where(edge, 1.0, b**2 + 4 * g)))
    # (root - b) / 2 loses its digits for b >> g.
    unlearned = jnp.where(b > 0, 2 * g / jnp.where(b > 0, b + root, 1.0), (root - b) / 2)
    return r.noise + r.signal * unlearned
