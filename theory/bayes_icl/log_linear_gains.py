"""Gains by the logarithm of the number of examples: what it takes that accuracy grows by so much for each doubling.

A task of difficulty s is solved from s examples on, and not before: a step. Over tasks whose difficulties are
log-uniform on [s_0, s_1] the steps add up to a straight line in the logarithm of the number of examples n,

    accuracy(n) = c + (1 - c) ln(n / s_0) / ln(s_1 / s_0),   s_0 <= n <= s_1,

c the accuracy by chance. Gains by doubling, b = (1 - c) ln 2 / ln(s_1 / s_0), tell how widely difficulties are spread.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive, real, require, within


class Gain(NamedTuple):
    """A line a + b log2 n: `intercept` a at one example, `slope` b for each doubling, the `error` of the slope."""

    intercept: Float[Array, ""]
    slope: Float[Array, ""]
    error: Float[Array, ""]


def solved_share(
    shots: Real[ArrayLike, "..."],
    easiest: Real[ArrayLike, "..."],
    hardest: Real[ArrayLike, "..."],
    chance: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Accuracy on tasks of log-uniform difficulty.

    c + (1 - c) clip(ln(n / s_0) / ln(s_1 / s_0), 0, 1).

    Arguments, which broadcast:
        shots: n > 0, examples in the context.
        easiest, hardest: s_0 and s_1, 0 < s_0 < s_1, examples that the easiest and the hardest task take.
        chance: c in [0, 1], accuracy on a task that is not solved.
    Returns:
        the accuracy, of the broadcast shape: c below s_0, 1 above s_1.
    Holds when: a task is solved for sure from its difficulty on, and by chance before.
    Source: derived in derivations/bayes_icl/log_linear_gains.py.
    """
    n, low, high, c = _difficulties(shots, easiest, hardest, chance)
    return c + (1 - c) * jnp.clip((jnp.log(n) - jnp.log(low)) / (jnp.log(high) - jnp.log(low)), 0.0, 1.0)


def doubling_gain(
    easiest: Real[ArrayLike, "..."], hardest: Real[ArrayLike, "..."], chance: Real[ArrayLike, "..."] = 0.0
) -> Float[Array, "..."]:
    """What twice as many examples add to the accuracy.

    b = (1 - c) ln 2 / ln(s_1 / s_0).

    Arguments, which broadcast: easiest, hardest, chance: as for `solved_share`.
    Returns:
        b > 0, of the broadcast shape.
    Holds when: both numbers of examples lie between s_0 and s_1.
    Source: derived in derivations/bayes_icl/log_linear_gains.py.
    """
    _, low, high, c = _difficulties(1.0, easiest, hardest, chance)
    return (1 - c) * np.log(2) / (jnp.log(high) - jnp.log(low))


def task_gain(shots: Real[ArrayLike, " n"], accuracy: Real[ArrayLike, " n"]) -> Gain:
    """The straight line through accuracies against log2 of the number of examples, by least squares.

    b = sum (z - zbar) y / sum (z - zbar)^2,   z = log2 n,   error^2 = sum residual^2 / ((N - 2) sum (z - zbar)^2).

    Arguments:
        shots: n > 0, three or more, not all the same, (N,).
        accuracy: y, (N,).
    Returns:
        `Gain`; the slope over its error has Student's law of N - 2 degrees where residuals are normal and independent.
    Holds when: the line is the truth; otherwise the error holds its misfit, too.
    Source: textbook.
    """
    n, y = positive("shots", shots), real("accuracy", accuracy)
    if n.ndim != 1 or y.shape != n.shape or len(n) < 3:
        raise ValueError(f"shots and accuracy must be vectors of one length, 3 or more, got {n.shape} and {y.shape}")
    n = require("shots", n, jnp.max(n) > jnp.min(n), "must not all be the same")
    return _line(n, y)


@jax.jit
def _line(n, y) -> Gain:
    z = jnp.log2(n)
    middle = jnp.mean(z)
    spread = jnp.sum((z - middle) ** 2)
    b = jnp.sum((z - middle) * (y - jnp.mean(y))) / spread
    a = jnp.mean(y) - b * middle
    return Gain(a, b, jnp.sqrt(jnp.sum((y - a - b * z) ** 2) / ((len(n) - 2) * spread)))


def _difficulties(shots, easiest, hardest, chance):
    n, low, high = positive("shots", shots), positive("easiest", easiest), positive("hardest", hardest)
    high = require("hardest", high, high > low, "must be above the easiest")
    return n, low, high, within("chance", chance, 0.0, 1.0)
