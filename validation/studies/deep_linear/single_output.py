"""Single output: on few samples a deep linear network keeps more, or less, of its start than a shallow one."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import aligned, squared_error
from sims.training import gradient_descent
from theory.deep_linear.single_output import first_layer, interpolator, single_output_flow
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study


def problem(settings, seed):
    """Fewer samples than dimensions, in columns, with orthogonal inputs of unit mean square, and a start."""
    rng = np.random.default_rng(seed)
    d, p = settings["inputs"], settings["samples"]
    x = np.sqrt(p) * np.linalg.qr(rng.standard_normal((d, p)))[0] * np.linspace(1.1, 0.8, p)
    teacher = rng.standard_normal(d)
    w0 = rng.standard_normal(d)
    y = 2 * x.T @ teacher / np.linalg.norm(x @ x.T @ teacher / p)
    return SimpleNamespace(**settings, seed=seed, x=x, y=y, w0=settings["start"] * w0 / np.linalg.norm(w0))


def step_error(problem, depth):
    """Leading error of the map per unit of learning rate: the row theta of the first layer, and the layers above."""
    sxx, syx = problem.x @ problem.x.T / problem.samples, problem.x @ problem.y / problem.samples

    def field(layers):
        theta, above = layers
        g = syx - above ** (depth - 1) * sxx @ theta
        return above ** (depth - 1) * g, above ** (depth - 2) * (theta @ g) if depth > 1 else jnp.zeros(())

    theta = first_layer(problem.w0, depth)
    start = (theta, jnp.linalg.norm(theta))
    (theta, above), (e_theta, e_above) = descent_error(field, np.asarray(problem.t), start)
    inner = (depth - 1) * above ** max(depth - 2, 0) * e_above
    return np.asarray(above[:, None] ** (depth - 1) * e_theta + inner[:, None] * theta)


def predict(problem):
    sxx, syx = problem.x @ problem.x.T / problem.samples, problem.x @ problem.y / problem.samples
    t = np.asarray(problem.t)
    flows = [single_output_flow(t, problem.w0, sxx, syx, n) for n in problem.depth]
    return {
        "t": t,
        "w": np.stack(flows),
        "error_per_lr": np.stack([step_error(problem, n) for n in problem.depth]),
        "final": np.stack([interpolator(problem.w0, problem.x, problem.y, n) for n in problem.depth]),
    }


def simulate_networks(problem):
    """Gradient descent on all layers of networks with one output, from a balanced start, at several step sizes."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)[None]
    size = np.linalg.norm(problem.w0)
    direction = jnp.asarray(problem.w0 / size)[:, None]

    def maps(depth):
        # One simulation for all step sizes, so that it is compiled once.
        trained = gradient_descent(
            lambda key, _: aligned(
                key, jnp.ones((1, 1)), direction, jnp.full((depth, 1), size ** (1 / depth)), problem.hidden
            ),
            lambda network: squared_error(network, x, y),
            "lr",
            lambda network, _: network.product()[0],
        )
        steps = [np.rint(np.asarray(problem.t) / lr).astype(int) for lr in problem.lr]
        runs = [simulate(trained, grid([problem.seed], lr=[lr]), k) for lr, k in zip(problem.lr, steps, strict=True)]
        return [run.records[0] for run in runs]

    return {"lr": np.asarray(problem.lr), "w": np.stack([maps(depth) for depth in problem.depth])}


def deviation(prediction, observation):
    """Largest |w_network - w_theory| at each step size, over depths, times and directions."""
    return np.abs(observation["w"] - prediction["w"][:, None]).max(axis=(0, 2, 3))


def smallest_step(prediction, observation):
    """Deviation left by the leading error, at the smallest step, in units of that error, worst over depths."""
    lr = observation["lr"][-1]
    leading = lr * prediction["error_per_lr"]
    scale = np.abs(leading).max(axis=(1, 2), keepdims=True)
    return gap(prediction["w"] + leading, observation["w"][:, -1], scale)


