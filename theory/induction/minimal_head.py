"""A minimal induction head on whole sequences: attention that leaks, items that recur, and when the head forms.

The three nested logits of `nested_logits`, with what they leave out. A label that does not know its own item yet looks
at all tokens before it, so that labels after an item of the target's class carry some of it, too; and a class that
recurs has several labels, each at its own place. Label n sees its own item with weight s_n, any other token with r_n:

    s_n = e^{beta_1} r_n,   r_n = 1 / (e^{beta_1} + 2 n - 1),
    o_n = rho [s_n 1(c_n = target) + r_n #{m < n: c_m = target}],   q = softmax(beta_2 o),
    p = e^{xi Q_0} / (sum_g e^{xi Q_g} + L - N_l),   Q_g = sum of q over the labels of class g.

All of it depends on the order of classes alone, and is averaged over orders. An order names the class of each item: 0
for the target's, the others by their first appearance.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import positive, real, require, whole, within
from theory.flow import flow, times
from theory.induction.nested_logits import Logits, Progress, checked_start

MOST_ORDERS = 100_000

# Of the way from the plateau, chance among the labels of the context, to certainty.
LEVELS = (0.1, 0.5, 0.9)


class Formation(NamedTuple):
    """When accuracy is a tenth, half and nine tenths of its way from the plateau to one; infinite where it never is."""

    onset: Float[Array, ""]
    half: Float[Array, ""]
    end: Float[Array, ""]

    @property
    def rise(self) -> Float[Array, ""]:
        """How long the transition takes."""
        return self.end - self.onset

    @property
    def sharpness(self) -> Float[Array, ""]:
        """The time of the transition over that of its rise, large where it is abrupt; NaN where it never comes."""
        return self.half / self.rise


def orders(context: int, burst: int = 1) -> Int[np.ndarray, "A N"]:
    """Every order of N / B classes that occur B times each, all equally likely.

    A = C(N, B) (N - B)! / (B!^{N/B - 1} (N/B - 1)!).

    Arguments:
        context: N items; burst: B, which divides N and is below it. Python ints.
    Returns:
        the class of each item, (A, N).
    Holds when: A is at most 100 000; beyond, give the functions below a sample of orders.
    Source: a definition, of the bursty sequences without repeats of Reddy 2024 (arXiv:2312.03002).
    """
    n, b = whole("context", context), whole("burst", burst)
    if n % b or b == n:
        raise ValueError(f"burst must divide the context of {n} and be below it, got {b}")
    groups = n // b
    count = math.factorial(n) // (math.factorial(b) ** groups * math.factorial(groups - 1))
    if count > MOST_ORDERS:
        raise ValueError(f"context of {n} in bursts of {b} has {count} orders: sample some of them instead")
    return _orders(n, b).copy()


def minimal_head_attention(
    match: Real[ArrayLike, ""],
    previous: Real[ArrayLike, ""],
    classes: Int[ArrayLike, "A N"],
    overlap: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, "A N"]:
    """Attention of the target to each label of the context, q = softmax(beta_2 o).

    o_n = rho [s_n 1(c_n = target) + r_n #{m < n: c_m = target}].

    Arguments:
        match, previous: beta_2 and beta_1, any finite numbers.
        classes: of the items, in order, the target's 0 and the others from 1, (A, N).
        overlap: rho = 1 / (1 + epsilon^2), of two exemplars of a class, 0..1.
    Returns:
        q, rows of sum one, (A, N): uniform for beta_2 = 0.
    Holds when: inputs of many dimensions (classes are orthogonal to each other and to labels).
    Source: the minimal model of Reddy 2024 (arXiv:2312.03002), as reconstructed from its network.
    """
    _, own, before = _places(classes)
    beta2, beta1 = real("match", match), real("previous", previous)
    return jax.nn.softmax(_overlaps(beta1, own, before, _overlap(overlap)) * beta2, axis=-1)


def minimal_head_progress(
    logits: Logits | tuple,
    classes: Int[ArrayLike, "A N"],
    labels: Real[ArrayLike, ""],
    overlap: Real[ArrayLike, ""] = 1.0,
) -> Progress:
    """What a head does, averaged over orders of classes.

    Arguments:
        logits: (xi, beta_2, beta_1), each of shape () or (T,).
        classes: as for `minimal_head_attention`; labels: L >= N_l, those of the context; overlap: rho.
    Returns:
        `Progress` of shape () or (T,): `association` the mean of s_n, `attention` all that the right labels get,
        `other` the probability of one other label of the context, on average.
    Holds when: as for `minimal_head_attention`; different classes of a context have different labels.
    Source: derived in derivations/induction/minimal_head.py.
    """
    seen = _places(classes)
    parts = jnp.broadcast_arrays(*(real(name, value) for name, value in zip(Logits._fields, logits, strict=True)))
    if parts[0].ndim > 1:
        raise ValueError(f"logits must be numbers or vectors of times, got shape {parts[0].shape}")
    return _progress(Logits(*parts), *seen, _labels(labels, seen[0]), _overlap(overlap))


def minimal_head_flow(
    t: Real[ArrayLike, " T"],
    classes: Int[ArrayLike, "A N"],
    labels: Real[ArrayLike, ""],
    overlap: Real[ArrayLike, ""] = 1.0,
    copy_rate: Real[ArrayLike, ""] | None = None,
    start: Logits | tuple = (0.0, 0.0, 0.0),
) -> Logits:
    """Gradient flow of the three logits on the loss averaged over orders: the mean field of the minimal head.

    dxi/dt = copy_rate <d ln p / dxi>,   dbeta_2/dt = <d ln p / dbeta_2>,   dbeta_1/dt = <d ln p / dbeta_1>.

    Arguments:
        t: times, learning rate times steps, increasing, >= 0, (T,).
        classes: as for `minimal_head_attention`; labels: L >= N_l; overlap: rho.
        copy_rate: > 0; 1 / (L - 1) if not given, exact for a linear classifier that starts at zero.
        start: logits at t = 0.
    Returns:
        `Logits` with an axis of T. For L = N_l the origin is a saddle, of which rounding alone takes them away.
    Holds when: one head per layer with these two logits, a linear classifier on orthogonal labels, inputs of many
        dimensions, small steps on large batches: it is then exact.
    Source: derived in derivations/induction/minimal_head.py.
    """
    seen = _places(classes)
    many, rho, rate = _rates(labels, overlap, copy_rate, seen[0])
    return _flow(times("t", t), seen, many, rho, rate, Logits(*checked_start(start)))


def formation(
    classes: Int[ArrayLike, "A N"],
    labels: Real[ArrayLike, ""],
    overlap: Real[ArrayLike, ""] = 1.0,
    copy_rate: Real[ArrayLike, ""] | None = None,
    longest: Real[ArrayLike, ""] = 1e7,
) -> Formation:
    """When the head forms, and how abruptly, from the origin: crossings of <p> along `minimal_head_flow`.

    Arguments:
        classes, labels, overlap, copy_rate: as for `minimal_head_flow`.
        longest: time after which the flow is given up.
    Returns:
        `Formation`, to a relative error of 1e-6; infinite for L = N_l, where the origin is never left.
    Holds when: as for `minimal_head_flow`.
    Source: a definition.
    """
    seen = _places(classes)
    many, rho, rate = _rates(labels, overlap, copy_rate, seen[0])
    return _formation(seen, many, rho, rate, positive("longest", longest))


def untrained_lead(
    context: Real[ArrayLike, "*#contexts"], overlap: Real[ArrayLike, "*#overlaps"] = 1.0
) -> Float[Array, "..."]:
    """How much more of the target's item its own label holds than a label of the context does on average, untrained.

    <o_0 - o> = rho (H_N - 1) / (2 N),   H_N = 1 + 1/2 + ... + 1/N.

    What drives the matching logit at first. Without the leak it were rho H_N (N - 1) / (2 N^2), a third too fast for
    N = 4. Where all labels are in the context, L = N, the origin is a saddle whose directions grow at
    lambda = sqrt(copy_rate) <o_0 - o> / N: dxi/dt = copy_rate (lead / N) beta_2, dbeta_2/dt = (lead / N) xi are those
    of a two-layer linear mode (`theory.deep_linear.modes`) of strength lead / N.

    Arguments, which broadcast: context: N > 1 items, of different classes; overlap: rho, 0..1.
    Returns:
        the lead.
    Holds when: beta_1 = beta_2 = 0, classes do not recur.
    Source: derived in derivations/induction/minimal_head.py.
    """
    n = require("context", real("context", context), jnp.asarray(context) > 1, "must be above 1")
    harmonic = jax.scipy.special.digamma(n + 1) + jnp.euler_gamma
    return _overlap(overlap) * (harmonic - 1) / (2 * n)


@functools.cache
def _orders(n: int, b: int) -> Int[np.ndarray, "A N"]:
    """The target's places, then the others, each class at its first free place."""

    def filled(free, name):
        if not free:
            yield {}
            return
        first, *rest = free
        for more in itertools.combinations(rest, b - 1):
            here = (first, *more)
            for others in filled([place for place in rest if place not in more], name + 1):
                yield dict.fromkeys(here, name) | others

    found = []
    for target in itertools.combinations(range(n), b):
        free = [place for place in range(n) if place not in target]
        found += [dict.fromkeys(target, 0) | others for others in filled(free, 1)]
    return np.array([[classes[place] for place in range(n)] for classes in found])


def _places(classes):
    """Classes as indicators (A, N, G), own items of the target's class, and how many of them stand before (A, N)."""
    try:
        found = np.asarray(classes)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError("classes must be concrete: which orders are averaged over is not a traced value") from error
    if found.ndim != 2 or found.shape[1] < 2 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"classes must be whole numbers of shape (orders, 2 items or more), got {found.shape}")
    top = found.max(initial=0)
    if found.min(initial=0) < 0 or any(set(row) != set(range(top + 1)) for row in found.tolist()) or top < 1:
        raise ValueError("classes must number those of every order from 0, the target's, without a gap, two or more")
    dtype = jnp.result_type(float)
    own = found == 0
    seen = found[..., None] == np.arange(top + 1)
    return tuple(jnp.asarray(part, dtype) for part in (seen, own, np.cumsum(own, axis=1) - own))


