"""Coopetition: the mechanism that comes first is helped along, then replaced, by one that shares parts with it."""

from __future__ import annotations

import functools

import numpy as np
import optax

from sims.engine import every, grid, simulate
from sims.networks.tensor_factors import TwoMechanisms, contest_loss, half_mean_square, outer
from sims.training import training
from theory.induction.coopetition import (
    Contest,
    competition_strength,
    coopetition_descent,
    explained,
    mechanism_losses,
    replacement_floor,
)
from theory.induction.subcircuits import plane_coordinates
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

# Relative to the loss at zero; a sum in another order, carried along thousands of steps past a saddle.
ROUNDING = 1e-12

# Both mechanisms learn with shared parts; with parts of their own; the second without the first. And: the first one is
# already learned, shared parts are held, with a floor below or above the one at which it is replaced.
CASES = ("shared", "separate", "second alone", "below", "above")
HELD = {"second alone": (0,), "below": (2, 3), "above": (2, 3)}
FLOORS = {"below": 0.8, "above": 1.25}


def problem(settings, seed):
    """True factors, all of mean square one, and starts of each run in the order A, D, B, C, by case.

    Starts are small; those of a, b and c lean towards the truth, and no overlap is negative: nothing is unlearned.
    """
    rng, (a, d, b) = np.random.default_rng(seed), settings["dims"]
    sizes, entries = (a, d, b, b), np.array([a * b * b, d * b * b, a * d], float)
    runs = []
    for _ in range(settings["starts"]):
        truths = [x * np.sqrt(len(x)) / np.linalg.norm(x) for x in (rng.normal(size=n) for n in sizes)]
        aims, lean = truths + truths[2:], settings["lean"] * np.array([1, 0, 1, 1, 1, 1])
        starts = [rng.normal(size=len(x)) for x in aims]
        starts = [settings["size"] * (np.sign(x @ y) * x + z * y) for x, y, z in zip(starts, aims, lean, strict=True)]
        contest = Contest(np.array([np.linalg.norm(x) for x in truths]), entries, np.zeros(2), settings["competition"])
        critical = float(replacement_floor(competition_strength(contest)) * explained(contest)[0])
        for case in CASES:
            vectors = {
                "shared": starts[:4] + starts[2:4],
                "separate": starts,
                "second alone": [0 * starts[0], *starts[1:4], *starts[2:4]],
            }.get(case, [truths[0], 0.1 * starts[1], *truths[2:], *truths[2:]])
            floor = FLOORS[case] * critical if case in FLOORS else settings["floor"]
            lr = settings["lr_held"] if case in FLOORS else settings["lr"]
            runs.append((vectors, truths, contest._replace(floors=np.array([floor, 0.0])), lr, critical))
    return Problem(**settings, seed=seed, runs=runs)


def predict(problem, change=lambda contest: contest, shared=True):
    """Losses of every run by its own planes, {name: (starts, cases, times)}, and whether the first is replaced."""
    rows = []
    for i, (vectors, truths, contest, lr, critical) in enumerate(problem.runs):
        case, contest = CASES[i % len(CASES)], change(contest)
        count = 6 if case == "separate" or not shared else 4
        start, _ = plane_coordinates(vectors[:count], (truths + truths[2:])[:count])
        held = HELD.get(case, ())
        found = coopetition_descent(problem.steps, start, contest, lr, held, problem.every)
        losses = mechanism_losses(found, contest)
        row = {name: np.asarray(x) for name, x in losses._asdict().items()} | {"tau": np.asarray(explained(contest))}
        # The closed form's word, for held shared factors.
        rows.append(row | {"replaced": contest.floors[0] > critical})
    return gathered(problem, rows) | {"t": problem.lr * every(problem.steps, problem.every)}


def gathered(problem, rows):
    """Rows of runs as arrays (starts, cases, ...), with losses in units of those at zero."""
    found = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    for i, name in enumerate(("first", "second")):
        found[name] = found[name] / found["tau"][:, i, None]
    return {name: x.reshape(problem.starts, len(CASES), *x.shape[1:]) for name, x in found.items()}


