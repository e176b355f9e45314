"""Opposing outliers: training sharpens until paired outliers oscillate, spike, and push the sharpness below 2 / lr."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.deep_linear import DeepLinear, squared_error
from sims.probes.sharpness import hessian_spectrum
from sims.tasks.opposing_outliers import opposing_outliers
from sims.training import training
from theory.deep_linear.edge_of_stability import arrival_step, end_sharpness, peak_outlier, plateau_growth
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.outliers import Outliers, crossing_step, passing_step
from theory.flow import descent_error
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Runs by height s = X - 2 above the edge and theta = s / (lr b); the start and the outlier weight are drawn.

    Three heights at the same theta, then other theta at the middle height, then the middle run again with a larger
    outlier weight of the other sign. The start is close enough to the edge that w_o never decays below the rounding
    of the paired samples' sum, from which nothing could grow.
    """
    rng = np.random.default_rng(seed)
    heights, theta, b = settings["heights"], settings["theta"], settings["b"]
    runs = [(s, theta[0]) for s in heights] + [(heights[1], other) for other in (*theta[1:], theta[0])]
    s, theta = np.array(runs).T
    lr = s / (theta * b)
    kappa = (2 + s) / (lr * b)
    w0 = settings["w0"] * rng.uniform(0.5, 2) * np.ones(len(runs))
    w0[-1] *= -8
    fraction = 2 * settings["pairs"] / settings["samples"]
    return Problem(
        **settings,
        seed=seed,
        s=s,
        lr=lr,
        kappa=kappa,
        outlier=np.sqrt(kappa / fraction),
        start=np.full(len(runs), settings["u0"] * b * rng.uniform(0.9, 1.3)),
        w=w0,
    )


def predict(problem):
    """The logistic rise, the crossing of the edge, the growth beyond it, and where the spike leaves the sharpness."""
    setting = Outliers(problem.b, problem.kappa, problem.lr, problem.start)
    small = problem.small * problem.s
    # The step next to lr kappa u = 1, known to a fraction lr b of a step, enters through its logarithm.
    phase = np.pi * np.asarray(passing_step(setting, 1 / (setting.lr * setting.kappa)))
    unit = problem.lr * problem.b
    crossing = np.asarray(crossing_step(setting))
    steps = np.arange(int(crossing[0]))
    t = problem.lr[0] * steps
    c, e = descent_error(lambda c: c * (problem.b - c**2), t, jnp.sqrt(problem.start[0]))
    return {
        "s": problem.s,
        "lr": problem.lr,
        "u": np.asarray(mode_strength(t, problem.b, problem.start[0]) + problem.lr[0] * 2 * c * e),
        "u_unit": problem.lr[0] * float(jnp.abs(2 * c * e).max()),
        "curvature": problem.kappa,
        "crossing": crossing,
        "crossing_unit": unit,
        "growth": np.asarray(plateau_growth(setting)),
        "small": small,
        "arrival": np.asarray(arrival_step(small, setting, problem.w)),
        "arrival_unit": unit * (1 + np.abs(np.pi / np.tan(phase))) / np.log1p(problem.s),
        "end": np.asarray(end_sharpness(setting)),
        "peak": np.asarray(peak_outlier(setting)),
    }


def simulate_networks(problem):
    """Gradient descent on the full loss of every sample, from balanced signal weights and a tiny outlier weight."""

    def network(_, hyper):
        signal = jnp.sqrt(hyper["start"])
        return DeepLinear((jnp.stack([signal, hyper["w"]])[None], signal[None, None]))

    def data(_, hyper):
        return opposing_outliers(problem.samples, problem.pairs, hyper["outlier"], problem.b)

    def record(network, hyper):
        lower, upper = network.weights
        x, y = data(None, hyper)
        return {
            "u": upper[0, 0] ** 2,
            "outlier": jnp.abs(lower[0, 1]),
            "sharpness": hessian_spectrum(lambda net: squared_error(net, x, y), network)[-1],
        }

    trained = training(
        network,
        lambda network, batch: squared_error(network, *batch),
        lambda hyper: optax.sgd(hyper["lr"]),
        data,
        record,
    )
    hyper = {name: getattr(problem, name) for name in ("start", "w", "outlier", "lr")}
    runs = Runs(np.full(len(problem.lr), problem.seed), hyper, (len(problem.lr),))
    return {name: np.asarray(x) for name, x in simulate(trained, runs, every(problem.steps, 1)).records.items()}


