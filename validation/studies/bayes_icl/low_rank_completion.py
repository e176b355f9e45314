"""Completing a matrix of rank one in context: a transformer against the exact Bayes predictor, which is not linear."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import rank_one_tasks
from theory.bayes_icl.low_rank import rank_one_predictions
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

# The entries that are asked for, (11, 22, 12), as inputs x with x . vec(w) the entry.
ENTRIES = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0.5, 0.5, 0]])
# First the entry off the diagonal, then both on it, in either order: what the rank says of them is not linear.
ORDERS = np.array([[2, 0, 1], [2, 1, 0]])
# Moments of w = vec(z z^T) for z ~ N(0, I): E w_ij = d_ij, cov(w_ij, w_kl) = d_ik d_jl + d_il d_jk.
MEAN, COVARIANCE = np.eye(2).ravel(), np.eye(4) + np.eye(4)[[0, 2, 1, 3]]
NAMES = ("Bayes, rank one", "Gaussian, same moments", "ridge", "noise σ⁴ for σ²")


def problem(settings, seed):
    """Prompts that neither side was trained on, and the values without noise."""
    given = Problem(**settings, seed=seed)
    key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)
    given.x, given.y, given.truth = drawn_prompts(key, given.prompts, given.repeats, given.noise)
    given.matrices = given.x @ ENTRIES
    return given


def drawn_prompts(key, batch, repeats, noise, dtype=None):
    """Which entry each pair shows, one-hot (batch, n, 3), its label, and the entry without noise, (batch, n)."""
    of_tasks, of_orders, of_noise = jax.random.split(key, 3)
    order = jnp.asarray(ORDERS)[jax.random.randint(of_orders, (batch,), 0, len(ORDERS))]
    x = jax.nn.one_hot(jnp.repeat(order, repeats, axis=1), 3, dtype=dtype or float)
    truth = jnp.einsum("pne,pe->pn", x, rank_one_tasks(of_tasks, batch, 2, x.dtype) @ ENTRIES.T.astype(x.dtype))
    return x, truth + jnp.sqrt(noise).astype(x.dtype) * jax.random.normal(of_noise, truth.shape, x.dtype), truth


def predict(given):
    """Predictions of the exact posterior and of others, (rules, prompts, positions), and what the exact one leaves."""

    def gaussian(x, y, mean, covariance):
        return linear_predictions(x, y, given.noise, mean, covariance).mean

    bayes = exact(given, given.noise)
    # Ridge regression knows the size of the weights: E w_ij^2 = 3 on the diagonal and 1 off it, 2 on average.
    dense = [
        jax.vmap(functools.partial(gaussian, mean=mean, covariance=covariance))(given.matrices, given.y)
        for mean, covariance in ((MEAN, COVARIANCE), (0.0, 2.0))
    ]
    values = np.stack([bayes.mean, *dense, exact(given, given.noise**2).mean])
    excess = np.asarray(bayes.variance - given.noise)
    return {"values": values, "excess": excess}


def exact(given, noise):
    predictions = functools.partial(rank_one_predictions, angles=given.angles)
    return jax.jit(jax.vmap(predictions, in_axes=(0, 0, None)))(given.matrices, given.y, noise)


@functools.cache
def network(repeats, batch, width, steps, lr):
    """Fresh tasks at every step."""

    def drawn(key, settings):
        return drawn_prompts(key, batch, repeats, settings["noise"], jnp.float32)[:2]

    return regression_training(drawn, 3, 3 * repeats, steps=steps, lr=lr, width=width)


def simulate_networks(given):
    """Outputs of the trained network on the prompts, (prompts, positions)."""
    program = network(given.repeats, given.batch, given.width, given.steps, given.lr)
    shown = {"x": given.x, "y": given.y, "noise": given.noise}
    hyper = {name: np.asarray(part, np.float32)[None] for name, part in shown.items()}
    at = every(given.steps, given.steps)
    found = simulate(program, Runs(np.array([given.seed]), hyper, (1,)), at, batching="map", optimised=True).records
    return {"outputs": np.asarray(found, float)[0, -1], "truth": np.asarray(given.truth)}


def distances(prediction, observation):
    """Mean squared distance of the trained network to each rule, (rules,)."""
    return np.mean((prediction["values"] - observation["outputs"]) ** 2, axis=(1, 2))


def near(prediction, observation):
    """Distance to the rule that is named first, over a twentieth of the signal."""
    return float(distances(prediction, observation)[0] / (0.05 * np.mean(observation["truth"] ** 2)))


def nearest(prediction, observation):
    """Distance to it over that to the nearest other one."""
    found = distances(prediction, observation)
    return float(found[0] / found[1:].min())


def pythagoras(prediction, observation):
    """E (g - f)^2 - E (g - f_B)^2 - E Var f at each position, in standard errors over prompts: the largest."""
    g, truth = observation["outputs"], observation["truth"]
    left = (g - truth) ** 2 - (g - prediction["values"][0]) ** 2 - prediction["excess"]
    return z_score(0.0, left)


def of(which):
    """Another rule in the first place."""

    def believed(given, prediction):
        order = [which, *(i for i in range(len(NAMES)) if i != which)]
        return prediction | {"values": prediction["values"][order]}

    return believed


def after(given, prediction):
    """The posterior after y_t in place of the one before: E[f | y] = y + sigma^2 d ln p(y) / dy, y_t alone moved."""

    def slopes(x, y):
        density = jax.jacfwd(lambda y: rank_one_predictions(x, y, given.noise, given.angles).log_density)
        return jnp.diagonal(density(y))

    known = given.y + given.noise * jax.jit(jax.vmap(slopes))(given.matrices, given.y)
    return prediction | {"values": np.concatenate([np.asarray(known)[None], prediction["values"][1:]])}


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    positions = np.arange(3 * given.repeats)
    truth, outputs = observation["truth"], observation["outputs"]
    risks = np.mean((prediction["values"] - truth) ** 2, axis=1)
    style.theory(left, positions, risks[0], label="Bayes, rank one")
    style.rival(left, positions, risks[1], label="Gaussian, same moments")
    style.rival(left, positions, risks[2], label="ridge", linestyle=":")
    style.networks(left, positions, np.mean((outputs - truth) ** 2, axis=0), label="transformer")
    shown = ["off the\ndiagonal", "on the\ndiagonal", "the other\non it"]
    left.set_xticks(given.repeats * np.arange(3) + (given.repeats - 1) / 2, shown)
    left.set(xlabel="entry that is asked for", ylabel="excess risk", ylim=(0, None), title="Risk by position")
    left.legend(fontsize=7, loc="lower right")
    some, last = slice(0, 400), -given.repeats
    axis = np.array([-2, 9])
    right.plot(axis, axis, color=style.INK, linewidth=0.8, zorder=1)
    for i, colour in ((1, style.RIVAL), (0, style.colour(0))):
        rule = prediction["values"][i][some, last]
        right.plot(rule, outputs[some, last], "o", markersize=2.5, color=colour, label=NAMES[i])
    right.set(xlabel="rule's prediction", ylabel="transformer's output", xlim=axis, ylim=axis)
    right.set_title("The last entry, first shown")
    right.legend(fontsize=7)


STUDY = Study(
    title="A matrix of rank one, entry by entry",
    question="Does a transformer that was trained on weights of rank one use that they are, or only their moments?",
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), here with z of two entries, where Bayes is exact",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(repeats=1, noise=0.25, angles=256, batch=128, width=32, steps=1200, lr=3e-3, prompts=2000),
        "paper": dict(repeats=4, noise=0.125, angles=1024, batch=256, width=128, steps=100_000, lr=1e-3, prompts=2000),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The network is within a twentieth of the signal of the Bayes predictor.",
            near,
            1,
            "A twentieth: what a small network has not learned when training stops.",
        ),
        Claim(
            "It uses the rank: no rule that is linear in the labels is as near, be it the best one.",
            nearest,
            1,
            "Of two rules the nearer one is what it says.",
        ),
        Claim(
            "At every position its excess risk is that of Bayes and its distance to Bayes.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("It uses the moments of the weights alone, as if they were Gaussian.", of(1)),
        Rival("It is ridge regression.", of(2)),
        Rival("It takes the variance of the noise for its standard deviation.", of(3)),
        Rival("It knows the label that it is asked for.", after),
    ),
    draw=draw,
    formulas=("bayes_icl.low_rank.first_label", "bayes_icl.low_rank.second_label"),
)
