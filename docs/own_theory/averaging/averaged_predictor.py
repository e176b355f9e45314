"""Averaged predictor: the average of all checkpoints learns each mode late, and without the abrupt rise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from averaging.averaged_predictor_theory import averaged_strength
from sims.engine import every, grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss, semi_orthogonal
from sims.probes.linear import mode_strengths
from sims.training import gradient_descent
from theory.deep_linear.modes import mode_strength
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study


def time_average(values, step):
    """The mean of `values` (times, ...) from the first time to each, by the trapezoidal rule."""
    area = np.cumsum((values[1:] + values[:-1]) / 2, axis=0) * step
    spent = step * np.arange(1, len(values)).reshape(-1, *(1,) * (values.ndim - 1))
    return np.concatenate([values[:1], area / spent])


def predict(problem):
    """The average strengths, and the leading error that steps of size lr make on them."""
    t, s = np.arange(problem.times) * problem.interval, jnp.asarray(problem.s)
    a, e = jax.vmap(lambda s: descent_error(lambda a: a * (s - a**2), t, jnp.sqrt(problem.u0)), out_axes=1)(s)
    return {
        "t": t,
        "average": np.asarray(averaged_strength(t[:, None], s, problem.u0)),
        "last": np.asarray(mode_strength(t[:, None], s, problem.u0)),
        "error_per_lr": time_average(np.asarray(2 * a * e), problem.interval),
    }


def simulate_networks(problem):
    """Gradient descent on all weights at several step sizes, and the mean of all checkpoints so far."""
    s = jnp.asarray(problem.s)
    left, right = (semi_orthogonal(jax.random.key(i), problem.width, len(s)) for i in (0, 1))
    start = jnp.full((2, len(s)), jnp.sqrt(problem.u0))
    averages = []
    for lr in problem.lr:
        trained = gradient_descent(
            lambda key, _: aligned(key, left, right, start, problem.width),
            lambda network: correlation_loss(network, jnp.eye(problem.width), (left * s) @ right.T),
            lr,
            lambda network, _: mode_strengths(network, left, right),
        )
        between = round(problem.interval / lr)
        records = simulate(trained, grid(seeds=[problem.seed]), every(between * (problem.times - 1), 1)).records[0]
        averages.append(time_average(np.asarray(records), lr)[::between])
    return {"lr": np.asarray(problem.lr), "average": np.stack(averages)}


def deviation(prediction, observation):
    """Largest deviation of the networks from the theory, at each step size."""
    return np.abs(observation["average"] - prediction["average"]).max(axis=(1, 2))


def draw(figure, problem, prediction, observation):
    axes = figure.subplots()
    for i, s in enumerate(problem.s):
        style.theory(axes, prediction["t"], prediction["average"][:, i], i=i, label=f"average, s = {s:g}")
        style.networks(axes, prediction["t"], observation["average"][-1][:, i], i=i)
        style.rival(axes, prediction["t"], prediction["last"][:, i], label="last checkpoint" if i == 0 else None)
    axes.set(xlabel="time  t = lr · steps", ylabel="mode strength", title="Strength of the modes in the predictions")
    axes.legend()


STUDY = Study(
    title="Averaged predictor",
    question="How late does the average of all checkpoints learn what the last checkpoint learned abruptly?",
    source="the time average of the logistic mode of Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120)",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(s=(3.0, 1.5), u0=1e-3, width=8, lr=(0.02, 0.01, 0.005), interval=0.1, times=81),
        "paper": dict(s=(3.0, 1.5), u0=1e-3, width=64, lr=(0.004, 0.002, 0.001), interval=0.1, times=121),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Averages of trained networks depart from the formula only by the step error of the networks.",
            lambda p, o: gap(
                p["average"] + o["lr"][-1] * p["error_per_lr"],
                o["average"][-1],
                o["lr"][-1] * np.abs(p["error_per_lr"]).max(),
            ),
            0.2,
            "After the leading error the next order is lr·s ≈ 2 % of it per unit of log-growth ln(s/u0) ≈ 8.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.1,
            "First order, with a curvature of about lr·s·ln(s/u0) over the three step sizes.",
        ),
    ),
    rivals=(
        Rival(
            "Averaging changes nothing: the average is as good as the last checkpoint.",
            lambda problem, p: p | {"average": p["last"]},
        ),
        Rival(
            "The average is where the last checkpoint was at half the time, which is right half-way up.",
            lambda problem, p: (
                p | {"average": np.asarray(mode_strength(p["t"][:, None] / 2, np.asarray(problem.s), problem.u0))}
            ),
        ),
    ),
    draw=draw,
    formulas=("averaging.averaged_predictor_derivation.mean_strength",),
)
