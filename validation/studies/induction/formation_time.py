"""When attention-only networks form an induction head: more labels, more items, and classes that recur."""

from __future__ import annotations

import functools

import numpy as np

from sims.engine import every, grid, simulate
from sims.item_label_training import training_of
from sims.tasks.item_label import ItemLabel
from theory.induction.minimal_head import formation, orders
from validation import style
from validation.metrics import transition
from validation.study import Claim, Rival, Study

VARIATION = 0.1


def predict(problem, rate=None, bursts=True):
    """Half time of each case, over that of the first."""
    found = {"cases": problem.cases}
    rate = rate or (lambda labels: problem.sharing / (labels - 1))
    for context, labels, burst in problem.cases:
        seen = orders(context, burst if bursts else 1)
        half = formation(seen, float(labels), 1 / (1 + VARIATION**2), rate(labels)).half
        found[context, labels, burst] = np.log(float(half))
    return found | {case: found[case] - found[problem.cases[0]] for case in problem.cases}


@functools.cache
def network(context, labels, burst, batch):
    task = ItemLabel(labels=labels, context=context, classes=labels, burst=burst, novel=1.0, variation=VARIATION)
    return training_of(task, 24, batch=batch, tests=200, tested=("novel",), measured=False)


def simulate_networks(problem):
    """ln of the half times of trained networks, over the mean of the first case: (runs,)."""
    seeds, found = problem.seed * problem.runs + np.arange(problem.runs), {}
    for case, steps in zip(problem.cases, problem.steps, strict=True):
        at = every(steps, problem.every)
        simulation = network(*case, problem.batch)
        seen = simulate(simulation, grid(seeds, lr=[problem.lr]), at, batching="map", optimised=True).records
        context, _, burst = case
        accuracy = np.asarray(seen["novel"], float)
        found[case] = np.log(np.minimum(transition(at, accuracy, burst / context, 1.0).half, 10 * at[-1]))
    return {case: runs - np.mean(found[problem.cases[0]]) for case, runs in found.items()}


def enough(cases):
    """Cases in which a label of the context is worth knowing: there are twice as many others or more."""
    return [case for case in cases if case[1] >= 2 * case[0] // case[2]]


def ratios(prediction, observation):
    """ln of ratios of times, means over runs, over a fifth."""
    pairs = [(prediction[case], np.mean(observation[case])) for case in enough(prediction["cases"])]
    return float(max(abs(expected - seen) / 0.2 for expected, seen in pairs))


def fewest(prediction, observation):
    """Fewer labels than twice the context: how much less they delay the mean over runs than predicted."""
    cases = prediction["cases"]
    scarce = [case for case in cases if case not in enough(cases)]
    # All times are over that of the first case.
    return float(max(prediction[case] - np.mean(observation[case]) for case in scarce))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    several = sorted(case for case in problem.cases if case[0] == problem.cases[0][0] and case[2] == 1)
    labels = np.array([case[1] for case in several])
    # Numbers of Python, as in the prediction: arrays would have the theory compiled again.
    fine = np.geomspace(labels[0], labels[-1], 25).tolist()
    seen = orders(several[0][0])
    for rate, name in ((problem.sharing, "shared features"), (1.0, "none")):
        half = np.array([float(formation(seen, x, 1 / (1 + VARIATION**2), rate / (x - 1)).half) for x in fine])
        unit = np.interp(problem.cases[0][1], fine, half)
        (style.theory if rate > 1 else style.rival)(left, fine, half / unit, label=name)
    means = [np.exp(observation[case]) for case in several]
    spread = [np.ptp(each) / 2 for each in means]
    style.networks(left, labels, [each.mean() for each in means], error=spread)
    left.set(xscale="log", xlabel="labels L", ylabel="time of the head, relative", ylim=(0, 3))
    left.set_xticks(labels, labels)
    left.minorticks_off()
    left.set_title(f"N = {several[0][0]} items, none twice")
    left.legend(loc="upper left", fontsize=7)
    ends = [0.5, 4]
    right.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=":")
    for i, case in enumerate(problem.cases):
        label = "N = {}, L = {}, B = {}".format(*case)
        runs = np.exp(observation[case])
        style.networks(right, [np.exp(prediction[case])], [runs.mean()], i=i, error=[np.ptp(runs) / 2], label=label)
    right.set(xscale="log", yscale="log", xlabel="predicted", ylabel="networks", xlim=(0.7, 2.8), ylim=(0.7, 2.8))
    for axis in (right.xaxis, right.yaxis):
        axis.set_ticks([0.7, 1, 1.4, 2, 2.8], ["0.7", "1", "1.4", "2", "2.8"])
    right.minorticks_off()
    right.legend(loc="upper left", fontsize=7)
    right.set_title("Every case")


def no_sharing(problem, prediction):
    """Every label is copied on its own, as fast as it is met."""
    return predict(problem, rate=lambda labels: 1 / (labels - 1))


def no_labels(problem, prediction):
    """How many labels there are does not slow copying."""
    return predict(problem, rate=lambda labels: 1.0)


def no_bursts(problem, prediction):
    """Only the number of items counts, not that classes recur."""
    return predict(problem, bursts=False)


def plateau(problem, prediction):
    """The head forms when the loss is down to its plateau, at the same time for all contexts."""
    return prediction | {case: 0.0 for case in prediction["cases"]}


STUDY = Study(
    title="The time of an induction head",
    question="How do the number of labels, the length of the context and its burstiness change when a head forms?",
    source="Reddy 2024 (arXiv:2312.03002)",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # (items in the context, labels in all, copies of a class), steps of each; times are over the first one's
            cases=((4, 16, 1), (4, 5, 1), (4, 64, 1), (8, 16, 2)),
            steps=(850, 1600, 1250, 1000),
            runs=2,
            every=25,
            batch=64,
            lr=0.3,
            # How many times faster the classifier of a network copies than one that meets each label on its own: fitted
            # to the first case and that of 64 labels.
            sharing=150.0,
        ),
        "paper": dict(
            cases=((8, 32, 1), (8, 16, 1), (8, 128, 1), (16, 32, 1), (8, 32, 2), (8, 32, 4)),
            steps=(8000, 8000, 12000, 20000, 8000, 6000),
            runs=8,
            every=40,
            batch=128,
            lr=0.1,
            sharing=150.0,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Ratios of times are those of the mean field, for more labels, a longer context, and recurring classes.",
            ratios,
            1,
            "A fifth: runs scatter by a tenth about their mean, and rates of learning are taken to be alike.",
        ),
        Claim(
            "With few labels besides those of the context the head comes later again, by at least what the flow says.",
            fewest,
            0,
            "A bound: the start of a network is noisy, and hides a weak curriculum for longer.",
        ),
    ),
    rivals=(
        Rival("Every label is copied on its own, as fast as it is met.", no_sharing),
        Rival("How many labels there are does not slow copying.", no_labels),
        Rival("Only the number of items counts, not that classes recur.", no_bursts),
        Rival("The head forms when the loss is down to its plateau, at the same time for all contexts.", plateau),
    ),
    draw=draw,
    formulas=("induction.minimal_head.accuracy", "induction.minimal_head.untrained_lead"),
)
