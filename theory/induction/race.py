"""The race between looking a label up and knowing it: a minimal induction head beside a memory of classes.

Both add to the same output. The head (three nested logits, `nested_logits`) needs a plateau to form, but then serves
every class; the memory learns each class by itself, at the pace of its frequency. Whoever is first leaves the other
little error to learn from. A bursty sequence holds the target's class in its context, another one does not:

    bursty   ln p = xi s_2 + phi_k - ln Z,   Z = e^{xi s_2 + phi_k} + (N - 1) e^{xi (1 - s_2) / (N - 1)} + L - N,
    other    attention finds nothing and is uniform; the right label is among the N of the context by chance, N / L.

Where nobody wins outright, both are learned: many rare classes beside a few frequent ones, as in natural language.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, within
from theory.flow import flow, times
from theory.induction.nested_logits import Logits


class Statistics(NamedTuple):
    """What decides the race, all scalars but the frequencies.

    `context`      N > 1 items of different labels in a sequence (a Python int).
    `labels`       L > N labels.
    `frequencies`  (G,) of a class of each of G groups, p_k; `members` (G,) how many are in it; sum m p = 1.
    `bursty`       fraction of sequences that hold the target's class in the context.
    """

    context: int
    labels: Float[Array, ""]
    frequencies: Float[Array, " G"]
    members: Float[Array, " G"]
    bursty: Float[Array, ""]


class Race(NamedTuple):
    """What was learned, with an axis of times.

    `logits`      of the head; `memory` (T, G), phi_k: the logit of a class's own label over the others.
    `in_context`  probability of the right label of a class never seen, present in the context.
    `in_weights`  probability of the right label where the class is not in the context, over classes as they occur.
    `loss`        of training, in nats.
    """

    logits: Logits
    memory: Float[Array, "T G"]
    in_context: Float[Array, " T"]
    in_weights: Float[Array, " T"]
    loss: Float[Array, " T"]


def power_law_groups(classes: int, exponent: Real[ArrayLike, ""], groups: int = 48) -> tuple[Array, Array]:
    """Frequencies p_k ~ k^-alpha of K classes, the rare ones in groups of neighbours.

    p_k = k^-alpha / sum_j j^-alpha.

    Arguments:
        classes: K, a Python int >= 1; exponent: alpha >= 0; groups: at most how many, a Python int >= 2.
    Returns:
        (p, m): frequency of a class of each group and its members, both of length `groups`, with sum m p = 1 and
        sum m = K. The first classes have a group each; later groups have the mean frequency of their members; groups
        that are not needed have no members.
    Source: Reddy 2024 (arXiv:2312.03002), Chan et al. 2022 (arXiv:2205.05055): rank-frequency of classes.
    """
    if isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    if groups < 2:
        raise ValueError(f"groups must be at least 2, got {groups}")
    alpha = non_negative("exponent", exponent)
    weight = jnp.exp(-alpha * jnp.log(jnp.arange(1, classes + 1, dtype=alpha.dtype)))
    edges = _edges(classes, groups)
    group = np.searchsorted(edges[1:], np.arange(classes), side="right")
    members = jnp.asarray(np.bincount(group, minlength=groups), alpha.dtype)
    total = jax.ops.segment_sum(weight, group, groups)
    return total / jnp.maximum(members, 1) / jnp.sum(weight), members


def expected_loss(logits: Logits | tuple, memory: Real[ArrayLike, " G"], data: Statistics | tuple) -> Float[Array, ""]:
    """Loss of head and memory together, averaged over sequences.

    L = -sum_k p_k [bursty <ln p>_n + (1 - bursty) (N/L ln p_in + (1 - N/L) ln p_out)].

    Arguments:
        logits: (xi, beta_2, beta_1), scalars; memory: phi_k, (G,); data: the `Statistics`.
    Returns:
        the loss in nats, finite at any logits. n runs over the places of the context: the n-th label sees c = 2 n - 1
        other tokens.
    Holds when: as for `race`.
    Source: derived in derivations/induction/race.py.
    """
    head = Logits(*(real(name, value) for name, value in zip(Logits._fields, logits, strict=True)))
    return _loss(head, real("memory", memory), checked(data))


def race(
    t: Real[ArrayLike, " T"],
    data: Statistics | tuple,
    *,
    copy_rate: Real[ArrayLike, ""] = 1.0,
    memory_rate: Real[ArrayLike, ""] = 1.0,
    decay: Real[ArrayLike, ""] = 0.0,
    start: Logits | tuple = (0.0, 0.0, 0.0),
    memory: Real[ArrayLike, ""] = 0.0,
) -> Race:
    """Gradient flow of head and memory on their common loss.

    dxi/dt = -copy_rate dL/dxi - decay xi,   dbeta/dt = -dL/dbeta - decay beta,
    dphi_k/dt = memory_rate L / (L - 1) p_k (1 - <p>_k).

    Arguments:
        t: times, increasing, >= 0, learning rate times steps, (T,).
        data: the `Statistics`.
        copy_rate: of xi: 1 for one logit. memory_rate: learning rate of the memory over that of the head.
        decay: weight decay of the head alone, >= 0.
        start: logits at t = 0; memory: phi at t = 0, the same for all.
    Returns:
        the `Race`.
    Holds when: one logit xi copies, the memory is a table of logits for each class, inputs of many dimensions, small
        steps on large batches: it is then exact. Context labels are different and independent of the target's.
    Source: derived in derivations/induction/race.py; the head is a reconstruction of Reddy 2024 (arXiv:2312.03002).
    """
    data = checked(data)
    rates = tuple(positive(*pair) for pair in (("copy_rate", copy_rate), ("memory_rate", memory_rate)))
    begin = Logits(*(real(name, value) for name, value in zip(Logits._fields, start, strict=True)))
    filled = jnp.broadcast_to(real("memory", memory), data.frequencies.shape)
    head, phi = _flow(times("t", t), begin, filled, data, *rates, non_negative("decay", decay))
    return outcome(head, phi, data)


def outcome(logits: Logits | tuple, memory: Real[ArrayLike, "*T G"], data: Statistics | tuple) -> Race:
    """What head and memory can do on classes never seen and on classes that are not in the context.

    p_in_context = <p(phi = 0)>_n,   p_in_weights = sum_k p_k (N/L p_in + (1 - N/L) p_out).

    Arguments:
        logits: each of the shape of the leading axes of `memory`; memory: phi, (..., G); data: the `Statistics`.
    Returns:
        the `Race` with those axes.
    Holds when: as for `race`.
    Source: derived in derivations/induction/race.py.
    """
    data = checked(data)
    memory = real("memory", memory)
    flat = memory.reshape(-1, memory.shape[-1])
    logits = Logits(*(real(name, part) for name, part in zip(Logits._fields, logits, strict=True)))
    head = Logits(*(part.astype(memory.dtype).reshape(-1) for part in logits))
    found = jax.vmap(lambda head, phi: _outcome(head, phi, data))(head, flat)
    shape = memory.shape[:-1]
    return Race(logits, memory, *(part.reshape(shape) for part in found))


def checked(data: Statistics | tuple) -> Statistics:
    """The statistics as floating arrays, or one sentence about what is wrong with them."""
    data = Statistics(*data)
    n = data.context
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"context must be an integer of at least 2, got {n!r}")
    labels = real("labels", data.labels)
    labels = require("labels", labels, labels > n, "must be above the number of labels in the context")
    p, members = non_negative("frequencies", data.frequencies), non_negative("members", data.members)
    if p.ndim != 1 or p.shape != members.shape:
        raise ValueError(f"frequencies and members must be vectors of equal length, got {p.shape} and {members.shape}")
    total = jnp.sum(p * members)
    near = jnp.abs(total - 1) < 1e3 * jnp.finfo(p.dtype).eps
    p = require("frequencies", p, near, "must sum to one over the members of all groups")
    return Statistics(n, labels, p, members, within("bursty", data.bursty, 0.0, 1.0))


def _edges(classes, groups):
    """First class of each group, and the end: one by one, then in geometric steps."""
    single = min(classes, groups // 2)
    edges = list(range(single + 1))
    if classes > single:
        tail = np.geomspace(max(single, 1), classes, groups - single + 1)[1:]
        edges += [round(x) for x in tail]
    return np.unique(np.array(edges))


def _found(head: Logits, phi, data: Statistics):
    """ln p of the right label: matched (N, G), and with no match, label in the context or not, (G,)."""
    n, labels = data.context, data.labels
    c = 2 * jnp.arange(1, n + 1, dtype=phi.dtype)[:, None] - 1
    s1 = jax.nn.sigmoid(head.previous - jnp.log(c))
    log_odds = head.match * s1 - jnp.log(n - 1.0)
    s2, missed = jax.nn.sigmoid(log_odds), jax.nn.sigmoid(-log_odds)

    def log_p(right, wrong, many):
        """`many` labels with the logit `wrong`, the rest of them with zero."""
        rest = labels - 1 - many
        empty = rest <= 0
        gap = jnp.logaddexp(wrong - right + jnp.log(many), jnp.where(empty, -jnp.inf, jnp.log(rest + empty) - right))
        return -jnp.logaddexp(0.0, gap)

    matched = log_p(head.copy * s2 + phi, head.copy * missed / (n - 1), n - 1.0)
    inside = log_p(head.copy / n + phi, head.copy / n, n - 1.0)
    outside = log_p(phi, head.copy / n, 1.0 * n)
    return matched, inside, outside


def _loss(head: Logits, phi, data: Statistics):
    matched, inside, outside = _found(head, phi, data)
    chance = data.context / data.labels
    alone = chance * inside + (1 - chance) * outside
    each = data.bursty * jnp.mean(matched, axis=0) + (1 - data.bursty) * alone
    return -jnp.sum(data.frequencies * data.members * each)


def _outcome(head: Logits, phi, data: Statistics):
    _, inside, outside = _found(head, phi, data)
    new, _, _ = _found(head, jnp.zeros_like(phi[:1]), data)
    chance = data.context / data.labels
    alone = chance * jnp.exp(inside) + (1 - chance) * jnp.exp(outside)
    known = jnp.sum(data.frequencies * data.members * alone)
    return jnp.mean(jnp.exp(new)), known, _loss(head, phi, data)


def velocity(
    head: Logits, memory: Float[Array, " G"], data: Statistics, copy_rate, memory_rate, decay
) -> tuple[Logits, Float[Array, " G"]]:
    """Velocities of the three logits, and of the memory of one class of each group, in the flow of `race`.

    Arguments: as for `race`; the statistics as `checked` returns them.
    """
    by_head, by_memory = jax.grad(_loss, argnums=(0, 1))(head, memory, data)
    own = memory_rate * data.labels / (data.labels - 1) / jnp.maximum(data.members, 1)
    moved = jax.tree.map(lambda rate, g, x: -rate * g - decay * x, Logits(copy_rate, 1.0, 1.0), by_head, head)
    return moved, -own * by_memory


@partial(jax.jit, static_argnums=0)
def _flow_of(context, t, begin, phi, data, copy_rate, memory_rate, decay):
    data = data._replace(context=context)
    start = (jax.tree.map(lambda x: jnp.asarray(x, phi.dtype), begin), phi)
    return flow(lambda s: velocity(*s, data, copy_rate, memory_rate, decay), t, start, rtol=1e-9, atol=1e-11)


def _flow(t, begin, phi, data, *rates):
    # How many items there are decides shapes, the rest of the statistics does not.
    return _flow_of(data.context, t, begin, phi, data._replace(context=None), *rates)
