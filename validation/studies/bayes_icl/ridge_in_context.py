"""A transformer on noisy linear regression, and the algorithms that it might be."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from theory.bayes_icl.algorithms import gradient_descent, least_squares, prefix_predictions, ridge
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

NAMES = ("ridge, σ²/τ²", "ridge, σ/τ", "least squares", "one step")


def tests(problem, noise):
    """Prompts (x, y, values without noise) that neither side was trained on: the same numbers for both."""
    key = jax.random.fold_in(jax.random.key(problem.seed), 2**31 - 1)
    of_tasks, of_prompts = jax.random.split(key)
    drawn = prompts(of_prompts, gaussian_tasks(of_tasks, problem.tests, problem.dimension), problem.context, noise)
    return drawn.x, drawn.y, jnp.einsum("pnd,pd->pn", drawn.x, drawn.w)


def predict(problem):
    """Predictions of every algorithm on the tests, and the excess risk that Bayes leaves."""
    found = {"noises": problem.noises, "values": {}, "excess": {}, "bayes": 0}
    for noise in problem.noises:
        x, y, _ = tests(problem, noise)
        # The best single rate of one step, for n pairs of white inputs.
        rate = 1 / (problem.context + 1 + problem.dimension + noise)
        rules = (
            functools.partial(ridge, penalty=noise**0.5),
            least_squares,
            functools.partial(gradient_descent, rate=rate),
        )
        bayes = jax.vmap(lambda x, y, noise=noise: linear_predictions(x, y, noise))(x, y)
        others = [jax.vmap(functools.partial(prefix_predictions, rule))(x, y) for rule in rules]
        found["values"][noise] = np.stack([bayes.mean, *others])
        found["excess"][noise] = np.asarray(bayes.variance - noise)
    return found


@functools.cache
def network(problem):
    """Fresh tasks at every step."""
    dimension, context, batch, width, steps, lr = problem

    def drawn(key, settings):
        of_tasks, of_prompts = jax.random.split(key)
        seen = prompts(
            of_prompts, gaussian_tasks(of_tasks, batch, dimension, dtype=jnp.float32), context, settings["noise"]
        )
        return seen.x, seen.y

    return regression_training(drawn, dimension, context, steps=steps, lr=lr, width=width)


def simulate_networks(problem):
    """Outputs of trained networks on the tests, by noise: (records, tests, positions)."""
    sizes = problem.dimension, problem.context, problem.batch, problem.width
    program = network((*sizes, problem.steps, problem.lr))
    shown = [tests(problem, noise) for noise in problem.noises]
    x, y = (np.stack([part[i] for part in shown]).astype(np.float32) for i in (0, 1))
    many = len(problem.noises)
    hyper = {"noise": np.array(problem.noises), "x": x, "y": y}
    at = every(problem.steps, problem.every)
    seeds = problem.seed * many + np.arange(many)
    found = simulate(program, Runs(seeds, hyper, (many,)), at, batching="map", optimised=True).records
    outputs = np.asarray(found, float)
    return {
        "t": at,
        "outputs": dict(zip(problem.noises, outputs, strict=True)),
        "truth": {noise: np.asarray(part[2], float) for noise, part in zip(problem.noises, shown, strict=True)},
    }


def distances(prediction, observation, noise):
    """Mean squared distance of the trained network to each algorithm, (algorithms,)."""
    outputs = observation["outputs"][noise][-1]
    return np.mean((prediction["values"][noise] - outputs) ** 2, axis=(1, 2))


def near(prediction, observation):
    """Distance to the algorithm named first, over a twentieth of what can be predicted at all."""
    worst = [
        distances(prediction, observation, noise)[0] / (0.05 * np.mean(observation["truth"][noise] ** 2))
        for noise in prediction["noises"]
    ]
    return float(max(worst))


def nearest(prediction, observation):
    """Distance to it over that to the nearest other one."""
    found = [distances(prediction, observation, noise) for noise in prediction["noises"]]
    return float(max(each[0] / each[1:].min() for each in found))


def pythagoras(prediction, observation):
    """E (g - f)^2 - E (g - f_B)^2 - E Var f, in standard errors over prompts."""
    worst = []
    for noise in prediction["noises"]:
        g, truth = observation["outputs"][noise][-1], observation["truth"][noise]
        bayes = prediction["values"][noise][0]
        left = np.mean((g - truth) ** 2 - (g - bayes) ** 2 - prediction["excess"][noise], axis=1)
        worst.append(z_score(0.0, left))
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    positions = np.arange(problem.context)
    for i, noise in enumerate(problem.noises):
        truth, outputs = observation["truth"][noise], observation["outputs"][noise][-1]
        label = f"transformer, noise {noise:g}"
        style.theory(left, positions, prediction["excess"][noise].mean(axis=0), i=i)
        style.networks(left, positions, np.mean((outputs - truth) ** 2, axis=0), i=i, label=label)
        step = np.mean((prediction["values"][noise][3] - truth) ** 2, axis=0)
        style.rival(left, positions, step, label="one step of gradient descent" if i == 0 else None)
    left.set(xlabel="pairs seen", ylabel="excess risk")
    left.legend(fontsize=7)
    left.set_title("Risk by position")
    width = 0.8 / len(problem.noises)
    for i, noise in enumerate(problem.noises):
        at = np.arange(len(NAMES)) + (i - (len(problem.noises) - 1) / 2) * width
        found = distances(prediction, observation, noise)
        right.bar(at, found, width, color=style.colour(i), label=f"noise {noise:g}")
    right.set(yscale="log", xticks=range(len(NAMES)), ylabel="distance of the network")
    right.set_xticklabels(NAMES, fontsize=7)
    right.set_title("Which algorithm is it?")
    right.legend(fontsize=7)


def of(which):
    """Another algorithm in the first place."""

    def believed(problem, prediction):
        order = [which, *(i for i in range(len(NAMES)) if i != which)]
        return prediction | {"values": {noise: found[order] for noise, found in prediction["values"].items()}}

    return believed


def after(problem, prediction):
    """The posterior after y_t in place of the one before."""
    found = {}
    for noise, values in prediction["values"].items():
        x, y, _ = tests(problem, noise)
        twice = jax.vmap(lambda x, y, noise=noise: _knowing(x, y, noise))(x, y)
        found[noise] = np.concatenate([np.asarray(twice)[None], values[1:]])
    return prediction | {"values": found}


def _knowing(x, y, noise):
    def at(t):
        given = (jnp.arange(len(y)) <= t).astype(x.dtype)
        return ridge(x, y, x[t], given, penalty=noise)

    return jax.vmap(at)(jnp.arange(len(y)))


STUDY = Study(
    title="Ridge regression in context",
    question="Which algorithm is a transformer that was trained on noisy linear regression?",
    source="Garg et al. 2022 (arXiv:2208.01066); Akyurek et al. 2023 (arXiv:2211.15661)",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(
            dimension=2,
            context=8,
            noises=(4.0,),
            batch=128,
            width=32,
            steps=900,
            every=300,
            lr=3e-3,
            tests=2000,
        ),
        "paper": dict(
            dimension=8,
            context=16,
            noises=(0.0625, 0.25, 1.0, 4.0),
            batch=256,
            width=128,
            steps=100_000,
            every=5000,
            lr=1e-3,
            tests=4000,
        ),
    },
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
            "No other algorithm is as near as ridge regression with penalty σ²/τ².",
            nearest,
            1,
            "Of two algorithms the nearer one is what it says.",
        ),
        Claim(
            "Its excess risk is that of Bayes and its distance to Bayes.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("The penalty is the standard deviation of the noise, not its variance.", of(1)),
        Rival("It is least squares.", of(2)),
        Rival("It is one step of gradient descent.", of(3)),
        Rival("It knows the label that it is asked for.", after),
    ),
    draw=draw,
    formulas=("bayes_icl.prequential.second_label", "bayes_icl.prequential.linear_mean", "bayes_icl.algorithms.ridge"),
)
