"""From saddle to saddle: a diagonal network of tiny start learns feature by feature, and can unlearn one on the way."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.diagonal import constant, mean_squared_error
from sims.training import training
from theory.deep_linear.saddle_to_saddle import plateau, saddle_path
from validation import style
from validation.metrics import disorder, gap, rate
from validation.study import Claim, Rival, Study


def draw_problem(settings, seed):
    """Sparse regression, drawn until the first plateaus are reached by their middle, and some feature leaves."""
    n, d, jumps = settings["samples"], settings["features"], settings["jumps"]
    draws = np.random.default_rng(seed)
    while True:
        x = draws.normal(size=(n, d))
        y = x @ np.concatenate([settings["values"], np.zeros(d - len(settings["values"]))])
        path = saddle_path(x, y, 3 * d + 20)
        times, held = np.asarray(path.times), np.asarray(path.beta) != 0
        left = (held[: jumps - 1] & ~held[1:jumps]).any()
        if left and times[jumps + 1] < settings["longest"]:
            e_folds = min(settling(x, y, path, k) for k in range(1, jumps + 1)) * max(settings["ell"])
            if e_folds > settings["e_folds"]:
                return SimpleNamespace(**settings, seed=seed, x=x, y=y, end=(times[jumps] + times[jumps + 1]) / 2)


def settling(x, y, path, k):
    """By how many factors of e, per ln(1/alpha^2), the deviations from plateau k have shrunk in its middle."""
    times, beta, s = (np.asarray(part) for part in path)
    half = (times[k + 1] - times[k]) / 2
    on = beta[k] != 0
    # A feature that is off is of size exp(-ell (1 - |s|)); those that are on relax to their least squares.
    s_middle = s[k] + half * x.T @ (y - x @ beta[k]) / len(y)
    features = x[:, on] * np.sqrt(np.abs(beta[k, on]))
    relaxed = half * np.linalg.eigvalsh(features.T @ features / len(y)).min()
    return min(np.min(1 - np.abs(s_middle[~on])), relaxed)


def events(times, beta, end):
    """What a path of plateaus predicts: the middle of each, and when a feature is first held, to what coefficient."""
    times, beta = np.asarray(times), np.asarray(beta)
    last = np.searchsorted(times, end)
    bounds = np.append(times[:last], end)
    middle = (bounds[1:] + bounds[:-1]) / 2
    new = [(k, i) for k in range(1, last) for i in np.flatnonzero(beta[k]) if not beta[:k, i].any()]
    return {
        "middle": middle,
        "plateau": beta[:last],
        "feature": np.array([i for _, i in new]),
        "level": np.array([beta[k, i] / 2 for k, i in new]),
        "jump": np.array([times[k] for k, _ in new]),
        "path": (times[:last], beta[:last]),
    }


def predict(problem):
    """The limit of a vanishing start, and what is left of a jump in the middle of the plateau after it."""
    path = saddle_path(problem.x, problem.y, 3 * problem.features + 20)
    return events(path.times, path.beta, problem.end) | {"left": np.exp(4 - problem.e_folds)}


def simulate_networks(problem):
    """Gradient descent on u and v from tiny scales, at three steps; time is counted as T = 4 t / ln(1/alpha^2)."""
    x, y, ell = jnp.asarray(problem.x), jnp.asarray(problem.y), np.asarray(problem.ell)
    # The step is in proportion to ln(1/alpha^2): every run crosses the same accelerated time in the same steps.
    records = int(problem.end * ell.max() / (4 * problem.lr * problem.interval))
    descent = training(
        lambda _, hyper: constant(hyper["run"][0], problem.features),
        lambda network, _: mean_squared_error(network, x, y),
        lambda hyper: optax.sgd(hyper["run"][1]),
        lambda _, __: None,
        lambda network, _: network.coefficients(),
    )
    beta = []
    for refinement in (1, 2, 4):
        scales = [np.array([np.exp(-e / 2), problem.lr * e / ell.max() / refinement]) for e in ell]
        steps = np.arange(records + 1) * problem.interval * refinement
        beta.append(simulate(descent, grid(seeds=[problem.seed], run=scales), steps).records)
    times = 4 * problem.lr * problem.interval / ell.max() * np.arange(records + 1)
    return {"ell": ell, "T": times, "beta": np.stack(beta)}


def crossing(prediction, observation):
    """When each feature first passes half its predicted coefficient, shape (ell, features), for a vanishing step.

    A step of gradient descent slows the growth; three steps lr, lr/2, lr/4 remove the first two orders of that.
    """
    times, level = observation["T"], np.abs(prediction["level"])
    beta = observation["beta"][..., prediction["feature"]] * np.sign(prediction["level"])
    above = beta >= level
    after = np.where(above.any(axis=2), np.maximum(above.argmax(axis=2), 1), len(times) - 1)

    def log_at(k):
        return np.log(np.maximum(np.take_along_axis(beta, k[:, :, None, :], axis=2)[:, :, 0], 1e-300))

    # Between two records the coefficient grows exponentially.
    low, high = log_at(after - 1), log_at(after)
    share = np.clip((np.log(level) - low) / np.where(high > low, high - low, 1.0), 0, 1)
    coarse, middle, fine = times[after - 1] + share * (times[after] - times[after - 1])
    return (coarse - 6 * middle + 8 * fine) / 3


def lag(prediction, observation):
    """Mean |crossing - predicted jump| over the features, at each scale of the start."""
    return np.abs(crossing(prediction, observation) - prediction["jump"]).mean(axis=1)


def extrapolated(prediction, observation):
    """Crossings at the two smallest starts, continued to a vanishing start, and how far the smallest is from that."""
    ell, times = observation["ell"], crossing(prediction, observation)
    limit = (ell[-1] * times[-1] - ell[-2] * times[-2]) / (ell[-1] - ell[-2])
    return limit, np.abs(times[-1] - limit).max()


def held(prediction, observation):
    """Networks of the smallest start in the middle of each predicted plateau."""
    nearest = np.abs(observation["T"][:, None] - prediction["middle"]).argmin(axis=0)
    return observation["beta"][-1, -1, nearest]


def wrong_features(prediction, observation):
    """Features held or not held against the prediction, over all plateaus; held is above 2 % of the largest."""
    found, expected = held(prediction, observation), prediction["plateau"]
    bar = 0.02 * np.abs(observation["beta"][-1, -1]).max()
    return int(np.sum((np.abs(found) > bar) != (np.abs(expected) > bar)))


def greedy(problem, prediction):
    """Orthogonal matching pursuit: the feature of largest correlation joins, least squares on all that joined."""
    x, y, n = problem.x, problem.y, problem.samples
    chosen, beta, times = [], np.zeros(problem.features), [0.0]
    path = [beta]
    while len(chosen) < n:
        pull = np.abs(x.T @ (y - x @ beta)) / n
        chosen.append(int(pull.argmax()))
        beta = np.zeros(problem.features)
        beta[chosen] = np.linalg.lstsq(x[:, chosen], y, rcond=None)[0]
        times.append(times[-1] + 1 / pull.max())
        path.append(beta)
    return prediction | events(times, path, problem.end)


def never_leaving(problem, prediction):
    """The true times of joining, but least squares on every feature that joined, of either sign."""
    times, path = prediction["path"]
    joined = np.cumsum(path != 0, axis=0) > 0
    beta = np.zeros_like(path)
    for row, features in zip(beta, joined, strict=True):
        row[features] = np.linalg.lstsq(problem.x[:, features], problem.y, rcond=None)[0]
    return prediction | events(times, beta, problem.end)


def at_once(problem, prediction):
    """All features leave the start together, for the interpolator of least L1 norm."""
    final = np.asarray(saddle_path(problem.x, problem.y, 3 * problem.features + 20).beta[-1])
    return prediction | events([0.0, prediction["jump"][0]], [0 * final, final], problem.end)


def half_speed(problem, prediction):
    """Accelerated time 2 t / ln(1/alpha^2): every jump at twice the time."""
    times, path = prediction["path"]
    return prediction | events(2 * times, path, problem.end)


def draw(figure, problem, prediction, observation):
    axes, errors = figure.subplots(1, 2, width_ratios=(1.8, 1))
    path = prediction["path"][1]
    shown = np.flatnonzero(np.abs(path).max(axis=0) > 0)
    steps = np.linspace(0, problem.end, 1500)
    exact = np.asarray(plateau(steps, (*prediction["path"], prediction["path"][1])))
    for i, feature in enumerate(shown):
        style.theory(axes, steps, exact[:, feature], i=i, label="limit path" if i == 0 else None)
        label = f"networks, α = {np.exp(-observation['ell'][-1] / 2):.0e}" if i == 0 else None
        style.networks(axes, observation["T"], observation["beta"][-1, -1, :, feature], i=i, most=40, label=label)
    axes.set(
        xlabel="accelerated time  T = 4 t / ln(1/α²)", ylabel="coefficient β", title="Coefficients, one after another"
    )
    axes.legend(loc="best")
    ell = observation["ell"]
    limit, _ = extrapolated(prediction, observation)
    mean = np.abs(crossing(prediction, observation)[-1] - limit).mean()
    style.theory(errors, ell, mean * ell[-1] / ell, i=4, label="slope -1")
    style.networks(errors, ell, lag(prediction, observation), i=4, label="networks")
    errors.set(xscale="log", yscale="log", xlabel="ln(1/α²)", ylabel="mean |T − T_k|", title="Lag behind the limit")
    errors.set_xticks(ell, [f"{e:g}" for e in ell])
    errors.minorticks_off()
    errors.legend()


STUDY = Study(
    title="Saddle to saddle",
    question="Why does a network of tiny start learn one feature at a time, and when does the next one appear?",
    source="Pesme & Flammarion 2023 (arXiv:2304.00488), algorithm 1",
    regimes=("linear", "rich"),
    asks="when",
    sizes={
        "smoke": dict(
            samples=8,
            features=20,
            values=(2.0, -1.5, 1.0),
            jumps=5,
            e_folds=12.0,
            longest=5.0,
            ell=(150.0, 300.0, 600.0),
            lr=0.04,
            interval=2,
        ),
        "paper": dict(
            samples=20,
            features=40,
            values=(2.0, -1.5, 1.0),
            jumps=5,
            e_folds=12.0,
            longest=5.0,
            ell=(75.0, 150.0, 300.0, 600.0),
            lr=0.02,
            interval=2,
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Every feature jumps at the time of the limit path, once its lag is continued to a vanishing start.",
            lambda p, o: gap(p["jump"], extrapolated(p, o)[0], extrapolated(p, o)[1]),
            0.2,
            "In units of the largest lag at the smallest start. The continuation leaves what is not 1/ln(1/α²): "
            "plateaus settled only to exp(-12/2) at the larger start of the two, third order in the step.",
        ),
        Claim(
            "The lag behind the limit path vanishes as 1 / ln(1/α²).",
            lambda p, o: rate(o["ell"], lag(p, o), -1.0),
            0.25,
            "At the largest start the shortest plateau is settled only to exp(-12/4) in its middle, 5 % of a jump.",
        ),
        Claim(
            "In the middle of each plateau the coefficients are those of the limit path.",
            lambda p, o: gap(p["plateau"], held(p, o), p["left"] * np.abs(o["beta"][-1, -1]).max()),
            10,
            "In units of exp(-8) of the largest coefficient: the data were chosen to settle by exp(-12) at the "
            "smallest start, of which the rise and its lag take some four; the prefactor is of order one.",
        ),
        Claim(
            "The features held on each plateau are the predicted ones; some have left again.",
            wrong_features,
            0,
            "A set has no error.",
        ),
        Claim(
            "Features join in the predicted order.",
            lambda p, o: disorder(crossing(p, o)[-1]),
            0,
            "An order has no error.",
        ),
    ),
    rivals=(
        Rival("Greedy selection (orthogonal matching pursuit), each wait counted from the last jump.", greedy),
        Rival("A feature that joined never leaves.", never_leaving),
        Rival("All features are learned at once.", at_once),
        Rival("Time is accelerated by 2 / ln(1/alpha^2).", half_speed),
    ),
    draw=draw,
    formulas=("deep_linear.saddle_to_saddle.first_jump", "deep_linear.saddle_to_saddle.second_jump"),
)
