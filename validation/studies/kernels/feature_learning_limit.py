"""Feature learning at infinite width: networks approach one exact limit, singly as N^{-1/2} and on average as 1/N."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.abc import layerwise, scaled
from sims.networks.centred import centred
from sims.training import training
from theory.kernels.mean_field import linear_descent, linear_output, whole_batches
from theory.kernels.particles import mean_field_descent, quadrature_neurons, width_shift, width_variance
from validation import style
from validation.metrics import gap, z_score
from validation.study import Claim, Rival, Study


def identity(h):
    return h


ACTIVATIONS = {"linear": identity, "tanh": jnp.tanh}


def draw_problem(settings, seed):
    """Inputs of length sqrt(d) on average and targets of order one."""
    rng = np.random.default_rng(seed)
    samples, inputs = settings["samples"], settings["inputs"]
    x = rng.normal(size=(samples, inputs))
    x *= np.sqrt(inputs) * settings["radius"] / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.normal(size=(samples, 1))
    y /= np.sqrt(np.mean(y**2))
    return SimpleNamespace(**settings, seed=seed, x=x, y=y)


def limit(problem, name, gamma):
    """Outputs of the infinitely wide network at the recorded steps: (times, samples)."""
    batches, at = whole_batches(problem.record[-1], problem.samples), np.asarray(problem.record)
    if name == "linear":
        return linear_output(linear_descent(batches, problem.x, problem.y, gamma, problem.lr), problem.x)[at, :, 0]
    # Forward alone is cheap, and the mean over networks is known far better than a single one.
    start = quadrature_neurons(problem.x, 2 * problem.order, readout_order=16)
    course = mean_field_descent(batches, start, problem.x, problem.y, gamma, problem.lr, ACTIVATIONS[name])
    return course.outputs[at, :, 0]


def corrections(problem, name):
    """N times the variance, and N times the mean deviation, of networks of finite width."""
    batches, at = whole_batches(problem.record[-1], problem.samples), np.asarray(problem.record)

    def of(start, correction):
        def outputs(mass):
            population = start._replace(mass=mass)
            course = mean_field_descent(
                batches, population, problem.x, problem.y, problem.gamma, problem.lr, ACTIVATIONS[name]
            )
            return course.outputs[at, :, 0]

        return np.asarray(jax.jit(lambda mass: correction(mass, outputs))(start.mass))

    if name == "linear":
        # A linear network's statistics hold products of two second moments, and nothing higher.
        start = quadrature_neurons(problem.x, 3)
        return of(start, width_variance), of(start, width_shift)
    fine = quadrature_neurons(problem.x, problem.order, readout_order=8)
    # A second derivative for each node is dear, and the shift is small: fewer nodes will do.
    return of(fine, width_variance), of(quadrature_neurons(problem.x, problem.coarse_order), width_shift)


def predict(problem):
    prediction = {"widths": np.asarray(problem.widths), "steps": np.asarray(problem.record)}
    for name in ACTIVATIONS:
        variance, shift = corrections(problem, name)
        prediction[name] = {
            "limit": np.asarray(limit(problem, name, problem.gamma)),
            "variance": variance,
            "shift": shift,
        }
    return prediction


def simulate_networks(problem):
    """Centred outputs after gradient descent on all weights: per activation (widths, networks, times, samples)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    seeds = [problem.seed * problem.networks + i for i in range(problem.networks)]
    outputs = {}
    for name, activation in ACTIVATIONS.items():
        outputs[name] = np.stack([trained_outputs(problem, x, y, width, activation, seeds) for width in problem.widths])
    return outputs


def trained_outputs(problem, x, y, width, activation, seeds):
    """f = (1 / (gamma N)) a . phi(W x / sqrt(d)) with standard normal weights, at the rate gamma^2 N lr."""
    multipliers = (x.shape[1] ** -0.5, 1 / (problem.gamma * width))
    rate = problem.gamma**2 * width * problem.lr
    simulation = training(
        lambda key, _: centred(scaled(key, (x.shape[1], width, 1), multipliers, (1.0, 1.0), activation)),
        lambda network, _: 0.5 * jnp.mean((y - network(x)) ** 2),
        lambda _: layerwise((rate, rate)),
        lambda _, __: None,
        lambda network, _: network(x)[:, 0],
    )
    return simulate(simulation, grid(seeds), np.asarray(problem.record), batching="vmap").records


def mean_gap(name):
    """z-score of the mean over networks at each width against the limit and its shift, from the first step on."""

    def measure(prediction, observation):
        p, n = prediction[name], prediction["widths"]
        # The next order, a relative 1/N.
        return max(
            z_score(p["limit"][1:] + p["shift"][1:] / w, f[:, 1:], floor=np.abs(p["shift"]).max() / w**2)
            for w, f in zip(n, observation[name], strict=True)
        )

    return measure


def scatter_gap(name):
    """Squared deviations of networks from their mean, summed over outputs, against the sum of predicted variances.

    In standard errors over networks, beside relative corrections of order 1/N.
    """

    def measure(prediction, observation):
        n, expected = prediction["widths"], prediction[name]["variance"].sum()
        f = observation[name]
        squares = np.sum((f - f.mean(axis=1, keepdims=True)) ** 2, axis=(2, 3)) * n[:, None] / expected
        noise = squares.std(axis=1) / np.sqrt(squares.shape[1])
        return gap(1.0, squares.mean(axis=1), np.hypot(noise, 1 / n))

    return measure


