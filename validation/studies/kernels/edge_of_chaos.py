"""Edge of chaos: in deep random networks inputs become one, part, or stay apart; and how deep one can train."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_random import SinceStart, preactivation_moments
from sims.networks.mlp import mlp, squared_error
from sims.training import gradient_descent
from theory.kernels.activations import dual_derivative
from theory.kernels.order_chaos import correlation_map, critical_line, depth_scales, fixed_point
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

PHASES = ("ordered", "critical", "chaotic")
ERF = jax.scipy.special.erf


def problem(settings, seed):
    """Networks with the same fixed point q*, below, at and above the critical weight variance; data to train on."""
    given = dict(settings)
    q, factors = given.pop("variance"), np.asarray(given.pop("weight_factors"))
    weight, bias = (float(v) for v in critical_line(q, "erf"))
    # q = sigma_w^2 T + sigma_b^2 with the same T: the variance stays where it is.
    weights, biases = weight * factors, q - (q - bias) * factors
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(given["samples"], given["samples"]))
    x *= np.sqrt(given["samples"]) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.resize([1.0, -1.0], given["samples"])[:, None]
    return Problem(**given, seed=seed, q=q, weights=weights, biases=biases, x=x, y=y)


def predict(problem):
    """Correlations layer by layer, correlation lengths, and what gradient descent leaves of the loss."""
    return theory_of(problem, problem.weights, problem.biases)


def theory_of(problem, weights, biases):
    """The same for networks of those variances."""
    points = fixed_point("erf", weights, biases, problem.q)
    layer = jax.jit(lambda rho: correlation_map(rho, problem.q, "erf", weights, biases))
    correlations = [jnp.full(len(weights), problem.rho)]
    for _ in range(problem.depth - 1):
        correlations.append(layer(correlations[-1]))
    return {
        "rho": np.stack(correlations, axis=1),
        "target": np.asarray(points.covariance / points.variance),
        "length": np.asarray(depth_scales(points).correlation),
        # Neighbours part as chi_1^l while they are close.
        "growth": np.log(points.chi_1),
        "left": remaining_loss(problem, weights, biases),
        # Widths are finite: deviations of this order, relative to one, in correlations and in losses.
        "bias": 1 / problem.width,
        "loss_bias": np.array(problem.depths) / problem.trained_width,
    }


def remaining_loss(problem, weights, biases):
    """Loss over loss at the start after gradient descent with the infinite tangent kernel, (phases, depths)."""
    return np.array(
        [
            [descent(problem, tangent(problem, w, b, depth)) for depth in problem.depths]
            for w, b in trained(weights, biases)
        ]
    )


def trained(weights, biases):
    """The ordered and the critical network: in the chaotic one kernels need widths beyond exp(depth)."""
    return list(zip(weights, biases, strict=True))[:2]


def tangent(problem, weight, bias, depth):
    """The infinite tangent kernel on the training inputs, whose preactivations have variance q in all layers."""
    x = first_inputs(problem, weight, bias)
    rho = (weight * x @ x.T / problem.samples + bias) / problem.q
    rho = np.clip((rho + rho.T) / 2, -1, 1)
    theta = problem.q * rho
    for _ in range(depth):
        rho, theta = one_layer_more(rho, theta, problem.q, weight, bias)
    return np.asarray(theta)


@jax.jit
def one_layer_more(rho, theta, q, weight, bias):
    """Theta <- K' + sigma_w^2 E[phi' phi'] Theta, and the correlations of K'."""
    after = correlation_map(rho, q, "erf", weight, bias)
    return after, q * after + weight * dual_derivative("erf", q, q, rho * q) * theta


def first_inputs(problem, weight, bias):
    return problem.x * np.sqrt((problem.q - bias) / weight)


def descent(problem, kernel):
    """|(1 - lr Theta / P)^steps y|^2 / |y|^2 with the step of `step_of`."""
    values, vectors = np.linalg.eigh(kernel / problem.samples)
    rates = (1 - step_of(problem, kernel) * values) ** problem.steps
    return float(np.sum((rates * (vectors.T @ problem.y[:, 0])) ** 2) / np.sum(problem.y**2))


def step_of(problem, kernel):
    """So many times the inverse of the largest eigenvalue of the kernel on the samples."""
    return problem.rate / np.linalg.eigvalsh(kernel / problem.samples)[-1]


def simulate_networks(problem):
    """Correlations of two inputs in random networks, of near and of distant ones; losses of trained networks."""
    keys = jax.random.split(jax.random.key(problem.seed), problem.networks)
    cosines = [problem.rho, 1 - problem.near]
    found = [
        correlations(keys, weight, bias, problem.q, jnp.array(cosines), problem.depth, problem.width)
        for weight, bias in zip(problem.weights, problem.biases, strict=True)
    ]
    apart = np.stack([np.asarray(f) for f in found], axis=1)
    losses = [
        [train(problem, weight, bias, depth) for depth in problem.depths]
        for weight, bias in trained(problem.weights, problem.biases)
    ]
    return {"rho": 1 - apart[..., 0], "gap": apart[..., 0], "near": apart[..., 1], "left": np.array(losses)}


@functools.partial(jax.jit, static_argnames=("depth", "width"))
def correlations(keys, weight, bias, q, rho, depth, width):
    """1 - correlation of one input with others, (networks, layers, others), in one network after the other.

    First preactivations have variance q and correlations rho; the biases are common to all inputs.
    """
    cosine = (rho * q - bias) / (q - bias)
    x = jnp.concatenate([jnp.array([[1.0, 0.0]]), jnp.stack([cosine, jnp.sqrt(1 - cosine**2)], axis=1)])
    x = jnp.sqrt(2 * (q - bias) / weight) * x

    def gaps(key):
        m = preactivation_moments(key, x, depth, width, ERF, weight, bias)
        own = jnp.diagonal(m, axis1=1, axis2=2)
        return 1 - m[:, 0, 1:] / jnp.sqrt(own[:, :1] * own[:, 1:])

    return jax.lax.map(gaps, keys)


def train(problem, weight, bias, depth):
    """Loss over loss at the start of trained networks, one for each seed."""
    x, y = jnp.asarray(first_inputs(problem, weight, bias)), jnp.asarray(problem.y)
    widths = [x.shape[1], *[problem.trained_width] * depth, 1]

    def network(key, _):
        drawn = mlp(key, widths, weight, bias, ERF)
        return SinceStart(drawn, drawn(x))

    def loss(model):
        return squared_error(model, x, y)

    lr = float(step_of(problem, tangent(problem, weight, bias, depth)))
    simulation = gradient_descent(network, loss, lr, lambda model, _: loss(model))
    seeds = np.arange(problem.trained_networks) + 1000 * problem.seed
    records = simulate(simulation, grid(seeds=seeds), np.array([0, problem.steps])).records
    return records[:, 1] / records[:, 0]


def relaxation(observation):
    """Change of ln(1 - rho) per layer in each ordered network, over the second half of its layers."""
    curves = np.log(observation["gap"][:, 0])
    return slopes(curves, curves.shape[1] // 2)


def slopes(curves, begin):
    """Change per layer of each curve from layer `begin` on."""
    return (curves[:, -1] - curves[:, begin]) / (curves.shape[1] - 1 - begin)


def divergence(observation, phase):
    """Growth per layer of the gap between near inputs, while it is small."""
    return slopes(np.log(observation["near"][:, phase, :14]), 0)


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    layers = np.arange(1, problem.depth + 1)
    for i, name in enumerate(PHASES):
        style.theory(left, layers, prediction["rho"][i], i=i, label=name)
        mean, spread = observation["rho"][:, i].mean(0), observation["rho"][:, i].std(0)
        style.networks(left, layers, mean, i=i, error=spread)
    left.axhline(float(prediction["target"][2]), color=style.RIVAL, linewidth=1, linestyle=":")
    left.set(xlabel="layer", ylabel="correlation of two inputs", title="Correlations through depth", ylim=(None, 1.15))
    left.legend(ncols=3, loc="upper center")
    for i in range(2):
        style.theory(right, problem.depths, prediction["left"][i], i=i, label=PHASES[i])
        style.networks(right, problem.depths, observation["left"][i].mean(1), i=i, error=observation["left"][i].std(1))
    right.set(xlabel="hidden layers", ylabel="loss left", title=f"After {problem.steps} steps", ylim=(-0.03, 1.2))
    right.legend(ncols=2, loc="upper center")


def squared_slope(problem, prediction):
    """chi_1 with E[phi']^2 in place of E[phi'^2]: as if a unit's slope did not fluctuate."""
    q = problem.q
    mean = (4 / np.pi) / (1 + 2 * q)
    return prediction | {
        "growth": np.log(problem.weights * mean),
        "length": -1 / np.log(np.minimum(problem.weights * mean, 0.999)),
    }