def _overlaps(beta1, own, before, rho):
    """o_n: what the n-th label holds of the target's item, times what that has in common with the target."""
    competitors = 2 * jnp.arange(1, own.shape[-1] + 1, dtype=beta1.dtype) - 1
    astray = jax.nn.sigmoid(jnp.log(competitors) - beta1) / competitors
    return rho * (own * jax.nn.sigmoid(beta1 - jnp.log(competitors)) + before * astray)


def _log_p(logits: Logits, seen, own, before, labels, rho):
    """ln p of the right label, ln p of every class of the context (A, G), and what is missing, ln(1/p)."""
    xi, beta2, beta1 = logits
    q = jax.nn.softmax(beta2 * _overlaps(beta1, own, before, rho), axis=-1)
    z = xi * jnp.einsum("an,ang->ag", q, seen)
    few = seen.shape[-1]
    rest = jnp.where(labels > few, jnp.log(jnp.where(labels > few, labels - few, 1.0)), -jnp.inf)
    others = jnp.logaddexp(jax.nn.logsumexp(z[:, 1:], axis=1), rest)
    # To full precision where p is within rounding of one.
    loss = jnp.logaddexp(0.0, others - z[:, 0])
    return z - z[:, :1] - loss[:, None], loss, q


@jax.jit
def _progress(logits, seen, own, before, labels, rho) -> Progress:
    competitors = 2 * jnp.arange(1, own.shape[-1] + 1) - 1

    def one(now):
        log_p, loss, q = _log_p(now, seen, own, before, labels, rho)
        p = jnp.mean(jnp.exp(log_p), axis=0)
        s = jnp.mean(jax.nn.sigmoid(now.previous - jnp.log(competitors)))
        return Progress(s, jnp.mean(jnp.sum(q * own, axis=1)), p[0], jnp.mean(p[1:]), jnp.sum(p), jnp.mean(loss))

    return one(logits) if logits.copy.ndim == 0 else jax.lax.map(one, logits)


