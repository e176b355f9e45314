"""From the kernel to the rich regime: the scale of the start picks the interpolator, from least L2 to least L1 norm."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.diagonal import constant, mean_squared_error
from sims.training import training
from theory.deep_linear.diagonal import DiagonalRegression, descent_shift
from theory.deep_linear.implicit_bias import interpolator
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study


def draw_problem(settings, seed):
    """Noisy sparse regression, drawn until every network can come to rest within the steps that are given."""
    n, d, values = settings["samples"], settings["features"], settings["values"]
    alpha, depth = np.asarray(settings["alpha"]), np.asarray(settings["depth"])[:, None]
    draws = np.random.default_rng(seed)
    for _ in range(100):
        x, truth = draws.normal(size=(n, d)), np.zeros(d)
        truth[draws.choice(d, len(values), replace=False)] = values
        y = x @ truth + settings["noise"] * draws.normal(size=n)
        # Steps in units of the fastest rate that a coefficient of size `largest` and the start can have.
        top = np.linalg.eigvalsh(x @ x.T).max() / n
        fastest = depth**2 * top * (settings["largest"] ** (2 - 2 / depth) + 2 * alpha ** (2.0 * depth - 2))
        problem = SimpleNamespace(**settings, seed=seed, x=x, y=y, truth=truth, unit=1 / fastest)
        if all(comes_to_rest(problem, *run) for run in np.ndindex(fastest.shape)):
            return problem
    raise ValueError("settings must allow data that the networks interpolate, got none in 100 draws")


def shifts(problem, i, j):
    """Shift of the effective start (ln alpha, c) per learning rate: halfway through the descent, and at its end."""
    end = problem.unit[i, j] * min(problem.step) * problem.steps
    regression = DiagonalRegression(problem.x, problem.y, np.log(problem.alpha[j]), 0.0, problem.depth[i])
    return np.stack(descent_shift(np.array([end / 2, end]), regression, tolerance=1e-10), axis=1)


def comes_to_rest(problem, i, j):
    """Whether the shift, an integral of squared gradients, is all done halfway: these fall by 1e-4, and once more."""
    halfway, end = shifts(problem, i, j)
    return np.abs(end - halfway).max() < 1e-8 * np.abs(end).max()


@partial(jax.jit, static_argnums=4)
@partial(jax.vmap, in_axes=(None, None, 0, 0, None))
def reached(x, y, log_alpha, c, depth):
    """The interpolators of several starts."""
    return interpolator(DiagonalRegression(x, y, log_alpha, c, depth)).beta


def of_start(problem, log_alpha, depth):
    """Interpolators of starts u0 = v0 = alpha."""
    start = np.repeat(np.asarray(log_alpha)[:, None], problem.features, axis=1)
    return np.asarray(reached(problem.x, problem.y, start, np.zeros_like(start), depth))


def predict(problem):
    """The interpolators of the flow, and those of the effective starts of gradient descent at each step."""
    log_alpha = np.log(problem.alpha)
    effective = np.empty((len(problem.depth), len(problem.alpha), len(problem.step), problem.features))
    for i, depth in enumerate(problem.depth):
        per_lr = np.stack([shifts(problem, i, j)[-1] for j in range(len(problem.alpha))])
        for k, step in enumerate(problem.step):
            move = per_lr * step * problem.unit[i][:, None, None]
            effective[i, :, k] = reached(problem.x, problem.y, log_alpha[:, None] + move[:, 0], move[:, 1], depth)
    beta = np.stack([of_start(problem, log_alpha, depth) for depth in problem.depth])
    return {
        "beta": beta,
        "effective": effective,
        "shift": np.abs(effective - beta[:, :, None]).max(axis=-1),
        # A start of e^-1000 is as good as none.
        "least_l1": of_start(problem, np.full(len(log_alpha), -1000.0), 2)[0],
        "least_l2": np.linalg.pinv(problem.x) @ problem.y,
        "line": line(problem),
        "alpha": np.asarray(problem.alpha),
        "depth": np.asarray(problem.depth),
    }


def line(problem):
    """Starts in between, and their interpolators at each depth: (starts,) and (depth, starts, features)."""
    size = len(problem.alpha)
    starts = np.linspace(*np.log(np.array(problem.alpha)[[0, -1]]), 7 * size)
    beta = [[of_start(problem, part, depth) for part in np.split(starts, 7)] for depth in problem.depth]
    return np.exp(starts), np.stack([np.concatenate(parts) for parts in beta])


def simulate_networks(problem):
    """Gradient descent to convergence, for each depth, start and step: (depth, alpha, step, features)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    beta = []
    for depth, units in zip(problem.depth, problem.unit, strict=True):
        descent = training(
            lambda _, hyper, depth=depth: constant(hyper["start"][0], problem.features, depth),
            lambda network, _: mean_squared_error(network, x, y),
            lambda hyper: optax.sgd(hyper["start"][1] * hyper["step"]),
            lambda _, __: None,
            lambda network, _: network.coefficients(),
        )
        starts = [np.array(pair) for pair in zip(problem.alpha, units, strict=True)]
        runs = grid(seeds=[problem.seed], start=starts, step=problem.step)
        beta.append(simulate(descent, runs, [problem.steps]).on_grid()[0, :, :, 0])
    return {"step": np.asarray(problem.step), "beta": np.stack(beta)}