def simulate_networks(problem):
    """Gradient descent on the vectors themselves, all runs of all cases at once."""
    vectors = tuple(np.stack(x) for x in zip(*(run[0] for run in problem.runs), strict=True))
    truths = tuple(np.stack(x) for x in zip(*(run[1] for run in problem.runs), strict=True))
    cases = CASES * problem.starts
    hyper = dict(
        vectors=vectors,
        truths=truths,
        free=np.array([[i not in HELD.get(case, ()) for i in range(6)] for case in cases], float),
        shared=np.array([case != "separate" for case in cases], float),
        floors=np.stack([run[2].floors for run in problem.runs]),
        competition=np.array([float(run[2].competition) for run in problem.runs]),
        lr=np.array([run[3] for run in problem.runs]),
    )
    runs = grid(np.arange(len(cases)))._replace(hyper=hyper)
    seen = simulate(descent(), runs, every(problem.steps, problem.every), batching="vmap").records
    squares = np.array([[np.mean(x**2) for x in run[1]] for run in problem.runs])
    tau = squares[:, :2] * np.prod(squares[:, 2:], axis=1, keepdims=True) / 2
    rows = [{name: x[i] for name, x in seen.items()} | {"tau": tau[i]} for i in range(len(cases))]
    return gathered(problem, rows)


@functools.cache
def descent():
    """Training on whole tensors; records the losses of both mechanisms and the total."""

    def losses(model, given):
        a, d, b, c = given["truths"]
        first, second, both = model()
        parts = half_mean_square(first - outer([a, b, c])), half_mean_square(second - outer([d, b, c]))
        return *parts, contest_loss(*parts, both, given["floors"], given["competition"])

    return training(
        lambda _, hyper: TwoMechanisms(hyper["vectors"], hyper["free"], hyper["shared"]),
        lambda model, given: losses(model, given)[2],
        lambda hyper: optax.sgd(hyper["lr"]),
        lambda _, hyper: hyper,
        lambda model, hyper: dict(zip(("first", "second", "total"), losses(model, hyper), strict=True)),
    )


def exactly(prediction, observation):
    """Largest deviation of losses from those in the planes, in units of `ROUNDING`."""
    return max(gap(prediction[name], observation[name], ROUNDING) for name in ("first", "second", "total"))


def when(t, loss):
    """When a loss first falls below half of that at zero; ten times the last record where it never does."""
    below = loss < 0.5
    return np.where(below.any(axis=-1), t[below.argmax(axis=-1)], 10 * t[-1])


def turns(prediction, observation):
    """Shared runs in which, predicted or trained, mechanism 1 does not come first, go again, and leave the second."""
    t, fine = prediction["t"], True
    for side in (prediction, observation):
        first, second = side["first"][:, 0], side["second"][:, 0]
        fine &= (when(t, first) < when(t, second)) & (first[:, -1] > 0.9) & (second[:, -1] < 0.1)
    return int(np.sum(~fine))


def lateness(side, t):
    """ln of how much later mechanism 2 comes with parts of its own, and without the first: (starts, 2)."""
    times = when(t, side["second"][:, :3])
    return np.log(times[:, 1:] / times[:, :1])


def helped(prediction, observation):
    """Runs in which, predicted or trained, parts of its own do not make the second later; and it alone, on average."""
    later = [lateness(side, prediction["t"]) for side in (prediction, observation)]
    own = np.all([one[:, 0] > 0 for one in later], axis=0)
    alone = all(one[:, 1].mean() > 0 for one in later)
    return int(np.sum(~own)) + int(not alone)


