"""Random products: behind Gaussian layers the mean squared norm is kept while every singular value dies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import orthogonal
from sims.probes.products import gaussian_product
from theory.deep_linear.random_products import (
    lyapunov_exponents,
    lyapunov_variances,
    orthogonal_strength,
    squared_norm_moments,
)
from validation import style
from validation.metrics import gap, rate, z_score
from validation.study import Claim, Rival, Study


def predict(problem):
    """Exponents, fluctuations and the mean squared norm at each depth; the strength behind orthogonal layers."""
    depth = np.asarray(problem.depth)
    return {
        "depth": depth,
        "exponents": np.asarray(lyapunov_exponents(problem.n, problem.gain)),
        "variances": np.asarray(lyapunov_variances(problem.n)),
        "squared_norm": np.asarray(squared_norm_moments(depth, problem.n, problem.gain).mean),
        "log_orthogonal": np.log(orthogonal_strength(depth[-1], problem.gain)),
    }


def simulate_products(problem):
    """Products of many layers, drawn anew for every run."""
    seeds = np.arange(problem.runs) + problem.runs * problem.seed
    products = gaussian_product(problem.n, problem.sweeps)
    records = simulate(products, grid(seeds=seeds, gain=[problem.gain]), problem.depth).records
    widths = [problem.n] * (problem.depth[-1] + 1)
    network = orthogonal(jax.random.key(problem.seed), widths, problem.gain)
    log_orthogonal = jnp.log(jnp.linalg.svd(network.product(), compute_uv=False))
    return records | {"log_orthogonal": log_orthogonal, "rounding": widths[0] * len(widths) * jnp.finfo(float).eps}


def growth(prediction):
    """Mean of the logarithms at each depth."""
    return prediction["depth"][:, None] * prediction["exponents"]


def shortfall(prediction, observation):
    """Largest deviation of the singular values' mean growth per layer from the exponents, at each depth."""
    grown = observation["log_sigma"].mean(axis=0) / prediction["depth"][:, None]
    return np.abs(grown - prediction["exponents"]).max(axis=1)


def draw(figure, problem, prediction, observation):
    axes, spectrum = figure.subplots(1, 2, width_ratios=(1.4, 1))
    depth, order = prediction["depth"], np.arange(1, problem.n + 1)
    for i in range(problem.n):
        label = ("theory, N times the exponent", "networks, 10-90 %") if i == 0 else (None, None)
        style.theory(axes, np.append(0, depth), np.append(0, growth(prediction)[:, i]), i=i, label=label[0])
        style.band(axes, depth, observation["log_sigma"][:, :, i], i=i, label=label[1])
        style.networks(axes, depth, observation["log_sigma"][:, :, i].mean(axis=0), i=i)
    style.rival(axes, np.append(0, depth), np.zeros(len(depth) + 1), label="kept, like the mean squared norm")
    axes.set(xlabel="depth N", ylabel="ln σᵢ of the product", title=f"Products of Gaussian layers, width {problem.n}")
    axes.legend(loc="lower left")
    style.theory(spectrum, order, prediction["exponents"], i=4, label="theory")
    grown = observation["carried"][:, -1] / depth[-1]
    error = 2 * grown.std(axis=0) / np.sqrt(len(grown))
    style.networks(spectrum, order, grown.mean(axis=0), i=4, error=error, label="networks, ± 2 s.e.")
    style.rival(spectrum, order, quarter_circle(problem.n, problem.gain), label="one layer's singular values")
    spectrum.set(xlabel="rank i", ylabel="growth of ln σᵢ per layer", xticks=order, title="Exponents")
    spectrum.legend(loc="lower left")


def quarter_circle(n, gain):
    """Logarithms of the quantiles of the singular values of one wide Gaussian layer."""
    x = np.linspace(0, 2, 20001)
    below = (x / 2 * np.sqrt(4 - x**2) + 2 * np.arcsin(x / 2)) / np.pi
    return np.log(gain * np.interp(1 - (np.arange(n) + 0.5) / n, below, x))


STUDY = Study(
    title="Random products of layers",
    question="Gaussian weights of variance 1/n keep the mean squared length of a signal through any number of layers. "
    "Why then do very deep linear networks that start so not learn, while orthogonal ones do?",
    source="Newman 1986 (Commun. Math. Phys. 103, 121); Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120)",
    regimes=("linear",),
    asks="how trained",
    sizes={
        "smoke": dict(n=4, gain=1.0, depth=(2, 8, 16, 32), runs=2000, sweeps=4),
        "paper": dict(n=6, gain=1.0, depth=(2, 32, 64, 128, 256), runs=20000, sweeps=6),
    },
    predict=predict,
    simulate=simulate_products,
    claims=(
        Claim(
            "At every depth the logarithms grow by the exponents on average.",
            lambda p, o: z_score(growth(p), o["carried"]),
            5,
            "Standard errors over the runs. For a frame that is carried through the layers the mean is exact at each "
            "depth.",
        ),
        Claim(
            "They scatter with the variance of ln χ², layer upon layer.",
            lambda p, o: z_score(p["depth"][:, None] * p["variances"], (o["carried"] - growth(p)) ** 2),
            5,
            "Standard errors over the runs of the squared deviation.",
        ),
        Claim(
            "The singular values' own growth per layer approaches the exponents as 1/N.",
            lambda p, o: rate(p["depth"][1:], shortfall(p, o)[1:], -1),
            0.25,
            "ln σᵢ and the carried logarithm differ by a number that settles after a few layers. It still grows by 15 "
            "% over these depths (0.1 in the rate), and the runs' mean has a standard error of 6 to 8 % of it.",
        ),
        Claim(
            "The mean squared norm is nonetheless kept.",
            lambda p, o: z_score(p["squared_norm"][0], np.exp(2 * o["carried"][:, 0, 0])),
            5,
            "Standard errors over the runs, at the smallest depth: further on the mean is carried by runs too rare to "
            "be seen.",
        ),
        Claim(
            "Behind orthogonal layers all singular values stay gain^N.",
            lambda p, o: gap(p["log_orthogonal"], o["log_orthogonal"], o["rounding"]),
            1,
            "Rounding: one unit in the last place for each layer and dimension.",
        ),
    ),
    rivals=(
        Rival(
            "The mean squared norm is kept, so all exponents are 0.",
            lambda problem, prediction: prediction | {"exponents": np.zeros(problem.n)},
        ),
        Rival(
            "Every singular value shrinks as a typical vector does: ψ(n/2) for all of them.",
            lambda problem, prediction: prediction | {"exponents": np.full(problem.n, prediction["exponents"][0])},
        ),
        Rival(
            "The i-th exponent is ln of a layer's i-th singular value.",
            lambda problem, prediction: prediction | {"exponents": quarter_circle(problem.n, problem.gain)},
        ),
        Rival(
            "All scatter as in a wide network, with variance N/(2n).",
            lambda problem, prediction: prediction | {"variances": np.full(problem.n, 0.5 / problem.n)},
        ),
        Rival(
            "Orthogonal layers shrink signals as Gaussian ones do.",
            lambda problem, prediction: (
                prediction | {"log_orthogonal": prediction["depth"][-1] * prediction["exponents"][0]}
            ),
        ),
    ),
    draw=draw,
    formulas=("deep_linear.random_products.largest", "deep_linear.random_products.smallest"),
)
