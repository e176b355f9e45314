"""What it is worth to memorise a single example, if most kinds of things are rare.

Inputs come from many subpopulations k with frequencies p_k, each with a label of its own that no other tells anything
about. An example that was seen once among n looks like an outlier, but in a long tail it stands for a subpopulation of
a frequency of about 1/n, all of which is wrong if its label is not kept. With l copies seen, a mistake costs

    tau_l = sum_k p_k^{l+1} (1 - p_k)^{n-l} / sum_k p_k^l (1 - p_k)^{n-l},

the expected frequency of a subpopulation that was seen l times. No learner does better on the unseen than guess; all
else that it gets wrong is excess, sum_l tau_l times the number of subpopulations seen l times that it has wrong.

A prior over frequencies is given as `numbers` m_k of subpopulations of each frequency, expected ones: sum m_k p_k = 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, real, require, whole, within


def memorisation_value(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    seen: Real[ArrayLike, "*shape"],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, "*shape"]:
    """Expected frequency of a subpopulation that was seen l times: what it costs to have it wrong.

    tau_l = sum_k m_k p_k^{l+1} (1 - p_k)^{n-l} / sum_k m_k p_k^l (1 - p_k)^{n-l}.

    Arguments:
        frequencies: p_k from 0 to below 1, (K,).
        examples: n >= 1; seen: l from 0 to n, of any shape.
        numbers: m_k >= 0 subpopulations of each frequency, (K,), one if not given; sum m_k p_k = 1.
    Returns:
        tau_l, increasing in l, between the least and the largest p_k; 1/N for all l if frequencies are alike.
    Holds when: examples are independent draws. It is the expected mass of subpopulations seen l times over their
        expected number; that of a single one given all counts differs slightly, as frequencies sum to one.
    Source: Feldman 2020 (arXiv:1906.05271), the coefficients of its main theorem.
    """
    _, number, mass = _logarithms(*_checked(frequencies, numbers, examples, seen))
    return jnp.exp(mass - number)


def expected_number(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    seen: Real[ArrayLike, "*shape"],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, "*shape"]:
    """Expected number of subpopulations that are seen l times.

    M_l = binom(n, l) sum_k m_k p_k^l (1 - p_k)^{n-l}.

    Arguments: as for `memorisation_value`.
    Returns:
        M_l; sum_l M_l is the number of subpopulations, sum_l l M_l = n. M_l l are examples.
    Holds when: examples are independent draws.
    Source: the binomial distribution; derived in derivations/induction/long_tail.py.
    """
    ways, number, _ = _logarithms(*_checked(frequencies, numbers, examples, seen))
    return jnp.exp(ways + number)


def expected_mass(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    seen: Real[ArrayLike, "*shape"],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, "*shape"]:
    """Expected share of the mixture that is in subpopulations seen l times.

    tau_l M_l = binom(n, l) sum_k m_k p_k^{l+1} (1 - p_k)^{n-l}.

    Arguments: as for `memorisation_value`.
    Returns:
        the mass, of sum one over l; for l = 0 the missing mass, for l = 1 n sum_k m_k p_k^2 (1 - p_k)^{n-1}.
        With M' for one example more it is (l + 1) / (n + 1) M'_{l+1}: Good and Turing.
    Holds when: examples are independent draws.
    Source: Good 1953; derived in derivations/induction/long_tail.py.
    """
    ways, _, mass = _logarithms(*_checked(frequencies, numbers, examples, seen))
    return jnp.exp(ways + mass)


def unseen_error(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    labels: Real[ArrayLike, ""],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, ""]:
    """Expected error of the best learner: it guesses what it has not seen.

    (1 - 1/C) sum_k m_k p_k (1 - p_k)^n.

    Arguments:
        frequencies, examples, numbers: as for `memorisation_value`; labels: C >= 1, equally likely.
    Returns:
        the error, a scalar: that of a network that fits all labels and takes each to its whole subpopulation.
    Holds when: labels of subpopulations are independent and uniform, and the same for all of a subpopulation.
    Source: Feldman 2020 (arXiv:1906.05271), the error of the best learner, for random labels.
    """
    c = real("labels", labels)
    require("labels", c, c >= 1, "must be at least 1")
    return (1 - 1 / c) * expected_mass(frequencies, examples, 0, numbers)


def excess_error(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    wrong: Real[ArrayLike, " L"],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, ""]:
    """Expected error on what was seen, of a learner that gets a given share of it wrong.

    sum_{l=1}^L w_l binom(n, l) sum_k m_k p_k^{l+1} (1 - p_k)^{n-l}.

    Arguments:
        frequencies, examples, numbers: as for `memorisation_value`.
        wrong: w_l from 0 to 1 for l = 1 ... L <= n, none beyond, (L,): the share of subpopulations seen l times that is
            wrong.
    Returns:
        the error beyond that of the best learner, a scalar; n sum m_k p_k^2 (1 - p_k)^{n-1} for all of l = 1.
    Holds when: a learner that has an example wrong has its subpopulation wrong, and what is wrong depends on how often
        it was seen, not on the frequency itself. For it the bound of the source is an equality.
    Source: Feldman 2020 (arXiv:1906.05271), its main theorem, averaged over data.
    """
    w = within("wrong", wrong, 0.0, 1.0)
    if w.ndim != 1:
        raise ValueError(f"wrong must be a vector, one for each number of copies from 1 on, got shape {w.shape}")
    return jnp.sum(w * expected_mass(frequencies, examples, jnp.arange(1, len(w) + 1), numbers))


def threshold_error(
    frequencies: Real[ArrayLike, " K"],
    examples: Real[ArrayLike, ""],
    copies: int,
    labels: Real[ArrayLike, ""],
    numbers: Real[ArrayLike, " M"] | None = None,
) -> Float[Array, ""]:
    """Expected excess error of a learner that knows what it has seen m times or more, and guesses all else.

    (1 - 1/C) sum_{l=1}^{m-1} binom(n, l) sum_k m_k p_k^{l+1} (1 - p_k)^{n-l}.

    Arguments:
        frequencies, examples, numbers: as for `memorisation_value`.
        copies: m from 1 to n + 1, a Python int; labels: C >= 1, equally likely.
    Returns:
        the error beyond `unseen_error`, a scalar; zero for m = 1.
    Holds when: as for `unseen_error`. Regularisation and privacy make such learners, with more gradual thresholds.
    Source: derived in derivations/induction/long_tail.py.
    """
    below, c = whole("copies", copies) - 1, real("labels", labels)
    require("labels", c, c >= 1, "must be at least 1")
    return (1 - 1 / c) * excess_error(frequencies, examples, jnp.ones(below), numbers)


def singleton_bound(
    frequencies: Real[ArrayLike, " K"], examples: Real[ArrayLike, ""], numbers: Real[ArrayLike, " M"] | None = None
) -> Float[Array, ""]:
    """Lower bound on the value of a single example: the weight of frequencies around 1/n.

    tau_1 >= W / (5 n),   W = sum of m_k p_k over 1 / (3 n) <= p_k <= 2 / n.

    Arguments:
        frequencies, examples, numbers: as for `memorisation_value`, n >= 3.
    Returns:
        the bound, a scalar; never above 1 / (5 n).
    Holds when: n >= 3, any prior: n p (1 - p)^{n-1} >= 2/9 between the ends, and sum m_k p_k (1 - p_k)^{n-1} <= 1.
        At n = 2 a prior that mixes p = 1 with rare subpopulations breaks it.
    Source: Feldman 2020 (arXiv:1906.05271), the lemma on tau_1; derived in derivations/induction/long_tail.py.
    """
    p, m, n, _ = _checked(frequencies, numbers, examples, 0)
    n = require("examples", n, n >= 3, "must be at least 3")
    # The ends belong to the interval, also after rounding.
    near = (3 * n * p >= 1 - 1e-12) & (n * p <= 2 + 1e-12)
    return jnp.sum(jnp.where(near, m * p, 0.0)) / (5 * n)


def power_law_value(
    exponent: Real[ArrayLike, "..."], examples: Real[ArrayLike, "..."], seen: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """tau_l of frequencies p_k ~ k^-alpha without end: the count, less a discount, over n.

    tau_l = (l - 1/alpha) / (n + 1 - 1/alpha),   n tau_1 -> 1 - 1/alpha.

    Arguments, which broadcast:
        exponent: alpha > 1; examples: n >= 1; seen: l from 1 to n.
    Returns:
        tau_l, of the broadcast shape.
    Holds when: exactly for a prior density ~ p^{-1 - 1/alpha} of frequencies on (0, 1). For p_k = c k^-alpha,
        k = 1, 2, ..., and fixed l, up to terms that fall faster than any power of n. N subpopulations instead cost a
        relative error of (n p_N)^{l - 1/alpha}, which at l = 1 is small for very many only.
    Source: derived in derivations/induction/long_tail.py; the regular variation of Karlin 1967.
    """
    discount, n = 1 / _heavy(exponent), _counted(examples)
    times = real("seen", seen)
    require("seen", times, jnp.all((times >= 1) & (times <= n)), "must lie between 1 and examples")
    return (times - discount) / (n + 1 - discount)


def power_law_ratio(exponent: Real[ArrayLike, "..."], copies: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Error of a learner that needs m copies over that of the best one, for p_k ~ k^-alpha without end.

    R_m = Gamma(m + 1 - d) / (Gamma(2 - d) Gamma(m)),   d = 1 / alpha;   R_1 = 1,  R_2 = 2 - d.

    Arguments, which broadcast:
        exponent: alpha > 1; copies: m >= 1.
    Returns:
        R, of the broadcast shape, at any number of examples; m^{1-d} / Gamma(2 - d) for large m.
    Holds when: as for `power_law_value`, with N subpopulations up to (n p_N)^{1 - d}; learners guess what they do not
        know.
    Source: derived in derivations/induction/long_tail.py.
    """
    discount, m = 1 / _heavy(exponent), real("copies", copies)
    m = require("copies", m, m >= 1, "must be at least 1")
    return jnp.exp(gammaln(m + 1 - discount) - gammaln(2 - discount) - gammaln(m))