def end(prediction, observation):
    """Distance of the last map, extrapolated to steps of no size, from the predicted interpolator."""
    w, lr = observation["w"][:, :, -1], observation["lr"]
    extrapolated = w[:, -1] + (w[:, -1] - w[:, -2]) * lr[-1] / (lr[-2] - lr[-1])
    scale = np.abs(w[:, -1] - w[:, -2]).max() + np.exp(-prediction["t"][-1] / 2)
    return gap(prediction["final"], extrapolated, scale)


def frozen_part(problem, w):
    """Size of the part of maps w (..., d) that the inputs do not reach."""
    q = np.linalg.qr(problem.x)[0]
    return np.linalg.norm(w - (w @ q) @ q.T, axis=-1)


def draw(figure, problem, prediction, observation):
    frozen, fitted = figure.subplots(1, 2)
    t = prediction["t"]
    for i, depth in enumerate(problem.depth):
        for show, w in ((style.theory, prediction["w"][i]), (style.networks, observation["w"][i, -1])):
            label = f"N = {depth}" if show is style.theory else None
            show(frozen, t, frozen_part(problem, w), i=i, label=label)
            show(fitted, t, np.mean((problem.y - w @ problem.x) ** 2, axis=1), i=i)
    frozen.set(xlabel="time  t = lr · steps", ylabel="|map outside the inputs' span|", title="Frozen, or not")
    frozen.legend()
    fitted.set(xlabel="time  t", ylabel="training error", title="Fit of the samples")


def least_norm(problem, prediction):
    """Whatever its start, a network ends at the interpolator of least norm."""
    return prediction | {"final": prediction["final"] * 0 + np.linalg.pinv(problem.x.T) @ problem.y}


def frozen_map(problem, prediction):
    """The map itself, not the first layer, is frozen outside the inputs' span, at any depth."""
    q = np.linalg.qr(problem.x)[0]
    frozen = problem.w0 - q @ (q.T @ problem.w0)
    return prediction | {"final": least_norm(problem, prediction)["final"] + frozen}


def linear_model(problem, prediction):
    """Depth changes nothing, since the map is linear."""
    return prediction | {"w": np.broadcast_to(prediction["w"][:1], prediction["w"].shape)}


STUDY = Study(
    title="Single output",
    question="What does a deep linear network do in directions of which its samples say nothing?",
    source="Advani & Saxe 2017 (arXiv:1710.03667), frozen subspace; Arora, Cohen & Hazan 2018 (arXiv:1802.06509)",
    problem=problem,
    regimes=("linear",),
    asks="what",
    sizes={
        "smoke": dict(
            depth=(1, 3),
            inputs=8,
            samples=3,
            start=0.3,
            hidden=8,
            lr=(0.04, 0.02, 0.01),
            t=(*np.arange(20) * 0.2, *np.arange(5, 21) * 0.8),
        ),
        "paper": dict(
            depth=(1, 2, 3, 5),
            inputs=40,
            samples=15,
            start=0.3,
            hidden=64,
            lr=(0.008, 0.004, 0.002),
            t=(*np.arange(20) * 0.2, *np.arange(5, 39) * 0.8),
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Networks of any depth depart from the flow of their map only by their step error.",
            smallest_step,
            0.2,
            "After the leading error lr·e(t) is added, the next order is lr times the largest curvature of it.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.1,
            "First order, with a curvature of lr times the largest curvature over the three step sizes.",
        ),
        Claim(
            "They end at the least-norm interpolator plus their frozen part, rescaled by the layers above.",
            end,
            1,
            "Extrapolation leaves less than the last halving of the step; training leaves exp(-t/2).",
        ),
    ),
    rivals=(
        Rival("Whatever its start, a network ends at the interpolator of least norm.", least_norm),
        Rival("The map is frozen outside the inputs' span, at any depth.", frozen_map),
        Rival("The map is linear, so that depth changes nothing.", linear_model),
    ),
    draw=draw,
    formulas=("deep_linear.single_output.interpolator_two", "deep_linear.single_output.interpolator_three"),
)
