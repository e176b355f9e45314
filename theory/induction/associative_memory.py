"""A linear associative memory under gradient descent: which associations are learned, in which order, how fast.

K keys e_k with a value u_k each, both orthonormal, are stored in one matrix W: the logit of value j at key k is
z_jk = u_j . W e_k, and the loss is the sum over k of -p_k ln softmax_k(z_.k), where p_k is how often k occurs. By
symmetry all wrong values of a key share one logit, so that a key is one number, its margin m_k = z_kk - z_jk. Keys do
not meet, and each margin follows a closed form; a power law of frequencies makes a power law of the loss.

The gradient lemma says what a first step stores where inputs are noisy: what is correlated with the answer.

Time is lr times steps; logarithms are natural, losses in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole, within
from theory.wright_omega import wright_omega

# m = exp(s - e^{-s}) carries [0, infinity) to a line on which the integrand dies off doubly exponentially at both ends.
_LINE = np.linspace(-4.5, 6.5, 441)
_MARGINS = np.exp(_LINE - np.exp(-_LINE))
_WEIGHTS = (_LINE[1] - _LINE[0]) * _MARGINS * (1 + np.exp(-_LINE))


class Recall(NamedTuple):
    """How well a key is answered.

    `probability`  q of the right value.
    `missing`      1 - q, to full precision where q is one to the last digit.
    `loss`         -ln q, nats, likewise.
    """

    probability: Float[Array, "..."]
    missing: Float[Array, "..."]
    loss: Float[Array, "..."]


class PowerLawLoss(NamedTuple):
    """`loss`  with the corrections of both ends, nats. `leading`  the pure power of time alone."""

    loss: Float[Array, "*times"]
    leading: Float[Array, "*times"]


def power_law(alpha: Real[ArrayLike, ""], classes: int) -> Float[Array, " K"]:
    """Frequencies p_k = k^{-alpha} / sum_l l^{-alpha}.

    Arguments:
        alpha: exponent >= 0; 0 is uniform.
        classes: K >= 2, a Python int.
    Returns:
        p, (K,), the most frequent first.
    Holds when: a definition (Zipf's law).
    Source: a definition.
    """
    alpha, classes = non_negative("alpha", alpha), whole("classes", classes, at_least=2)
    return jax.nn.softmax(-alpha * jnp.log(jnp.arange(1, classes + 1, dtype=alpha.dtype)))


def flow_margin(
    t: Real[ArrayLike, "*#times"], frequency: Real[ArrayLike, "*#frequencies"], classes: Real[ArrayLike, ""]
) -> Float[Array, "..."]:
    """Margin of a key under gradient flow from zero weights.

    dm/dt = p K / (e^m + K - 1),   e^m - 1 + (K - 1) m = K p t,
    m = (x + 1) / a - omega((x + 1) / a - ln a),   x = K p t, a = K - 1.

    Arguments:
        t: time, >= 0; frequency: p of the key, > 0. They broadcast.
        classes: K > 1.
    Returns:
        m >= 0: p t at first, ln(K p t) in the end.
    Holds when: keys are orthonormal, and values are; W = 0 at t = 0; gradient flow on the whole loss. In any basis.
    Source: derived in derivations/induction/associative_memory.py.
    """
    t, p, k = non_negative("t", t), positive("frequency", frequency), _number_of_classes(classes)
    a, x = k - 1, k * p * t
    m = jnp.log(a * wright_omega((x + 1) / a - jnp.log(a)))
    # ln(a omega) loses digits where m is small; one step of Newton's method on the law gives them back.
    return m - (jnp.expm1(m) + a * m - x) / (jnp.exp(m) + a)


def margin_recall(margin: Real[ArrayLike, "*shape"], classes: Real[ArrayLike, ""]) -> Recall:
    """Recall of a key all wrong values of which share one logit: q = 1 / (1 + (K - 1) e^{-m}).

    Arguments:
        margin: m, any real number; classes: K > 1.
    Returns:
        `Recall`, each part of the shape of the margin.
    Holds when: always.
    Source: a definition.
    """
    lead = real("margin", margin) - jnp.log(_number_of_classes(classes) - 1)
    return Recall(jax.nn.sigmoid(lead), jax.nn.sigmoid(-lead), jax.nn.softplus(-lead))


def recall_time(
    frequency: Real[ArrayLike, "*#frequencies"],
    classes: Real[ArrayLike, ""],
    probability: Real[ArrayLike, "*#probabilities"] = 0.5,
) -> Float[Array, "..."]:
    """Time at which gradient flow answers a key with a given probability: inversely as its frequency.

    t = [e^m - 1 + (K - 1) m] / (K p) with m = ln((K - 1) q / (1 - q)); for q = 1/2 the bracket is
    K - 2 + (K - 1) ln(K - 1).

    Arguments:
        frequency: p > 0; classes: K > 1.
        probability: q, from 1 / K, the chance at t = 0, to below 1. It broadcasts with the frequency.
    Returns:
        the time, >= 0.
    Holds when: as for `flow_margin`.
    Source: derived in derivations/induction/associative_memory.py.
    """
    p, k, q = positive("frequency", frequency), _number_of_classes(classes), real("probability", probability)
    q = require("probability", q, (q * k >= 1 - 1e-6) & (q < 1), "must lie between chance, 1 / classes, and 1")
    m = jnp.maximum(jnp.log(k - 1) + jnp.log(q) - jnp.log1p(-q), 0.0)
    return (jnp.expm1(m) + (k - 1) * m) / (k * p)


def flow_loss(t: Real[ArrayLike, " T"], frequencies: Real[ArrayLike, " K"]) -> Float[Array, " T"]:
    """Loss under gradient flow, sum_k p_k ln(1 + (K - 1) e^{-m_k}).

    Arguments:
        t: times >= 0, (T,); frequencies: p > 0, of sum one, (K,).
    Returns:
        the loss, nats, (T,); ln K at t = 0.
    Holds when: as for `flow_margin`.
    Source: derived in derivations/induction/associative_memory.py.
    """
    t, p = non_negative("t", t), checked_frequencies(frequencies)
    if t.ndim != 1:
        raise ValueError(f"t must be a vector of times, got shape {t.shape}")
    return margin_recall(flow_margin(t[:, None], p, len(p)), len(p)).loss @ p


def loss_exponent(alpha: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Exponent beta of the loss, L ~ t^{-beta}, under power-law frequencies: beta = 1 - 1 / alpha.

    The keys that are known at time t are the first ~ t^{1/alpha}, and the rest has mass k^{-(alpha - 1)}.

    Arguments:
        alpha: exponent of the frequencies, > 1.
    Returns:
        beta, between 0 and 1.
    Holds when: many keys are known, many are not: (p_1 t / ln K)^{1/alpha} >> alpha and p_K t << 1.
    Source: derived in derivations/induction/associative_memory.py.
    """
    return 1 - 1 / _heavy_exponent(alpha)


def power_law_loss(t: Real[ArrayLike, "*times"], alpha: Real[ArrayLike, ""], classes: int) -> PowerLawLoss:
    """The power law of the loss, with the corrections of its two ends.

    L = A t^{-(1 - 1/alpha)} - (K - 1) / (2 K t) - ln(K) sum_{k > K} c k^{-alpha},
    A = (c / K^{alpha - 1})^{1/alpha} / (alpha - 1) int_0^inf (e^m - 1 + (K-1) m)^{1 - 1/alpha} (K-1) / (e^m + K-1) dm,

    with p_k = c k^{-alpha}. The second term is the difference of a sum and an integral over the known keys, each of
    which costs the same, (K - 1) / (K t); the third are the keys beyond the last, which are not there.

    Arguments:
        t: times > 0, any shape.
        alpha: exponent of the frequencies, above 1 and at most 16; classes: K >= 2, a Python int.
    Returns:
        `PowerLawLoss`, L and its first term, nats, of the shape of t. Not differentiable in alpha.
    Holds when: many keys are known, (p_1 t / ln K)^{1/alpha} >> alpha (before that the loss falls key by key), and
        p_K t << 1, up to the order ln(K p_1 t) / (p_1 t^2) from the known end and, from the other, p_K t of the third
        term; beyond p_K t = 1 it turns negative, use `flow_loss`.
    Source: derived in derivations/induction/associative_memory.py.
    """
    t, alpha = positive("t", t), _heavy_exponent(within("alpha", alpha, 1.0, 16.0))
    if alpha.ndim:
        raise ValueError(f"alpha must be a number, got shape {alpha.shape}")
    k = whole("classes", classes, at_least=2)
    c, a = power_law(alpha, k)[0], k - 1
    beta = 1 - 1 / alpha
    # (e^m - 1 + a m)^beta / (e^m + a), with e^m taken out so that nothing overflows.
    exposure = jnp.log(-jnp.expm1(-_MARGINS) + a * _MARGINS * jnp.exp(-_MARGINS))
    integral = jnp.sum(_WEIGHTS * jnp.exp(beta * exposure - _MARGINS / alpha) * a / (1 + a * jnp.exp(-_MARGINS)))
    leading = (c / k ** (alpha - 1)) ** (1 / alpha) / (alpha - 1) * integral * t**-beta
    return PowerLawLoss(leading - a / (2 * k * t) - jnp.log(k) * c * jax.scipy.special.zeta(alpha, k + 1.0), leading)


def first_step(
    outputs: Real[ArrayLike, "V D"],
    means: Real[ArrayLike, "answers N"],
    frequencies: Real[ArrayLike, " frequencies"],
    lr: Real[ArrayLike, ""],
) -> Float[Array, "D N"]:
    """Gradient lemma: the weights after one step from zero, for any inputs x.

    W = lr sum_k u_k (p_k mu_k - mu / V)^T,   mu_k = E[x | answer k],   mu = sum_k p_k mu_k;
    for p_k = 1 / V that is (lr / V) sum_k u_k (mu_k - mu)^T. What does not depend on the answer cancels.

    Arguments:
        outputs: u_k in rows, one of each of V answers, (V, D): any vectors.
        means: mu_k in rows, (V, N).
        frequencies: p_k > 0 of the answers, of sum one, (V,).
        lr: learning rate > 0.
    Returns:
        W, (D, N); the logit of answer j at x is u_j . W x.
    Holds when: logits are u_j . W x, softmax cross-entropy, one step on the expected loss from W = 0.
    Source: Bietti, Cabannes, Bouchacourt, Jegou & Bottou 2023 (arXiv:2306.00802), the lemma on one gradient step.
    """
    u, lr = matrix("outputs", outputs), positive("lr", lr)
    mu, p = matrix("means", means, rows=len(u)), checked_frequencies(frequencies)
    if len(p) != len(u):
        raise ValueError(f"frequencies must hold one for each of {len(u)} outputs, got shape {p.shape}")
    return lr * u.T @ (p[:, None] * mu - p @ mu / len(u))


def attended_margin(
    lr: Real[ArrayLike, ""],
    classes: Real[ArrayLike, "*#classes"],
    length: Real[ArrayLike, "*#lengths"],
    surplus: Real[ArrayLike, "*#surpluses"],
) -> Float[Array, "..."]:
    """Margin of each token's own value after one step, learned through attention that is still uniform.

    m = (lr / V) n / length

    Arguments:
        lr: learning rate > 0; classes: V > 1 tokens, equally often the answer.
        length: tokens that are attended, > 0.
        surplus: n, by how much more often the answer occurs among them than another token, in the mean.
    Returns:
        m. On the attended mean itself, and not on the one token, it is n / length times smaller.
    Holds when: x = (1 / length) sum of the keys of the tokens, orthonormal keys and values; otherwise as `first_step`.
    Source: Bietti et al. 2023 (arXiv:2306.00802); derived in derivations/induction/associative_memory.py.
    """
    lr, v = positive("lr", lr), _number_of_classes(classes)
    return lr / v * real("surplus", surplus) / positive("length", length)


def checked_frequencies(frequencies: Real[ArrayLike, "..."]) -> Float[Array, " K"]:
    """Frequencies as a vector: two or more positive numbers of sum one, or a refusal.

    Arguments:
        frequencies: what a user gave.
    Returns:
        the same, (K,).
    Holds when: always.
    Source: a definition.
    """
    p = positive("frequencies", frequencies)
    if p.ndim != 1 or len(p) < 2:
        raise ValueError(f"frequencies must be a vector of two or more, got shape {p.shape}")
    return require("frequencies", p, jnp.abs(jnp.sum(p) - 1) < 1e-5, "must sum to one")


def _number_of_classes(classes):
    k = real("classes", classes)
    return require("classes", k, k > 1, "must be above 1")


def _heavy_exponent(alpha):
    alpha = real("alpha", alpha)
    return require("alpha", alpha, alpha > 1, "must be above 1")