def private_wrong(
    seen: Real[ArrayLike, "..."],
    epsilon: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    delta: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Least share of subpopulations seen l times that a learner of private labels has wrong.

    w_l >= (C - 1) max(0, 1 - delta_l) / (C - 1 + e^{l epsilon}),   delta_l = delta sum_{i<l} e^{i epsilon}.

    Arguments, which broadcast:
        seen: l >= 0; epsilon: >= 0; labels: C >= 1, equally likely; delta: from 0 to 1.
    Returns:
        the bound, from (1 - 1/C)(1 - l delta) at epsilon = 0 to 0; give it to `excess_error`.
    Holds when: changing the label of one example changes no probability of an outcome by more than a factor e^epsilon
        and delta (differential privacy of labels, and so of examples); labels of subpopulations are independent and
        uniform. Reached by randomised response at l = 1, delta = 0.
    Source: derived in derivations/induction/long_tail.py; the point of Feldman 2020 (arXiv:1906.05271) on privacy.
    """
    times, e, c = non_negative("seen", seen), non_negative("epsilon", epsilon), real("labels", labels)
    c = require("labels", c, c >= 1, "must be at least 1")
    # e^{-l epsilon} delta_l is delta times a sum of l terms, which are all one at epsilon = 0.
    some = jnp.where(e > 0, e, 1.0)
    terms = jnp.where(e > 0, -jnp.expm1(-times * some) / jnp.expm1(some), times)
    kept = jnp.exp(-times * e)
    return (c - 1) * jnp.maximum(kept - within("delta", delta, 0.0, 1.0) * terms, 0.0) / (1 + (c - 1) * kept)


@jax.jit
def _logarithms(p, m, n, seen):
    """ln of binom(n, l), sum_k m_k p_k^l (1 - p_k)^{n-l} and the same of l + 1, for each number l of `seen`."""
    some = p > 0
    log_p, log_rest = jnp.log(jnp.where(some, p, 1.0)), jnp.log1p(-p)

    def sums(times):
        terms = times * log_p + (n - times) * log_rest
        # Subpopulations without any frequency are never seen.
        number = logsumexp(jnp.where(some | (times == 0), terms, -jnp.inf), b=m)
        mass = logsumexp(jnp.where(some, terms + log_p, -jnp.inf), b=m)
        return gammaln(n + 1) - gammaln(times + 1) - gammaln(n - times + 1), number, mass

    # One number after the other: many subpopulations times many numbers would not fit into memory.
    found = jax.lax.map(sums, seen.ravel())
    return tuple(x.reshape(seen.shape) for x in found)


def _checked(frequencies, numbers, examples, seen):
    p = real("frequencies", frequencies)
    p = require("frequencies", p, (p >= 0) & (p < 1), "must lie between 0 and below 1")
    if p.ndim != 1 or not len(p):
        raise ValueError(f"frequencies must be a vector of one or more, got shape {p.shape}")
    m = jnp.ones_like(p) if numbers is None else non_negative("numbers", numbers)
    if m.shape != p.shape:
        raise ValueError(f"numbers must be one for each of {len(p)} frequencies, got shape {m.shape}")
    p = require("frequencies", p, jnp.abs(jnp.sum(m * p) - 1) < 1e-5, "times numbers must sum to one")
    n, times = _counted(examples), real("seen", seen)
    times = require("seen", times, (times >= 0) & (times <= n), "must lie between 0 and examples")
    return p, m, n, times.astype(p.dtype)


def _counted(examples):
    n = real("examples", examples)
    return require("examples", n, n >= 1, "must be at least 1")


def _heavy(exponent):
    alpha = real("exponent", exponent)
    return require("exponent", alpha, alpha > 1, "must be above 1")