def replaced(prediction, observation):
    """Runs with held shared parts that end otherwise than the closed form says: mechanism 1 gone, or still there."""
    gone = observation["first"][:, 3:, -1] > 0.5
    return int(np.sum(gone != prediction["replaced"][:, 3:]))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3, sharey=True)
    t, unit = prediction["t"], problem.unit
    shown = np.unique(np.geomspace(1, len(t) - 1, 18).astype(int))

    def curve(axes, name, case, i, label, scale=1.0):
        style.theory(axes, t[1:] * scale, prediction[name][unit, case][1:], i=i, label=label)
        style.networks(axes, t[shown] * scale, observation[name][unit, case][shown], i=i)

    curve(left, "first", 0, 0, "mechanism 1")
    curve(left, "second", 0, 1, "mechanism 2")
    left.set(ylabel="loss of a mechanism / at zero", ylim=(-0.05, 1.6))
    left.set_title("One comes, is replaced")
    for i, (case, label) in enumerate(((0, "shared parts"), (1, "parts of its own"), (2, "without mechanism 1"))):
        curve(middle, "second", case, i + 1, label)
    middle.set_title("The first helps the second")
    for i, (case, label) in enumerate(((3, "floor 20% below"), (4, "floor 25% above"))):
        curve(right, "first", case, (0, 4)[i], label, problem.lr_held / problem.lr)
    right.set_title("Mechanism 1, b and c held")
    for axes in (left, middle, right):
        axes.set(xscale="log", xlabel="time  lr · steps")
        axes.legend(loc="upper left", fontsize=7.5)


def peaceful(problem, prediction):
    """There is no competition, alpha = 0: what has been learned stays."""
    return predict(problem, lambda contest: contest._replace(competition=0.0))


def perfect(problem, prediction):
    """The first mechanism has no floor: nothing is left to replace it for."""
    return predict(problem, lambda contest: contest._replace(floors=np.zeros(2)))


def apart(problem, prediction):
    """The mechanisms share nothing."""
    return predict(problem, shared=False)


def always(problem, prediction):
    """Any floor at all lets the second mechanism replace the first."""
    return prediction | {"replaced": np.ones_like(prediction["replaced"])}


STUDY = Study(
    title="Coopetition and transience",
    question="Why can a mechanism appear in training, be of use, and be replaced by one that it helped along?",
    source="Singh, Moskovitz, Dragutinovic, Hill, Chan & Saxe 2025 (arXiv:2503.05631), the model of two mechanisms",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # Of a, of d, and of b and c.
            dims=(6, 48, 6),
            starts=4,
            size=0.2,
            lean=0.5,
            floor=0.1,
            competition=0.1,
            lr=4.0,
            lr_held=8.0,
            steps=2000,
            every=5,
            unit=0,
        ),
        "paper": dict(
            dims=(20, 160, 20),
            starts=8,
            size=0.2,
            lean=0.5,
            floor=0.1,
            competition=0.1,
            lr=1.0,
            lr_held=4.0,
            steps=32_000,
            every=20,
            unit=0,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Losses of both mechanisms under training are those of two numbers a factor, at any dimension.",
            exactly,
            1,
            "Both are the same sums in another order: rounding, grown on the way past a saddle.",
        ),
        Claim(
            "Mechanism 1 comes first, and is gone when mechanism 2 has come.",
            turns,
            0,
            "An order of times, and which loss is back at that of zero.",
        ),
        Claim(
            "From small starts mechanism 2 is earlier with shared parts than with its own and, on average, than alone.",
            helped,
            0,
            "An order of times; of geometric means where single runs can differ.",
        ),
        Claim(
            "With shared parts held, mechanism 1 is replaced if its floor is above the critical one, and only then.",
            replaced,
            0,
            "One of two ends.",
        ),
    ),
    rivals=(
        Rival("There is no competition.", peaceful),
        Rival("The first mechanism has no floor.", perfect),
        Rival("The mechanisms share nothing.", apart),
        Rival("Any floor lets the second replace the first.", always),
    ),
    draw=draw,
    formulas=(
        "induction.coopetition.total",
        "induction.coopetition.shared_step",
        "induction.coopetition.replacement",
    ),
)
