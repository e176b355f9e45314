"""Learning in context by recognising the task: what a predictor that knows M tasks makes of a sequence, and a learner.

A task gives each of K classes one of C labels. A sequence shows N classes, drawn uniformly with replacement, each with
the label that one task gives it; before each label is shown it is to be predicted. Two predictors are exact:

    the identifier knows a table of M tasks and keeps those that agree with all that has been shown;
    the copier knows of no task, looks up the label of a class that has been shown, and else guesses.

The copier is what the identifier becomes for M -> infinity. Means over random tables close: with q_n = C^-n, the chance
that another task agrees on n classes, everything is an expectation over 1 + Binomial(M - 1, q_n) tasks that are left.
The task is known after some ln M / ln C classes. If the labels of a task all differ (`distinct`, permutations for
K = C), q_n = (C - n)! / C!, and a new class has one of C - n labels instead of C. Losses are in nats.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlog1py, xlogy
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import positive, real, require, whole, within


class Curve(NamedTuple):
    """Mean accuracy and loss of a predictor, position by position."""

    accuracy: Float[Array, " N"]
    loss: Float[Array, " N"]


def table_prediction(
    classes: Int[ArrayLike, "P N"],
    answers: Int[ArrayLike, "P answers"],
    tasks: Int[ArrayLike, "M K"],
    labels: int,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "P N C"]:
    """Exact Bayesian prediction of each label from what stands before it, the tasks known: the identifier.

    p_n(c) = e / C + (1 - e) sum_m w_m [task_m(k_n) = c],   w_m ~ (1 + (1 - e) C / e)^-d_m,
    d_m = number of shown labels that task m contradicts.

    Arguments:
        classes: k_1, ..., k_N from 0 to K - 1, (P, N); answers: their labels from 0 to C - 1, (P, N).
        tasks: one a row, labels of all classes, (M, K); labels: C, a Python int.
        noise: e, chance from 0 to 1 that a shown label is replaced by a uniform one.
    Returns:
        probabilities, (P, N, C). Without noise tasks that agree with all labels count alike; where no task agrees, as
        happens on a task that is not in the table, the prediction is uniform. A little noise leaves the nearest tasks.
    Holds when: the task is drawn uniformly from the table. Nothing has a smaller loss then.
    Source: Bayes; after the setting of Kirsch, Harrison, Sohl-Dickstein & Metz 2022 (arXiv:2212.04458).
    """
    c, e = whole("labels", labels), within("noise", noise, 0.0, 1.0)
    tasks = _checked("tasks", tasks, 2, c)
    k = _checked("classes", classes, 2, tasks.shape[1])
    y = _checked_answers(answers, k, c)
    return _table_prediction(k, y, tasks, c, e)


def copying_prediction(
    classes: Int[ArrayLike, "P N"], answers: Int[ArrayLike, "P answers"], labels: int, distinct: bool = False
) -> Float[Array, "P N C"]:
    """Exact Bayesian prediction of each label where any task may be: the copier.

    A class that has been shown has the label that it had. Any other has every label alike, or, if the labels of a task
    all differ, every label that has not been shown.

    Arguments:
        classes, answers: as for `table_prediction`; labels: C, a Python int; distinct: labels of a task all differ.
    Returns:
        probabilities, (P, N, C).
    Holds when: tasks are uniform among all maps, or among all those of different labels; no noise.
    Source: Bayes.
    """
    c = whole("labels", labels)
    k = _checked("classes", classes, 2)
    y = _checked_answers(answers, k, c)
    return _copying_prediction(k, y, c, distinct)


def agreement(
    revealed: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."], distinct: bool = False
) -> Float[Array, "..."]:
    """Chance that another task has the same labels on n classes: C^-n, or (C - n)! / C! if its labels all differ.

    Arguments, which broadcast: revealed: n >= 0; labels: C >= 1, at least n if they differ; distinct: whether they do.
    Returns: q, from 1 down.
    Holds when: tasks are independent and uniform.
    Source: textbook; derivations.
    """
    return _agreement(*_checked_numbers(revealed, labels, distinct), distinct)


def sampling_accuracy(
    revealed: Real[ArrayLike, "..."],
    labels: Real[ArrayLike, "..."],
    tasks: Real[ArrayLike, "..."],
    distinct: bool = False,
) -> Float[Array, "..."]:
    """Chance that a task drawn from the posterior has the right label for a new class, n classes being known.

    1/R + (1 - 1/R) E[1 / (1 + J)],   E[1 / (1 + J)] = (1 - (1 - q)^M) / (M q),   J ~ Binomial(M - 1, q).

    Arguments, which broadcast:
        revealed: n >= 0, different classes shown; labels: C; tasks: M >= 1.
        distinct: labels of a task all differ; then R = C - n, else R = C.
    Returns:
        accuracies, the mean probability that the identifier gives to the right label as well. 1 at n -> infinity.
    Holds when: mean over tables of independent uniform tasks.
    Source: derived in derivations/induction/task_identification.py.
    """
    n, c = _checked_numbers(revealed, labels, distinct)
    m, q, r = _checked_tasks(tasks), _agreement(n, c, distinct), _remaining(n, c, distinct)
    expected = m * q
    # Far beyond the last class no other task is left.
    some = expected > jnp.finfo(q.dtype).tiny / jnp.finfo(q.dtype).eps
    alone = jnp.where(some, -jnp.expm1(xlog1py(m, -q)) / jnp.where(some, expected, 1.0), 1.0)
    return 1 / r + (1 - 1 / r) * alone


def voting_accuracy(
    revealed: Real[ArrayLike, "..."], labels: int, tasks: int, distinct: bool = False
) -> Float[Array, "..."]:
    """Accuracy of the identifier on a new class, n classes being known: it says what most of the tasks left say.

    E[max_c V_c] / (M q),   (V_1, ..., V_R) ~ Multinomial(M; q/R, ..., q/R), of those left that vote for each label.

    Arguments:
        revealed: n >= 0, of any shape; labels: C, tasks: M, Python ints.
        distinct: labels of a task all differ; then R = C - n, else R = C.
    Returns:
        accuracies, ties broken at random: the best there is, above `sampling_accuracy` between both ends.
    Holds when: mean over tables of independent uniform tasks.
    Source: derived in derivations/induction/task_identification.py; the expectation is a contour integral, on which
        the trapezoidal rule is exact to rounding.
    """
    c, m = whole("labels", labels), whole("tasks", tasks)
    n, real_c = _checked_numbers(revealed, c, distinct)
    q, r = _agreement(n, real_c, distinct), _remaining(n, real_c, distinct)
    r = jnp.broadcast_to(r, q.shape)
    return _voting(q.ravel(), r.ravel(), m, c).reshape(q.shape)


def task_entropy(
    revealed: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."], tasks: int, distinct: bool = False
) -> Float[Array, "..."]:
    """What is not yet known of the task: mean entropy of the posterior, n classes being known.

    h(n) = E ln(1 + J),   J ~ Binomial(M - 1, q_n).

    Arguments:
        revealed: n >= 0; labels: C; they broadcast; tasks: M, a Python int.
        distinct: labels of a task all differ.
    Returns:
        nats, from ln M at n = 0 down to 0.
    Holds when: mean over tables of independent uniform tasks; two tasks that are alike count as two.
    Source: derived in derivations/induction/task_identification.py.
    """
    n, c = _checked_numbers(revealed, labels, distinct)
    return _task_entropy(_agreement(n, c, distinct), whole("tasks", tasks))


def identification_loss(
    revealed: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."], tasks: int, distinct: bool = False
) -> Float[Array, "..."]:
    """Loss of the identifier on a new class, n classes being known: what it learns of the task.

    h(n) - h(n + 1).

    Arguments, Returns: as for `task_entropy`; ln C for M -> infinity (ln(C - n) if labels differ).
    Holds when: as for `task_entropy`. Over n classes losses add up to ln M - h(n).
    Source: derived in derivations/induction/task_identification.py.
    """
    n, c = _checked_numbers(revealed, labels, distinct)
    q, r, m = _agreement(n, c, distinct), _remaining(n, c, distinct), whole("tasks", tasks)
    return _task_entropy(q, m) - _task_entropy(q / r, m)


def identifying_context(tasks: Real[ArrayLike, "..."], labels: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Different classes after which one other task is left on average: n = ln M / ln C.

    Arguments, which broadcast: tasks: M >= 1; labels: C > 1.
    Returns: n, no whole number in general. A task drawn from the posterior is there the right one with the chance
        1 - (1 - 1/M)^M, 1 - 1/e for many tasks.
    Holds when: labels are independent and uniform.
    Source: derived in derivations/induction/task_identification.py.
    """
    c = real("labels", labels)
    return jnp.log(_checked_tasks(tasks)) / jnp.log(require("labels", c, c > 1, "must be above 1"))