def departure(prediction, observation):
    """Mean over depths and starts of |networks - interpolator| at each step, over the shift by the largest step."""
    distance = np.abs(observation["beta"] - prediction["beta"][:, :, None]).max(axis=-1)
    return (distance / prediction["shift"][..., :1]).mean(axis=(0, 1))


def from_least_l2(prediction, observation):
    """Distance of the networks of the smallest step from the least-L2 interpolator, (depth, alpha)."""
    return np.linalg.norm(observation["beta"][:, :, -1] - prediction["least_l2"], axis=-1)


def excess(prediction, beta):
    """L1 norm over the least that interpolates."""
    return np.abs(beta).sum(axis=-1) - np.abs(prediction["least_l1"]).sum()


def kernel_order(prediction, observation):
    """Largest |slope + 2 D| / 2 D of the distance from least L2 against alpha, over its three largest values."""
    distance, alpha = from_least_l2(prediction, observation), prediction["alpha"]
    return max(
        rate(alpha[-3:], row[-3:], -2.0 * d) / (2 * d) for row, d in zip(distance, prediction["depth"], strict=True)
    )


def deeper_is_sparser(prediction, observation):
    """Starts below one at which the deeper network has no smaller L1 norm, less those at which it is predicted."""
    small = prediction["alpha"] < 1

    def out_of_order(beta):
        norms = np.abs(beta[:, small]).sum(axis=-1)
        return norms[1:] >= norms[:-1]

    return int(np.sum(out_of_order(observation["beta"][:, :, -1]) != out_of_order(prediction["beta"])))


def instead(belief):
    """A rival that believes in other interpolators: belief(problem, prediction, depth, log_alpha) -> (alpha, d)."""

    def rival(problem, prediction):
        log_alpha = np.log(prediction["alpha"])
        beta = np.stack([belief(problem, prediction, d, log_alpha) for d in problem.depth])
        shift = prediction["effective"] - prediction["beta"][:, :, None]
        return prediction | {"beta": beta, "effective": beta[:, :, None] + shift}

    return rival


def no_shift(problem, prediction):
    """The steps are taken for the flow."""
    return prediction | {"effective": np.repeat(prediction["beta"][:, :, None], len(problem.step), axis=2)}


