"""A minimal head on vectors, and its mean field: attention leaks, classes recur, exemplars are blurred."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import every, grid, simulate
from sims.networks.minimal_head import TokenHead, untrained_head
from sims.tasks.item_label import ItemLabel, sequences, tokens, world
from sims.training import training
from theory.deep_linear.modes import mode_strength
from theory.induction.minimal_head import formation, minimal_head_flow, minimal_head_progress, orders
from theory.induction.nested_logits import Logits, averaged_flow, progress
from validation import style
from validation.metrics import transition, z_score
from validation.study import Claim, Rival, Study

TESTS = 1000


def predict(problem, burst=None, overlap=None, copy_rate=None):
    """Accuracy, and when it is a tenth, half and nine tenths of its way from the plateau, for each case."""
    found = {"step": problem.lr, "dimension": problem.dimension, "cases": problem.cases}
    for case in problem.cases:
        context, labels, copies, variation = case
        seen = orders(context, burst or copies)
        rho = 1 / (1 + variation**2) if overlap is None else overlap
        # A number also where the theory has the same by default: one compiled program for all rates.
        rate = copy_rate or 1 / (labels - 1)
        times = formation(seen, labels, rho, rate)
        t = np.linspace(0, steps(problem, case) * problem.lr, 200)
        logits = minimal_head_flow(t, seen, labels, rho, rate)
        accuracy = np.asarray(minimal_head_progress(logits, seen, labels, rho).accuracy)
        found[case] = {"t": t, "accuracy": accuracy, "times": np.array(times), "sharpness": float(times.sharpness)}
    return found


def steps(problem, case):
    return problem.steps[problem.cases.index(case)]


@functools.cache
def head(context, labels, burst, dimension, batch):
    """Stochastic gradient descent on fresh sequences of new classes, and its accuracy on others."""
    task = ItemLabel(labels=labels, context=context, classes=labels, burst=burst, novel=1.0)

    def drawn(key, settings, size):
        kind = ItemLabel(**(vars(task) | {"variation": settings["variation"]}))
        batch = sequences(key, kind, settings["world"], size)
        return tokens(batch, settings["world"].vectors), batch.labels

    def log_p(model, seen):
        vectors, names = seen
        return jnp.take_along_axis(model(vectors, names[:, :-1]), names[:, -1:], axis=1)

    def prepare(key, settings):
        settings = settings | {"world": world(key, task, dimension, dtype=jnp.float32)}
        # Never drawn again: training has other keys.
        return settings | {"tests": drawn(jax.random.fold_in(key, 2**31 - 1), settings, TESTS)}

    return training(
        lambda _, __: jax.tree.map(jnp.float32, untrained_head(labels, TokenHead)),
        lambda model, seen: -jnp.mean(log_p(model, seen)),
        lambda settings: optax.sgd(settings["lr"]),
        lambda key, settings: drawn(key, settings, batch),
        lambda model, settings: jnp.mean(jnp.exp(log_p(model, settings["tests"]))),
        prepare,
    )


def simulate_networks(problem):
    """The same of trained heads: (runs, times)."""
    found, seeds = {}, problem.seed * problem.runs + np.arange(problem.runs)
    for case in problem.cases:
        context, labels, burst, variation = case
        at = every(steps(problem, case), problem.every)
        program = head(context, labels, burst, problem.dimension, problem.batch)
        runs = grid(seeds, variation=[variation], lr=[problem.lr])
        accuracy = np.asarray(simulate(program, runs, at, batching="map", optimised=True).records, float)
        jump = transition(problem.lr * at, accuracy, burst / context, 1.0)
        times = np.stack([jump.onset, jump.half, jump.end], axis=-1)
        found[case] = {"t": problem.lr * at, "accuracy": accuracy, "times": times, "sharpness": jump.sharpness}
    return found


def timing(prediction, observation):
    """ln of onset, half and end, against the flow: standard errors beside one step, and overlaps of 1 / D."""
    worst = []
    for case in prediction["cases"]:
        expected, runs = prediction[case]["times"], observation[case]["times"]
        # The end is slow, and sees the overlap with all other items of the context.
        overlaps = np.array([1, 1, 2]) / prediction["dimension"]
        floor = np.hypot(prediction["step"] / expected, overlaps)
        worst.append(z_score(np.log(expected), np.log(runs), floor=floor))
    return max(worst)


def curves(prediction, observation):
    """Accuracy at every record, over that of the test: three standard errors, and the rise in a tenth of a per cent."""
    worst = []
    for case in prediction["cases"]:
        t, expected = prediction[case]["t"], prediction[case]["accuracy"]
        seen = observation[case]
        at = np.interp(seen["t"], t, expected)
        late = np.abs(np.interp(seen["t"] * (1 + 2 / prediction["dimension"]), t, expected) - at)
        error = 0.5 / TESTS**0.5 / len(seen["accuracy"]) ** 0.5
        worst.append(np.max(np.abs(seen["accuracy"].mean(axis=0) - at) / (3 * error + late)))
    return float(max(worst))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i, case in enumerate(problem.cases):
        context, labels, burst, variation = case
        label = f"N = {context}, L = {labels}, B = {burst}, ε = {variation:g}"
        style.theory(left, prediction[case]["t"], prediction[case]["accuracy"], i=i)
        seen = observation[case]
        style.networks(left, seen["t"], seen["accuracy"].mean(axis=0), i=i, most=16, label=label)
    left.set(xlabel="time  lr · steps", ylabel="accuracy on new classes", ylim=(0, 1.75), yticks=[0, 0.5, 1])
    left.legend(loc="upper left", fontsize=7)
    left.set_title("A head on vectors")
    case = problem.cases[0]
    half, chance = prediction[case]["times"][1], case[2] / case[0]
    x = np.linspace(0, 2, 200)
    shown = np.interp(x * half, prediction[case]["t"], prediction[case]["accuracy"])
    style.theory(right, x, np.maximum(shown - chance, 0) / (1 - chance), i=0, label="induction head")
    seen = observation[case]
    inside = seen["t"] <= 2 * half
    scaled = (seen["accuracy"].mean(axis=0) - chance) / (1 - chance)
    style.networks(right, seen["t"][inside] / half, np.maximum(scaled[inside], 0), i=0, most=20)
    for i, (depth, start) in enumerate(((2, 1e-3), (3, 1e-3)), start=1):
        t = np.linspace(0, 60, 6000)
        u = np.asarray(mode_strength(t, 1.0, start, depth=depth))
        middle = np.interp(0.5, u, t)
        style.theory(right, x, np.interp(x * middle, t, u), i=i, label=f"linear mode of depth {depth}", linewidth=1.2)
    right.set(xlabel="time / half time", ylabel="learned, from the plateau", ylim=(0, 1.5), yticks=[0, 0.5, 1])
    right.legend(loc="upper left", fontsize=7)
    right.set_title("Products that must grow together")


def no_leak(problem, prediction):
    """Labels hold nothing but their own item."""
    found = dict(prediction)
    for case in problem.cases:
        context, labels, burst, _ = case
        t = prediction[case]["t"]
        few, c = context // burst, 2 * np.arange(1, context // burst + 1)[:, None] - 1
        logits = averaged_flow(t, few, labels)
        seen = progress(Logits(*(np.asarray(part)[None] for part in logits)), few, labels, c)
        accuracy = np.asarray(seen.accuracy).mean(axis=0)
        jump = transition(t, accuracy, 1 / few, 1.0)
        times = np.minimum(np.array([jump.onset, jump.half, jump.end]), 2 * t[-1])
        found[case] = prediction[case] | {"accuracy": accuracy, "times": times}
    return found


def no_bursts(problem, prediction):
    """Only the number of items counts, not that classes recur."""
    return predict(problem, burst=1)


def no_variation(problem, prediction):
    """Exemplars of a class are as good as identical."""
    return predict(problem, overlap=1.0)


def one_logit(problem, prediction):
    """A classifier copies as fast as a single logit, however many labels there are."""
    return predict(problem, copy_rate=1.0)


STUDY = Study(
    title="The minimal head on vectors",
    question="How do leaking attention, recurring classes and blurred exemplars change when a head forms?",
    source="Reddy 2024 (arXiv:2312.03002), its sequences",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # (items in the context, labels in all, copies of a class, variation within it), and steps of each
            cases=((4, 16, 1, 0.1), (4, 16, 1, 0.7), (8, 16, 2, 0.1)),
            steps=(425, 450, 425),
            lr=1.0,
            batch=64,
            dimension=64,
            every=5,
            runs=2,
        ),
        "paper": dict(
            cases=(
                (4, 16, 1, 0.1),
                (4, 64, 1, 0.1),
                (8, 32, 1, 0.1),
                (8, 32, 1, 0.7),
                (8, 32, 2, 0.1),
                (8, 32, 4, 0.1),
            ),
            steps=(4500, 18000, 9000, 10000, 9000, 10000),
            lr=0.1,
            batch=1024,
            dimension=512,
            every=20,
            runs=8,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Onset, half and end of the transition come when the mean field says.",
            timing,
            5,
            "Standard errors of ln t over runs, beside one step and the overlaps of random vectors, 1 / D.",
        ),
        Claim(
            "Accuracy follows the mean field at all times.",
            curves,
            1,
            "Three standard errors of the test, beside a shift of time by 2 / D.",
        ),
    ),
    rivals=(
        Rival("Labels hold nothing but their own item.", no_leak),
        Rival("That classes recur does not matter.", no_bursts),
        Rival("How alike exemplars are does not matter.", no_variation),
        Rival("A classifier copies as fast as a single logit.", one_logit),
    ),
    draw=draw,
    formulas=(
        "induction.minimal_head.minimal_head_attention",
        "induction.minimal_head.accuracy",
        "induction.minimal_head.untrained_lead",
    ),
)
