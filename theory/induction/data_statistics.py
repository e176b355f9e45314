"""What sequences of items and labels hold by chance: recurrence, distinct classes, chance levels, who can answer what.

Classes have the frequencies p_k (`associative_memory.power_law`). A context of N items is independent draws, or is
made of fewer draws that occur several times:

    independent   N classes, and the target's is one more;
    bursty        N / B classes, B times each, and the target's is among them;
    few-shot      the target's class three times, a second one three times, N - 6 others.

Labels are classes of their own with the frequencies `label_frequencies`: every function of p serves both, and words of
a text as well. Where a sequence stands among the positions matters to none of it.

Exemplars are (mean + epsilon noise) / sqrt(1 + epsilon^2), means and noise with entries N(0, 1/D).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, gammaln, log_ndtr
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, whole, within

# The trapezoidal rule, for a Gaussian variable and for the logarithm of a chi variable over its spread.
_NORMAL = np.arange(-9.0, 9.01, 0.2)
_LOG_CHI = np.arange(-60.0, 9.01, 0.2)


class Plateaus(NamedTuple):
    """Losses (nats) and accuracies of guessing: among all labels, and among those of the context."""

    loss: Float[Array, "..."]
    accuracy: Float[Array, "..."]
    contextual_loss: Float[Array, "..."]
    contextual_accuracy: Float[Array, "..."]


class Accuracies(NamedTuple):
    """Accuracy on the three tests that tell knowing from looking up.

    `novel`    classes never seen, the target's in the context.
    `swapped`  trained classes, the target's in the context, all labels changed alike.
    `iid`      trained classes, all independent, the labels they always had.
    """

    novel: Float[Array, ""]
    swapped: Float[Array, ""]
    iid: Float[Array, ""]


class Overlap(NamedTuple):
    """`mean` and `variance` of the inner product of two exemplars."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def label_frequencies(frequencies: Real[ArrayLike, " K"], labels: int) -> Float[Array, " L"]:
    """How often each label is right: P_a = sum of p_k over k = a modulo L.

    Arguments:
        frequencies: p_k >= 0 of sum one, k = 0..K-1, (K,); labels: L, a Python int, of which K is a multiple.
    Returns:
        P_a, (L,).
    Holds when: class k has the label k modulo L.
    Source: Reddy 2024 (arXiv:2312.03002), the assignment of labels.
    """
    p, many = distribution(frequencies), whole("labels", labels)
    if len(p) % many:
        raise ValueError(f"labels must divide the {len(p)} classes, got {many}")
    return jnp.sum(p.reshape(-1, many), axis=0)


def recurrence(
    frequencies: Real[ArrayLike, " K"], draws: Real[ArrayLike, "*shape"], bursty: Real[ArrayLike, ""] = 0.0
) -> Float[Array, "*shape"]:
    """Probability that the class of a target is among the N items before it.

    R = b + (1 - b) sum_k p_k [1 - (1 - p_k)^N].

    Arguments:
        frequencies: p_k >= 0 of sum one, (K,).
        draws: N >= 0, of any shape.
        bursty: b, the fraction of sequences that hold the target's class for sure; 0 for independent draws.
    Returns:
        R, from b at N = 0 to one; for b = 0 never more than N sum_k p_k^2.
    Holds when: in all other sequences target and context are independent draws. With p of the labels: of its label.
    Source: derived in derivations/induction/data_statistics.py.
    """
    p, b = distribution(frequencies), within("bursty", bursty, 0.0, 1.0)
    return b + (1 - b) * _expected_found(p, p, non_negative("draws", draws))


