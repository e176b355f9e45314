"""What an attention-only network learns from which data: number of classes, their frequencies, burstiness."""

from __future__ import annotations

import functools

import numpy as np

from sims.engine import Runs, simulate
from sims.item_label_training import training_of
from sims.tasks.item_label import ItemLabel
from theory.induction.race import Statistics, power_law_groups, race
from validation import style
from validation.study import Claim, Rival, Study

SIDES = ("in_context", "in_weights")
LEARNED = 0.5


def learned(problem, cases, memory_rate=None):
    """Probabilities of the right label at the end of training, (cases, 2), from the race."""
    rate, found = problem.memory_rate if memory_rate is None else memory_rate, []
    t = np.array([0.0, problem.duration])
    for classes, exponent, bursty in cases:
        frequencies, members = power_law_groups(int(classes), exponent, problem.groups)
        data = Statistics(problem.context, float(problem.labels), frequencies, members, bursty)
        end = race(t, data, copy_rate=problem.copy_rate, memory_rate=rate)
        found.append([float(getattr(end, side)[-1]) for side in SIDES])
    return np.array(found)


def sweeps(problem):
    """The cases by what varies in them: (name, column, indices)."""
    cases = np.array(problem.cases)
    alike, always = cases[:, 1] == 0, cases[:, 2] == 1
    of_size = alike & (cases[:, 0] == problem.bursty_classes)
    most = cases[:, 0] == cases[:, 0].max()
    return (
        ("classes K", 0, np.flatnonzero(alike & always)),
        ("bursty fraction", 2, np.flatnonzero(of_size)),
        ("exponent $\\alpha$", 1, np.flatnonzero(always & most)),
    )


def predict(problem):
    found = {"cases": np.array(problem.cases), "learned": learned(problem, problem.cases), "lines": []}
    for _, column, which in sweeps(problem):
        values = found["cases"][which, column]
        between = np.geomspace if column == 0 else np.linspace
        x = between(values.min(), values.max(), problem.dense)
        line = np.repeat(found["cases"][which[-1:]], len(x), axis=0)
        line[:, column] = np.round(x / problem.labels) * problem.labels if column == 0 else x
        found["lines"].append((line[:, column], learned(problem, line)))
    # The rate of the memory was fitted to the number of classes at which networks change over: no test of it.
    fresh = (found["cases"][:, 1] > 0) | (found["cases"][:, 2] < 1)
    return found | {"fresh": fresh}


@functools.cache
def network(context, labels, rows, dimension, batch):
    task = ItemLabel(labels=labels, context=context, classes=rows, repeats=True)
    tested = dict(tests=500, tested=("novel", "weights"), measured=False)
    return training_of(task, dimension, rows=rows, batch=batch, **tested)


def simulate_networks(problem):
    """Accuracies at the end of training, (cases, runs, 2), on classes never seen and on classes not looked up."""
    cases = np.repeat(np.array(problem.cases), problem.runs, axis=0)
    seeds = problem.seed * 64 + np.tile(np.arange(problem.runs), len(problem.cases))
    hyper = {"classes": cases[:, 0].astype(int), "exponent": cases[:, 1], "bursty": cases[:, 2]}
    hyper["lr"] = np.full(len(seeds), problem.lr)
    rows = int(cases[:, 0].max())
    simulation = network(problem.context, problem.labels, rows, problem.dimension, problem.batch)
    seen = simulate(
        simulation, Runs(seeds, hyper, (len(seeds),)), [problem.steps], batching="map", optimised=True
    ).records
    found = np.stack([np.asarray(seen[name][:, -1], float) for name in ("novel", "weights")], axis=-1)
    return {"learned": found.reshape(len(problem.cases), problem.runs, 2)}


def agreement(prediction, observation):
    """Mean deviation of both accuracies over the statistics that nothing was fitted to, over a fifth."""
    fresh = prediction["fresh"]
    deviation = observation["learned"].mean(axis=1)[fresh] - prediction["learned"][fresh]
    return float(np.mean(np.abs(deviation)) / 0.2)


def winners(prediction, observation):
    """Statistics, of those that nothing was fitted to, where the other way wins than the race is sure of.

    Runs are averaged: next to the switch single ones go either way, as the transition comes in time or not.
    """
    expected = np.subtract(*prediction["learned"].T)
    measured = np.subtract(*observation["learned"].mean(axis=1).T)
    sure = prediction["fresh"] & (np.abs(expected) > 0.25)
    return int(np.sum(np.sign(measured[sure]) != np.sign(expected[sure])))