def passing(curve, level, after=None):
    """The (interpolated) step at which each curve first rises past its level, at the earliest after step `after`."""
    found = []
    for i, (values, least) in enumerate(zip(curve, level, strict=True)):
        first = 0 if after is None else int(after[i])
        hits = np.flatnonzero(values[first:] > least)
        if not len(hits) or first + hits[0] == 0:
            found.append(np.nan)
            continue
        k = first + hits[0]
        found.append(k - 1 + (least - values[k - 1]) / (values[k] - values[k - 1]))
    return np.array(found)


def measured_crossing(prediction, observation):
    """The step at which the measured sharpness passes 2 / lr."""
    return passing(observation["sharpness"], 2 / prediction["lr"])


def growing_again(observation):
    """The logarithm of |w_o|, and the step of its lowest value before the spike."""
    size = np.log(np.maximum(observation["outlier"], 1e-300))
    valley = [int(np.argmin(run[: np.argmax(run) + 1])) for run in size]
    return size, valley


def measured_arrival(prediction, observation):
    """The step at which |w_o|, having grown again after its decay, passes the small size."""
    size, valley = growing_again(observation)
    return passing(size, np.log(prediction["small"]), valley)


def measured_growth(prediction, observation):
    """Growth of |w_o| per step over its last factor of ten before the small size."""
    size, valley = growing_again(observation)
    start = passing(size, np.log(prediction["small"] / 10), valley)
    return np.log(10) / (measured_arrival(prediction, observation) - start)


def end_deviation(prediction, observation):
    """lr times the deviation of the final sharpness along the outlier from its prediction."""
    final = prediction["curvature"] * observation["u"][:, -1]
    return np.abs(prediction["lr"] * (final - prediction["end"]))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i, k in enumerate((1, 3, 4)):
        # Each run in its own time: growth happens at the rate s per step, and the spike comes just after zero.
        steps = np.arange(observation["u"].shape[1])
        tau = problem.s[k] * (steps - prediction["arrival"][k])
        seen = tau < 30
        theta = problem.s[k] / (problem.lr[k] * problem.b)
        sharp = problem.lr[k] * observation["sharpness"][k]
        style.networks(left, tau[seen], sharp[seen], i=i, label=f"θ = {theta:g}", most=40)
        rise = tau < 0
        u = mode_strength(problem.lr[k] * steps[rise], problem.b, problem.start[k])
        label = "theory: rise, rest" if i == 0 else None
        style.theory(left, tau[rise], problem.lr[k] * problem.kappa[k] * u, i=i, label=label)
        style.theory(left, [12, 30], problem.lr[k] * prediction["end"][k] * np.ones(2), i=i)
        style.networks(right, tau[seen], observation["outlier"][k][seen] / problem.s[k], i=i, most=60)
        growing = np.linspace(np.log(1e-4), 0, 2)
        n = growing / prediction["growth"][k]
        style.theory(right, problem.s[k] * n, prediction["small"][k] / problem.s[k] * np.exp(growing), i=i)
        label = "theory: growth, height of the spike" if i == 0 else None
        style.theory(right, [0, 14], np.full(2, prediction["peak"][k] / problem.s[k]), i=i, linewidth=0.9, label=label)
    style.rival(left, [-40, 30], [2, 2], label="edge of stability")
    left.set(xlim=(-40, 30), ylim=(1.8, 2.42), xlabel="s · (steps since arrival)", ylabel="lr · sharpness")
    left.set_title("Sharpening, spike, and rest below the edge")
    left.legend(loc="upper right")
    right.set(xlim=(-25, 30), ylim=(1e-7, 30), yscale="log", xlabel="s · (steps since arrival)")
    right.set(ylabel="|w_o| / s", title="The outlier weight")
    right.legend(loc="upper left")


