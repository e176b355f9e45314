"""Clamping parts of an induction head to their ideals: what is left to learn, and that it needs no plateau.

Three parts have to be learned: labels that look at the item before them, a target that finds the label of its class,
a classifier that copies it. Given two of them, the third is one number with a closed form that rises at once. Given
one, the others still wait for each other; given none, all three do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require
from theory.flow import flow, times
from theory.induction.associative_memory import flow_margin
from theory.induction.nested_logits import Logits, averaged_flow, progress
from theory.wright_omega import wright_omega

PARTS = ("previous", "match", "copy")


class Clamped(NamedTuple):
    """Logits, and the accuracy that they have, averaged over the labels of a sequence: each (T,)."""

    logits: Logits
    accuracy: Float[Array, " T"]


def matching_alone(t: Real[ArrayLike, "..."], context: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The matching logit where labels know their item and what is attended to is copied.

    d beta_2/dt = 1 - s_2,   s_2 = 1 / (1 + (N - 1) e^{-beta_2}):   e^{beta_2} - 1 + (N - 1) beta_2 = (N - 1) t.

    Arguments, which broadcast:
        t: time, >= 0; context: N > 1 items of different labels.
    Returns:
        beta_2: (1 - 1/N) t at first, ln((N - 1) t) in the end.
    Holds when: the output probabilities are the attention to each label; gradient flow from zero.
    Source: derived in derivations/induction/clamps.py, for the experiment of Singh et al. 2024 (arXiv:2404.07129).
    """
    t, n = non_negative("t", t), _above_one("context", context)
    rest = n - 1
    beta = jnp.log(rest) + jnp.log(wright_omega(t + 1 / rest - jnp.log(rest)))
    # One step of Newton's method on the law: the logarithm loses digits where the logit is small.
    return beta - (jnp.expm1(beta) + rest * beta - rest * t) / (jnp.exp(beta) + rest)


def copying_alone(
    t: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."], copy_rate: Real[ArrayLike, "..."] = 1.0
) -> Float[Array, "..."]:
    """The copying logit where the target attends to the right label alone.

    d xi/dt = copy_rate (1 - p),   p = e^xi / (e^xi + L - 1):   e^xi - 1 + (L - 1) xi = (L - 1) copy_rate t.

    Arguments, which broadcast:
        t: time, >= 0; labels: L > 1; copy_rate: > 0, as for `theory.induction.nested_logits.nested_flow`.
    Returns:
        xi: (1 - 1/L) copy_rate t at first.
    Holds when: as for `nested_flow`, with s_2 = 1.
    Source: derived in derivations/induction/clamps.py.
    """
    t, many = non_negative("t", t), _above_one("labels", labels)
    # The margin of an associative memory of L values whose key is seen with a frequency of (L - 1) / L.
    return flow_margin(positive("copy_rate", copy_rate) * t, (many - 1) / many, many)


def clamped_flow(
    t: Real[ArrayLike, " T"],
    context: int,
    labels: Real[ArrayLike, ""],
    clamps: tuple[str, ...] = (),
    copy_rate: Real[ArrayLike, ""] = 1.0,
) -> Clamped:
    """Gradient flow of a minimal head of which some parts are given.

    Without "copy" it is `averaged_flow` with s_1 = 1 ("previous") or s_2 = 1 ("match") from the start; with it the
    output is the attention itself, p = s_2, and

    d beta_2/dt = <(1 - s_2) s_1>,   d beta_1/dt = <(1 - s_2) beta_2 s_1 (1 - s_1)>.

    Arguments:
        t: times, increasing, >= 0, (T,); context: N items of different labels, a Python int; labels: L >= N.
        clamps: which of "previous", "match", "copy" are given; copy_rate: as for `averaged_flow`.
    Returns:
        `Clamped`; logits of what is given stay where they are (infinite ones are not shown).
    Holds when: as for `averaged_flow`. Beware of a copy without a match: p = 1/N from the start.
    Source: derived in derivations/induction/clamps.py, for the experiment of Singh et al. 2024 (arXiv:2404.07129).
    """
    unknown = [name for name in clamps if name not in PARTS]
    if unknown:
        raise ValueError(f"clamps must be among {PARTS}, got {unknown[0]!r}")
    t, n = times("t", t), _above_one("context", context)
    if "copy" in clamps:
        return _copied(t, n, int(context), "previous" in clamps, "match" in clamps)
    # Logits at which attention is one to the last digit and no longer moves.
    sure = 60.0 if "previous" in clamps else 0.0
    start = (0.0, 1e3 * float(context), sure) if "match" in clamps else (0.0, 0.0, sure)
    logits = averaged_flow(t, context, labels, copy_rate=copy_rate, start=start)
    c = 2 * jnp.arange(1, int(context) + 1, dtype=t.dtype)[:, None] - 1
    seen = progress(Logits(*(part[None] for part in logits)), n, labels, c)
    return Clamped(logits, jnp.mean(seen.accuracy, axis=0))


def _copied(t, n, context, previous, match) -> Clamped:
    zero = jnp.zeros_like(t)
    if match:
        return Clamped(Logits(zero, zero, zero), jnp.ones_like(t))
    if previous:
        beta = matching_alone(t, n)
        return Clamped(Logits(zero, beta, zero), jax.nn.sigmoid(beta - jnp.log(n - 1)))
    beta2, beta1, s2 = _copied_flow(t, n, jnp.arange(1, context + 1, dtype=t.dtype))
    return Clamped(Logits(zero, beta2, beta1), s2)


@jax.jit
def _copied_flow(t, n, places):
    c = 2 * places - 1

    def attention(beta2, beta1):
        s1 = jax.nn.sigmoid(beta1 - jnp.log(c))
        return s1, beta2 * s1 - jnp.log(n - 1)

    def field(state):
        s1, lead = attention(*state)
        error = jax.nn.sigmoid(-lead)
        return jnp.mean(error * s1), jnp.mean(error * state[0] * s1 * (1 - s1))

    beta2, beta1 = flow(field, t, (jnp.zeros_like(n), jnp.zeros_like(n)), rtol=1e-9, atol=1e-11)
    s2 = jax.vmap(lambda a, b: jnp.mean(jax.nn.sigmoid(attention(a, b)[1])))(beta2, beta1)
    return beta2, beta1, s2


def _above_one(name, value):
    value = real(name, value)
    return require(name, value, value > 1, "must be above 1")
