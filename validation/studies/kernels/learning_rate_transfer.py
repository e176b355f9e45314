"""Learning-rate transfer: with the right scaling the best learning rate of a small network is that of a large one."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from sims.engine import grid, simulate
from sims.networks.abc import layerwise, scaled
from sims.training import training
from theory.kernels.scalings import layers, maximal_update, mean_field, ntk, rate_exponent, standard
from validation import style
from validation.metrics import gap
from validation.study import Claim, Rival, Study


def draw_problem(settings, seed):
    """Data from a random direction, and every network's multipliers, deviations and rates, by scaling and width."""
    rng = np.random.default_rng(seed)
    depth, inputs = settings["depth"], settings["inputs"]
    x = rng.normal(size=(settings["samples"], inputs))
    y = np.sin(2 * x @ rng.normal(size=(inputs, 1)) / np.sqrt(inputs))
    frozen = mean_field(depth)
    scalings = {
        "standard": standard(depth),
        "NTK": ntk(depth),
        "maximal update": maximal_update(depth),
        "mean field, rate not scaled": frozen._replace(c=0 * frozen.c),
    }
    setups = {}
    for width in settings["widths"]:
        each = [layers(s, width, inputs=inputs, base_width=settings["base"], gain=1.5) for s in scalings.values()]
        setups[width] = np.array([[e.multipliers, np.sqrt(e.variances), e.learning_rates] for e in each])
    return SimpleNamespace(**settings, seed=seed, x=x, y=y, scalings=scalings, setups=setups)


def predict(problem):
    """The exponent of the largest stable rate, which the best one follows."""
    return {
        "names": list(problem.scalings),
        "widths": np.asarray(problem.widths),
        "depth": problem.depth,
        "slopes": np.array([-float(rate_exponent(s)) for s in problem.scalings.values()]),
    }


def simulate_networks(problem):
    """Mean loss over the second half of training, without its ringing: (scalings, widths, seeds, learning rates)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    rates = 2.0 ** np.arange(*problem.octaves)
    seeds = problem.seed * problem.networks + np.arange(problem.networks)
    losses = []
    for width in problem.widths:
        widths = (problem.inputs, *[width] * problem.depth, 1)
        trained = training(
            lambda key, hyper, widths=widths: scaled(key, widths, *hyper["setup"][:2]),
            lambda network, _: 0.5 * jnp.mean((y - network(x)) ** 2),
            lambda hyper: layerwise(hyper["rate"] * hyper["setup"][2]),
            lambda _, __: None,
            lambda network, _: 0.5 * jnp.mean((y - network(x)) ** 2),
        )
        second_half = np.arange(problem.steps // 2, problem.steps + 1)
        # A few networks at a time: all their weights are held together.
        parts = [
            simulate(trained, grid(part, setup=problem.setups[width], rate=rates), second_half).on_grid()
            for part in np.split(seeds, problem.networks // problem.together)
        ]
        losses.append(np.concatenate(parts).mean(axis=-1))
    return {"rates": rates, "losses": np.moveaxis(np.stack(losses), 2, 0)}


def curves(losses):
    """Logarithms of the geometric mean over networks, (..., rates); losses are (..., networks, rates)."""
    # A loss that has blown up says only that the rate is too large: to be far above the start is enough.
    ceiling = 3 * losses[..., :1]
    return np.log(np.minimum(np.nan_to_num(losses, nan=np.inf), ceiling)).mean(axis=-2)


def best(rates, losses):
    """The logarithm of the rate of least loss, by a cubic spline: (...) of (..., networks, rates)."""
    logs = np.log(rates)
    fine = np.linspace(logs[0], logs[-1], 50 * len(logs))
    return fine[np.argmin(CubicSpline(logs, curves(losses), axis=-1)(fine), axis=-1)]


def measured(prediction, observation):
    """Slopes of the best rate against width and what they may be off by, (scalings,), and the best rates."""
    rates, losses, widths = observation["rates"], observation["losses"], prediction["widths"]
    n = np.log(widths)
    weights = (n - n.mean()) / np.sum((n - n.mean()) ** 2)
    optima = best(rates, losses)
    networks = losses.shape[2]
    left_out = np.stack([best(rates, np.delete(losses, i, axis=2)) @ weights for i in range(networks)])
    noise = np.sqrt((networks - 1) * left_out.var(axis=0))
    # A relative 1/n of each layer, and the rounding of an optimum to the grid, uniform over a spacing.
    bend = np.abs(weights @ (1 / widths)) * (prediction["depth"] + 1)
    spacing = 0.5 * np.log(rates[1] / rates[0]) * np.sqrt(np.sum(weights**2) / 3)
    return optima @ weights, np.sqrt(noise**2 + bend**2 + spacing**2), np.exp(optima)


def of(*names):
    """The claim's measure on some of the scalings."""

    def measure(prediction, observation):
        slopes, error, _ = measured(prediction, observation)
        keep = [prediction["names"].index(name) for name in names]
        return gap(prediction["slopes"][keep], slopes[keep], error[keep])

    return measure


