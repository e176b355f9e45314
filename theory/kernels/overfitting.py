"""Benign, tempered or catastrophic: what it costs to fit noise perfectly (Mallinar et al. 2022).

Interpolating n noisy labels multiplies the noise by E_0(n). As n grows, what becomes of E_0 is read off the tail of the
kernel's spectrum, for without a ridge E_0 = - dln kappa / dln n is the exponent with which the effective ridge falls:

    benign       E_0 -> 1          slower than every power with a > 1: lam_i = 1 / (i log^b i); or any fixed ridge,
    tempered     E_0 -> a          lam_i ~ i^{-a}: ReLU and Laplace kernels on S^{d-1}, a = d / (d - 1),
    catastrophic E_0 -> infinity   faster than every power: Gaussian kernels, lam_i ~ exp(-b i^s) with E_0 ~ b s n^s.

The closed forms of this file are for lam_i = i^{-a} and lam_i = e^{-b i}, i = 1, 2, ..., as n -> infinity; for a given
spectrum at a given n see `theory.kernels.learning_curves`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, within

# Terms of the two sums over modes below: from the point where they meet on, both are exact to rounding.
TERMS = np.arange(1, 16)


def overfitting_limit(
    exponent: Real[ArrayLike, "..."], ridge_fraction: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """What the overfitting coefficient tends to for a spectrum that falls as i^{-a}.

    E_0 -> a / (1 + (a - 1) rho),   rho = ridge / (n kappa).

    Arguments, which broadcast:
        exponent: a >= 1; infinity for a fall that is faster than every power.
        ridge_fraction: rho in [0, 1]: the share of the n samples that the ridge uses up; the training error is
            rho^2 times the test error. A fixed ridge has rho -> 1; constant rho takes a ridge that falls as n^{1 - a}.
    Returns:
        the limit, of the broadcast shape: 1 for a = 1 or rho = 1 (benign), a without a ridge (tempered), infinity for
        a = infinity without a ridge (catastrophic).
    Holds when: n -> infinity.
    Source: Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1; for rho > 0 derived here.
    """
    a, rho = jnp.asarray(exponent, jnp.result_type(float)), within("ridge_fraction", ridge_fraction, 0.0, 1.0)
    a = require("exponent", a, a >= 1, "must be at least 1")
    return 1 / ((1 - rho) / a + rho)


def taxonomy(exponent: float, ridge: float = 0.0) -> str:
    """ "benign", "tempered" or "catastrophic": the fate of noise that a kernel interpolates, as n -> infinity.

    Arguments:
        exponent: a >= 1 in lam_i ~ i^{-a}, as `theory.kernels.sphere.decay_exponent` measures it, a Python number; 1
            for spectra that fall like 1 / (i log^b i), infinity for a fall that is faster than every power.
        ridge: >= 0, the same for all n.
    Returns:
        the word. What happens at finite n may differ: E_0 - 1 falls only as 1 / log n in the benign case without ridge.
    Holds when: as for `overfitting_limit`.
    Source: Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1.
    """
    fixed = float(non_negative("ridge", ridge)) > 0
    limit = float(overfitting_limit(exponent, 1.0 if fixed else 0.0))
    return "benign" if limit == 1 else "tempered" if np.isfinite(limit) else "catastrophic"


def power_law_ridge(
    n: Real[ArrayLike, "..."], exponent: Real[ArrayLike, "..."], ridge_fraction: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """Effective ridge of the spectrum i^{-a}.

    kappa = [(pi / a) / sin(pi / a) / ((1 - rho) n + 1/2)]^a.

    Arguments, which broadcast:
        n: number of samples, > 0.
        exponent: a > 1.
        ridge_fraction: rho in [0, 1]; the ridge that has it is rho n kappa.
    Returns:
        kappa, of the broadcast shape.
    Holds when: n -> infinity; the next term is of relative order a kappa / n.
    Source: Mallinar et al. 2022 (arXiv:2207.06569), appendix; Bordelon, Canatar & Pehlevan 2020 (arXiv:2002.02561); the
        1/2 by Euler and Maclaurin.
    """
    n, a, rho = _power_law(n, exponent, ridge_fraction)
    return (1 / (jnp.sinc(1 / a) * ((1 - rho) * n + 0.5))) ** a


def power_law_overfitting(
    n: Real[ArrayLike, "..."], exponent: Real[ArrayLike, "..."], ridge_fraction: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """Overfitting coefficient of the spectrum i^{-a}: E_0 = n / (rho n + ((1 - rho) n + 1/2) / a).

    Arguments, regime and source: as for `power_law_ridge`.
    Returns: E_0, of the broadcast shape; a as n -> infinity without a ridge.
    """
    n, a, rho = _power_law(n, exponent, ridge_fraction)
    return n / (rho * n + ((1 - rho) * n + 0.5) / a)


def power_law_test_error(
    n: Real[ArrayLike, "..."],
    exponent: Real[ArrayLike, "..."],
    target_exponent: Real[ArrayLike, "..."],
    noise: Real[ArrayLike, "..."] = 0.0,
    ridge_fraction: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Test error for the spectrum i^{-a} and a target with powers v_i^2 = i^{-b}, to leading order.

    test = E_0 [ kappa^s / a  pi (1 - s) / sin(pi s) + noise ],   s = (b - 1) / a.

    Without noise and ridge it falls as n^{1 - b}, whatever the kernel's own a (as n^{-2 a} for s >= 2, smoother targets
    than the kernel can profit from); with noise it levels off at E_0 noise.

    Arguments, which broadcast:
        n, exponent, ridge_fraction: as for `power_law_ridge`.
        target_exponent: b with 1 < b < 1 + 2 a.
        noise: variance of the label noise, >= 0.
    Returns:
        the error on noisy labels, of the broadcast shape.
    Holds when: n -> infinity; the next terms are of relative order kappa and kappa^{2 - s}.
    Source: Bordelon, Canatar & Pehlevan 2020 (arXiv:2002.02561); Cui et al. 2021 (arXiv:2105.15004).
    """
    n, a, rho = _power_law(n, exponent, ridge_fraction)
    b, noise = real("target_exponent", target_exponent), non_negative("noise", noise)
    s = (b - 1) / a
    b = require("target_exponent", b, (s > 0) & (s < 2), "must lie between 1 and 1 + 2 exponent")
    # pi (1 - s) / sin(pi s) = pi (1 - s) / sin(pi (1 - s)), smooth through s = 1.
    bias = power_law_ridge(n, a, rho) ** s / (a * jnp.sinc(1 - s))
    return power_law_overfitting(n, a, rho) * (bias + noise)


