"""Depth: what more layers do to the shape of a mode's rise, and what they cost in time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from sims.engine import every, grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss, semi_orthogonal
from sims.probes.linear import mode_strengths
from sims.training import gradient_descent
from theory.deep_linear.learning_time import infinite_depth_time, learning_time
from theory.deep_linear.modes import mode_strength
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

FIXED_START, FIXED_LAYERS = 0, 1


def starts(problem):
    """Strength at t = 0 by depth, from the same strength u0 of the map, and from the same strength a0 of each layer."""
    depths = np.asarray(problem.depths)
    return np.stack([np.full(len(depths), problem.u0), problem.a0**depths], axis=1)


def clock(problem, i):
    """Recorded values of N t at the i-th depth, and the steps of the largest size between them."""
    interval = round(problem.ends[i] / (problem.records * problem.lr[0]))
    return np.arange(problem.records + 1) * interval * problem.lr[0], interval


def predict(problem):
    """Mode strengths and learning times, and the leading error that steps of size lr / N make on both."""
    depths, start = np.asarray(problem.depths), starts(problem)
    nt = np.stack([clock(problem, i)[0] for i in range(len(depths))])
    end = problem.share * problem.s
    by_start = jax.vmap(step_error, in_axes=(None, None, 0, None))
    error = jax.jit(jax.vmap(by_start, in_axes=(0, None, 0, 0)))(nt, problem.s, start, depths.astype(float))
    time = np.array([n * learning_time(end, problem.s, u0, depth=int(n)) for n, u0 in zip(depths, start, strict=True)])
    at_end = [
        [CubicSpline(t, e)(x) for e, x in zip(*pair, strict=True)] for t, *pair in zip(nt, error, time, strict=True)
    ]
    return {
        "u": np.stack(
            [mode_strength(nt[i] / n, problem.s, start[i][:, None], depth=int(n)) for i, n in enumerate(depths)]
        ),
        "error_per_lr": np.asarray(error),
        "depth_time": time,
        "delay_per_lr": -np.array(at_end) / (end ** (2 - 2 / depths[:, None]) * (problem.s - end)),
        "limit": infinite_depth_time(end, problem.s, problem.u0),
    }


def step_error(nt, s, u0, depth):
    """Error of u per lr, from descent with step lr / N on the layers' common strength a = u^{1/N}."""
    layer, error = descent_error(lambda a: a ** (depth - 1) * (s - a**depth), nt / depth, u0 ** (1 / depth))
    return layer ** (depth - 1) * error


def simulate_networks(problem):
    """Gradient descent on all weights from aligned balanced starts, with learning rates lr / N."""
    left, right = (semi_orthogonal(jax.random.key(i), problem.width, 1) for i in (0, 1))
    syx = problem.s * left @ right.T
    slower = [round(problem.lr[0] / lr) for lr in problem.lr]
    strengths, crossings = [], []
    for i, (depth, start) in enumerate(zip(problem.depths, starts(problem), strict=True)):
        trained = gradient_descent(
            lambda key, hyper, n=depth: aligned(key, left, right, jnp.full((n, 1), hyper["layer"]), problem.width),
            lambda network: correlation_loss(network, jnp.eye(problem.width), syx),
            "lr",
            lambda network, _: mode_strengths(network, left, right)[0],
        )
        nt, interval = clock(problem, i)
        runs = grid(seeds=[problem.seed], layer=start ** (1 / depth), lr=np.asarray(problem.lr) / depth)
        # Runs with larger steps are read earlier, at the same times.
        records = simulate(trained, runs, every(interval * problem.records * slower[-1], interval)).on_grid()[0]
        u = np.stack([records[:, j, ::k][:, : len(nt)] for j, k in enumerate(slower)], axis=1)
        strengths.append(u)
        crossings.append([crossing(nt, run, problem.share * problem.s, problem.s) for run in u[:, -1]])
    return {"lr": np.asarray(problem.lr), "u": np.stack(strengths, axis=1), "depth_time": np.array(crossings)}


def crossing(nt, u, end, s):
    """When u passes `end`; close to s it is ln(s - u) that falls evenly. NaN if it never does."""
    relaxed = -np.log(np.maximum(s - u, 1e-9 * s))
    if not np.isfinite(u).all():
        return np.nan
    passed = CubicSpline(nt, relaxed).solve(-np.log(s - end), extrapolate=False)
    return passed[0] if len(passed) else np.nan


def deviation(prediction, observation):
    """Largest |u_network - u_theory| at each step size, over depths, starts and times."""
    return np.abs(observation["u"] - prediction["u"].swapaxes(0, 1)[:, :, None]).max(axis=(0, 1, 3))


