"""Two-layer modes: each singular mode waits on a plateau, then rises, strongest first."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss, semi_orthogonal
from sims.probes.linear import mode_strengths
from sims.training import gradient_descent
from theory.deep_linear.modes import mode_strength
from theory.flow import descent_error
from validation import style
from validation.metrics import disorder, gap, rate
from validation.study import Claim, Rival, Study


def predict(problem):
    """Logistic modes, and the leading error that steps of size lr make on them."""
    t = np.asarray(problem.t)
    s = np.asarray(problem.s)
    u = jax.vmap(lambda s: mode_strength(t, s, problem.u0))(s).T
    a, e = jax.vmap(lambda s: descent_error(lambda a: a * (s - a**2), t, jnp.sqrt(problem.u0)), out_axes=1)(s)
    return {
        "t": t,
        "u": u,
        "error_per_lr": 2 * a * e,
        "half_time": np.log(s / problem.u0 - 1) / (2 * s),
    }


def simulate_networks(problem):
    """Gradient descent on all weights, from an aligned balanced start, at several step sizes."""
    s = jnp.asarray(problem.s)
    left, right = (semi_orthogonal(jax.random.key(i), problem.width, len(s)) for i in (0, 1))
    syx = (left * s) @ right.T
    start = jnp.full((2, len(s)), jnp.sqrt(problem.u0))
    strengths = []
    for lr in problem.lr:
        trained = gradient_descent(
            lambda key, _: aligned(key, left, right, start, problem.width),
            lambda network: correlation_loss(network, jnp.eye(problem.width), syx),
            lr,
            lambda network, _: mode_strengths(network, left, right),
        )
        steps = np.rint(np.asarray(problem.t) / lr).astype(int)
        strengths.append(simulate(trained, grid(seeds=[problem.seed]), steps).records[0])
    return {"lr": np.asarray(problem.lr), "u": np.stack(strengths)}


def deviation(prediction, observation):
    """Largest |u_network - u_theory| at each step size."""
    return np.abs(observation["u"] - prediction["u"]).max(axis=(1, 2))


def crossing(prediction, observation):
    """When each mode of the networks with the smallest step passes half its final strength."""
    u = observation["u"][-1]
    return [np.interp(0.5 * mode[-1], mode, prediction["t"]) for mode in u.T]


def draw(figure, problem, prediction, observation):
    axes, errors = figure.subplots(1, 2, width_ratios=(1.7, 1))
    t = prediction["t"]
    for i, s in enumerate(problem.s):
        style.theory(axes, t, prediction["u"][:, i], i=i, label=f"s = {s:g}")
        style.networks(axes, t, observation["u"][-1][:, i], i=i)
        style.rival(axes, t, s * (1 - np.exp(-t)), label="one layer" if i == 0 else None)
    axes.set(xlabel="time  t = lr · steps", ylabel="mode strength u", title="Strengths of the modes")
    axes.legend()
    lr = observation["lr"]
    leading = np.abs(prediction["error_per_lr"]).max()
    style.theory(errors, lr, leading * lr, i=4, label="leading error, lr · max|e|")
    style.networks(errors, lr, deviation(prediction, observation), i=4, label="networks")
    errors.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="max |Δu|", title="Deviation")
    errors.legend()


def instead(curve):
    """A rival that believes in another curve u(t; s, u0)."""
    return lambda problem, prediction: (
        prediction | {"u": curve(np.asarray(problem.t)[:, None], np.asarray(problem.s), problem.u0)}
    )


STUDY = Study(
    title="Two-layer modes",
    question="Why does a linear network learn in stages, although its loss is smooth and its map is linear?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eqs. 6-12",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            s=(3.0, 2.0, 1.0),
            u0=1e-3,
            width=16,
            lr=(0.02, 0.01, 0.005),
            t=tuple(np.arange(81) * 0.1),
        ),
        "paper": dict(
            s=(3.0, 2.0, 1.0),
            u0=1e-4,
            width=128,
            lr=(0.004, 0.002, 0.001),
            t=tuple(np.arange(121) * 0.1),
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Gradient descent departs from the logistic modes only by its own step error.",
            lambda p, o: gap(
                p["u"] + o["lr"][-1] * p["error_per_lr"],
                o["u"][-1],
                o["lr"][-1] * np.abs(p["error_per_lr"]).max(),
            ),
            0.2,
            "After the leading error lr·e(t) is added, the next order is lr·s ≈ 2 % of it per unit of log-growth "
            "ln(s/u0) ≈ 8.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.1,
            "First order, with a curvature of about lr·s·ln(s/u0) over the three step sizes.",
        ),
        Claim(
            "Stronger modes are learned first.",
            lambda p, o: disorder(crossing(p, o)),
            0,
            "An order has no error.",
        ),
    ),
    rivals=(
        Rival(
            "A shallow network: all modes share one time constant.",
            instead(lambda t, s, u0: s + (u0 - s) * np.exp(-t)),
        ),
        Rival(
            "Time runs half as fast: du/dt = u (s - u).",
            instead(lambda t, s, u0: s * u0 / (u0 + (s - u0) * np.exp(-s * t))),
        ),
        Rival(
            "The theory linearised at the start: u = u0 exp(2 s t), cut at s.",
            instead(lambda t, s, u0: np.minimum(u0 * np.exp(2 * s * t), s)),
        ),
    ),
    draw=draw,
    formulas=("deep_linear.modes.two_layer",),
)
