"""An attention-only network forms an induction head: a plateau, a curriculum, a jump, and where none can come."""

from __future__ import annotations

import functools

import numpy as np

from sims.engine import every, grid, simulate
from sims.item_label_training import training_of
from sims.tasks.item_label import ItemLabel
from theory.induction.nested_logits import Logits, averaged_flow, progress
from validation import style
from validation.metrics import crossing_time, gap, transition
from validation.study import Claim, Rival, Study

# Measures of progress in the order of the plot; "accuracy" is last.
MEASURES = ("contextual", "association", "attention", "accuracy")


def predict(problem, start=(0.0, 0.0, 0.0), contexts=None):
    """Measures of progress of three nested logits, in a unit of time that is not that of the networks."""
    t = np.linspace(0, problem.longest, 4001)
    found = {"t": t, "cases": problem.cases}
    for context, labels in problem.cases:
        n = context if contexts is None else contexts
        logits = averaged_flow(t, n, labels, copy_rate=problem.copy_rate, start=start)
        c = 2 * np.arange(1, n + 1)[:, None] - 1
        seen = progress(Logits(*(np.asarray(part)[None] for part in logits)), n, labels, c)
        curves = {name: np.asarray(getattr(seen, name)).mean(axis=0) for name in MEASURES}
        found[context, labels] = summary(t, curves, context)
    return found


def summary(t, curves, context):
    """Curves, when they reach one half, and the transition of accuracy from chance in the context.

    Contextual labels have some probability from the start: half of the rest counts.
    """
    level = {name: 0.5 for name in MEASURES} | {"contextual": (1 + curves["contextual"][..., 0]) / 2}
    times = np.stack([crossing_time(t, curves[name], level[name], never=10 * t[-1]) for name in MEASURES], axis=-1)
    jump = transition(t, curves["accuracy"], 1 / context, 1.0)
    return {"curves": curves, "times": np.maximum(times, t[1]), "jump": jump, "end": curves["accuracy"][..., -1]}


@functools.cache
def network(context, labels, batch):
    task = ItemLabel(labels=labels, context=context, classes=labels, novel=1.0)
    return training_of(task, 24, batch=batch, tested=("novel",))


def simulate_networks(problem):
    """The same of trained networks: (runs, times)."""
    found = {}
    for (context, labels), steps, runs in zip(problem.cases, problem.steps, problem.runs, strict=True):
        at = every(steps, problem.every)
        seeds = problem.seed * 16 + np.arange(runs)
        simulation = network(context, labels, problem.batch)
        seen = simulate(simulation, grid(seeds, lr=[problem.lr]), at, batching="map", optimised=True).records
        curves = {name: np.asarray(getattr(seen["progress"], name), float) for name in MEASURES}
        found[context, labels] = {"t": at} | summary(at, curves, context)
    return found


def formed(prediction):
    return [case for case in prediction["cases"] if case[1] > case[0]]


def together(prediction, observation):
    """Both attentions half up when accuracy is: ln of times, against the flow, over fifteen per cent."""
    worst = []
    for case in formed(prediction):
        expected, runs = (np.log(side[case]["times"]) for side in (prediction, observation))
        after = [times[..., 1:3] - times[..., 3:] for times in (expected, runs)]
        worst.append(np.abs(after[1] - after[0]).max() / 0.15)
    return float(max(worst))


def curriculum(prediction, observation):
    """Runs in which contextual labels do not lead accuracy by as much as in the flow."""
    wrong = 0
    for case in formed(prediction):
        expected, runs = (np.log(side[case]["times"]) for side in (prediction, observation))
        wrong += int(np.sum(runs[:, 3] - runs[:, 0] < expected[3] - expected[0]))
    return wrong


def sharp(prediction, observation):
    """Predicted time over rise of the transition, over that of the least sharp run."""
    worst = []
    for case in formed(prediction):
        expected, runs = prediction[case]["jump"], observation[case]["jump"]
        worst.append(float(expected.sharpness) / np.min(runs.sharpness))
    return max(worst)


def plateaus(prediction, observation):
    """Predicted length of the plateau at chance in the context, in that of the rise, over that of the shortest run."""
    worst = []
    for case in formed(prediction):
        expected, runs = prediction[case]["jump"], observation[case]["jump"]
        worst.append(float(expected.plateau / expected.rise) / np.min(runs.plateau / runs.rise))
    return max(worst)


def ends(prediction, observation):
    """Accuracy at the end, of each run, from that of the flow, over a tenth."""
    pairs = [(prediction[case]["end"], observation[case]["end"]) for case in formed(prediction)]
    return max(gap(expected, runs, 0.1) for expected, runs in pairs)


def longer_context(prediction, observation):
    """ln of the ratio of times of accuracy for twice the context, against the flow; a tenth for the unknown rates."""
    short, long = formed(prediction)
    expected = np.log(prediction[long]["times"][3] / prediction[short]["times"][3])
    runs = [np.log(observation[case]["times"][:, 3]) for case in (short, long)]
    error = np.sqrt(sum(np.var(one, ddof=1) / len(one) for one in runs) + 0.1**2)
    return abs(np.mean(runs[1]) - np.mean(runs[0]) - expected) / error


