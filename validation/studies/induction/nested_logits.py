"""The minimal induction head: when it forms, how abruptly, and why not where all labels are in the context."""

from __future__ import annotations

import functools

import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.minimal_head import copying, label_sequences, negative_log_likelihood, untrained_head
from sims.training import training
from theory.induction.nested_logits import Logits, averaged_flow, plateau_copy, progress
from validation import style
from validation.metrics import crossing_time, z_score
from validation.study import Claim, Rival, Study

# Measures of progress, of which the crossing half way up to one is timed.
MEASURES = ("contextual", "attention", "association", "accuracy")


def measured(logits, context, labels):
    """Measures of progress, averaged over the labels of a sequence, from logits with a last axis of times."""
    c = 2 * np.arange(1, context + 1)[:, None] - 1
    seen = progress(Logits(*(np.asarray(part)[..., None, :] for part in logits)), context, labels, c)
    return {name: np.asarray(getattr(seen, name)).mean(axis=-2) for name in (*MEASURES, "loss")}


def crossings(t, curves):
    """When each measure crosses half way from its start to one; ten times the last record where it never does."""
    half = [(curves[name][..., 0] + 1) / 2 for name in MEASURES]
    each = zip(MEASURES, half, strict=True)
    found = np.stack([crossing_time(t, curves[name], level, never=10 * t[-1]) for name, level in each], axis=-1)
    # What is there from the start was there at the first record.
    return np.maximum(found, t[1])


def records(problem):
    return np.arange(0, problem.steps + 1, problem.every)


def predict(problem, start=(0.0, 0.0, 0.0)):
    """Curves and times of crossing for each number of items and labels, from the averaged flow."""
    t = problem.lr * records(problem)
    found = {"t": t, "step": problem.lr, "cases": problem.cases}
    for context, labels in problem.cases:
        curves = measured(averaged_flow(t, context, labels, start=start), context, labels)
        found[context, labels] = curves | {"times": crossings(t, curves)}
    return found


@functools.cache
def head(context, labels, batch, lr):
    """Stochastic gradient descent of a minimal head on fresh sequences."""

    def record(model, _):
        return Logits(copying(model.classifier), model.match, model.previous)

    return training(
        lambda _, __: untrained_head(labels),
        negative_log_likelihood,
        lambda _: optax.sgd(lr),
        lambda key, _: label_sequences(key, batch, context, labels),
        record,
    )


def simulate_networks(problem):
    """The same from trained heads: {case: name -> (runs, times)}."""
    seeds = problem.seed * problem.runs + np.arange(problem.runs)
    at, found = records(problem), {}
    for context, labels in problem.cases:
        seen = simulate(head(context, labels, problem.batch, problem.lr), grid(seeds), at, batching="vmap").records
        curves = measured(tuple(seen), context, labels)
        found[context, labels] = curves | {"times": crossings(problem.lr * at, curves)}
    return found


def formed(prediction):
    """Cases in which a head can form: some labels are not in the context."""
    return [case for case in prediction["cases"] if case[1] > case[0]]


def timing(prediction, observation):
    """Times of all crossings, ln, against the flow: standard errors over runs beside a step and one per cent."""
    worst = []
    for case in formed(prediction):
        expected, runs = prediction[case]["times"], observation[case]["times"]
        floor = np.hypot(prediction["step"] / expected, 0.01)
        worst.append(z_score(np.log(expected), np.log(runs), floor=floor))
    return max(worst)


def order(prediction, observation):
    """Crossings out of order: contextual labels before accuracy, and the transition by far the later."""
    wrong = 0
    for case in formed(prediction):
        expected, runs = (side[case]["times"][..., (0, 3)] for side in (prediction, observation))
        wrong += int(np.sum(np.sign(np.diff(runs)) != np.sign(np.diff(expected))))
    return wrong


