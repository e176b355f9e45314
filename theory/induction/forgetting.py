"""Forgetting class vectors on purpose: what is known is lost every so often, what is looked up is not.

A memory of classes that is reset every interval keeps making errors, and these drive the head. For ever (active
forgetting) the head alone remains; for a while only (temporary forgetting) the memory comes back after the head has
formed, and both are there. Accuracy on classes whose vectors are new at random is structural in-context learning.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, whole
from theory.flow import flow, times
from theory.induction.associative_memory import flow_margin
from theory.induction.nested_logits import Logits
from theory.induction.race import Race, Statistics, checked, outcome, velocity


def remaining_error(
    interval: Real[ArrayLike, "..."], frequency: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Error of a memory alone, averaged between resets: what forgetting leaves a head to learn from.

    <1 - p> = phi(Delta) (L - 1) / (L p Delta), with phi(Delta) the margin after an interval without resets.

    Arguments, which broadcast:
        interval: Delta > 0, between resets, learning rate of the memory times steps.
        frequency: p > 0, of the class; labels: L > 1.
    Returns:
        the mean of one minus the probability of the right label: 1 - 1/L for quick resets, ~ ln(Delta) / Delta for
        slow ones.
    Holds when: a table of logits for each class, nothing else learns, small steps.
    Source: derived in derivations/induction/forgetting.py.
    """
    delta, p = positive("interval", interval), positive("frequency", frequency)
    count = require("labels", real("labels", labels), jnp.asarray(labels) > 1, "must be above 1")
    pace = count / (count - 1) * p * delta
    # The margin of an associative memory moves by dm/dt = p L (1 - q) / (L - 1), too.
    return flow_margin(delta, p, count) / pace


def race_with_resets(
    interval: Real[ArrayLike, ""],
    resets: int,
    after: Real[ArrayLike, " T"],
    data: Statistics | tuple,
    *,
    copy_rate: Real[ArrayLike, ""] = 1.0,
    memory_rate: Real[ArrayLike, ""] = 1.0,
    decay: Real[ArrayLike, ""] = 0.0,
    start: Logits | tuple = (0.0, 0.0, 0.0),
) -> tuple[Float[Array, " R"], Race]:
    """The race of `theory.induction.race`, with the memory set to zero after every interval.

    phi_k(Delta j) <- 0 for j = 1 .. resets.

    Arguments:
        interval: Delta > 0, in time (learning rate times steps); resets: how many, a Python int >= 1.
        after: times since the last reset, increasing, >= 0, (T,): nothing is forgotten any more.
        data, copy_rate, memory_rate, decay, start: as for `race`.
    Returns:
        (times, race): times and what was learned, of length R = resets + T: right before each reset, then at `after`.
    Holds when: as for `race`.
    Source: derived in derivations/induction/forgetting.py, of the experiment of Anand et al. 2024 (arXiv:2406.00053).
    """
    data, delta = checked(data), positive("interval", interval)
    rates = positive("copy_rate", copy_rate), positive("memory_rate", memory_rate), non_negative("decay", decay)
    begin = Logits(*(real(name, value) for name, value in zip(Logits._fields, start, strict=True)))
    count, late = whole("resets", resets), times("after", after)
    parts = _resets(data.context, count, delta, late, begin, data._replace(context=None), *rates)
    when = jnp.concatenate([delta * jnp.arange(1, count + 1, dtype=late.dtype), delta * count + late])
    head, memory = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    return when, outcome(head, memory, data)


@partial(jax.jit, static_argnums=(0, 1))
def _resets(context, resets, interval, after, begin, data, copy_rate, memory_rate, decay):
    """(head, memory) before each reset, and after the last one."""
    data = data._replace(context=context)
    nothing = jnp.zeros_like(data.frequencies)

    def flowing(head, t):
        field = lambda state: velocity(*state, data, copy_rate, memory_rate, decay)  # noqa: E731
        return flow(field, t, (head, nothing), rtol=1e-9, atol=1e-11)

    def one(head, _):
        end = jax.tree.map(lambda x: x[0], flowing(head, interval[None]))
        return end[0], end

    begin = jax.tree.map(lambda x: jnp.asarray(x, nothing.dtype), begin)
    head, before = jax.lax.scan(one, begin, length=resets)
    return before, flowing(head, after)