def without_biases(problem, prediction):
    """The same weights, without the biases' share of every covariance."""
    return theory_of(problem, problem.weights, 0 * problem.biases)


def any_depth(problem, prediction):
    """What the shallowest networks learn, deeper ones learn too."""
    return prediction | {"left": np.repeat(prediction["left"][:, :1], len(problem.depths), axis=1)}


STUDY = Study(
    title="Edge of chaos",
    question="How deep can a random network be before it can no longer tell two inputs apart, or learn?",
    source="Poole et al. 2016 (arXiv:1606.05340); Schoenholz et al. 2017 (arXiv:1611.01232)",
    regimes=("lazy",),
    asks="how trained",
    sizes={
        "smoke": dict(
            variance=1.0,
            weight_factors=(0.5, 1.0, 1.2),
            rho=0.6,
            near=1e-6,
            depth=22,
            width=112,
            networks=24,
            samples=6,
            depths=(2, 8),
            trained_width=96,
            trained_networks=5,
            steps=60,
            rate=0.5,
        ),
        "paper": dict(
            variance=1.0,
            weight_factors=(0.5, 1.0, 1.2),
            rho=0.6,
            near=1e-6,
            depth=50,
            width=2000,
            networks=50,
            samples=6,
            depths=(1, 4, 8, 16, 32),
            trained_width=1000,
            trained_networks=10,
            steps=60,
            rate=0.5,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Correlations in every layer and phase are those of the correlation map.",
            lambda p, o: z_score(p["rho"], o["rho"], floor=p["bias"]),
            5,
            "Standard error over networks, and the bias of finite width, 1/n.",
        ),
        Claim(
            "In the ordered phase inputs become one as exp(-l / xi_c).",
            lambda p, o: z_score(-1 / p["length"][0], relaxation(o), floor=p["bias"]),
            5,
            "Standard error over networks of the rate, and the bias of a mean logarithm at finite width, 1/n.",
        ),
        Claim(
            "Close inputs part, or approach, as chi_1 per layer in all phases.",
            lambda p, o: max(z_score(p["growth"][i], divergence(o, i), floor=p["bias"]) for i in range(3)),
            5,
            "Standard error over networks of the rate, and the bias of a mean logarithm at finite width, 1/n.",
        ),
        Claim(
            "Deep ordered networks do not learn, deep critical ones do, as the tangent kernel says.",
            lambda p, o: z_score(p["left"], o["left"], axis=-1, floor=p["loss_bias"]),
            5,
            "Standard error over networks, and the change of tangent kernels of finite width, depth/width.",
        ),
    ),
    rivals=(
        Rival("chi_1 is sigma_w^2 E[phi']^2: slopes do not fluctuate.", squared_slope),
        Rival("Biases do not add to the covariance of two inputs.", without_biases),
        Rival("What shallow networks can learn, deep ones can.", any_depth),
    ),
    draw=draw,
    formulas=("kernels.order_chaos.erf_correlation_map", "kernels.order_chaos.correlation_length"),
)