def distinct(frequencies: Real[ArrayLike, " K"], draws: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Expected number of distinct classes among n draws, the growth of types with tokens.

    V = sum_k [1 - (1 - p_k)^n].

    Arguments:
        frequencies: p_k >= 0 of sum one, (K,).
        draws: n >= 0, of any shape. For an independent context n = N, for a bursty one N / B, for a few-shot one N - 4.
    Returns:
        V, at most n and at most K. V(n + 1) - V(n) = 1 - `recurrence`.
    Holds when: draws are independent. A bursty context without repeats has N / B classes, and as many labels.
    Source: derived in derivations/induction/data_statistics.py.
    """
    p = distribution(frequencies)
    return _expected_found(jnp.ones_like(p), p, non_negative("draws", draws))


def matches(
    frequencies: Real[ArrayLike, " K"], context: Real[ArrayLike, "*#contexts"], copies: Real[ArrayLike, "*#copies"]
) -> Float[Array, "..."]:
    """Expected number of items of the target's class, or label, in a context.

    M = B + (N - B) sum_k p_k^2.

    Arguments:
        frequencies: p_k >= 0 of sum one, (K,).
        context: N > 0; copies: B of the target's class for sure, from 0 (independent) to N; 3 for few-shot.
    Returns:
        M. M / N is the accuracy of repeating the label of any item of the context, with p of the labels.
    Holds when: the classes of a context are drawn with replacement. Without repeats M = B.
    Source: derived in derivations/induction/data_statistics.py.
    """
    p, n = distribution(frequencies), positive("context", context)
    b = non_negative("copies", copies)
    require("copies", b, b <= n, "must be at most the number of items in the context")
    return b + (n - b) * jnp.sum(p**2)


def plateaus(labels: Real[ArrayLike, "*#labels"], contextual: Real[ArrayLike, "*#contextual"]) -> Plateaus:
    """Where learning stands still: at chance among all labels, and at chance among those of the context.

    loss ln L, accuracy 1 / L;   loss ln N_l, accuracy 1 / N_l.

    Arguments, which broadcast: labels: L >= 1; contextual: N_l different labels in the context, from 1 to L.
    Returns:
        `Plateaus`. A uniform guess gives the probability N_l / L to the labels of the context.
    Holds when: labels of the context are different from each other (N_l = N / B without repeats), the right one is
        among them, and all are equally likely.
    Source: Reddy 2024 (arXiv:2312.03002).
    """
    many, few = (positive(*pair) for pair in (("labels", labels), ("contextual", contextual)))
    require("labels", many, many >= 1, "must be at least 1")
    few = require("contextual", few, (few >= 1) & (few <= many), "must lie between 1 and the number of labels")
    many, few = jnp.broadcast_arrays(many, few)
    return Plateaus(jnp.log(many), 1 / many, jnp.log(few), 1 / few)


def in_weights_accuracy(labels: int, known: Real[ArrayLike, ""] = 1.0) -> Accuracies:
    """Accuracy of who knows the labels of trained classes and never looks at the context.

    novel 1 / L,   swapped (1 - known) / L,   iid known + (1 - known) / L.

    Arguments:
        labels: L >= 2, a Python int; known: probability that the class of a target is known, 0..1.
    Returns:
        `Accuracies`; without knowledge of a class any label is as likely as any other.
    Holds when: the swap changes every label; labels of novel classes are uniform.
    Source: Reddy 2024 (arXiv:2312.03002), the tests; derived in derivations/induction/data_statistics.py.
    """
    many, known = whole("labels", labels, at_least=2), within("known", known, 0.0, 1.0)
    guess = jnp.full_like(known, 1 / many)
    return Accuracies(guess, (1 - known) * guess, known + (1 - known) * guess)


def in_context_accuracy(
    frequencies: Real[ArrayLike, " K"], labels: int, context: int, contextual: bool = False
) -> Accuracies:
    """Accuracy of who repeats the label of an item of the target's class, and knows nothing.

    novel 1,   swapped 1,   iid  R + guess,   R = `recurrence`;
    guess = (1 - R) / L,  or from the context  sum_k p_k (1 - p_k)^{N-1} (P_{k mod L} - p_k).

    Arguments:
        frequencies: p_k >= 0 of sum one, (K,); labels: L, of which K is a multiple; context: N >= 1. Python ints.
        contextual: without a match, guess the label of a random item of the context rather than any label.
    Returns:
        `Accuracies`. That on iid sequences is not in-weights learning, however large.
    Holds when: classes are told apart without error (`best_match`), each with one label for good.
    Source: derived in derivations/induction/data_statistics.py.
    """
    p, n = distribution(frequencies), whole("context", context)
    many = label_frequencies(p, labels)
    found = jnp.sum(p * _found(p, n))
    if contextual:
        others = jnp.tile(many, len(p) // labels) - p
        guess = jnp.sum(p * (1 - _found(p, n - 1)) * jnp.maximum(others, 0.0))
    else:
        guess = jnp.sum(p * (1 - _found(p, n))) / labels
    one = jnp.ones_like(found)
    return Accuracies(one, one, found + guess)


def exemplar_overlap(
    variation: Real[ArrayLike, "*#variations"], dimension: Real[ArrayLike, "*#dimensions"]
) -> tuple[Overlap, Overlap]:
    """Inner product of two exemplars, of one class and of two: what attention can tell classes by.

    one class  rho = 1 / (1 + epsilon^2),  variance (1 + rho^2) / D;   two classes  0,  variance 1 / D.

    Arguments, which broadcast: variation: epsilon >= 0; dimension: D >= 1.
    Returns:
        `Overlap` of the same class and of different ones. The mean square of an exemplar is 1.
    Holds when: class means are random, too; both moments are exact at any D.
    Source: derived in derivations/induction/data_statistics.py.
    """
    epsilon, d = _checked_exemplars(variation, dimension)
    epsilon, d = jnp.broadcast_arrays(epsilon, d)
    rho = 1 / (1 + epsilon**2)
    return Overlap(rho, (1 + rho**2) / d), Overlap(jnp.zeros_like(rho), 1 / d)


def best_match(
    variation: Real[ArrayLike, "*#variations"],
    dimension: Real[ArrayLike, "*#dimensions"],
    others: Real[ArrayLike, "*#others"],
) -> Float[Array, "..."]:
    """Probability that the item of largest overlap with the target is the one of its class.

    E Phi(rho chi_D + sqrt(1 - rho^2) z)^n;   chi_D the length of D standard normals, z another one.

    Arguments, which broadcast:
        variation: epsilon >= 0; dimension: D >= 1; others: n = N - 1 items of other classes, >= 0.
    Returns:
        the probability, to 1e-10: 1 / (n + 1) for large epsilon, one for large D.
    Holds when: one item of the context is of the target's class, all other classes differ from it and each other.
    Source: derived in derivations/induction/data_statistics.py.
    """
    epsilon, d = _checked_exemplars(variation, dimension)
    return _best_match(*jnp.broadcast_arrays(epsilon, d, non_negative("others", others)))


def mismatch_bound(
    variation: Real[ArrayLike, "*#variations"],
    dimension: Real[ArrayLike, "*#dimensions"],
    others: Real[ArrayLike, "*#others"],
) -> Float[Array, "..."]:
    """Bound on the probability that the item of largest overlap with the target is of another class.

    (n / 2) I_x(D/2, 1/2),   x = 1 - rho^2 / 2,   I the regularised incomplete beta function.

    Arguments: as for `best_match`; others may be of any classes but the target's, in bursts or not.
    Returns:
        the bound, at most one; exact for one other item, (1 - rho^2 / 2)^{D/2} but for a power of D.
    Holds when: some item of the context is of the target's class.
    Source: derived in derivations/induction/data_statistics.py: Student's t and a sum over the others.
    """
    epsilon, d = _checked_exemplars(variation, dimension)
    half = (1 + epsilon**2) ** -2 / 2
    pair = betainc(d / 2, 0.5, 1 - half) / 2
    return jnp.minimum(non_negative("others", others) * pair, 1.0)


def distribution(frequencies: Real[ArrayLike, "..."]) -> Float[Array, " K"]:
    """Frequencies as a vector of sum one, some of which may be zero, or a refusal.

    Arguments:
        frequencies: what a user gave.
    Returns:
        the same, (K,).
    Holds when: always.
    Source: a definition.
    """
    p = non_negative("frequencies", frequencies)
    if p.ndim != 1 or not len(p):
        raise ValueError(f"frequencies must be a vector of one or more, got shape {p.shape}")
    return require("frequencies", p, jnp.abs(jnp.sum(p) - 1) < 1e-5, "must sum to one")


def _found(p, n):
    """1 - (1 - p)^n, to full precision for any p from 0 to 1."""
    sure = p >= 1
    return jnp.where(sure, jnp.minimum(n, 1.0), -jnp.expm1(n * jnp.log1p(-jnp.where(sure, 0.0, p))))


@jax.jit
def _expected_found(weights, p, draws):
    """One number of draws after the other: many classes times many numbers would not fit into memory."""
    return jax.lax.map(lambda n: jnp.sum(weights * _found(p, n)), draws.ravel()).reshape(draws.shape)


def _checked_exemplars(variation, dimension):
    epsilon, d = non_negative("variation", variation), real("dimension", dimension)
    return epsilon, require("dimension", d, d >= 1, "must be at least 1")


@jax.jit
def _best_match(epsilon, d, n):
    """By ln chi = ln(D)/2 + w: its density is smooth, with tails e^{D w} and e^{-D e^{2w} / 2}."""

    def one(epsilon, d, n):
        rho = 1 / (1 + epsilon**2)
        w = jnp.asarray(_LOG_CHI, d.dtype) / jnp.sqrt(2 * d)
        log_density = d * w - d * jnp.exp(2 * w) / 2 + d / 2 * jnp.log(d / 2) + jnp.log(2.0) - gammaln(d / 2)
        weight = jnp.exp(log_density) * 0.2 / jnp.sqrt(2 * d)
        z = jnp.asarray(_NORMAL, d.dtype)
        normal = jnp.exp(-(z**2) / 2) * 0.2 / jnp.sqrt(2 * jnp.pi)
        lead = rho * jnp.sqrt(d) * jnp.exp(w)[:, None] + jnp.sqrt((1 - rho) * (1 + rho)) * z
        # What is missing to one is small and known better than the sum of weights.
        return 1 + weight @ jnp.expm1(n * log_ndtr(lead)) @ normal

    flat = jax.lax.map(lambda x: one(*x), tuple(x.ravel() for x in (epsilon, d, n)))
    return flat.reshape(d.shape)
