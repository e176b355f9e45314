"""Three subcircuits that work only as a product: the plateau, what a wrong sign costs, and what each clamp saves."""

from __future__ import annotations

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import every, grid, simulate
from sims.networks.tensor_factors import TensorFactors, half_mean_square, outer
from sims.training import training
from theory.induction.subcircuits import (
    Factors,
    emergence_time,
    factor_descent,
    factor_pair,
    lone_factor_loss,
    plane_coordinates,
    subcircuit_loss,
    tensor_loss,
)
from theory.lazy_rich.grokking import first_time_below
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

# Relative to the loss of the zero tensor; a sum in another order, carried along thousands of steps past a saddle.
ROUNDING = 1e-11

# Factors set to the truth: none, the last, the last two.
CLAMPS = ((), (2,), (1, 2))


def problem(settings, seed):
    """True factors and starts for each set of dimensions, and the runs of each: sizes, signs, clamps.

    Of each start there are two: one with the overlaps of all three factors positive, one with the first factor turned.
    """
    rng, count = np.random.default_rng(seed), settings["starts"]
    # Axes of the runs: size, sign, clamp, start.
    cases = list(itertools.product(settings["sizes"], (1, -1), range(len(CLAMPS)), range(count)))
    shape = (len(settings["sizes"]), 2, len(CLAMPS), count)
    tensors = []
    for dims in settings["dims"]:
        truths, starts = ([[rng.normal(size=d) for d in dims] for _ in range(count)] for _ in range(2))
        runs = []
        for size, sign, clamp, i in cases:
            agree = [np.sign(a @ b) for a, b in zip(starts[i], truths[i], strict=True)]
            vectors = [size * s * a for s, a in zip((sign * agree[0], *agree[1:]), starts[i], strict=True)]
            held = [b if j in CLAMPS[clamp] else a for j, (a, b) in enumerate(zip(vectors, truths[i], strict=True))]
            runs.append((held, truths[i]))
        tensors.append(runs)
    return Problem(**settings, seed=seed, cases=cases, shape=shape, tensors=tensors)


def predict(problem, descend=factor_descent):
    """Curves of every run from its own six numbers, (dims, *shape, times), and closed forms of when half is gone."""
    at, columns = every(problem.steps, problem.every), []
    t = problem.lr * at
    for dims, runs in zip(problem.dims, problem.tensors, strict=True):
        d = float(np.prod(dims))
        for (size, _, clamp, _), (vectors, truths) in zip(problem.cases, runs, strict=True):
            start, s = plane_coordinates(vectors, truths)
            path = descend(problem.steps, start, s, d, problem.lr, CLAMPS[clamp], problem.every)
            small = size == min(problem.sizes)
            closed, error = closed_form(problem, clamp, start, np.asarray(s), d) if small else (t[-1], 1.0)
            row = dict(loss=tensor_loss(path, s, d), parts=subcircuit_loss(path, s, d), error=error)
            columns.append(row | dict(zero=np.prod(s**2) / (2 * d), closed=min(closed, t[-1])))
    return gathered(problem, columns) | dict(t=t, small=int(np.argmin(problem.sizes)))


def closed_form(problem, clamp, start, s, d):
    """Time of the half loss from a small start, and the relative error that it leaves.

    Three free factors: Carlson's integral, which neglects how much lengths shrink meanwhile. Two: the closed flow. One:
    the straight line, exact. Finite steps come late by (lr / 2) ln(speed at the end / speed at the start).
    """
    zero, t = np.prod(s**2) / (2 * d), np.linspace(0, problem.lr * problem.steps, 20_001)
    rate = np.prod(s[list(CLAMPS[clamp])] ** 2) / d
    if clamp == 0:
        at = float(emergence_time(start.along, s, d))
        squares = np.asarray(start.along) ** 2 + np.asarray(start.across) ** 2
        shrunk = max(np.prod(np.delete(squares, i)) for i in range(3)) * at / d
        growth = np.mean(np.log(s / np.abs(start.along)))
        return at, shrunk + problem.lr * growth / at
    if clamp == 1:
        loss = tensor_loss(factor_pair(t, (start.along[:2], start.across[:2]), s[:2], rate), s[:2], 1 / rate)
        delay = problem.lr * rate * s[0] * s[1] / 2
    else:
        loss = lone_factor_loss(t / problem.lr, start.along[0], start.across[0], s[0], rate, problem.lr)
        delay = 0.0
    at = float(first_time_below(t, loss, zero / 2))
    return at, delay + problem.lr / at