def descent_gap(prediction, observation):
    """What the smallest steps leave once their leading error is added, in units of it."""
    lr, error = observation["lr"][-1], prediction["error_per_lr"].swapaxes(0, 1)
    return gap(prediction["u"].swapaxes(0, 1) + lr * error, observation["u"][:, :, -1], lr * np.abs(error).max())


def time_gap(prediction, observation):
    """The same for the learning times, each in units of its own delay."""
    delay = observation["lr"][-1] * prediction["delay_per_lr"]
    return gap(prediction["depth_time"] + delay, observation["depth_time"], np.abs(delay))


def draw(figure, problem, prediction, observation):
    shapes, costs = figure.subplots(1, 2, width_ratios=(1.4, 1))
    for i, depth in enumerate(problem.depths):
        nt, _ = clock(problem, i)
        style.theory(shapes, nt, prediction["u"][i, FIXED_LAYERS], i=i, label=f"N = {depth}")
        style.networks(shapes, nt, observation["u"][FIXED_LAYERS, i, -1], i=i, most=16)
    shapes.set(
        xlabel="N t = N · lr · steps", ylabel="mode strength u", title=f"The rise, every layer from {problem.a0:g}"
    )
    shapes.legend(loc="lower right")
    names = {FIXED_START: f"map from {problem.u0:g}", FIXED_LAYERS: f"layers from {problem.a0:g}"}
    for start, name in names.items():
        style.theory(costs, problem.depths, prediction["depth_time"][:, start], i=4 + start, label=name)
        style.networks(costs, problem.depths, observation["depth_time"][:, start], i=4 + start)
    style.rival(costs, problem.depths, np.full(len(problem.depths), prediction["limit"]), label="limit, N → ∞")
    ticks = [x for x in (3, 5, 10, 20, 40, 80) if x < 1.3 * prediction["depth_time"].max()]
    costs.set(yscale="log", xlabel="depth N", ylabel="N t", title=f"Time to {problem.share:.0%} of s")
    costs.set_yticks(ticks, labels=map(str, ticks))
    costs.minorticks_off()
    costs.legend()


def instead(law):
    """A rival that believes in another mode strength u(N t; s, u0, N), and in no other error of descent."""

    def believed(problem, prediction):
        u = [
            [law(clock(problem, i)[0], problem.s, u0, depth) for u0 in start]
            for i, (depth, start) in enumerate(zip(problem.depths, starts(problem), strict=True))
        ]
        end = problem.share * problem.s
        times = [
            [crossing(clock(problem, i)[0], np.asarray(run), end, problem.s) for run in runs]
            for i, runs in enumerate(u)
        ]
        return prediction | {"u": np.array(u), "depth_time": np.array(times)}

    return believed


STUDY = Study(
    title="Depth",
    question="Does a deeper linear network learn more slowly, and is its plateau the same as that of two layers?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), sections on deeper networks and on learning times",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            depths=(2, 3, 5, 8),
            ends=(5.0, 7.0, 13.0, 40.0),
            s=1.0,
            u0=0.3,
            a0=0.6,
            share=0.95,
            width=4,
            records=50,
            lr=(0.04, 0.02, 0.01),
        ),
        "paper": dict(
            depths=(2, 3, 5, 8, 10),
            ends=(5.0, 7.0, 13.0, 40.0, 100.0),
            s=1.0,
            u0=0.3,
            a0=0.6,
            share=0.95,
            width=64,
            records=100,
            lr=(0.02, 0.01, 0.005),
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "At every depth, gradient descent departs from du/dt = N u^{2-2/N} (s - u) only by its own step error.",
            descent_gap,
            0.2,
            "After the leading error is added, the next order is lr·s = 1 % of it, times the few units of growth "
            "that a rise takes.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.1,
            "First order; over a factor of four in step size the second order bends it by lr·s times a few.",
        ),
        Claim(
            "N times the learning time saturates from a fixed start and explodes from fixed layers, as predicted.",
            time_gap,
            0.2,
            "The delay by the step error is the unit; its next order is again some per cent.",
        ),
    ),
    rivals=(
        Rival(
            "Depth does not speed up the flow: du/dt = u^{2-2/N} (s - u), without the factor N.",
            instead(lambda nt, s, u0, depth: mode_strength(nt / depth**2, s, u0, depth=depth)),
        ),
        Rival(
            "The power is 2 - 1/N: du/dt = N u^{2-1/N} (s - u).",
            instead(lambda nt, s, u0, depth: mode_strength(nt / (2 * depth), s, u0, depth=2 * depth)),
        ),
        Rival(
            "Every depth rises as a logistic: du/dt = N u (s - u).",
            instead(lambda nt, s, u0, depth: mode_strength(nt / 2, s, u0)),
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.modes.plateau_of_three",
        "deep_linear.learning_time.depth_seven",
        "deep_linear.learning_time.infinite_depth",
    ),
)