def draw(figure, problem, prediction, observation):
    norms, kernel, steps = figure.subplots(1, 3)
    alpha, found, (between, curves) = prediction["alpha"], observation["beta"][:, :, -1], prediction["line"]
    distance = np.abs(observation["beta"] - prediction["beta"][:, :, None]).max(axis=-1)
    for i, depth in enumerate(prediction["depth"]):
        theory, networks = (dict(i=i, label=f"{who}, D = {depth}") for who in ("theory", "networks"))
        style.theory(norms, between, excess(prediction, curves[i]), **theory)
        style.networks(norms, alpha, excess(prediction, found[i]), **networks)
        style.theory(kernel, between, np.linalg.norm(curves[i] - prediction["least_l2"], axis=-1), i=i)
        style.networks(kernel, alpha, from_least_l2(prediction, observation)[i], i=i)
        style.theory(steps, observation["step"], prediction["shift"][i].max(axis=0), i=i)
        style.networks(steps, observation["step"], distance[i].max(axis=0), i=i)
    for name, label in (("least_l2", "least L2 and L1"), ("least_l1", None)):
        style.rival(norms, alpha, np.full(len(alpha), excess(prediction, prediction[name])), label=label)
    norms.set(xscale="log", xlabel="start α", ylabel="|β|₁ − least |β|₁", title="L1 norm, over the least")
    norms.set_ylim(top=1.75 * excess(prediction, prediction["least_l2"]))
    kernel.set(xscale="log", yscale="log", xlabel="start α", ylabel="|β − β(L2)|", title="From kernel regression")
    steps.set(xscale="log", yscale="log", xlabel="step × fastest rate", ylabel="|β − β(flow)|", title="From the flow")
    steps.set_xticks(observation["step"], [f"{step:g}" for step in observation["step"]])
    steps.set_xticks([], minor=True)
    norms.legend(loc="upper right", fontsize=7.5)


STUDY = Study(
    title="Diagonal networks from kernel to rich",
    question="Of all the ways to fit the data, which one does a network find, and what has its start to do with it?",
    source="Woodworth et al. 2020 (arXiv:2002.09277), theorem 1 and the section on higher-order models",
    regimes=("linear", "lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            samples=3,
            features=10,
            values=(1.5, -1.0),
            noise=0.3,
            depth=(2, 3),
            alpha=(0.1, 0.2, 0.4, 0.8, 2.0, 3.0, 4.5),
            largest=2.0,
            step=(0.4, 0.2, 0.1),
            steps=40_000,
        ),
        "paper": dict(
            samples=20,
            features=60,
            values=(1.0, 1.0, -1.0, 1.0, -1.0),
            noise=0.3,
            depth=(2, 3),
            alpha=(0.1, 0.2, 0.4, 0.8, 2.0, 3.0, 4.5),
            largest=1.5,
            step=(0.4, 0.2, 0.1),
            steps=1_000_000,
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Gradient descent ends at the interpolator of its effective start.",
            lambda p, o: gap(p["effective"][:, :, -1], o["beta"][:, :, -1], p["shift"][:, :, -1:]),
            0.1,
            "In units of the shift by the steps. What is left is smaller by a number of order one times the step, "
            "which is 0.1 of the inverse of the fastest rate.",
        ),
        Claim(
            "Its distance from the interpolator of the flow vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["step"], departure(p, o), 1.0),
            0.18,
            "Steps of 0.4 to 0.1 of the inverse of the fastest rate: a next order of relative size one times the step "
            "bends the slope by ln(1.4/1.1)/ln 4.",
        ),
        Claim(
            "From large starts the least-L2 interpolator is approached as α^(-2D).",
            kernel_order,
            0.1,
            "The next order is smaller by β²/α^(2D), at most 1/4 at α = 2: over α = 2 to 4.5 it bends the slope by "
            "at most ln(1.25)/ln(2.25), 7 % of 2D.",
        ),
        Claim(
            "At the same small start the deeper network has the smaller L1 norm, wherever that is predicted.",
            deeper_is_sparser,
            0,
            "An order has no error.",
        ),
    ),
    rivals=(
        Rival("Gradient descent ends where the flow does.", no_shift),
        Rival(
            "Least L2 norm at every start.",
            instead(lambda problem, p, depth, log_alpha: np.tile(p["least_l2"], (len(log_alpha), 1))),
        ),
        Rival(
            "Least L1 norm at every start.",
            instead(lambda problem, p, depth, log_alpha: np.tile(p["least_l1"], (len(log_alpha), 1))),
        ),
        Rival(
            "The potential of depth 2 at every depth.",
            instead(lambda problem, p, depth, log_alpha: of_start(problem, log_alpha, 2)),
        ),
        Rival(
            "Coefficients in units of 2 α^D: the link without its factor 2, β = α² sinh.",
            instead(lambda problem, p, depth, log_alpha: of_start(problem, log_alpha - np.log(2) / depth, depth)),
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.implicit_bias.depth_two",
        "deep_linear.implicit_bias.depth_three",
        "deep_linear.diagonal.descent_shift",
    ),
)
