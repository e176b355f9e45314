"""Attention against recurrence: who looks labels up within the same number of sequences."""

from __future__ import annotations

import functools

import numpy as np

from sims.engine import Runs, every, simulate
from sims.item_label_training import training_of
from sims.networks.attention_only import attention_only
from sims.networks.gated_recurrent import gated_recurrent
from sims.tasks.item_label import ItemLabel
from theory.induction.nested_logits import averaged_flow, progress
from validation import style
from validation.metrics import gap
from validation.study import Claim, Rival, Study

KINDS = ("attention", "GRU", "LSTM")


def predict(problem):
    """Accuracy in the end: of a head that has formed, and of an output that only knows which labels were there."""
    late = averaged_flow(np.array([0.0, problem.longest]), problem.context, problem.labels, copy_rate=problem.copy_rate)
    c = 2 * np.arange(1, problem.context + 1) - 1
    head = progress(tuple(np.asarray(part)[-1] for part in late), problem.context, problem.labels, c)
    # With nothing matched the copy is of any label of the context, however sure.
    blind = progress((1e3, 0.0, 0.0), problem.context, problem.labels, 1.0)
    return {"end": np.array([float(np.mean(head.accuracy)), float(blind.accuracy), float(blind.accuracy)])}


@functools.cache
def network(kind, context, labels, dimension):
    task = ItemLabel(labels=labels, context=context, classes=labels, novel=1.0)
    switches = dict(network=attention_only) if kind == "attention" else dict(network=gated_recurrent, kind=kind.lower())
    tested = dict(tests=1000, tested=("novel",), measured=False)
    return training_of(task, dimension, adam=True, **tested, **switches)


def simulate_networks(problem):
    """Accuracy on classes never seen, (kinds, rates, runs, times)."""
    many = len(problem.rates) * problem.runs
    seeds = problem.seed * 16 + np.tile(np.arange(problem.runs), len(problem.rates))
    hyper = {"lr": np.repeat(problem.rates, problem.runs)}
    at, found = every(problem.steps, problem.every), []
    for kind in KINDS:
        simulation = network(kind, problem.context, problem.labels, problem.dimension)
        seen = simulate(simulation, Runs(seeds, hyper, (many,)), at, batching="map", optimised=True).records
        found.append(np.asarray(seen["novel"], float).reshape(len(problem.rates), problem.runs, -1))
    return {"t": at, "accuracy": np.stack(found), "end": np.stack(found)[..., -problem.last :].mean(axis=-1)}


def ends(prediction, observation):
    """Accuracy in the end of every run, from the predicted one, over a tenth."""
    return gap(prediction["end"][:, None, None], observation["end"], 0.1)


def draw(figure, problem, prediction, observation):
    axes = figure.subplots(1, len(KINDS), sharey=True)
    for i, (panel, kind) in enumerate(zip(axes, KINDS, strict=True)):
        style.theory(panel, observation["t"], np.full(len(observation["t"]), prediction["end"][i]), i=0)
        for j, rate in enumerate(problem.rates):
            for k, run in enumerate(observation["accuracy"][i, j]):
                label = f"Adam, lr {rate:g}" if k == 0 else None
                style.networks(panel, observation["t"], run, i=j + 1, label=label, most=20)
        panel.set(xlabel="steps", ylim=(0, 1.3), yticks=[0, 0.25, 0.5, 0.75, 1])
        panel.set_title(kind)
    axes[0].set(ylabel="accuracy on classes never seen")
    axes[1].legend(loc="upper left", fontsize=7)


STUDY = Study(
    title="Attention or recurrence",
    question="Does a recurrent network look labels up as one with attention does, from as many sequences?",
    source="Chan et al. 2022 (arXiv:2205.05055)",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            context=4,
            labels=16,
            dimension=24,
            rates=(0.003, 0.01),
            steps=720,
            every=30,
            # The mean over so many records counts as the end.
            last=5,
            runs=1,
            copy_rate=3.0,
            longest=200.0,
        ),
        "paper": dict(
            context=8,
            labels=32,
            dimension=63,
            rates=(0.001, 0.003, 0.01),
            steps=10_000,
            every=100,
            last=5,
            runs=6,
            copy_rate=3.0,
            longest=400.0,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "With attention labels are looked up; recurrent networks only know which labels there were.",
            ends,
            1,
            "A tenth: what is left to learn when training stops, and 0.01 of noise for 5000 tests.",
        ),
    ),
    rivals=(
        Rival(
            "Recurrent networks look labels up as well.",
            lambda problem, prediction: {"end": np.full(3, prediction["end"][0])},
        ),
        Rival(
            "Recurrent networks make nothing of the context.",
            lambda problem, prediction: {"end": np.array([prediction["end"][0], *[1 / problem.labels] * 2])},
        ),
        Rival(
            "No network looks labels up: there is only chance among those of the context.",
            lambda problem, prediction: {"end": np.full(3, prediction["end"][1])},
        ),
    ),
    draw=draw,
    formulas=("induction.nested_logits.accuracy",),
)
