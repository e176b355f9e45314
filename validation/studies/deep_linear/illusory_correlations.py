"""Illusory correlations: on the way, a deep network comes to believe that canaries swim, and unlearns it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import every, grid, simulate
from sims.networks.deep_linear import DeepLinear, aligned, gaussian, squared_error
from sims.tasks.hierarchy import LIVING_THINGS
from sims.training import gradient_descent
from theory.deep_linear.illusory_correlations import illusory_peaks, item_property_map, shallow_map
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

TABLE = LIVING_THINGS.values
ITEMS = len(LIVING_THINGS.items)
LEFT, SINGULAR, RIGHT = np.linalg.svd(TABLE, full_matrices=False)
SWIMMING_CANARY = LIVING_THINGS.entry("canary", "swim")

# The start that the left panel shows, and that random weights are given on average.
MIDDLE = 1

# An entry of 0/1 properties has left its way if it strays by more than this.
STRAYED = 0.05


def predict(problem):
    """The map of the deep network over time for each start and step, its leading step error, and where it strays."""
    p, lam = problem, 1 / ITEMS
    t = times(p)
    maps, errors, peaks = [], [], []
    for u0 in p.u0:
        maps.append([item_property_map(t_lr, TABLE, u0, lam) for t_lr in t])
        errors.append([[step_error(t_lr, s, u0, lam) for s in SINGULAR] for t_lr in t])
        peaks.append(illusory_peaks(TABLE, u0, lam))
    strays = [peak.departure > STRAYED for peak in peaks]
    return {
        "t": t,
        "map": np.array(maps),
        "error_per_lr": np.einsum("ok,abkt,kp->abtop", LEFT, np.array(errors), RIGHT),
        "peak": np.array([peak.peak for peak in peaks]),
        "peak_time": np.array([peak.time for peak in peaks]),
        "strays": np.array(strays),
        "shallow": np.array([shallow_map(t_lr, TABLE, 0.0, lam) for t_lr in t]),
    }


def times(problem):
    """(steps sizes, records): the time of each record."""
    return np.array(problem.lr)[:, None] * every(problem.steps, problem.interval)


@jax.jit
def step_error(t, s, u0, lam):
    """Leading error of gradient descent on the strength of a mode, per unit of its step."""
    a, e = descent_error(lambda a: a * lam * (s - a**2), t, jnp.sqrt(u0))
    return 2 * a * e


def simulate_networks(problem):
    """Deep networks from aligned weights, for every start and step; others from random weights; shallow ones."""
    p = problem
    inputs, table = jnp.eye(ITEMS), jnp.asarray(TABLE)
    record_at = every(p.steps, p.interval)

    def loss(model):
        return squared_error(model, inputs, table)

    def start(key, hyper):
        layers = jnp.full((2, ITEMS), jnp.sqrt(hyper["u0"]))
        return aligned(key, jnp.asarray(LEFT), jnp.asarray(RIGHT.T), layers, p.hidden)

    def product(model, _):
        return model.product()

    deep = gradient_descent(start, loss, "lr", product)
    widths = (ITEMS, p.random_hidden, len(TABLE))
    random = gradient_descent(
        lambda key, h: gaussian(key, widths, jnp.sqrt(2 * h["u0"] / p.random_hidden)), loss, "lr", product
    )
    shallow = gradient_descent(lambda *_: DeepLinear((jnp.zeros(TABLE.shape),)), loss, "lr", product)
    one = [p.seed]
    return {
        "lr": np.array(p.lr),
        "map": simulate(deep, grid(one, u0=p.u0, lr=p.lr), record_at).on_grid()[0],
        "random": simulate(
            random, grid(p.runs * p.seed + np.arange(p.runs), u0=p.u0[MIDDLE : MIDDLE + 1], lr=p.lr[:1]), record_at
        ).records,
        "shallow": simulate(shallow, grid(one, lr=p.lr), record_at).records,
    }


def deviation(prediction, observation):
    """Largest |map of the networks - theory| at each step size, over starts, times and entries."""
    return np.abs(observation["map"] - prediction["map"]).max(axis=(0, 2, 3, 4))


def departures(maps):
    """How far each entry strays from the interval between its start and its value in the table; times on axis -3."""
    start = maps[..., :1, :, :]
    low, high = np.minimum(start, TABLE), np.maximum(start, TABLE)
    return np.maximum(maps - high, low - maps).max(-3)


def miscounted(prediction, maps):
    """Entries, in the worst network, that stray although they should not, or do not although they should."""
    strays = departures(maps) > STRAYED
    return int((strays != prediction["strays"]).sum((-1, -2)).max())


def peak_gap(prediction, observation):
    """Largest deviation of a peak from its prediction and the leading step error there, in units of that error."""
    t, worst = prediction["t"][-1], 0.0
    error = observation["lr"][-1] * prediction["error_per_lr"][:, -1]
    for start, *entry in zip(*np.nonzero(prediction["strays"]), strict=True):
        path, there = (x[start, :, *entry] for x in (observation["map"][:, -1], error))
        expected = prediction["peak"][start, *entry] + np.interp(prediction["peak_time"][start, *entry], t, there)
        worst = max(worst, abs(top(path) - expected))
    return worst / np.abs(error).max()


def top(path):
    """Height of the parabola through the highest record and its neighbours."""
    i = int(np.clip(path.argmax(), 1, len(path) - 2))
    before, here, after = path[i - 1 : i + 2]
    return here - (after - before) ** 2 / (8 * (before - 2 * here + after))


def draw(figure, problem, prediction, observation):
    deep, starts = figure.subplots(1, 2)
    t = prediction["t"][-1]
    shown = [("canary", "grow"), ("canary", "move"), ("canary", "fly"), ("canary", "swim"), ("canary", "bark")]
    for i, (item, prop) in enumerate(shown):
        o, p = LIVING_THINGS.entry(item, prop)
        style.theory(deep, t, prediction["map"][MIDDLE, -1, :, o, p], i=i, label=prop)
        style.networks(deep, t, observation["map"][MIDDLE, -1, :, o, p], i=i)
    deep.set(
        xlabel="time  t = lr · steps", ylabel="what it says of the canary", title="A canary can ...", ylim=(-0.1, 1.5)
    )
    deep.legend(ncols=3, loc="upper left")
    o, p = SWIMMING_CANARY
    for i, u0 in enumerate(problem.u0):
        style.theory(starts, t, prediction["map"][i, -1, :, o, p], i=3 + i, label=f"$u_0$ = {u0:g}")
        style.networks(starts, t, observation["map"][i, -1, :, o, p], i=3 + i)
    style.networks(starts, t, observation["shallow"][-1][:, o, p], i=6, label="one layer")
    style.rival(starts, t, prediction["shallow"][-1][:, o, p])
    starts.set(xlabel="time  t = lr · steps", ylabel="swim", title="... swim, for a while", ylim=(-0.1, 0.75))
    starts.legend(ncols=2, loc="upper left")


def instead(strengths):
    """A rival that believes in other strengths u(t; s, u0) of the modes, with times counted per item."""

    def prediction_of(problem, prediction):
        t = prediction["t"][..., None] / ITEMS
        u = np.stack([strengths(t, SINGULAR, u0) for u0 in problem.u0])
        maps = np.einsum("ok,abtk,kp->abtop", LEFT, u, RIGHT)
        believed = {"peak": maps[:, -1].max(1), "peak_time": prediction["t"][-1][maps[:, -1].argmax(1)]}
        return prediction | believed | {"map": maps, "strays": departures(maps[:, -1]) > STRAYED}

    return prediction_of


def logistic(t, s, u0, rate):
    return s / (1 + (s / u0 - 1) * np.exp(-2 * rate * t))


STUDY = Study(
    title="Illusory correlations",
    question="Why does a network, like a child, first learn and then unlearn what is true of no item it ever saw?",
    source="Saxe, McClelland & Ganguli 2019 (PNAS 116, 11537); 2013 (arXiv:1312.6120), eq. 12",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            u0=(1e-2, 1e-3, 1e-5), lr=(0.16, 0.08, 0.04), hidden=16, random_hidden=64, runs=8, steps=1200, interval=10
        ),
        "paper": dict(
            u0=(1e-2, 1e-3, 1e-6),
            lr=(0.02, 0.01, 0.005),
            hidden=64,
            random_hidden=512,
            runs=64,
            steps=12000,
            interval=40,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Every entry of the map departs from the theory only by the step error.",
            lambda p, o: gap(
                p["map"][:, -1] + o["lr"][-1] * p["error_per_lr"][:, -1],
                o["map"][:, -1],
                o["lr"][-1] * np.abs(p["error_per_lr"]).max(),
            ),
            0.2,
            "Steps delay by (lr/2) ln(s/u0) = 0.25 at the smallest start; the next order is half of that times the "
            "rate 2 s/P = 1.3 of the fastest mode: 0.16 of the leading one, which is added.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.15,
            "First order, with the curvature of the next over the three step sizes.",
        ),
        Claim(
            "Each correlation that is learned and unlearned peaks at the predicted height.",
            peak_gap,
            0.03,
            "The next order is lr s/P = 0.026 of the leading one, which is added.",
        ),
        Claim(
            "Exactly the predicted entries stray, also in networks that start from small random weights.",
            lambda p, o: max(miscounted(p, o["map"][:, -1]), miscounted({"strays": p["strays"][MIDDLE]}, o["random"])),
            0,
            "A count has no error; the smallest predicted excursion is three times the threshold.",
        ),
        Claim(
            "In networks without a hidden layer every entry goes straight to its value.",
            lambda p, o: int((departures(o["shallow"]) > 1e-6).sum()),
            0,
            "Each entry of the error shrinks by the same factor in every step.",
        ),
    ),
    rivals=(
        Rival(
            "Depth only delays: all modes are learned together.",
            instead(lambda t, s, u0: s / s[0] * logistic(t, s[0], u0, s[0])),
        ),
        Rival(
            "No hidden layer is needed: u = s (1 - exp(-t)).",
            instead(lambda t, s, u0: s * (1 - np.exp(-t)) + 0 * u0),
        ),
        Rival(
            "Details first: weak modes are learned before strong ones.",
            instead(lambda t, s, u0: logistic(t, s, u0, s[::-1])),
        ),
        Rival(
            "Time runs half as fast: du/dt = u (s - u).",
            instead(lambda t, s, u0: logistic(t, s, u0, s / 2)),
        ),
    ),
    draw=draw,
    formulas=("deep_linear.illusory_correlations.deep", "deep_linear.illusory_correlations.peak_time"),
)
