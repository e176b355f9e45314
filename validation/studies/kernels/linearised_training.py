"""Linearised training: an ensemble of wide networks is a Gaussian process at every step of gradient descent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.linearised import linearised
from sims.networks.mlp import mlp, squared_error
from sims.training import gradient_descent
from theory.kernels.infinite import kernels
from theory.kernels.linearised_training import Blocks, descent_filter, descent_outputs, trained_function
from validation import style
from validation.metrics import gap, rate, z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Training inputs on the sphere, targets of order one, and test points on a great circle through two of them."""
    rng = np.random.default_rng(seed)
    d, samples = settings["dimension"], settings["samples"]
    x = rng.normal(size=(samples, d))
    x *= np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
    across = x[1] - x[0] * (x[0] @ x[1]) / d
    across *= np.sqrt(d) / np.linalg.norm(across)
    angle = 2 * np.pi * (np.arange(settings["tests"]) + 0.5) / settings["tests"]
    path = np.cos(angle)[:, None] * x[0] + np.sin(angle)[:, None] * across
    y = np.where(np.arange(samples) % 2, -1.0, 1.0) * rng.uniform(0.5, 1.5, samples)
    return Problem(**settings, seed=seed, x=x, y=y, angle=angle, path=path)


def blocks(problem):
    """Tangent kernel and covariance of the networks, infinitely wide."""
    joint = kernels(np.concatenate([problem.x, problem.path]), **problem.network)
    return tuple(Blocks.split(k, problem.samples) for k in (joint.ntk, joint.nngp))


def predict(problem):
    """Mean and covariance of the test outputs after numbers of steps of gradient descent."""
    return predicted(problem, *blocks(problem))


def predicted(problem, ntk, nngp, clock=1.0, cross_terms=True):
    """The same; a rival's clock multiplies the speed of learning, and a rival may forget the cross terms."""
    steps = np.asarray(problem.steps)
    outputs = descent_outputs(steps, clock * problem.lr, ntk, nngp, problem.y)
    covariance = np.asarray(outputs.covariance)
    if not cross_terms:
        modes = steps[:, None]
        gain = trained_function(
            lambda lam: descent_filter(modes, lam, problem.samples, problem.lr),
            ntk,
            np.eye(problem.samples),
            np.zeros_like(nngp.train),
            np.zeros_like(nngp.cross),
        )
        covariance = np.asarray(nngp.test + gain @ nngp.train @ gain.mT)
    return {
        "mean": np.asarray(outputs.mean),
        "covariance": covariance,
        # The leading term of finite width, per 1/width: each hidden layer adds to it.
        "per_width": problem.network["depth"] * np.max(np.diagonal(nngp.test)),
    }


def trained(problem, depth, width, seeds, tangent=False):
    """Outputs on the path of networks from different starts, (runs, times, tests)."""
    x, y, path = (jnp.asarray(a) for a in (problem.x, problem.y[:, None], problem.path))
    widths = (problem.dimension, *[width] * depth, 1)

    def network(key, _):
        drawn = mlp(
            key,
            widths,
            problem.network["weight_variance"],
            problem.network["bias_variance"],
            jax.scipy.special.erf,
        )
        return linearised(drawn) if tangent else drawn

    simulation = gradient_descent(
        network, lambda network: squared_error(network, x, y), problem.lr, lambda network, _: network(path)[:, 0]
    )
    return simulate(simulation, grid(seeds=seeds), np.asarray(problem.steps)).records


def simulate_networks(problem):
    """An ensemble of wide networks; and shallow networks of several widths, each beside its own tangent."""
    first = 100_000 * problem.seed
    ensemble = trained(problem, problem.network["depth"], problem.width, first + np.arange(problem.runs))
    departures = []
    for width in problem.widths:
        seeds = first + 50_000 + np.arange(problem.pairs)
        network, tangent = (trained(problem, 1, width, seeds, tangent) for tangent in (False, True))
        each = np.sqrt(np.mean((network[:, 1:] - tangent[:, 1:]) ** 2, axis=2))
        departures.append(np.exp(np.mean(np.log(each))))
    return {
        "outputs": ensemble,
        "width": problem.width,
        "widths": np.asarray(problem.widths),
        "departures": np.asarray(departures),
    }


def covariance_score(prediction, observation):
    """Largest deviation of a sample covariance, in its standard errors, the leading term of finite width included."""
    runs, c = len(observation["outputs"]), prediction["covariance"]
    variance = np.diagonal(c, axis1=1, axis2=2)
    error = np.sqrt((variance[:, :, None] * variance[:, None, :] + c**2) / (runs - 1))
    error = np.hypot(error, prediction["per_width"] / observation["width"])
    sampled = np.stack([np.cov(outputs.T) for outputs in observation["outputs"].swapaxes(0, 1)])
    return gap(c, sampled, error)