def stuck(prediction, observation):
    """Where all labels are in the context: largest accuracy of any run against the predicted one, of chance 1/N."""
    worst = []
    for case in prediction["cases"]:
        if case[0] == case[1]:
            expected = prediction[case]["accuracy"].max()
            worst.append(np.max(np.abs(observation[case]["accuracy"] - expected)) * case[0])
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    case = problem.cases[problem.unit]
    t, curves, runs = prediction["t"], prediction[case], observation[case]
    names = dict(contextual="contextual labels", attention="attention to the right label")
    names |= dict(association="attention to the item before", accuracy="accuracy")
    for i, (name, label) in enumerate(names.items()):
        style.theory(left, t, curves[name], i=i, label=label)
        style.networks(left, t, runs[name].mean(axis=0), i=i, most=14)
    left.set(xlabel="time  lr · steps", ylim=(0, 1.75))
    left.set_title(f"N = {case[0]} items, L = {case[1]} labels")
    left.legend(loc="upper left", fontsize=7)
    for i, case in enumerate(problem.cases):
        style.theory(middle, t, prediction[case]["loss"], i=i, label=f"N = {case[0]}, L = {case[1]}")
        style.networks(middle, t, observation[case]["loss"].mean(axis=0), i=i, most=14)
    middle.set(xlabel="time", ylabel="loss (nats)", ylim=(0, 4))
    middle.set_title("Plateau and drop")
    middle.legend(loc="upper right", fontsize=7)
    shown = formed(prediction)
    expected = [prediction[case]["times"][3] for case in shown]
    runs = [observation[case]["times"][:, 3] for case in shown]
    axis = np.array([min(expected) / 1.2, max(expected) * 1.2])
    style.theory(right, axis, axis, i=0)
    for i, (x, y) in enumerate(zip(expected, runs, strict=True)):
        style.networks(right, [x], [y.mean()], i=i, error=[y.std()], label=f"N = {shown[i][0]}, L = {shown[i][1]}")
    right.set(xscale="log", yscale="log", xlabel="predicted time of the head", ylabel="measured")
    right.set_xticks(expected, [f"{x:.0f}" for x in expected])
    right.minorticks_off()
    right.set_title("Half accuracy")
    right.legend(loc="upper left", fontsize=7)


def not_nested(problem, prediction):
    """One layer is enough: labels know their item from the start."""
    return predict(problem, start=(0.0, 0.0, 60.0))


def by_plateau(problem, prediction):
    """The head forms when the loss has come down to its plateau."""
    found = dict(prediction)
    for context, labels in problem.cases:
        xi = np.asarray(plateau_copy(prediction["t"], context, labels, 1 / (labels - 1)))
        plateau = measured((xi, 0 * xi, 0 * xi), context, labels)
        late = plateau["loss"] < np.log(context) + 0.1 * (np.log(labels) - np.log(context)) + 1e-9
        times = prediction[context, labels]["times"].copy()
        times[1:] = prediction["t"][late.argmax()] + problem.lr
        found[context, labels] = prediction[context, labels] | {"times": times}
    return found


def no_curriculum(problem, prediction):
    """No curriculum is needed: a head forms also where all labels are in the context."""
    return predict(problem, start=(1.0, 0.0, 0.0))


def uniform(problem, prediction):
    """Attention stays uniform, accuracy at 1/N."""
    return predict(problem, start=(0.0, 0.0, -60.0))


STUDY = Study(
    title="The minimal induction head",
    question="When does an induction head form, how abruptly, and why not where all labels are in the context?",
    source="Reddy 2024 (arXiv:2312.03002), in a reconstruction",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # (items in the context, labels in all)
            cases=((2, 8), (4, 8), (4, 16), (4, 4)),
            unit=2,
            lr=0.2,
            batch=128,
            steps=800,
            every=10,
            runs=4,
        ),
        "paper": dict(
            cases=((2, 8), (4, 8), (4, 16), (4, 32), (8, 16), (8, 32), (8, 64), (8, 8)),
            unit=5,
            lr=0.1,
            batch=2048,
            steps=6000,
            every=20,
            runs=16,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Contextual labels, both attentions and accuracy come when the flow of three nested logits says.",
            timing,
            5,
            "Standard errors of ln t over runs, beside one step and one per cent.",
        ),
        Claim(
            "Contextual labels are learned before the head.",
            order,
            0,
            "An order of times.",
        ),
        Claim(
            "Where all labels are in the context no head forms.",
            stuck,
            0.2,
            "A fifth of chance: noise of batches pushes a run off the saddle, but slowly.",
        ),
    ),
    rivals=(
        Rival("One layer is enough: labels know their item from the start.", not_nested),
        Rival("The head forms when the loss has come down to its plateau.", by_plateau),
        Rival("No curriculum is needed.", no_curriculum),
        Rival("Attention stays uniform.", uniform),
    ),
    draw=draw,
    formulas=("induction.nested_logits.accuracy", "induction.nested_logits.plateau", "induction.nested_logits.saddle"),
)