def exponential_ridge(n: Real[ArrayLike, "..."], rate: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Effective ridge of the spectrum e^{-b i} without a ridge: kappa = e^{-b (n + 1/2)}.

    Arguments, which broadcast:
        n: number of samples, a whole number > 0.
        rate: b > 0.
    Returns:
        kappa, of the broadcast shape.
    Holds when: n is whole; relative error about e^{-b n}. The shares pair up around it, L_{n-j} + L_{n+1+j} = 1.
    Source: derived here.
    """
    return jnp.exp(-positive("rate", rate) * (positive("n", n) + 0.5))


def exponential_overfitting(n: Real[ArrayLike, "..."], rate: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Overfitting coefficient of the spectrum e^{-b i}: it grows in proportion to n (catastrophic).

    E_0 = n / sum_j 1 / (4 cosh^2(b (j + 1/2) / 2)),   j over all whole numbers.

    Arguments, which broadcast: as for `exponential_ridge`.
    Returns: E_0, of the broadcast shape; b n for b << 1, n e^{b/2} / 2 for b >> 1.
    Holds when: as for `exponential_ridge`.
    Source: derived here; that it is catastrophic in Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1.
    """
    n, b = positive("n", n), positive("rate", rate)
    fast = b > jnp.pi
    # By Poisson's formula the sum is (1 + 2 sum_j (-1)^j y_j / sinh y_j) / b with y_j = 2 pi^2 j / b.
    steep, flat = jnp.where(fast, b, 1e2)[..., None], jnp.where(fast, jnp.pi, b)[..., None]
    e = jnp.exp(-steep * (TERMS - 0.5))
    y = 2 * jnp.pi**2 * TERMS / flat
    waves = (-1.0) ** TERMS * 2 * y * jnp.exp(-y) / -jnp.expm1(-2 * y)
    direct, dual = 2 * jnp.sum(e / (1 + e) ** 2, axis=-1), (1 + 2 * jnp.sum(waves, axis=-1)) / flat[..., 0]
    return n / jnp.where(fast, direct, dual)


def _power_law(n, exponent, ridge_fraction):
    """n, a and rho, checked."""
    n, a = positive("n", n), real("exponent", exponent)
    a = require("exponent", a, a > 1, "must be above 1")
    return n, a, within("ridge_fraction", ridge_fraction, 0.0, 1.0)