def distinct_classes(context: int, classes: int) -> Float[Array, "N k"]:
    """Chance of d different classes among the first n, n = 0, ..., N - 1: what stands before each of N positions.

    p_{n+1}(d) = p_n(d) d / K + p_n(d - 1) (K - d + 1) / K.

    Arguments:
        context: N, classes: K, Python ints >= 1.
    Returns:
        probabilities, (N, K + 1), d = 0, ..., K; rows sum to one.
    Holds when: classes are drawn uniformly with replacement.
    Source: the classical occupancy problem.
    """
    return _distinct(whole("context", context), whole("classes", classes))


@partial(jax.jit, static_argnums=(0, 1))
def _distinct(n, k):
    d = jnp.arange(k + 1.0)

    def longer(p, _):
        fewer = jnp.where(d > 0, jnp.roll(p, 1), 0.0)
        return p * d / k + fewer * (k - d + 1) / k, p

    return jax.lax.scan(longer, jnp.where(d == 0, 1.0, 0.0), None, length=n)[1]


def copier_curve(context: int, classes: int, labels: Real[ArrayLike, ""], distinct: bool = False) -> Curve:
    """The copier, at each of N positions: right on a class that has been shown, at chance on others.

    accuracy 1 - (1 - 1/K)^n (1 - 1/C),   loss (1 - 1/K)^n ln C,   after n classes with repetition.

    Arguments:
        context: N, classes: K, Python ints; labels: C >= 1; distinct: labels of a task all differ, K <= C.
    Returns:
        the `Curve`, n = 0, ..., N - 1. Where labels differ, C is replaced by the number that has not been shown.
    Holds when: any tasks, known to it or not: a learner.
    Source: derived in derivations/induction/task_identification.py.
    """
    p, d, c = _occupancy(context, classes, labels, distinct)
    r = _remaining(d, c, distinct)
    return _mixed(p, 1 / r, jnp.log(r))


