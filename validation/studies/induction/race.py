"""Looking up against knowing: who wins the race, over burstiness, number of classes and their frequencies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.minimal_head import encounters, race_loss, untrained_race
from sims.training import training
from theory.induction.nested_logits import Logits
from theory.induction.race import Statistics, outcome, power_law_groups, race
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

CURVES = ("in_context", "in_weights")
# A probability of the right answer above this counts as learned.
LEARNED = 0.5
# So many cases are raced at a time: one compiled program serves any number of them, and none waits long for others.
BLOCK = 9
PHASES = ("neither", "in context", "in weights", "both")


# Many points of a phase diagram share one law of frequencies.
groups = functools.cache(power_law_groups)


def statistics(problem, case):
    """(frequencies, members, burstiness) of a case (classes, exponent, burstiness)."""
    classes, exponent, bursty = case
    return *groups(int(classes), float(exponent), problem.groups), jnp.asarray(bursty, float)


def raced(problem, t, cases, memory_rate=None):
    """`Race` of each case, stacked."""
    rate = problem.memory_rate if memory_rate is None else memory_rate
    each = [statistics(problem, case) for case in cases]
    each += each[-1:] * (-len(each) % BLOCK)
    blocks = (jax.tree.map(lambda *x: jnp.stack(x), *each[i : i + BLOCK]) for i in range(0, len(each), BLOCK))
    found = [_raced(problem.context, t, float(problem.labels), rate, *block) for block in blocks]
    return jax.tree.map(lambda *x: jnp.concatenate(x)[: len(cases)], *found)


@functools.partial(jax.jit, static_argnums=0)
def _raced(context, t, labels, memory_rate, *stacked):
    def one(frequencies, members, bursty):
        return race(t, Statistics(context, labels, frequencies, members, bursty), memory_rate=memory_rate)

    return jax.vmap(one)(*stacked)


def phase(in_context, in_weights):
    """0 neither, 1 in context, 2 in weights, 3 both."""
    return (np.asarray(in_context) > LEARNED) + 2 * (np.asarray(in_weights) > LEARNED)


def records(problem):
    return np.arange(0, problem.steps + 1, problem.every)


def diagrams(problem):
    """Points of the two phase diagrams: burstiness against classes, exponent against classes."""
    classes = np.unique(np.round(np.geomspace(*problem.classes, problem.resolution) / problem.labels)) * problem.labels
    bursty = np.linspace(0.1, 1.0, problem.resolution)
    exponents = np.linspace(0.0, 2.0, problem.resolution)
    return classes, bursty, exponents


def predict(problem):
    t = problem.lr * records(problem)
    curves = raced(problem, t, problem.cases)
    classes, bursty, exponents = diagrams(problem)
    points = [(k, 0.0, b) for b in bursty for k in classes]
    points += [(k, a, problem.mixed) for a in exponents for k in classes]
    ends = raced(problem, t, points)
    phases = phase(ends.in_context[:, -1], ends.in_weights[:, -1])
    found = {name: np.asarray(getattr(curves, name)) for name in CURVES}
    return found | {
        "t": t,
        "step": problem.lr,
        "cases": problem.cases,
        "phase": phase(found["in_context"][:, -1], found["in_weights"][:, -1]),
        "axes": (classes, bursty, exponents),
        "diagrams": phases.reshape(2, -1, len(classes)),
    }


@functools.cache
def trained(context, labels, rows, batch, lr, memory_rate):
    """Stochastic gradient descent of a minimal head beside a table of class logits."""

    def faster(updates, state, params=None):
        return updates.__class__(updates.copy, updates.match, updates.previous, memory_rate * updates.memory), state

    descent = optax.chain(optax.sgd(lr), optax.GradientTransformation(lambda _: optax.EmptyState(), faster))

    def record(model, hyper):
        own = jnp.take_along_axis(model.memory, hyper["label"][:, None], axis=1)[:, 0]
        phi = own - (jnp.sum(model.memory, axis=1) - own) / (labels - 1)
        return Logits(model.copy, model.match, model.previous), phi

    def batches(key, hyper):
        return encounters(key, batch, context, labels, hyper["cumulative"], hyper["bursty"])

    return training(lambda _, __: untrained_race(rows, labels), race_loss, lambda _: descent, batches, record)


def simulate_networks(problem):
    """Curves of every run of every case: name -> (cases, runs, times)."""
    rows = max(case[0] for case in problem.cases)
    simulation = trained(problem.context, problem.labels, rows, problem.batch, problem.lr, problem.memory_rate)
    cumulative, p = [], []
    for classes, exponent, _ in problem.cases:
        weight = np.where(np.arange(rows) < classes, np.arange(1.0, rows + 1) ** -exponent, 0.0)
        p.append(weight / weight.sum())
        cumulative.append(np.cumsum(p[-1]))
    which = np.repeat(np.arange(len(problem.cases)), problem.runs)
    seeds = problem.seed * problem.runs + np.tile(np.arange(problem.runs), len(problem.cases))
    hyper = {
        "cumulative": np.array(cumulative)[which],
        "bursty": np.array([case[2] for case in problem.cases])[which],
        "label": np.tile(np.arange(rows) % problem.labels, (len(which), 1)),
    }
    runs = Runs(seeds, hyper, (len(seeds),))
    logits, memory = simulate(simulation, runs, records(problem), batching="vmap", optimised=True).records

    def measured(logits, memory, p, bursty):
        data = Statistics(problem.context, float(problem.labels), p, jnp.ones_like(p), bursty)
        found = outcome(logits, memory, data)
        return found.in_context, found.in_weights

    found = jax.jit(jax.vmap(measured))(logits, memory, jnp.asarray(p)[which], hyper["bursty"])
    shape = (len(problem.cases), problem.runs, -1)
    found = {name: np.asarray(part).reshape(shape) for name, part in zip(CURVES, found, strict=True)}
    return found | {"phase": phase(found["in_context"][..., -1], found["in_weights"][..., -1])}


def following(prediction, observation):
    """Probabilities of the right answer in context and in weights, at all times of all cases.

    Standard errors over runs, beside what one step, or a hundredth of the time gone by, changes.
    """
    worst, t = [], prediction["t"]
    for name in CURVES:
        for expected, runs in zip(prediction[name], observation[name], strict=True):
            moved = np.abs(np.gradient(expected, t)) * np.hypot(prediction["step"], 0.01 * t)
            worst.append(z_score(expected, runs, floor=np.maximum(moved, 0.005)))
    return max(worst)


def phases(prediction, observation):
    """Runs in another phase than predicted."""
    return int(np.sum(observation["phase"] != prediction["phase"][:, None]))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    t = prediction["t"]
    for i, which in enumerate(problem.shown):
        classes, exponent, bursty = problem.cases[which]
        label = f"K = {classes}, $\\alpha$ = {exponent:g}, bursty {bursty:g}"
        style.theory(left, t, prediction["in_context"][which], i=i, label=label)
        style.networks(left, t, observation["in_context"][which].mean(axis=0), i=i, most=14)
        style.theory(left, t, prediction["in_weights"][which], i=i, linestyle="--")
        style.networks(left, t, observation["in_weights"][which].mean(axis=0), i=i, most=14, marker="s")
    left.set(xlabel="time  lr · steps", ylabel="probability of the right label", ylim=(0, 2), yticks=[0, 0.5, 1])
    for label, linestyle in (("in context", "-"), ("in weights", "--")):
        left.plot([], [], color=style.INK, linestyle=linestyle, label=label)
    left.legend(loc="upper left", fontsize=7)
    left.set_title("Both ways in time")
    classes, bursty, exponents = prediction["axes"]
    sides = (middle, bursty, "bursty fraction"), (right, exponents, "exponent $\\alpha$")
    for (axes, y, label), image in zip(sides, prediction["diagrams"], strict=True):
        style.regions(axes, classes, y, image, PHASES)
        axes.set(xscale="log", xlabel="classes K", ylabel=label)
    for (k, a, b), found in zip(problem.cases, observation["phase"], strict=True):
        for axes, y, here in ((middle, b, a == 0), (right, a, b == problem.mixed)):
            if here:
                style.in_region(axes, [k], [y], int(np.median(found)))
    middle.set_title("Phases, all classes alike")
    right.set_title(f"Phases, bursty {problem.mixed:g}")


def other_cases(problem, prediction, cases):
    """The prediction for other statistics than those that the networks see."""
    curves = raced(problem, prediction["t"], cases)
    found = {name: np.asarray(getattr(curves, name)) for name in CURVES}
    return prediction | found | {"phase": phase(found["in_context"][:, -1], found["in_weights"][:, -1])}


def no_competition(problem, prediction):
    """Each learns as if it were alone."""
    t = prediction["t"]
    head = raced(problem, t, problem.cases, memory_rate=1e-9).in_context
    known = raced(problem, t, [(k, a, 0.0) for k, a, _ in problem.cases]).in_weights
    return prediction | {
        "in_context": np.asarray(head),
        "in_weights": np.asarray(known),
        "phase": phase(head[:, -1], known[:, -1]),
    }


def any_classes(problem, prediction):
    """The number of classes makes no difference."""
    one = problem.cases[0][0]
    return other_cases(problem, prediction, [(one, a, b) for _, a, b in problem.cases])


def any_frequencies(problem, prediction):
    """Only the number of classes counts, not how often each occurs."""
    return other_cases(problem, prediction, [(k, 0.0, b) for k, _, b in problem.cases])


STUDY = Study(
    title="In context or in weights",
    question="For given burstiness, classes and frequencies: is a label looked up, known, or both?",
    source="Reddy 2024 (arXiv:2312.03002), Chan et al. 2022 (arXiv:2205.05055); the race is derived here",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            context=4,
            labels=16,
            # (classes, exponent, bursty fraction)
            cases=((32, 0.0, 0.9), (512, 0.0, 0.9), (512, 0.0, 0.3), (512, 1.0, 0.9), (512, 2.0, 0.9)),
            shown=(0, 1, 3),
            mixed=0.9,
            memory_rate=4.0,
            lr=0.25,
            batch=128,
            steps=1200,
            every=20,
            runs=2,
            groups=32,
            classes=(16, 4096),
            resolution=9,
        ),
        "paper": dict(
            context=8,
            labels=32,
            cases=tuple((k, a, b) for k in (32, 256, 2048) for a in (0.0, 1.0, 2.0) for b in (0.3, 0.9)),
            shown=(1, 13, 15),
            mixed=0.9,
            memory_rate=4.0,
            lr=0.1,
            batch=1024,
            steps=20000,
            every=200,
            runs=16,
            groups=96,
            classes=(32, 16384),
            resolution=32,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Probabilities of the right label, in context and in weights, follow the race at all times.",
            following,
            5,
            "Standard errors over runs, beside a step, a hundredth of the time gone by and half a per cent.",
        ),
        Claim("Every run ends in the predicted phase.", phases, 0, "A count of runs."),
    ),
    rivals=(
        Rival("Head and memory do not compete: each learns as if alone.", no_competition),
        Rival("The number of classes makes no difference.", any_classes),
        Rival("Only the number of classes counts, not their frequencies.", any_frequencies),
    ),
    draw=draw,
    formulas=("induction.race.matched", "induction.race.unmatched"),
)