def coexistence(prediction, observation):
    """Runs whose lesser accuracy, at the exponent where the race predicts it to be best, is not above both ends."""
    cases = prediction["cases"]
    which = np.flatnonzero((cases[:, 0] == cases[:, 0].max()) & (cases[:, 2] == 1))
    which = which[np.argsort(cases[which, 1])]
    lesser = prediction["learned"][which].min(axis=-1)
    best = which[np.argmax(lesser)]
    runs = observation["learned"].min(axis=-1)
    ends = np.maximum(runs[which[0]], runs[which[-1]])
    return int(np.sum(runs[best] <= ends)) if best not in which[[0, -1]] else len(ends)


def draw(figure, problem, prediction, observation):
    axes = figure.subplots(1, 3, sharey=True)
    names = ("in context, classes never seen", "in weights, class not in context")
    for panel, (label, column, which), (x, lines) in zip(axes, sweeps(problem), prediction["lines"], strict=True):
        for i, name in enumerate(names):
            style.theory(panel, x, lines[:, i], i=i, label=name)
            runs = observation["learned"][which, :, i]
            points = np.repeat(prediction["cases"][which, column], runs.shape[1])
            style.networks(panel, points, runs.ravel(), i=i, linestyle="none", most=99)
        panel.set(xlabel=label, ylim=(0, 1.35), yticks=[0, 0.5, 1])
    axes[0].set(xscale="log", ylabel="right answers")
    axes[0].set_title("All bursty and alike")
    axes[1].set_title(f"K = {problem.bursty_classes}")
    axes[2].set_title(f"K = {max(case[0] for case in problem.cases)}, all bursty")
    axes[0].legend(loc="upper left", fontsize=7)


def with_cases(problem, prediction, change):
    """The prediction for other statistics than those that the networks see."""
    return prediction | {"learned": learned(problem, [change(*case) for case in problem.cases])}


def no_competition(problem, prediction):
    """Head and memory learn as if each were alone."""
    head = learned(problem, problem.cases, memory_rate=1e-9)[:, 0]
    known = learned(problem, [(k, a, 0.0) for k, a, _ in problem.cases])[:, 1]
    return prediction | {"learned": np.stack([head, known], axis=1)}


STUDY = Study(
    title="What is learned from which data",
    question="How many classes, how frequent and how bursty, until a network looks labels up rather than know them?",
    source="Reddy 2024 (arXiv:2312.03002), Chan et al. 2022 (arXiv:2205.05055)",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            context=4,
            labels=16,
            dimension=24,
            # (classes, exponent, bursty fraction)
            cases=(
                *((k, 0.0, 1.0) for k in (64, 128, 256, 1024)),
                *((512, 0.0, b) for b in (0.25, 0.5, 1.0)),
                *((1024, a, 1.0) for a in (1.0, 2.0)),
            ),
            bursty_classes=512,
            lr=0.3,
            steps=1280,
            batch=64,
            runs=1,
            # One unit of time, of copying and of memory for all statistics: fitted to the first four cases.
            duration=24.0,
            copy_rate=3.0,
            memory_rate=45.0,
            groups=48,
            dense=9,
        ),
        "paper": dict(
            context=8,
            labels=32,
            dimension=63,
            cases=(
                *((k, 0.0, 1.0) for k in (128, 256, 512, 1024, 2048, 4096, 8192, 16384)),
                *((2048, 0.0, b) for b in (0.25, 0.5, 0.75, 0.9, 1.0)),
                *((16384, a, 1.0) for a in (0.5, 1.0, 1.5, 2.0)),
            ),
            bursty_classes=2048,
            lr=0.1,
            steps=20000,
            batch=128,
            runs=6,
            duration=150.0,
            copy_rate=3.0,
            memory_rate=45.0,
            groups=96,
            dense=25,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Both accuracies follow the race of a minimal head, at statistics that nothing was fitted to.",
            agreement,
            1,
            "A fifth: a head of three numbers and one pace of memory stand for five thousand weights.",
        ),
        Claim("Whichever way the race goes, so do the networks.", winners, 0, "A count of statistics."),
        Claim(
            "Both ways are learned at an exponent between the extremes, the one that the race says, better than there.",
            coexistence,
            0,
            "A count of runs.",
        ),
    ),
    rivals=(
        Rival(
            "Burstiness makes no difference.",
            lambda problem, prediction: with_cases(problem, prediction, lambda k, a, b: (k, a, 1.0)),
        ),
        Rival(
            "Only the number of classes counts, not their frequencies.",
            lambda problem, prediction: with_cases(problem, prediction, lambda k, a, b: (k, 0.0, b)),
        ),
        Rival(
            "The number of classes makes no difference.",
            lambda problem, prediction: with_cases(problem, prediction, lambda k, a, b: (64, a, b)),
        ),
        Rival("Head and memory do not compete: each learns as if alone.", no_competition),
    ),
    draw=draw,
    formulas=("induction.race.matched", "induction.race.unmatched"),
)