def gathered(problem, columns):
    """Rows of runs as arrays (dims, *shape, ...), with the times at which the loss is half that of the zero tensor."""
    shape = (len(problem.dims), *problem.shape)
    found = {name: np.stack([np.asarray(row[name]) for row in columns]) for name in columns[0]}
    t = problem.lr * every(problem.steps, problem.every)
    times = [first_time_below(t, one, z / 2) for one, z in zip(found["loss"], found["zero"], strict=True)]
    found["times"] = np.minimum(np.array(times), t[-1])
    return {name: x.reshape(shape + x.shape[1:]) for name, x in found.items()}


def simulate_networks(problem):
    """Gradient descent on the vectors themselves, all runs of one set of dimensions at once."""
    columns, at = [], every(problem.steps, problem.every)
    free = np.array([[i not in CLAMPS[clamp] for i in range(3)] for _, _, clamp, _ in problem.cases], float)
    for runs in problem.tensors:
        vectors, truths = (tuple(map(np.stack, zip(*side, strict=True))) for side in zip(*runs, strict=True))
        hyper = dict(vectors=vectors, truths=truths, free=free)
        seen = simulate(descent(problem.lr), grid(np.arange(len(runs)))._replace(hyper=hyper), at, batching="vmap")
        zeros = [np.prod([np.mean(x**2) for x in truth]) / 2 for _, truth in runs]
        for i, zero in enumerate(zeros):
            columns.append({name: x[i] for name, x in seen.records.items()} | {"zero": zero})
    return gathered(problem, columns)


@functools.cache
def descent(lr):
    """Training on the whole tensor; records the loss, and that of each factor among true ones."""

    def record(model, hyper):
        truths, target, parts = hyper["truths"], outer(hyper["truths"]), []
        for i, vector in enumerate(model.vectors):
            tensor = outer([vector if i == j else truths[j] for j in range(3)])
            parts.append(jnp.minimum(half_mean_square(tensor - target), half_mean_square(tensor + target)))
        return {"loss": half_mean_square(model() - target), "parts": jnp.stack(parts)}

    return training(
        lambda _, hyper: TensorFactors(hyper["vectors"], hyper["free"]),
        lambda model, target: half_mean_square(model() - target),
        lambda _: optax.sgd(lr),
        lambda _, hyper: outer(hyper["truths"]),
        record,
    )


def exactly(prediction, observation):
    """Largest deviation of losses from those of the six numbers, in units of `ROUNDING` of the zero tensor's."""
    scale = ROUNDING * prediction["zero"][..., None]
    return max(
        gap(prediction["loss"], observation["loss"], scale),
        gap(prediction["parts"], observation["parts"], scale[..., None]),
    )


def in_closed_form(prediction, observation):
    """ln of the times from small starts against the closed forms, in units of what those leave out."""
    small = prediction["small"]
    expected, measured, error = prediction["closed"], observation["times"], prediction["error"]
    return gap(np.log(expected[:, small]), np.log(measured[:, small]), error[:, small])


def straight(prediction, observation):
    """Where two are clamped: ln of the loss against the predicted straight line, in units of 1e-9."""
    line, measured = (
        np.log(np.maximum(side["loss"] / side["zero"][..., None], 1e-30))[:, :, :, 2]
        for side in (prediction, observation)
    )
    return float(np.max(np.abs(measured - line)[line > np.log(1e-9)]) / 1e-9)


def out_of_order(prediction, observation):
    """Small starts: pairs of clamps out of order, and of signs, of which the wrong one must be the later."""
    small, end = prediction["small"], prediction["t"][-1]
    times = observation["times"][:, small]
    clamps = np.sum(np.diff(times, axis=2) >= 0)
    right, wrong = times[:, 0, 0], times[:, 1, 0]
    return int(clamps + np.sum((wrong <= right) & (right < end)))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    t, unit, small = prediction["t"], problem.unit, prediction["small"]
    shown = np.unique(np.geomspace(1, len(t) - 1, 16).astype(int))
    names = (("no clamp", 0, 0), ("one factor turned", 1, 0), ("one clamped", 0, 1), ("two clamped", 0, 2))
    for i, (name, sign, clamp) in enumerate(names):
        at = (0, small, sign, clamp, unit)
        zero = prediction["zero"][at]
        style.theory(left, t[1:], prediction["loss"][at][1:] / zero, i=i, label=name)
        style.networks(left, t[shown], observation["loss"][at][shown] / zero, i=i)
    left.set(xscale="log", xlabel="time  lr · steps", ylabel="loss / that of zero", ylim=(-0.05, 1.7))
    left.set_title("Each clamp takes a layer away")
    left.legend(loc="upper left", fontsize=7)

    at = (0, small, 1, 0, unit)
    for i, name in enumerate("abc"):
        style.theory(
            middle, t[1:], prediction["parts"][at][1:, i] / prediction["zero"][at], i=4 + i, label=f"{name} alone"
        )
        style.networks(middle, t[shown], observation["parts"][at][shown, i] / prediction["zero"][at], i=4 + i)
    style.theory(middle, t[1:], prediction["loss"][at][1:] / prediction["zero"][at], i=1, label="all")
    style.networks(middle, t[shown], observation["loss"][at][shown] / prediction["zero"][at], i=1)
    middle.set(xscale="log", xlabel="time", ylim=(-0.05, 1.7))
    middle.set_title("One factor turned")
    middle.legend(loc="upper left", fontsize=7, ncols=2)

    for i, (name, sign, clamp) in enumerate(names):
        x, y = (side[:, small, sign, clamp].ravel() for side in (prediction["closed"], observation["times"]))
        style.networks(right, x, y, i=i, label=name, most=100)
    axis = np.array([prediction["closed"][:, small].min() / 1.5, t[-1]])
    style.theory(right, axis, axis, color=style.INK, linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="half loss, closed form", ylabel="measured")
    right.set_title("Times from small starts")


