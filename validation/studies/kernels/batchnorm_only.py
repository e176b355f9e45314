"""BatchNorm alone: with random weights that never move, scales and shifts still make a network that learns."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import NullFormatter

from sims.engine import every, grid, simulate
from sims.networks.batchnorm import norm_kernel, normed_mlp
from sims.networks.linearised import linearised
from sims.networks.mlp import squared_error
from sims.training import gradient_descent
from theory.kernels.batchnorm_only import batchnorm_kernels, batchnorm_kernels_of_cosine, trainable_rank
from validation import style
from validation.metrics import rate, slope, z_score
from validation.study import Claim, Rival, Study

SHOWN = 6


def problem(settings, seed):
    """A population of inputs of mean zero and equal variance in all directions; the first few are looked at."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((settings["population"], settings["inputs"]))
    x = np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(settings["population"])
    return SimpleNamespace(**settings, seed=seed, x=x, y=rng.choice([-1.0, 1.0], size=(settings["trained"], 1)))


def predict(problem):
    """Kernels of the infinite width at depth 1 and at full depth, ranks of finite ones, and orders in the width."""
    shallow, deep = (batchnorm_kernels(problem.x, depth=k) for k in (1, problem.depth))
    shown = {"shallow": shallow.batchnorm, "deep": deep.batchnorm, "full": shallow.ntk, "shifts": shallow.shift}
    ranks = [trainable_rank(problem.samples, n, problem.rank_depth) for n in problem.narrow]
    return {name: np.asarray(k)[:SHOWN, :SHOWN] for name, k in shown.items()} | {
        "deep_full": np.asarray(deep.ntk)[:SHOWN, :SHOWN],
        "deep_shifts": np.asarray(deep.shift)[:SHOWN, :SHOWN],
        # Spread of a unit's own variance, one over the effective dimension, and 1/width; once for each layer.
        "deep_rest": problem.depth * (1 / problem.inputs + 1 / max(problem.widths)) * np.asarray(deep.batchnorm)[0, 0],
        "ranks": np.array(ranks),
        "order": -1.0,
        "departure": -1.0,
    }


def simulate_networks(problem):
    """Empirical kernels of many networks, their ranks when narrow, and networks trained beside their tangents."""
    x = jnp.asarray(problem.x)

    def kernels(width, depth, activation=jax.nn.relu, samples=SHOWN, nets=problem.nets):
        def one(key):
            network = normed_mlp(key, (problem.inputs, *[width] * depth, 1), x, activation)
            return norm_kernel(network, x[:samples])

        keys = jax.vmap(jax.random.key)(nets * problem.seed + np.arange(nets))
        return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))

    shallow = [kernels(n, 1) for n in problem.widths]
    narrow = [kernels(n, problem.rank_depth, jax.scipy.special.erf, problem.samples, 1)[0] for n in problem.narrow]
    departures = [departure(problem, n) for n in problem.trained_widths]
    return {
        "widths": np.array(problem.widths),
        "trained_widths": np.array(problem.trained_widths),
        "shallow": np.stack(shallow),
        "deep": kernels(max(problem.widths), problem.depth),
        "ranks": np.array([np.linalg.matrix_rank(k, hermitian=True) for k in narrow]),
        "loss": [tracks for tracks, _ in departures],
        "departure": np.array([gaps for _, gaps in departures]),
    }