def identifier_curve(context: int, classes: int, labels: int, tasks: int, distinct: bool = False) -> Curve:
    """The identifier on one of its tasks, at each of N positions.

    sum_d p_n(d) [d / K + (1 - d / K) voting_accuracy(d)],   sum_d p_n(d) (1 - d / K) (h(d) - h(d + 1)).

    Arguments:
        context: N; classes: K; labels: C; tasks: M; Python ints; distinct: labels of a task all differ, K <= C.
    Returns:
        the `Curve`, n = 0, ..., N - 1. It need not look anything up: all tasks left agree on what has been shown.
    Holds when: mean over tables of independent uniform tasks.
    Source: a mixture of the above, derived in derivations/induction/task_identification.py.
    """
    p, d, c = _occupancy(context, classes, whole("labels", labels), distinct)
    # A class beyond the last one cannot be new.
    d = jnp.minimum(d, classes - 1)
    return _mixed(p, voting_accuracy(d, labels, tasks, distinct), identification_loss(d, c, tasks, distinct))


def unseen_task_accuracy(
    context: int, classes: int, labels: Real[ArrayLike, ""], tasks: Real[ArrayLike, ""], distinct: bool = False
) -> Float[Array, " N"]:
    """The identifier on a task that it does not know: right by accident, and ever less.

    sum_d p_n(d) [d/K (f_d + (1 - f_d) / C) + (1 - d/K) (f_d / R + (1 - f_d) / C)],   f_d = 1 - (1 - q_d)^M.

    Arguments: as for `identifier_curve`; labels and tasks may be traced.
    Returns:
        accuracies, (N,), n = 0, ..., N - 1. f_d is the chance that some task agrees so far; where none does, guesses
        are uniform. One that copies there has the copier's accuracy. The loss of both is infinite: both are sure, and
        wrong, where tasks agree so far that say nothing of the true one.
    Holds when: mean over tables and over the task, all independent; no noise.
    Source: derived in derivations/induction/task_identification.py.
    """
    p, d, c = _occupancy(context, classes, labels, distinct)
    fits = -jnp.expm1(xlog1py(_checked_tasks(tasks), -_agreement(d, c, distinct)))
    shown = fits + (1 - fits) / c
    new = fits / _remaining(d, c, distinct) + (1 - fits) / c
    return p @ (d / classes * shown + (1 - d / classes) * new)