def instead(name, slope):
    """A rival that believes in another slope."""

    def predict(_, prediction):
        slopes = prediction["slopes"].copy()
        slopes[prediction["names"].index(name)] = slope
        return prediction | {"slopes": slopes}

    return predict


def draw(figure, problem, prediction, observation):
    panels = figure.subplots(1, 3)
    n, rates = prediction["widths"], observation["rates"]
    _, _, optima = measured(prediction, observation)
    for axes, name in zip(panels, ("standard", "maximal update"), strict=False):
        losses = np.exp(curves(observation["losses"][prediction["names"].index(name)]))
        for i, width in enumerate(n):
            axes.plot(rates, losses[i], color=style.colour(i), linewidth=1.0, alpha=0.6)
            style.networks(axes, rates, losses[i], i=i, label=f"n = {width}")
        axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss", title=name.capitalize())
    panels[0].legend(fontsize=7.5, loc="lower right")
    for i, name in enumerate(prediction["names"]):
        mean = optima[i]
        power = n.astype(float) ** prediction["slopes"][i]
        style.theory(panels[2], n, power * np.exp(np.mean(np.log(mean / power))), i=i + 3, label=name)
        style.networks(panels[2], n, mean, i=i + 3)
    panels[2].set(xscale="log", yscale="log", xlabel="width n", ylabel="best learning rate", title="Best rate")
    panels[2].set_xticks(n, [str(k) for k in n])
    panels[2].minorticks_off()
    panels[2].set_ylim(None, panels[2].get_ylim()[1] * 30)
    panels[2].legend(fontsize=7, loc="upper left")


STUDY = Study(
    title="Learning-rate transfer",
    question="Can the best learning rate of a large network be read off a small one?",
    source="Yang et al. 2022 (arXiv:2203.03466), figure 1; exponents from Yang & Hu 2021 (arXiv:2011.14522), section 3",
    regimes=("lazy", "rich"),
    asks="how trained",
    sizes={
        "smoke": dict(
            widths=(32, 64, 128, 256),
            base=32,
            depth=2,
            inputs=16,
            samples=24,
            steps=8,
            networks=3,
            together=3,
            octaves=(-5.5, 2.5, 0.5),
        ),
        "paper": dict(
            widths=(128, 256, 512, 1024, 2048),
            base=128,
            depth=3,
            inputs=32,
            samples=256,
            steps=100,
            networks=5,
            together=1,
            octaves=(-7, 7.5, 0.5),
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Under maximal update the best learning rate does not change with the width.",
            of("maximal update"),
            3,
            "Jackknife error over networks, the grid's rounding and a relative 1/n per layer, in quadrature; the last "
            "two are bounds and not noise, so that three are enough.",
        ),
        Claim(
            "Under the standard scaling it falls as 1/n.",
            of("standard"),
            3,
            "The same error.",
        ),
        Claim(
            "It transfers in the NTK scaling, and grows as n in a mean-field network whose rate is not scaled.",
            of("NTK", "mean field, rate not scaled"),
            3,
            "The same error.",
        ),
    ),
    rivals=(
        Rival("The best rate of a standard network transfers.", instead("standard", 0.0)),
        Rival("The best rate of a standard network falls as the root of the width.", instead("standard", -0.5)),
        Rival("Maximal update needs rates of 1/n.", instead("maximal update", -1.0)),
        Rival("Wider readouts need smaller rates also in the NTK scaling: n^{-1/2}.", instead("NTK", -0.5)),
    ),
    draw=draw,
    formulas=("kernels.scalings.rate_exponent",),
)