def draw(figure, problem, prediction, observation):
    *times, widths = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1))
    degrees = np.degrees(problem.angle)
    for axes, k in zip(times, (0, 1, -1), strict=True):
        mean, covariance = prediction["mean"][k], prediction["covariance"][k]
        spread, outputs = np.sqrt(np.diagonal(covariance)), observation["outputs"][:, k]
        style.theory(axes, degrees, mean, i=0, label="mean")
        for sign in (-1, 1):
            label = "mean ± standard deviation" if sign < 0 else None
            style.theory(axes, degrees, mean + sign * spread, i=1, linewidth=1.1, label=label)
            style.networks(axes, degrees, outputs.mean(0) + sign * outputs.std(0), i=1)
        style.networks(axes, degrees, outputs.mean(0), i=0, label=f"{len(outputs)} networks")
        # The path passes through two of the training points.
        second = np.degrees(np.arccos(np.clip(problem.x[0] @ problem.x[1] / problem.dimension, -1, 1)))
        axes.plot([0, second], problem.y[:2], "x", color=style.INK, label="targets")
        axes.set(xlabel="angle on the path", title=f"{problem.steps[k]} steps", ylim=(-2.6, 2.6), xticks=(0, 180, 360))
        if axes is not times[0]:
            axes.set_yticklabels([])
    times[0].set_ylabel("output f")
    handles, labels = times[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    n = observation["widths"]
    style.theory(widths, n, observation["departures"][0] * n[0] / n, i=4, label="∝ 1/width")
    style.networks(widths, n, observation["departures"], i=4, label="networks")
    widths.set(xscale="log", yscale="log", xlabel="width", ylabel="|f − f linearised|", title="Own tangent")
    widths.set_xticks(n, [str(v) for v in n])
    widths.minorticks_off()
    widths.legend()


def instead(**beliefs):
    """A rival that believes in another clock, or in a covariance without its cross terms."""
    return lambda problem, prediction: prediction | predicted(problem, *blocks(problem), **beliefs)


def wrong_kernel(problem, prediction):
    """Trained as if the readout alone moved."""
    _, nngp = blocks(problem)
    return prediction | predicted(problem, nngp, nngp)


STUDY = Study(
    title="Linearised training of wide networks",
    question="Which functions do wide networks pass through while they learn, and how far apart are they?",
    source="Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15; Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572)",
    regimes=("lazy",),
    asks="when",
    sizes={
        "smoke": dict(
            dimension=4,
            samples=6,
            tests=8,
            network=dict(depth=2, activation="erf", weight_variance=2.25, bias_variance=0.01),
            lr=0.4,
            steps=(0, 2, 8, 30),
            width=128,
            runs=160,
            widths=(256, 512, 1024),
            pairs=64,
        ),
        "paper": dict(
            dimension=4,
            samples=6,
            tests=24,
            network=dict(depth=2, activation="erf", weight_variance=2.25, bias_variance=0.01),
            lr=0.1,
            steps=(0, 8, 40, 200),
            width=4096,
            runs=1000,
            widths=(512, 1024, 2048, 4096),
            pairs=200,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The mean of the networks' outputs is the predicted one, at every test point and time.",
            lambda p, o: z_score(p["mean"], o["outputs"]),
            5,
            "Five standard errors of the mean; what finite width adds, of order 1/width, is a fraction of one.",
        ),
        Claim(
            "So is their covariance, between all test points at every time.",
            covariance_score,
            5,
            "Five standard errors of a Gaussian's sample covariance, with depth/width of the start's variance in them.",
        ),
        Claim(
            "A network (with one hidden layer) departs from its own tangent in proportion to 1/width.",
            lambda p, o: rate(o["widths"], o["departures"], -1.0),
            0.3,
            "Departures scatter by a factor of two between networks: 64 of them leave 0.09, the next order 0.1.",
        ),
    ),
    rivals=(
        Rival("All layers are trained, but the end is the Bayesian posterior: the NNGP kernel moves f.", wrong_kernel),
        Rival(
            "The spread is that of two independent parts: K + A K A^T without cross terms.", instead(cross_terms=False)
        ),
        Rival(
            "Time is lr · steps of the sum over samples, not of the mean.",
            lambda problem, prediction: instead(clock=problem.samples)(problem, prediction),
        ),
        Rival("The factor 1/2 of the loss is forgotten: learning is twice as fast.", instead(clock=2.0)),
    ),
    draw=draw,
    formulas=(
        "kernels.linearised_training.mean",
        "kernels.linearised_training.variance",
        "kernels.linearised_training.descent_filter",
    ),
)
