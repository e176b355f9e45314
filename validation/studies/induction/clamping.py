"""Parts of an induction head clamped to their ideals while a network trains: what waits for what."""

from __future__ import annotations

import functools

import numpy as np

from sims.engine import Runs, every, simulate
from sims.item_label_training import training_of
from sims.tasks.item_label import ItemLabel
from theory.induction.clamps import clamped_flow
from validation import style
from validation.metrics import crossing_time
from validation.study import Claim, Rival, Study

# Clamps, from none to most.
CASES = ((), ("copy",), ("copy", "previous"), ("match",))
# Of these pairs the second is given more.
PAIRS = ((0, 1), (1, 2), (0, 3))
LABELS = ("nothing given", "copy", "copy and previous token", "match")


def predict(problem):
    """Accuracy in time, (cases, times), in a unit that is not that of the networks."""
    t = np.linspace(0, problem.longest, 4001)
    flows = [clamped_flow(t, problem.context, float(problem.labels), case, problem.copy_rate) for case in CASES]
    return summary(t, np.stack([np.asarray(flow.accuracy) for flow in flows]))


def summary(t, accuracy):
    """Curves, and when they reach one half."""
    return {"t": t, "accuracy": accuracy, "half": np.maximum(crossing_time(t, accuracy, 0.5, never=10 * t[-1]), t[1])}


@functools.cache
def network(context, labels, dimension, batch, tests):
    task = ItemLabel(labels=labels, context=context, classes=labels, novel=1.0)
    tested = dict(tests=tests, tested=("novel",), measured=False)
    return training_of(task, dimension, clamped=True, batch=batch, **tested)


def simulate_networks(problem):
    """The same of trained networks, (cases, runs, times)."""
    many = len(CASES) * problem.runs
    hyper = {
        part: np.repeat([float(part in case) for case in CASES], problem.runs) for part in ("previous", "match", "copy")
    }
    hyper |= {"lr": np.full(many, problem.lr)}
    seeds = problem.seed * 16 + np.tile(np.arange(problem.runs), len(CASES))
    at = every(problem.steps, problem.every)
    names = ("context", "labels", "dimension", "batch", "tests")
    simulation = network(*(getattr(problem, name) for name in names))
    seen = simulate(simulation, Runs(seeds, hyper, (many,)), at, batching="map", optimised=True).records
    return summary(at, np.asarray(seen["novel"], float).reshape(len(CASES), problem.runs, -1))


def order(prediction, observation):
    """Pairs of clamps, less and more, that runs do not put in the predicted order of times."""
    expected, runs = (np.log(side["half"]) for side in (prediction, observation))
    return int(sum(np.sum(np.sign(runs[j] - runs[i]) != np.sign(expected[j] - expected[i])) for i, j in PAIRS))


def saved(prediction, observation):
    """Predicted factors by which clamps shorten the time to half-way, over those of the slowest runs."""
    expected = prediction["half"][0] / prediction["half"][1:]
    measured = observation["half"][0].min() / observation["half"][1:].max(axis=1)
    return float(np.max(expected / measured))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i, label in enumerate(LABELS):
        unit = observation["half"][i].mean() / prediction["half"][i]
        inside = prediction["t"] * unit <= observation["t"][-1]
        style.theory(left, prediction["t"][inside] * unit, prediction["accuracy"][i][inside], i=i, label=label)
        style.networks(left, observation["t"], observation["accuracy"][i].mean(axis=0), i=i, most=60)
        ratio = prediction["half"][0] / prediction["half"][i]
        for run in observation["half"][0].mean() / observation["half"][i]:
            style.networks(right, [ratio], [run], i=i)
    left.set(xscale="log", xlim=(problem.every, problem.steps), xlabel="steps", ylabel="accuracy", ylim=(0, 1.5))
    left.set_yticks([0, 0.5, 1])
    left.set_title("Each flow in the unit of its networks")
    left.legend(loc="upper left", fontsize=7)
    axis = np.array([0.8, 60])
    right.plot(axis, axis, color=style.INK, linewidth=0.8, linestyle=":")
    right.set(xscale="log", yscale="log", xlabel="predicted", ylabel="measured")
    right.set_title("Times faster than with nothing given")


def no_difference(problem, prediction):
    """Parts are learned one after the other, each in its time: clamping the others saves nothing for the last."""
    return prediction | {"half": np.full_like(prediction["half"], prediction["half"][0])}


def slowest_alone(problem, prediction):
    """Only the slowest part counts, the match: without it nothing is saved."""
    half = prediction["half"].copy()
    half[1:3] = half[0]
    return prediction | {"half": half}


def copy_alone(problem, prediction):
    """Copying is all that takes time."""
    half = prediction["half"].copy()
    half[1] = half[2]
    return prediction | {"half": half}


STUDY = Study(
    title="Clamping parts of an induction head",
    question="Which part of an induction head makes it wait, and what does it save to give the others?",
    source="Singh et al. 2024 (arXiv:2404.07129)",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            context=4,
            labels=16,
            dimension=24,
            lr=0.3,
            steps=1000,
            every=5,
            batch=64,
            tests=400,
            runs=1,
            # As in the study of the abrupt transition.
            copy_rate=3.0,
            longest=60.0,
        ),
        "paper": dict(
            context=8,
            labels=32,
            dimension=63,
            lr=0.1,
            steps=12000,
            every=20,
            batch=128,
            tests=1000,
            runs=8,
            copy_rate=3.0,
            longest=120.0,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim("The more is given, the earlier the head forms.", order, 0, "A count of runs and pairs."),
        Claim(
            "Each clamp saves at least the factor that it saves in the flow.",
            saved,
            1,
            "A bound: weights that are products wait for each other longer than logits do.",
        ),
    ),
    rivals=(
        Rival("Clamping the others saves nothing for the last part.", no_difference),
        Rival("Only the match counts: to give the others saves nothing.", slowest_alone),
        Rival("Only the copy counts: once it is given, nothing waits.", copy_alone),
    ),
    draw=draw,
    formulas=("induction.clamps.matching", "induction.clamps.copying"),
)
