"""How many bits a task asks for beyond its data: the chance that what fits the data generalises.

Hypotheses drawn from a prior, of which only those that fit the training data are kept, generalise with an error below
eps with some probability P. What a learner must know besides, its inductive bias, is I = -log2 P bits. For a linear
model with prior N(0, tau^2 I_d), n < d noiseless data and error |theta - theta*|^2, the data fix n directions; in the
other k = d - n the prior is untouched, so that the error over tau^2 is a noncentral chi-squared variable of k degrees
of freedom and noncentrality Lambda = |P_null theta*|^2 / tau^2.

Its distribution is a Poisson mixture of central ones. All terms are positive, and the sums are taken in logarithms,
where a probability of 2^-10000 is a number like any other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole

# Terms of the sums, and the largest argument of which they hold all that counts (twenty deviations above its mean).
_TERMS, _LARGEST = 4096, 6000.0


def log_noncentral_chi2(
    x: Real[ArrayLike, ""], freedom: Real[ArrayLike, ""], noncentrality: Real[ArrayLike, ""] = 0.0
) -> Float[Array, ""]:
    """ln P(|z + mu|^2 <= x) for z ~ N(0, I_k) and |mu|^2 = Lambda.

    ln sum_j e^{-Lambda/2} (Lambda/2)^j / j! sum_{i >= j} (x/2)^{k/2 + i} e^{-x/2} / Gamma(k/2 + i + 1).

    Arguments:
        x: > 0, at most 6000.
        freedom: k > 0, also between whole numbers.
        noncentrality: Lambda >= 0, at most 6000.
    Returns:
        the log probability, (), of absolute error 1e-11 for arguments below a thousand.
    Holds when: float64; float32 leaves four digits.
    Source: Johnson, Kotz & Balakrishnan 1995 (Continuous Univariate Distributions 2), chapter 29.
    """
    x, k, shift = positive("x", x), positive("freedom", freedom), non_negative("noncentrality", noncentrality)
    x = require("x", x, x <= _LARGEST, "must be at most 6000")
    shift = require("noncentrality", shift, shift <= _LARGEST, "must be at most 6000")
    # Slopes at Lambda = 0 need a little of the second term.
    half = shift / 2 + jnp.sqrt(jnp.finfo(shift.dtype).tiny)
    i = jnp.arange(_TERMS, dtype=jnp.result_type(x, k, half))
    terms = (k / 2 + i) * jnp.log(x / 2) - x / 2 - gammaln(k / 2 + i + 1)
    central = jax.lax.cumlogsumexp(terms, reverse=True)
    return jnp.minimum(logsumexp(i * jnp.log(half) - half - gammaln(i + 1) + central), 0.0)


def null_energy(inputs: Real[ArrayLike, "n d"], target: Real[ArrayLike, "..."]) -> Float[Array, ""]:
    """How much of the target the data do not show.

    |P_null theta*|^2 = |theta*|^2 - theta*^T X^T (X X^T)^{-1} X theta*.

    Arguments:
        inputs: X, of full rank, (n, d), n <= d.
        target: theta*, (d,).
    Returns:
        the energy, ().
    Holds when: rows are independent.
    Source: linear algebra.
    """
    x = matrix("inputs", inputs)
    truth = real("target", target)
    n, d = x.shape
    if truth.shape != (d,) or n > d:
        raise ValueError(f"inputs must be at most as many as the entries of target, got {x.shape} and {truth.shape}")
    rows = jnp.linalg.qr(x.T)[0]
    return jnp.sum((truth - rows @ (rows.T @ truth)) ** 2)


def linear_inductive_bias(
    error: Real[ArrayLike, ""],
    d: int,
    n: int,
    energy: Real[ArrayLike, ""],
    variance: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, ""]:
    """Bits that a linear task asks for beyond n data to be learned up to an error.

    I = -log2 F(eps / tau^2; d - n, |P_null theta*|^2 / tau^2).

    Arguments:
        error: eps > 0, of |theta - theta*|^2: mean square error at white inputs.
        d: parameters, a Python int.
        n: noiseless data, linearly independent, a Python int >= 0; from n = d on they say all.
        energy: |P_null theta*|^2 >= 0, from `null_energy`; |theta*|^2 for n = 0, and on average (1 - n/d) of it.
        variance: tau^2 > 0, of the prior N(0, tau^2 I).
    Returns:
        bits, () >= 0.
    Holds when: the prior is isotropic. Gradient descent from a start drawn from it ends at such a hypothesis.
    Source: the inductive bias of Boopathy et al. 2024 (IJCAI), for a model in which it is a closed form.
    """
    freedom = whole("d", d) - whole("n", n, at_least=0)
    eps, tau2 = positive("error", error), positive("variance", variance)
    lost = non_negative("energy", energy)
    if freedom <= 0:
        return 0.0 * (eps + tau2 + lost)
    return -log_noncentral_chi2(eps / tau2, float(freedom), lost / tau2) / jnp.log(2.0)