def _field(seen, labels, rho, rate):
    def mean_loss(logits):
        return jnp.mean(_log_p(logits, *seen, labels, rho)[1])

    def field(logits):
        down = jax.grad(mean_loss)(logits)
        return Logits(-rate * down.copy, -down.match, -down.previous)

    return field


@jax.jit
def _flow(t, seen, labels, rho, rate, start) -> Logits:
    return flow(_field(seen, labels, rho, rate), t, start, rtol=1e-9, atol=1e-11)


@jax.jit
def _formation(seen, labels, rho, rate, longest) -> Formation:
    """One integration for each level, up to where it is crossed."""
    few = seen[0].shape[-1]
    field = _field(seen, labels, rho, rate)
    origin = Logits(*(jnp.zeros_like(labels) for _ in Logits._fields))

    def crossing(level):
        def above(t, y, args, **_):
            p = jnp.mean(jnp.exp(-_log_p(y, *seen, labels, rho)[1]))
            return p - (1 / few + level * (1 - 1 / few))

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda _, x, __: field(x)),
            diffrax.Tsit5(),
            t0=jnp.zeros_like(longest),
            t1=longest,
            dt0=None,
            y0=origin,
            stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
            event=diffrax.Event(above, optimistix.Newton(1e-10, 1e-10), direction=True),
            max_steps=100_000,
        )
        # From the saddle at L = N_l rounding would lead away, after ln(1e16) of its own times.
        return jnp.where(solution.event_mask & (labels > few), solution.ts[0], jnp.inf)

    return Formation(*jax.lax.map(crossing, jnp.asarray(LEVELS, labels.dtype)))


def _labels(labels, seen):
    many = real("labels", labels)
    return require("labels", many, many >= seen.shape[-1], f"must be at least the {seen.shape[-1]} in the context")


def _overlap(overlap):
    return within("overlap", overlap, 0.0, 1.0)


def _rates(labels, overlap, copy_rate, seen):
    many = _labels(labels, seen)
    return many, _overlap(overlap), 1 / (many - 1) if copy_rate is None else positive("copy_rate", copy_rate)