def no_half_logarithm(problem, prediction):
    """The crossing of the flow, at t = lr n."""
    edge = 2 / (problem.lr * problem.kappa)
    ratio = (problem.b / problem.start - 1) / (problem.b / edge - 1)
    return prediction | {"crossing": np.log(ratio) / (2 * problem.b * problem.lr)}


def growth_from_the_edge(problem, prediction):
    """The outlier weight keeps its size until the crossing and grows from there."""
    wait = np.log(prediction["small"] / np.abs(problem.w)) / prediction["growth"]
    return prediction | {"arrival": prediction["crossing"] + wait}


STUDY = Study(
    title="Opposing outliers",
    question="Why does training sharpen, and how do a few paired outliers decide where it ends?",
    source="Rosenfeld & Risteski 2023 (arXiv:2311.04163); self-stabilisation: Damian, Nichani & Lee 2022 (2209.15594)",
    regimes=("rich",),
    asks="how trained",
    sizes={
        "smoke": dict(
            b=1.0,
            heights=(0.08, 0.12, 0.2),
            theta=(1.0, 0.3, 1.5),
            u0=0.25,
            w0=1e-4,
            small=1e-3,
            samples=40,
            pairs=2,
            steps=1500,
        ),
        "paper": dict(
            b=1.0,
            heights=(0.08, 0.12, 0.16, 0.2),
            theta=(1.0, 0.3, 0.6, 1.5),
            u0=0.25,
            w0=1e-4,
            small=1e-3,
            samples=2000,
            pairs=20,
            steps=3000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Until the edge is passed the signal follows the logistic rise, up to the error of its steps.",
            lambda p, o: gap(p["u"], o["u"][0, : len(p["u"])], p["u_unit"]),
            0.1,
            "After the leading error lr·e(t) is added, the next order is about lr·b = 5 % of it.",
        ),
        Claim(
            "The sharpness passes 2/lr at the step of the flow plus half a logarithm.",
            lambda p, o: gap(p["crossing"], measured_crossing(p, o), p["crossing_unit"]),
            0.5,
            "In units of lr·b: the formula drops terms of that order.",
        ),
        Claim(
            "Beyond the edge the outlier weight grows by ln(X - 1) per step.",
            lambda p, o: gap(1, measured_growth(p, o) / p["growth"], 0.001),
            1,
            "In units of a tenth of a per cent: the approach to the plateau and the weight's own push are below it.",
        ),
        Claim(
            "It is back at a small size at the step that the decay before the edge and the growth after it give.",
            lambda p, o: gap(p["arrival"], measured_arrival(p, o), p["arrival_unit"]),
            1,
            "In units of lr·b/ln(X-1), enlarged where a step falls next to lr·kappa·u = 1.",
        ),
        Claim(
            "Training comes to rest where the final-size law says, below 2/lr.",
            lambda p, o: gap(0, end_deviation(p, o), p["s"] ** 2),
            0.5,
            "In units of s^2 = (X-2)^2, the first order that the law drops.",
        ),
        Claim(
            "The spike's height is that of its first integral.",
            lambda p, o: gap(1, o["outlier"].max(axis=1) / p["peak"], p["s"]),
            0.5,
            "In units of s: the next order.",
        ),
    ),
    rivals=(
        Rival(
            "Training ends where the gradient flow ends.",
            lambda problem, p: p | {"end": problem.kappa * problem.b},
        ),
        Rival(
            "Training ends exactly at the edge of stability, 2/lr.",
            lambda problem, p: p | {"end": 2 / problem.lr},
        ),
        Rival(
            "The overshoot is always reflected at the edge, as for slow spikes.",
            lambda problem, p: p | {"end": (2 - problem.s) / problem.lr},
        ),
        Rival("The edge is passed when the flow passes it, at t = lr·n.", no_half_logarithm),
        Rival(
            "The outlier weight grows by X - 2 per step.",
            lambda problem, p: p | {"growth": problem.s},
        ),
        Rival("The outlier weight keeps its size until the edge is passed and grows from there.", growth_from_the_edge),
    ),
    draw=draw,
    formulas=(
        "deep_linear.outliers.edge",
        "deep_linear.edge_of_stability.arrival",
        "deep_linear.edge_of_stability.final_size",
        "deep_linear.edge_of_stability.height",
    ),
)