def single_rate(name):
    """|slope + 1/2| of the root mean square deviation of single networks, over its error."""

    def measure(prediction, observation):
        p, n = prediction[name], prediction["widths"]
        squares = np.mean((observation[name] - p["limit"]) ** 2, axis=(2, 3))
        logs = 0.5 * np.log(squares.mean(axis=1))
        noise = 0.5 * squares.std(axis=1) / squares.mean(axis=1) / np.sqrt(squares.shape[1])
        weights = np.log(n) - np.log(n).mean()
        weights /= np.sum(weights**2)
        curvature = np.abs(weights @ (1 / n))
        return abs(weights @ logs + 0.5) / np.hypot(np.sqrt(np.sum((weights * noise) ** 2)), curvature)

    return measure


def with_limit(gamma):
    """A rival that believes in the limit at another richness, given ours."""

    def predict(problem, prediction):
        return prediction | {
            name: prediction[name] | {"limit": np.asarray(limit(problem, name, gamma(problem.gamma)))}
            for name in ACTIVATIONS
        }

    return predict


def instead(key, change):
    """A rival that believes in another correction of finite width."""
    return lambda _, prediction: (
        prediction | {name: prediction[name] | {key: change(prediction[name][key])} for name in ACTIVATIONS}
    )


def draw(figure, problem, prediction, observation):
    curves, errors = figure.subplots(1, 2, width_ratios=(1.3, 1))
    steps, n = prediction["steps"], prediction["widths"]
    lazy = limit(problem, "tanh", 1e-3)
    for i in range(problem.samples):
        style.theory(curves, steps, prediction["tanh"]["limit"][:, i], i=i, label="infinite width" if i == 0 else None)
        style.networks(
            curves, steps, observation["tanh"][-1].mean(axis=0)[:, i], i=i,
            label=f"mean of networks, N = {n[-1]}" if i == 0 else None,
        )  # fmt: skip
        style.band(curves, steps, observation["tanh"][-1][:, :, i], i=i)
        style.rival(curves, steps, lazy[:, i], label="tangent kernel" if i == 0 else None)
    curves.set(xlabel="steps", ylabel="output f - f(0)", title=f"tanh, richness {problem.gamma:g}")
    curves.set_ylim(None, curves.get_ylim()[1] + 1.1)
    curves.legend(loc="upper left")
    for i, name in enumerate(ACTIVATIONS):
        p, f = prediction[name], observation[name]
        single = np.sqrt(np.mean((f - p["limit"]) ** 2, axis=(1, 2, 3)))
        mean = np.sqrt(np.mean((f.mean(axis=1) - p["limit"]) ** 2, axis=(1, 2)))
        scatter, shift = np.sqrt(np.mean(p["variance"])), np.sqrt(np.mean(p["shift"] ** 2))
        style.theory(errors, n, np.sqrt(scatter**2 / n + (shift / n) ** 2), i=i, label=f"{name}, single")
        style.networks(errors, n, single, i=i)
        style.theory(errors, n, shift / n, i=i + 2, label=f"{name}, mean")
        style.networks(errors, n, mean, i=i + 2)
    errors.set(xscale="log", yscale="log", xlabel="width N", ylabel="deviation from the limit", title="Finite width")
    errors.set_xticks(n, [str(k) for k in n])
    errors.minorticks_off()
    errors.set_ylim(None, errors.get_ylim()[1] * 12)
    errors.legend(ncols=2, fontsize=7.5, loc="upper right")


STUDY = Study(
    title="Feature learning at infinite width",
    question="Is there a limit of infinite width in which a network still learns features, and how near is a real one?",
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653); Mei, Montanari & Nguyen 2018 (arXiv:1804.06561)",
    regimes=("rich",),
    asks="when",
    sizes={
        "smoke": dict(
            samples=3,
            inputs=2,
            radius=0.6,
            gamma=2.0,
            lr=0.2,
            record=(0, 2, 4, 8, 16),
            order=16,
            coarse_order=8,
            widths=(32, 64, 128, 256),
            networks=1500,
        ),
        "paper": dict(
            samples=3,
            inputs=2,
            radius=0.6,
            gamma=2.0,
            lr=0.1,
            record=(0, 8, 16, 32, 64, 128),
            order=24,
            coarse_order=12,
            widths=(64, 256, 1024, 4096),
            networks=5000,
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        *(
            Claim(
                f"{name.capitalize()}: the mean over networks is the limit of infinite width, shifted by B/N.",
                mean_gap(name),
                5,
                "Standard error over networks, beside the next order of the shift.",
            )
            for name in ACTIVATIONS
        ),
        *(
            Claim(
                f"{name.capitalize()}: single networks scatter about it with the predicted variance over N.",
                scatter_gap(name),
                5,
                "Standard error of a sample variance, beside relative corrections of 1/N.",
            )
            for name in ACTIVATIONS
        ),
        *(
            Claim(
                f"{name.capitalize()}: single networks approach the limit as the root of the width.",
                single_rate(name),
                5,
                "Standard error of the slope, beside the curvature that a relative 1/N leaves.",
            )
            for name in ACTIVATIONS
        ),
    ),
    rivals=(
        Rival("Wide networks are tangent-kernel machines at any richness.", with_limit(lambda gamma: 1e-3)),
        Rival("The richness is twice as large.", with_limit(lambda gamma: 2 * gamma)),
        Rival("The richness is smaller by the root of two.", with_limit(lambda gamma: gamma / np.sqrt(2))),
        Rival("Networks of finite width are unbiased.", instead("shift", lambda shift: 0.0 * shift)),
        Rival("The variance is twice as large.", instead("variance", lambda variance: 2 * variance)),
    ),
    draw=draw,
    formulas=(
        "kernels.mean_field.linear_descent",
        "kernels.particles.quadratic_step",
        "kernels.particles.width_variance",
        "kernels.particles.width_shift",
    ),
)