@partial(jax.jit, static_argnames="c")
def _table_prediction(k, y, tasks, c: int, e):
    said = jnp.moveaxis(tasks[:, k], 0, -1)
    wrong = jnp.cumsum(said != y[..., None], axis=1) - (said != y[..., None])
    # ln of the chance of a shown label over that of any other; without noise none contradicts.
    odds = jnp.log1p((1 - e) * c / jnp.where(e > 0, e, 1.0))
    score = jnp.where(wrong > 0, jnp.where(e > 0, -wrong * odds, -jnp.inf), 0.0)
    best = jnp.max(score, axis=-1, keepdims=True)
    some = jnp.isfinite(best)
    weight = jnp.where(some, jnp.exp(score - jnp.where(some, best, 0.0)), 0.0)
    votes = jnp.stack([jnp.sum(weight * (said == label), axis=-1) for label in range(c)], axis=-1)
    share = votes / jnp.where(some, jnp.sum(votes, axis=-1, keepdims=True), 1.0)
    return e / c + (1 - e) * jnp.where(some, share, 1 / c)


@partial(jax.jit, static_argnames=("c", "distinct"))
def _copying_prediction(k, y, c: int, distinct: bool):
    before = jnp.tril(jnp.ones((k.shape[1],) * 2), -1)
    shown = jax.nn.one_hot(y, c)
    same = (k[:, :, None] == k[:, None, :]) * before
    copied = jnp.einsum("pns,psc->pnc", same, shown) > 0
    free = jnp.einsum("ns,psc->pnc", before, shown) == 0 if distinct else jnp.ones_like(copied)
    allowed = jnp.where(jnp.any(copied, axis=-1, keepdims=True), copied, free)
    return allowed / jnp.sum(allowed, axis=-1, keepdims=True)