def departure(problem, width):
    """Losses of a network and of its tangent through training, and the distance (rms) of their outputs, per run."""
    x, y = jnp.asarray(problem.x[: problem.trained]), jnp.asarray(problem.y)
    population, lr = jnp.asarray(problem.x), problem.lr
    tracks = []
    for wrap in (lambda network: network, linearised):
        trained = gradient_descent(
            lambda key, _, wrap=wrap: wrap(
                normed_mlp(key, (problem.inputs, width, 1), population, jax.scipy.special.erf)
            ),
            lambda model: squared_error(model, x, y),
            lr,
            lambda model, _: {"outputs": model(x)[:, 0], "loss": squared_error(model, x, y)},
        )
        seeds = grid(problem.runs * problem.seed + np.arange(problem.runs))
        tracks.append(simulate(trained, seeds, every(problem.steps, max(1, problem.steps // 40))).records)
    gap = np.sqrt(np.mean((tracks[0]["outputs"] - tracks[1]["outputs"]) ** 2, axis=(1, 2)))
    return [track["loss"] for track in tracks], gap


def spread(prediction, observation):
    """Mean squared deviation of the empirical kernels from the infinite one, at each width."""
    return np.mean((observation["shallow"] - prediction["shallow"]) ** 2, axis=(1, 2, 3))


def draw(figure, problem, prediction, observation):
    kernel, width, training = figure.subplots(1, 3, width_ratios=(1.15, 1, 1.1))
    t = np.linspace(-1, 1, 201)
    zonal = batchnorm_kernels_of_cosine(t, depth=1)
    style.theory(kernel, t, zonal.batchnorm, label="scales + shifts")
    style.theory(kernel, t, zonal.shift, i=1, label="shifts")
    style.rival(kernel, t, zonal.ntk, label="everything")
    u = problem.x[:SHOWN]
    # White inputs are of unequal length: the dots are entries over what the lengths make of them.
    cosine = (u @ u.T / np.sqrt(np.outer(np.sum(u**2, 1), np.sum(u**2, 1))))[np.triu_indices(SHOWN)]
    on_sphere = np.asarray(batchnorm_kernels_of_cosine(np.clip(cosine, -1, 1), depth=1).batchnorm)
    upper = np.triu_indices(SHOWN)
    seen = observation["shallow"][-1].mean(axis=0)[upper] / prediction["shallow"][upper] * on_sphere
    order = np.argsort(cosine)
    style.networks(kernel, cosine[order], seen[order])
    kernel.set(xlabel="cosine of the inputs", ylabel="tangent kernel", title="One hidden layer")
    kernel.legend()
    some = observation["trained_widths"]
    n, squares = observation["widths"], spread(prediction, observation)
    style.theory(width, n, squares[0] * n[0] / n, i=2, label="kernel, squared")
    style.networks(width, n, squares, i=2)
    apart = observation["departure"].mean(axis=1)
    style.theory(width, some, apart[0] * some[0] / some, i=4, label="tangent, rms")
    style.networks(width, some, apart, i=4)
    width.set(xscale="log", yscale="log", xlabel="width n", ylabel="deviation", title="Finite width")
    width.xaxis.set_minor_formatter(NullFormatter())
    width.yaxis.set_minor_formatter(NullFormatter())
    width.legend(loc="upper right", fontsize=7.5)
    steps = every(problem.steps, max(1, problem.steps // 40)) * problem.lr
    for i, (j, name) in enumerate(((0, f"n = {some[0]}"), (-1, f"n = {some[-1]}"))):
        network, tangent = observation["loss"][j]
        style.theory(training, steps, tangent.mean(axis=0), i=3 + i, label=f"tangent, {name}")
        style.networks(training, steps, network.mean(axis=0), i=3 + i, most=14)
    training.set(xlabel="time  t = lr · steps", ylabel="loss", title="Training BatchNorm alone", ylim=(0, None))
    training.legend()


def instead(**names):
    """A rival that believes in other entries of the prediction."""
    return lambda _, prediction: prediction | {ours: prediction[theirs] for ours, theirs in names.items()}


STUDY = Study(
    title="BatchNorm alone",
    question="How can a network learn when its random weights are frozen and only BatchNorm is trained?",
    source="Frankle, Schwab & Morcos 2021 (arXiv:2003.00152)",
    problem=problem,
    regimes=("lazy",),
    asks="what",
    sizes={
        "smoke": dict(
            population=128,
            inputs=32,
            widths=(32, 64, 128, 256),
            nets=64,
            depth=3,
            narrow=(2, 3, 4, 5, 6, 8),
            rank_depth=2,
            samples=20,
            trained=6,
            trained_widths=(128, 256, 512, 1024),
            runs=16,
            lr=0.5,
            steps=40,
        ),
        "paper": dict(
            population=1024,
            inputs=256,
            widths=(64, 128, 256, 512, 1024),
            nets=128,
            depth=5,
            narrow=(4, 8, 12, 16, 20, 32),
            rank_depth=3,
            samples=60,
            trained=12,
            trained_widths=(512, 1024, 2048, 4096),
            runs=32,
            lr=0.5,
            steps=80,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "At one hidden layer the mean empirical kernel of scales and shifts is the infinite one, at any width.",
            lambda p, o: max(z_score(p["shallow"], kernels) for kernels in o["shallow"]),
            5,
            "Standard errors of the mean over networks; with ReLU and white inputs there is no other error.",
        ),
        Claim(
            "Its squared deviation falls in proportion to 1/width.",
            lambda p, o: rate(o["widths"], spread(p, o), p["order"]),
            0.25,
            "Mean squares over the networks have errors of some 10 % at each width, over three doublings.",
        ),
        Claim(
            "So is that of a deep network, whose layers multiply the slopes above.",
            lambda p, o: z_score(p["deep"], o["deep"], floor=p["deep_rest"]),
            2,
            "Order one, as the floor rules: per layer, 1/width and the spread of a unit's own variance, 1/inputs.",
        ),
        Claim(
            "Scales and shifts span all samples if, and only if, there are as many of them as samples.",
            lambda p, o: np.max(np.abs(p["ranks"] - o["ranks"])),
            0,
            "A rank is a whole number.",
        ),
        Claim(
            "Early training of BatchNorm alone follows its tangent, ever closer with width.",
            lambda p, o: abs(slope(o["trained_widths"], o["departure"].mean(axis=1)) - p["departure"]),
            0.3,
            "The leading order is 1/width while the loss falls to a fifth; later, weak modes delay it to wider ones. "
            "Means over runs fluctuate by some 15 % at each width.",
        ),
    ),
    rivals=(
        Rival(
            "Only the shifts count: E[φ'(u) φ'(v)] without the term in u v.",
            instead(shallow="shifts", deep="deep_shifts"),
        ),
        Rival("The kernel is that of training everything.", instead(shallow="full", deep="deep_full")),
        Rival(
            "One trained number in each unit: the rank is min(P, n L).",
            lambda problem, p: (
                p | {"ranks": np.minimum(problem.samples, np.array(problem.narrow) * problem.rank_depth)}
            ),
        ),
        Rival(
            "Random features are no tangent: width does not help.",
            lambda _, p: p | {"order": 0.0, "departure": 0.0},
        ),
    ),
    draw=draw,
    formulas=(
        "kernels.batchnorm_only.shallow_relu",
        "kernels.batchnorm_only.deep_scale",
        "kernels.batchnorm_only.deep_shift",
    ),
)