def alone(problem, prediction):
    """Each factor learns on its own, as if the others were true."""

    def descend(steps, start, s, d, lr, clamped, every):
        k = np.arange(0, steps + 1, every)[:, None]
        s, free = np.asarray(s), np.array([i not in clamped for i in range(3)])
        kept = (1 - lr * np.prod(s**2) / s**2 / d) ** k
        along = np.where(free, s + (np.asarray(start.along) - s) * kept, s)
        return Factors(along, np.where(free, np.asarray(start.across) * kept, 0.0))

    found = predict(problem, descend)
    return found | {"closed": found["times"]}


def unclamped(problem, prediction):
    """To clamp a factor changes nothing."""
    found = dict(prediction)
    for name in ("loss", "parts", "closed", "times"):
        found[name] = np.repeat(prediction[name][:, :, :, :1], len(CLAMPS), axis=3)
    return found


def signless(problem, prediction):
    """Signs do not matter."""
    found = dict(prediction)
    for name in ("loss", "parts", "closed", "times"):
        found[name] = np.repeat(prediction[name][:, :, :1], 2, axis=2)
    return found


def slowest(problem, prediction):
    """The factor that starts with the least overlap sets the plateau alone."""
    closed = prediction["closed"].copy()
    for i, (dims, runs) in enumerate(zip(problem.dims, problem.tensors, strict=True)):
        for j, (vectors, truths) in enumerate(runs):
            at = (i, *np.unravel_index(j, problem.shape))
            if problem.cases[j][2] == 0 and at[1] == prediction["small"]:
                start, s = plane_coordinates(vectors, truths)
                least = jnp.full(3, jnp.min(jnp.abs(start.along)))
                closed[at] = min(float(emergence_time(least, s, float(np.prod(dims)))), prediction["t"][-1])
    return prediction | {"closed": closed}


STUDY = Study(
    title="Subcircuits that only work together",
    question="Why does a product of parts learn after a plateau, and what does clamping a part to its end save?",
    source="Singh, Moskovitz, Hill, Chan & Saxe 2024 (arXiv:2404.07129), the model of three subcircuits",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(dims=((8, 8, 8), (5, 7, 10)), starts=3, sizes=(1.0, 0.1), lr=1.0, steps=3000, every=4, unit=0),
        "paper": dict(
            dims=((20, 20, 20), (10, 20, 40)), starts=16, sizes=(1.0, 0.3, 0.1), lr=1.0, steps=20_000, every=10, unit=0
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Losses of tensors under training are those of six numbers, at any dimension, clamped or not.",
            exactly,
            1,
            "Both are the same sums in another order: rounding, grown on the way past a saddle.",
        ),
        Claim(
            "From small starts half the loss is gone when Carlson's integral, the closed pair or the line say.",
            in_closed_form,
            2,
            "What the closed forms leave out, by its leading size.",
        ),
        Claim(
            "Where two factors are clamped there is no plateau: ln loss is a straight line.",
            straight,
            1,
            "Rounding of a loss that has fallen to 1e-9 of that of the zero tensor.",
        ),
        Claim(
            "From small starts every clamp is a gain, and a wrong sign a loss, of time.",
            out_of_order,
            0,
            "An order of times.",
        ),
    ),
    rivals=(
        Rival("Each factor learns on its own.", alone),
        Rival("Clamping changes nothing.", unclamped),
        Rival("Signs do not matter.", signless),
        Rival("The factor with the least overlap sets the plateau alone.", slowest),
    ),
    draw=draw,
    formulas=(
        "induction.subcircuits.descended",
        "induction.subcircuits.pair",
        "induction.subcircuits.lone",
        "induction.subcircuits.emergence",
    ),
)
