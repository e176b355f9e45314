"""Dynamical mean-field theory: outputs and kernels of deep networks that learn features, from single neurons."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.abc import layerwise, scaled
from sims.networks.centred import centred
from sims.training import training
from theory.lazy_rich.mean_field_linear import linear_mean_field
from theory.lazy_rich.mean_field_sampled import sampled_mean_field, single_neuron_noise
from validation import style
from validation.metrics import fitted_exponent
from validation.study import Claim, Problem, Rival, Study


def identity(h):
    return h


ACTIVATIONS = {"linear": identity, "tanh": jnp.tanh}


def problem(settings, seed):
    """Samples of length sqrt(d) and labels of order one, and one more point to generalise to."""
    rng, d = np.random.default_rng(seed), settings["inputs"]
    x = rng.normal(size=(settings["samples"] + 1, d))
    x *= np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.normal(size=settings["samples"])
    return Problem(**settings, seed=seed, x=x[:-1], new=x[-1:], y=y / np.sqrt(np.mean(y**2)))


def predict(problem, *, responses=True, factor=1.0):
    """Outputs (times, points) and last hidden kernel (times, points, points) of each case, with their errors."""
    return {
        name: limit(problem, name, depth, factor * problem.gamma, responses=responses)
        for name, depth in problem.cases.items()
    } | {"widths": np.asarray(problem.widths), "t": problem.lr * np.arange(problem.steps + 1)}


def limit(problem, name, depth, gamma, *, responses=True):
    """One network at infinite width: exactly where it is linear, else the mean over some sets of sampled neurons."""
    given = problem.x, problem.y, gamma, problem.lr
    if name == "linear" and responses:
        found = linear_mean_field(problem.steps, *given, depth, problem.new)
        return seen(found) | {"output_error": 0.0, "kernel_error": 0.0}
    keys = jax.random.split(jax.random.key(problem.seed), problem.sets)
    points = len(problem.x) + 1
    sets = []
    for key in keys:
        noise = single_neuron_noise(key, problem.neurons, problem.steps, points, depth)
        sets.append(seen(sampled_mean_field(noise, *given, ACTIVATIONS[name], problem.new, responses=responses)))
    found = {}
    for kind in ("output", "kernel"):
        values = np.stack([one[kind] for one in sets])
        found |= {kind: values.mean(axis=0), f"{kind}_error": values.std(axis=0, ddof=1) / np.sqrt(len(values))}
    return found


def seen(field):
    return {"output": np.asarray(field.outputs), "kernel": np.asarray(jnp.einsum("tmtn->tmn", field.features[-1]))}


def simulate_networks(problem):
    """Outputs and last hidden kernels of networks: for each case (widths, networks, times, ...)."""
    found = {}
    for name, depth in problem.cases.items():
        runs = [trained(problem, depth, width, ACTIVATIONS[name]) for width in problem.widths]
        found[name] = {kind: np.stack([np.asarray(run[kind]) for run in runs]) for kind in ("output", "kernel")}
    return found


def trained(problem, depth, width, activation):
    """Gradient descent on the centred output, at the rate gamma^2 N lr for every layer."""
    x, y, points = jnp.asarray(problem.x), jnp.asarray(problem.y), jnp.concatenate([problem.x, problem.new])
    d, gamma = x.shape[1], problem.gamma
    multipliers = (d**-0.5, *[width**-0.5] * (depth - 1), 1 / (gamma * width))
    widths = (d, *[width] * depth, 1)
    rate = gamma**2 * width * problem.lr

    def record(network, _):
        phi = activation(network.network.layers(points)[-2])
        return {"output": network(points)[:, 0], "kernel": phi @ phi.T / width}

    simulation = training(
        lambda key, _: centred(scaled(key, widths, multipliers, (1.0,) * (depth + 1), activation)),
        lambda network, _: 0.5 * jnp.mean((y - network(x)[:, 0]) ** 2),
        lambda _: layerwise((rate,) * (depth + 1)),
        lambda _, __: None,
        record,
    )
    seeds = problem.seed * problem.networks + np.arange(problem.networks)
    return simulate(simulation, grid(seeds), np.arange(problem.steps + 1)).records


def extrapolated(widths, runs):
    """Mean over runs at infinite width, and its standard error: a straight line in 1/N, by least squares.

    `runs` is (widths, runs, ...).
    """
    design = np.stack([np.ones(len(widths)), 1 / widths], axis=1)
    means, errors = runs.mean(axis=1), runs.std(axis=1, ddof=1) / np.sqrt(runs.shape[1])
    # All widths scatter as N^{-1/2}: weights N.
    weighed = np.linalg.inv(design.T @ (widths[:, None] * design)) @ (design.T * widths)
    share = weighed[0].reshape(-1, *[1] * (means.ndim - 1))
    return np.sum(share * means, axis=0), np.sqrt(np.sum((share * errors) ** 2, axis=0))


def off(kind):
    """Largest deviation from the extrapolated networks, in standard errors of both, after the first step."""

    def measure(prediction, observation):
        widths, worst = prediction["widths"], []
        for name, runs in observation.items():
            mean, error = extrapolated(widths, runs[kind][:, :, 1:])
            sampled = np.broadcast_to(prediction[name][f"{kind}_error"], np.shape(prediction[name][kind]))[1:]
            # What the straight line in 1/N misses, a relative 1/N^2.
            curved = np.abs(mean) / widths[0] ** 2
            size = np.sqrt(error**2 + sampled**2 + curved**2)
            worst.append(np.max(np.abs(mean - prediction[name][kind][1:]) / size))
        return max(worst)

    return measure


def scatter(runs):
    return np.sqrt(np.mean(runs.var(axis=0, ddof=1)))


def scatter_rate(prediction, observation):
    """Deviation of the fitted exponents of the scatter from -1/2, in standard errors."""
    fits = [fitted_exponent(prediction["widths"], runs["output"][:, :, 1:], scatter) for runs in observation.values()]
    return max(abs(exponent - prediction.get("exponent", -0.5)) / error for exponent, error in fits)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    t, shown = prediction["t"], slice(None, None, 2)
    found, runs = prediction["tanh"], observation["tanh"]
    depth = problem.cases["tanh"]
    mute = limit(problem, "tanh", depth, problem.gamma, responses=False)
    frozen_ = limit(problem, "tanh", depth, 0.0)
    for i in range(len(problem.y)):
        style.theory(left, t, found["output"][:, i], i=i, label=f"sample {i + 1}")
        style.networks(left, t[shown], runs["output"][-1, :, shown, i].mean(axis=0), i=i)
        style.rival(left, t, mute["output"][:, i], label="no responses" if i == 0 else None)
    left.set(xlabel="time  lr · steps", ylabel="output")
    left.set_title(f"tanh, {depth} hidden layers")
    left.legend(loc="best", fontsize=7.5)
    for i in range(len(problem.y)):
        style.theory(middle, t, found["kernel"][:, i, i], i=i, label=f"sample {i + 1}")
        style.networks(middle, t[shown], runs["kernel"][-1, :, shown, i, i].mean(axis=0), i=i)
        style.rival(middle, t, frozen_["kernel"][:, i, i], label="lazy" if i == 0 else None)
    middle.set(xlabel="time  lr · steps", ylabel="last hidden kernel  ⟨φφ⟩")
    middle.set_title(f"Features move, γ = {problem.gamma:g}")
    # Below the curves, above the lazy line.
    middle.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1), fontsize=7.5)
    widths = prediction["widths"]
    for i, (name, runs) in enumerate(observation.items()):
        values = [scatter(one) for one in runs["output"][:, :, 1:]]
        exponent, error = fitted_exponent(widths, runs["output"][:, :, 1:], scatter)
        style.networks(right, widths, values, i=i, label=f"{name} {exponent:.2f} ± {error:.2f}")
        style.theory(right, widths, values[0] * (widths / widths[0]) ** -0.5, i=i)
    right.set(xscale="log", yscale="log", xlabel="width N", ylabel="scatter over networks")
    right.set_xticks(widths, [str(w) for w in widths])
    right.set_xticks([], minor=True)
    right.set_title("Towards the limit")
    right.legend(loc="lower left", fontsize=7.5, title="exponents", title_fontsize=7.5)


def without_responses(problem, prediction):
    """Neurons do not answer their own noise: the response functions A and B are zero."""
    return predict(problem, responses=False)


def lazy(problem, prediction):
    """Features stay what they were."""
    return predict(problem, factor=0.0)


def half_as_rich(problem, prediction):
    """The richness with a factor of two."""
    return predict(problem, factor=0.5)


def scatter_of_sums(problem, prediction):
    """Single networks are as close to the limit as their mean, 1/N."""
    return dict(prediction, exponent=-1.0)


STUDY = Study(
    title="Dynamical mean-field theory of feature learning",
    question="What do the kernels of a wide deep network do while it learns features?",
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653)",
    regimes=("rich",),
    asks="when",
    sizes={
        "smoke": dict(
            samples=2,
            inputs=5,
            cases={"linear": 3, "tanh": 2},
            gamma=1.5,
            lr=0.2,
            steps=14,
            widths=(32, 64, 128),
            networks=32,
            neurons=1000,
            sets=4,
        ),
        "paper": dict(
            samples=4,
            inputs=10,
            cases={"linear": 3, "tanh": 2},
            gamma=1.5,
            lr=0.2,
            steps=30,
            widths=(256, 1024, 4096),
            networks=32,
            neurons=4000,
            sets=8,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Outputs of networks tend to those of the mean field as their width grows.",
            off("output"),
            5,
            "Standard errors of the networks' mean, extrapolated in 1/N, and of the sampled neurons.",
        ),
        Claim(
            "So does the kernel of the last hidden layer, while it moves.",
            off("kernel"),
            5,
            "As for outputs.",
        ),
        Claim(
            "Single networks scatter about it as N^{-1/2}.",
            scatter_rate,
            5,
            "Standard errors of the fitted exponent, leaving out one network after the other.",
        ),
    ),
    rivals=(
        Rival("Neurons do not respond to their own noise.", without_responses),
        Rival("Features stay what they were.", lazy),
        Rival("The richness is gamma / 2.", half_as_rich),
        Rival("Single networks are as close to the limit as 1/N.", scatter_of_sums),
    ),
    draw=draw,
    formulas=("lazy_rich.mean_field_linear.two_steps", "lazy_rich.mean_field_sampled.one_step"),
)
