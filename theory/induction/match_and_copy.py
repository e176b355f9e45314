"""Learning in context by matching and copying: a label depends on one factor of an item, which one is not known.

An item has F factors with one of V values each. In every sequence one factor counts, and a random map gives each of its
values one of C labels. A sequence shows items and labels in turn. Were the factor known, a new item would have the
label of any item before it of the same value, a match, and else any label: match and copy. As it is not, exact Bayes
weighs the factors. One that gives two labels to a value is out; the others have weights

    w_f ~ C^-d_f,   d_f = number of different values of factor f that have been shown,

for the fewer labels a factor leaves open, the better it explains them. What a representation of the items does not
show cannot be matched: a factor out of sight still says how often labels repeat, and values that are misread spoil as
many copies as two readings disagree. Values are independent and uniform, losses are in nats.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, positive, real, require, whole, within


class Prediction(NamedTuple):
    """What exact Bayes says before each label.

    `labels`   probabilities of the label, (P, N, C).
    `factors`  posterior of the factors that are seen and, last, of all that are not, (P, N, F + 1).
    """

    labels: Float[Array, "P N C"]
    factors: Float[Array, "P N F1"]


class Guess(NamedTuple):
    """Mean accuracy and loss."""

    accuracy: Float[Array, "..."]
    loss: Float[Array, "..."]


def factor_prediction(
    values: Int[ArrayLike, "P N F"],
    answers: Int[ArrayLike, "P answers"],
    size: int,
    labels: int,
    hidden: Real[ArrayLike, ""] = 0.0,
) -> Prediction:
    """Exact Bayesian prediction of each label from what stands before it.

    p_n(c) = sum_f w_f p_f(c),   w_f ~ C^-d_f without a contradiction, else 0,
    p_f(c) = [c is the label of the value's match under f], 1/C without a match.

    A factor out of sight has the weight E prod_c (m_c / V)^{n_c}, with m_c the values that its map gives label c, a
    multinomial (V; 1/C, ..., 1/C), and n_c the labels shown; it predicts m_c / V, the mean over the posterior.

    Arguments:
        values: of the F factors that are seen, from 0 to V - 1, (P, N, F); answers: labels from 0 to C - 1, (P, N).
        size: V, labels: C, Python ints.
        hidden: number of factors that are not seen, >= 0.
    Returns:
        the `Prediction`. Where nothing fits, as labels of no map can make it, it is uniform.
    Holds when: the factor is uniform among those seen or not, its map independent and uniform. Nothing has a smaller
        loss then.
    Source: Bayes; derived in derivations/induction/match_and_copy.py, for a setting after Fu et al. 2023
        (arXiv:2309.06054).
    """
    v, c, hidden = whole("size", size), whole("labels", labels), non_negative("hidden", hidden)
    x, y = _checked("values", values, 3, v), _checked("answers", answers, 2, c)
    if x.shape[:2] != y.shape:
        raise ValueError(f"answers must hold a label for each item, of shape {x.shape[:2]}, got {y.shape}")
    return _factor_prediction(x, y, v, c, hidden)


def single_factor_prediction(
    values: Int[ArrayLike, "P N"], answers: Int[ArrayLike, "P answers"], size: int, labels: int
) -> Float[Array, "P N C"]:
    """Match and copy with one factor, be it the right one or not.

    The mean of the labels of all matches, 1/C without one; for the factor that counts, exact Bayes that knows it.

    Arguments:
        values: of that factor, (P, N); answers: labels, (P, N); size: V, labels: C, Python ints.
    Returns:
        probabilities, (P, N, C).
    Holds when: always.
    Source: a definition.
    """
    v, c = whole("size", size), whole("labels", labels)
    x, y = _checked("values", values, 2, v), _checked("answers", answers, 2, c)
    if x.shape != y.shape:
        raise ValueError(f"answers must hold a label for each item, of shape {x.shape}, got {y.shape}")
    counts = _matches(x[..., None], y, c)[:, :, 0]
    total = jnp.sum(counts, axis=-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.maximum(total, 1.0), 1 / c)


def known_factor(shown: Real[ArrayLike, "..."], size: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."]) -> Guess:
    """Match and copy with the factor that counts, after n examples.

    accuracy 1 - (1 - 1/V)^n (1 - 1/C),   loss (1 - 1/V)^n ln C.

    Arguments, which broadcast: shown: n >= 0; size: V >= 1; labels: C >= 1.
    Returns:
        the `Guess`: what knowing the factor allows at best.
    Holds when: values are independent and uniform.
    Source: derived in derivations/induction/match_and_copy.py.
    """
    n, v, c = non_negative("shown", shown), _at_least("size", size, 1), _at_least("labels", labels, 1)
    missed = _missed(n, v)
    return Guess(1 - missed * (1 - 1 / c), missed * jnp.log(c))


def one_example(factors: int, size: Real[ArrayLike, ""], labels: Real[ArrayLike, ""]) -> Guess:
    """Exact Bayes after a single example, with which the new item shares k of F factors.

    p(its label) = k/F + (1 - k/F) / C,   k ~ Binomial(F, 1/V).

    Arguments:
        factors: F, a Python int; size: V >= 1; labels: C >= 1.
    Returns:
        the `Guess`. Accuracy is that of a known factor, for copying never hurts; the loss is larger.
    Holds when: all factors are seen.
    Source: derived in derivations/induction/match_and_copy.py.
    """
    f, v, c = whole("factors", factors), _at_least("size", size, 1), _at_least("labels", labels, 1)
    k = jnp.arange(f + 1.0)
    ways = gammaln(f + 1.0) - gammaln(k + 1) - gammaln(f - k + 1)
    chance = jnp.exp(ways + xlogy(k, 1 / v) + xlogy(f - k, 1 - 1 / v))
    other = (1 - k / f) / c
    same = k / f + other
    # Impossible labels cost nothing.
    safe = jnp.where(other > 0, other, 1.0)
    loss = -jnp.sum(chance * (xlogy(same, same) + (c - 1) * other * jnp.log(safe)))
    return Guess(jnp.sum(chance * same), loss)


def reading_agreement(right: Real[ArrayLike, "..."], size: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Chance that two readings of the same value agree: s = r^2 + (1 - r)^2 / (V - 1).

    Arguments, which broadcast:
        right: r, from 0 to 1, chance that a value is read right, else as any of the others.
        size: V >= 2 values.
    Returns:
        s, 1 at r = 1, and 1/V at r = 1/V where readings say nothing. Also the chance that two values are the same
        whose readings agree.
    Holds when: readings are independent, values uniform.
    Source: derived in derivations/induction/match_and_copy.py.
    """
    r, v = within("right", right, 0.0, 1.0), _at_least("size", size, 2)
    return r**2 + (1 - r) ** 2 / (v - 1)


def noisy_copying_accuracy(
    shown: Real[ArrayLike, "..."],
    size: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    right: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """Match and copy with the factor that counts, its values misread at times, after n examples.

    1/C + (1 - 1/C) s (1 - (1 - 1/V)^n).

    Arguments, which broadcast:
        shown: n >= 0; size: V >= 2; labels: C >= 1; right: r of `reading_agreement`.
    Returns:
        accuracies; a match of readings, any one of several, is copied, and without one there is a guess.
    Holds when: as for `reading_agreement`; each occurrence of an item is read once.
    Source: derived in derivations/induction/match_and_copy.py.
    """
    n, c, s = non_negative("shown", shown), _at_least("labels", labels, 1), reading_agreement(right, size)
    return 1 / c + (1 - 1 / c) * s * (1 - _missed(n, real("size", size)))


@partial(jax.jit, static_argnames=("v", "c"))
def _factor_prediction(x, y, v: int, c: int, hidden) -> Prediction:
    counts = _matches(x, y, c)
    seen = jnp.sum(counts, axis=-1) > 0
    # A value that has two labels, or one that is not its match's.
    own = jnp.take_along_axis(counts, y[:, :, None, None], axis=-1)[..., 0]
    wrong = _before(own < jnp.sum(counts, axis=-1))
    score = jnp.where(wrong > 0, -jnp.inf, -_before(~seen) * jnp.log(1.0 * c))
    label = jnp.where(seen[..., None], counts > 0, 1.0)
    label = label / jnp.sum(label, axis=-1, keepdims=True)

    unseen_score, unseen_label = _unseen(y, v, c)
    some = hidden > 0
    unseen_score = jnp.where(some, unseen_score + jnp.log(jnp.where(some, hidden, 1.0)), -jnp.inf)
    score = jnp.concatenate([score, unseen_score[..., None]], axis=-1)
    label = jnp.concatenate([label, unseen_label[..., None, :]], axis=-2)

    best = jnp.max(score, axis=-1, keepdims=True)
    fits = jnp.isfinite(best)
    weight = jnp.where(fits, jnp.exp(score - jnp.where(fits, best, 0.0)), 1.0)
    weight = weight / jnp.sum(weight, axis=-1, keepdims=True)
    found = jnp.einsum("pnf,pnfc->pnc", weight, label)
    return Prediction(jnp.where(fits, found, 1 / c), weight)


def _matches(x, y, c):
    """How often each label stands before with the same value, (P, N, F, C)."""
    n = x.shape[1]
    same = (x[:, :, None] == x[:, None, :]) & jnp.tril(jnp.ones((n, n), bool), -1)[..., None]
    return jnp.einsum("pnsf,psc->pnfc", same.astype(float), jax.nn.one_hot(y, c))


def _before(which):
    """Number of times before each position, along the second axis."""
    return jnp.cumsum(which, axis=1) - which


def _unseen(y, v, c):
    """ln weight (P, N) and prediction (P, N, C) of a factor that is not seen, from the labels before."""
    maps = [m for m in itertools.product(range(v + 1), repeat=c) if sum(m) == v]
    chance = [math.lgamma(v + 1) - sum(math.lgamma(k + 1) for k in m) - v * math.log(c) for m in maps]
    shares = np.array(maps) / v
    counts = _before(jax.nn.one_hot(y, c))
    each = jnp.sum(xlogy(counts[..., None, :], shares), axis=-1) + np.array(chance)
    return jax.nn.logsumexp(each, axis=-1), jnp.einsum("pnm,mc->pnc", jax.nn.softmax(each, axis=-1), shares)


def _missed(n, v):
    """(1 - 1/V)^n, also for one value."""
    return jnp.where(n > 0, jnp.exp(xlogy(n, 1 - 1 / v)), 1.0)


def _at_least(name, value, least):
    x = positive(name, value)
    return require(name, x, x >= least, f"must be at least {least}")


def _checked(name, values, dimensions, below):
    x = jnp.asarray(values)
    if x.ndim != dimensions or not x.size or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"{name} must be whole numbers in {dimensions} dimensions, got {x.dtype} of shape {x.shape}")
    require(name, x.astype(float), (x >= 0) & (x < below), f"must lie between 0 and {below - 1}")
    return x