def stuck(prediction, observation):
    """Where all labels are in the context: largest accuracy of any run over chance, less the predicted one."""
    worst = []
    for case in prediction["cases"]:
        if case[0] == case[1]:
            expected = prediction[case]["curves"]["accuracy"].max()
            worst.append(np.max(np.abs(observation[case]["curves"]["accuracy"].max(axis=1) - expected)) * case[0])
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    case = formed(prediction)[0]
    names = ("contextual labels", "label to its item", "target to its label", "accuracy")
    unit = np.exp(np.mean(np.log(observation[case]["times"][:, 3]))) / prediction[case]["times"][3]
    inside = prediction["t"] * unit <= observation[case]["t"][-1]
    for i, (name, label) in enumerate(zip(MEASURES, names, strict=True)):
        curve = prediction[case]["curves"][name][inside]
        style.theory(left, unit * prediction["t"][inside], curve, i=i, linewidth=1)
        style.networks(left, observation[case]["t"], observation[case]["curves"][name][0], i=i, label=label)
    left.set(xlabel="steps", ylim=(0, 1.75), yticks=[0, 0.5, 1])
    left.set_title(f"One network, N = {case[0]}")
    left.legend(loc="upper left", fontsize=7)
    for i, case in enumerate(prediction["cases"]):
        seen = observation[case]
        for j, run in enumerate(seen["curves"]["accuracy"]):
            label = f"N = {case[0]}, L = {case[1]}" if j == 0 else None
            style.networks(middle, seen["t"], run, i=i, most=200, marker="", linestyle="-", label=label)
        middle.axhline(1 / case[0], color=style.colour(i), linewidth=0.8, linestyle=":")
    middle.set(xlabel="steps", ylabel="accuracy on classes never seen", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    middle.set_title("Every network; dotted 1/N")
    middle.legend(loc="upper left", fontsize=7)
    for i, case in enumerate(formed(prediction)):
        for j, (expected, runs) in enumerate(zip(prediction[case]["times"], observation[case]["times"].T, strict=True)):
            x = expected / prediction[case]["times"][3]
            y = runs / observation[case]["times"][:, 3]
            marker = dict(marker="os^D"[j])
            label = names[j] if i == 0 else None
            style.networks(right, [x], [y.mean()], i=j, error=[y.std()], label=label, **marker)
    right.plot([0.2, 1.4], [0.2, 1.4], color=style.INK, linewidth=0.8, linestyle=":")
    right.set(xlabel="predicted", ylabel="measured", xlim=(0.2, 1.4), ylim=(0.2, 2))
    right.set_title("Times, relative")
    right.legend(loc="upper left", fontsize=7)


def not_nested(problem, prediction):
    """One layer is enough: labels know their item from the start."""
    return predict(problem, start=(0.0, 0.0, 60.0))


def by_plateau(problem, prediction):
    """The head forms as soon as the loss is down to its plateau, without any drive through both layers."""
    found = dict(prediction)
    for case in formed(prediction):
        times = prediction[case]["times"].copy()
        times[1:] = times[0]
        found[case] = prediction[case] | {"times": times}
    short, long = (found[case] for case in formed(prediction))
    # Of one length for every context, as the plateau is left for chance in the context alone.
    found[formed(prediction)[1]] = long | {"times": short["times"]}
    return found


def no_curriculum(problem, prediction):
    """No curriculum is needed: a head forms also where all labels are in the context."""
    return predict(problem, start=(1.0, 0.0, 0.0))


def uniform(problem, prediction):
    """Attention stays uniform, and accuracy at chance in the context."""
    return prediction | {case: prediction[case] | {"end": 1 / case[0]} for case in prediction["cases"]}


STUDY = Study(
    title="The abrupt formation of an induction head",
    question="In which order do the parts of an induction head appear, how abruptly, and why not where all labels are "
    "in the context?",
    source="Reddy 2024 (arXiv:2312.03002)",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # (items in the context, labels in all), steps and runs of each
            cases=((4, 16), (8, 16), (4, 4)),
            steps=(1000, 2600, 1000),
            runs=(2, 3, 1),
            every=20,
            batch=64,
            lr=0.3,
            # A classifier shares features among labels, so that copying is learned faster than one logit would be.
            copy_rate=3.0,
            longest=200.0,
        ),
        "paper": dict(
            cases=((8, 32), (16, 32), (8, 8)),
            steps=(8000, 20000, 8000),
            runs=(8, 8, 8),
            every=40,
            batch=128,
            lr=0.1,
            copy_rate=3.0,
            longest=400.0,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Both attentions and accuracy rise together.",
            together,
            1,
            "Fifteen per cent of the time: the rise itself takes as long.",
        ),
        Claim(
            "Before that, contextual labels are learned, and lead by at least what the flow says.",
            curriculum,
            0,
            "A count of runs; weights that are products learn attention more abruptly than logits do.",
        ),
        Claim(
            "The transition is at least as sharp as that of the flow.",
            sharp,
            1,
            "A bound: as above.",
        ),
        Claim(
            "Until then accuracy stands at chance among contextual labels, for at least as many rises as in the flow.",
            plateaus,
            1,
            "A bound: as above.",
        ),
        Claim(
            "In the end every label is looked up.",
            ends,
            1,
            "A tenth: training stops before all is learned, and a minimal head is less sure than a network.",
        ),
        Claim(
            "Twice the context delays the transition by as much as the flow says.",
            longer_context,
            5,
            "Standard errors over runs, beside a tenth for rates of learning that change with the context.",
        ),
        Claim(
            "Where all labels are in the context no head forms.",
            stuck,
            1,
            "Chance itself: half-way to two right guesses of N would be a head in the making.",
        ),
    ),
    rivals=(
        Rival("One layer is enough: labels know their item from the start.", not_nested),
        Rival("The head forms when the loss has come down to its plateau.", by_plateau),
        Rival("No curriculum is needed.", no_curriculum),
        Rival("Attention stays uniform.", uniform),
    ),
    draw=draw,
    formulas=("induction.nested_logits.accuracy", "induction.nested_logits.saddle"),
)