@partial(jax.jit, static_argnames=("m", "c"))
def _voting(q, r, m: int, c: int):
    """Sum over v = 1, 2, ... votes for the right label, of which no other has more, ties shared.

    The chance is the coefficient of z^(M-1) of a product of exponential series, from a circle of radius M about zero:
    (1/R) sum_v w_{v-1} sum_{k < R} W_v^k W_{v-1}^{R-1-k} e^{(1-q) z},   w_v = (q z / R)^v / v!,  W_v = w_0 + ... + w_v.
    """
    nodes = 2 * m + 64
    angle = 2 * jnp.pi * jnp.arange(nodes) / nodes
    unit = jnp.exp(1j * angle)
    z = m * unit
    # (M - 1)! M^-(M-1) e^M, with which all series below are within the unit circle.
    scale = jnp.exp(gammaln(float(m)) - (m - 1) * jnp.log(float(m)) + m)
    turn = jnp.exp(-1j * (m - 1) * angle) / nodes

    def one(case):
        q, r = case
        decay, mean = jnp.exp((1 - q) * (z - m)), m * q / r

        def term(state):
            v, w, below, total, turned = state
            turned = turned * unit
            here = jnp.exp(xlogy(v, mean) - gammaln(v + 1) - mean) * turned
            upto = below + here
            ways, power = jnp.zeros_like(z), jnp.ones_like(z)
            for k in range(c):
                ways, power = jnp.where(k < r, ways * below + power, ways), power * upto
            return v + 1, here, upto, total + jnp.sum(turn * decay * w * ways).real / r, turned

        def matters(state):
            return (state[0] <= m) & ((state[0] <= mean + 2) | (jnp.abs(state[1][0]) > 1e-18))

        first = jnp.exp(-mean) * jnp.ones_like(z)
        start = (jnp.ones_like(mean), first, first, jnp.zeros_like(mean), jnp.ones_like(z))
        return scale * jax.lax.while_loop(matters, term, start)[3]

    return jax.lax.map(one, (q, r))


@partial(jax.jit, static_argnames="m")
def _task_entropy(q, m: int):
    j = jnp.arange(m, dtype=q.dtype)
    ways = gammaln(float(m)) - gammaln(j + 1) - gammaln(m - j)
    chance = jnp.exp(ways + xlogy(j, q[..., None]) + xlog1py(m - 1 - j, -q[..., None]))
    return jnp.sum(chance * jnp.log1p(j), axis=-1)


def _agreement(n, c, distinct):
    return jnp.exp(gammaln(c - n + 1) - gammaln(c + 1)) if distinct else jnp.exp(-n * jnp.log(c))


def _remaining(n, c, distinct):
    """Labels that a new class may have; where all classes have been shown there is none."""
    return jnp.maximum(c - n, 1.0) if distinct else c + 0 * n


def _occupancy(context, classes, labels, distinct):
    p, c = distinct_classes(context, classes), real("labels", labels)
    least = classes if distinct else 1
    c = require("labels", c, c >= least, f"must be at least {least}")
    return p, jnp.arange(p.shape[1], dtype=p.dtype), c


def _mixed(p, accuracy, loss) -> Curve:
    """A class that has been shown is known; for others, accuracy and loss by the number of different classes."""
    shown = jnp.arange(p.shape[1], dtype=p.dtype) / (p.shape[1] - 1)
    return Curve(p @ (shown + (1 - shown) * accuracy), p @ ((1 - shown) * loss))


def _checked_tasks(tasks):
    m = positive("tasks", tasks)
    return require("tasks", m, m >= 1, "must be at least 1")


def _checked_numbers(revealed, labels, distinct):
    n, c = real("revealed", revealed), real("labels", labels)
    c = require("labels", c, c >= 1, "must be at least 1")
    most = (n >= 0) & (n <= c) if distinct else n >= 0
    return require("revealed", n, most, "must lie between 0 and the labels" if distinct else "must be non-negative"), c


def _checked(name, values, dimensions, below=None):
    x = jnp.asarray(values)
    if x.ndim != dimensions or not x.size or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"{name} must be whole numbers in {dimensions} dimensions, got {x.dtype} of shape {x.shape}")
    fits = x >= 0 if below is None else (x >= 0) & (x < below)
    must = "must be non-negative" if below is None else f"must lie between 0 and {below - 1}"
    require(name, x.astype(float), fits, must)
    return x


def _checked_answers(answers, k, c):
    y = _checked("answers", answers, 2, c)
    if y.shape != k.shape:
        raise ValueError(f"answers must hold a label for each class, of shape {k.shape}, got {y.shape}")
    return y
