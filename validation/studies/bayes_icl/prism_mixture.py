"""Tasks of two kinds in one training set: a transformer against the mixture of two Bayes predictors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import prompts
from theory.bayes_icl.function_families import gaussian_mixture_predictions
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def drawn_tasks(key, batch, means, spread, dtype=None):
    """Each task near one of the means, which one uniformly and for itself."""
    of_kind, of_rest = jax.random.split(key)
    which = jax.random.randint(of_kind, (batch,), 0, len(means))
    rest = jax.random.normal(of_rest, (batch, means.shape[1]), dtype)
    return jnp.asarray(means, rest.dtype)[which] + jnp.asarray(spread, rest.dtype) ** 0.5 * rest


def problem(settings, seed):
    """Opposite means along the first axis, along which the two kinds have no spread of their own; test prompts."""
    given = Problem(**settings, seed=seed)
    first = np.eye(given.dimension)[0]
    given.means, given.spread = given.apart * np.stack([first, -first]), 1.0 - first
    of_tasks, of_prompts = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2**31 - 1))
    w = drawn_tasks(of_tasks, given.prompts, given.means, given.spread)
    seen = prompts(of_prompts, w, given.context, given.noise)
    given.tests = seen.x, seen.y, jnp.einsum("pnd,pd->pn", seen.x, seen.w)
    return given


def predict(given):
    """The mixture's prediction, what it leaves on average over the prior, and the best linear rule's prediction."""
    x, y, _ = given.tests
    found = jax.vmap(lambda x, y: gaussian_mixture_predictions(x, y, given.noise, given.means, given.spread))(x, y)
    return {
        "values": np.asarray(found.mean),
        "excess": np.asarray(found.variance - given.noise),
        "linear": np.asarray(linear_rule(given)),
    }


@functools.cache
def network(dimension, context, batch, width, steps, lr):
    def drawn(key, settings):
        of_tasks, of_prompts = jax.random.split(key)
        tasks = drawn_tasks(of_tasks, batch, settings["means"], settings["spread"], jnp.float32)
        seen = prompts(of_prompts, tasks, context, settings["noise"])
        return seen.x, seen.y

    return regression_training(drawn, dimension, context, steps=steps, lr=lr, width=width)


def simulate_networks(given):
    """Outputs of each trained network on the test prompts, (runs, P, n)."""
    program = network(given.dimension, given.context, given.batch, given.width, given.steps, given.lr)
    x, y, truth = given.tests
    shared = {"x": x, "y": y, "means": given.means, "spread": given.spread, "noise": given.noise}
    hyper = {
        name: np.broadcast_to(np.float32(part), (given.runs, *np.shape(part))).copy() for name, part in shared.items()
    }
    runs = Runs(given.seed * given.runs + np.arange(given.runs), hyper, (given.runs,))
    found = simulate(program, runs, every(given.steps, given.steps), batching="map", optimised=True).records
    return {"outputs": np.asarray(found, float)[:, -1], "truth": np.asarray(truth)}


def near(prediction, observation):
    """Distance of the worst run from the prediction, over a twentieth of the signal."""
    distance = np.mean((observation["outputs"] - prediction["values"]) ** 2, axis=(1, 2))
    return float(np.max(distance) / (0.05 * np.mean(observation["truth"] ** 2)))


def nonlinear(prediction, observation):
    """Distance from the prediction over that from the best linear rule, of the worst run."""
    far = [np.mean((observation["outputs"] - prediction[name]) ** 2, axis=(1, 2)) for name in ("values", "linear")]
    return float(np.max(far[0] / far[1]))


def pythagoras(prediction, observation):
    """E (g - f)^2 - E (g - f_B)^2 - E Var f, in standard errors over prompts."""
    g, truth, bayes = observation["outputs"], observation["truth"], prediction["values"]
    left = np.mean((g - truth) ** 2 - (g - bayes) ** 2 - prediction["excess"], axis=2)
    return z_score(0.0, left, axis=1)


def linear_rule(given):
    """Ridge regression with the mixture's own covariance: the best rule that is linear in the labels."""
    x, y, _ = given.tests
    covariance = given.spread + given.means[0] ** 2
    return jax.vmap(lambda x, y: linear_predictions(x, y, given.noise, 0.0, covariance).mean)(x, y)


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    positions = np.arange(given.context)
    truth = observation["truth"]
    style.theory(left, positions, prediction["excess"].mean(axis=0), i=0, label="mixture of both kinds")
    style.rival(left, positions, np.mean((prediction["linear"] - truth) ** 2, axis=0), label="best linear rule")
    known = np.mean((np.asarray(oracle(given, prediction)["values"]) - truth) ** 2, axis=0)
    style.theory(left, positions, known, i=1, label="kind known", linewidth=1.2)
    risk = np.mean((observation["outputs"] - truth) ** 2, axis=1)
    style.networks(left, positions, risk.mean(axis=0), i=0, label="transformer")
    left.set(xlabel="pairs seen", ylabel="excess risk", ylim=(0, None))
    left.legend(fontsize=7)
    left.set_title("Risk by position")
    some = slice(0, 400)
    right.plot([-8, 8], [-8, 8], color=style.INK, linewidth=0.8, zorder=1)
    right.plot(
        prediction["values"][some, 1], observation["outputs"][0, some, 1], "o", markersize=2.5, color=style.colour(0)
    )
    right.set(xlabel="mixture's prediction", ylabel="transformer's output", xlim=(-8, 8), ylim=(-8, 8))
    right.set_title("After one pair")


def oracle(given, prediction):
    """The kind of each task is known: the nearer mean, by the task itself."""
    x, y, truth = given.tests
    # Values of the task along the inputs tell its first weight, by least squares on all noiseless values.
    w = jax.vmap(lambda x, f: jnp.linalg.lstsq(x, f)[0])(x, truth)
    means = jnp.where(w[:, :1] > 0, given.means[0], given.means[1])
    values = jax.vmap(lambda x, y, m: linear_predictions(x, y, given.noise, m, given.spread).mean)(x, y, means)
    return prediction | {"values": np.asarray(values)}


def equal_weights(given, prediction):
    """Both kinds weigh the same for ever."""
    x, y, _ = given.tests
    parts = [
        jax.vmap(lambda x, y, m=m: linear_predictions(x, y, given.noise, m, given.spread).mean)(x, y)
        for m in given.means
    ]
    return prediction | {"values": np.mean(parts, axis=0)}


def late(given, prediction):
    """The kinds are weighed with y_t already seen."""
    x, y, _ = given.tests
    parts = [
        jax.vmap(lambda x, y, m=m: linear_predictions(x, y, given.noise, m, given.spread))(x, y) for m in given.means
    ]
    weight = jax.nn.softmax(jnp.stack([part.log_evidence for part in parts]), axis=0)
    return prediction | {"values": np.asarray(jnp.sum(weight * jnp.stack([part.mean for part in parts]), axis=0))}


STUDY = Study(
    title="A mixture of two kinds of tasks",
    question="Does a transformer weigh two kinds of tasks by their evidence, as the Bayes predictor does?",
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(
            dimension=2,
            context=6,
            apart=2.0,
            noise=0.25,
            batch=128,
            width=32,
            steps=1200,
            lr=3e-3,
            runs=1,
            prompts=2000,
        ),
        "paper": dict(
            dimension=10,
            context=11,
            apart=3.0,
            noise=0.01,
            batch=256,
            width=256,
            steps=200_000,
            lr=3e-4,
            runs=4,
            prompts=4000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The network is within a twentieth of the signal of the mixture's prediction.",
            near,
            1,
            "A twentieth: what a small network has not learned when training stops.",
        ),
        Claim(
            "It is nearer to the mixture than to the best rule that is linear in the labels.",
            nonlinear,
            1,
            "Of two predictors the nearer one is what it says.",
        ),
        Claim(
            "Its excess risk is that of Bayes and its distance to Bayes.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("Both kinds weigh the same for ever.", equal_weights),
        Rival("The kinds are weighed with the label that is asked for.", late),
        Rival("The kind of each task is known from the start.", oracle),
        Rival(
            "It is the best rule that is linear in the labels.",
            lambda given, prediction: prediction | {"values": prediction["linear"], "linear": prediction["values"]},
        ),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.function_families.opposite_components",
        "bayes_icl.function_families.log_odds",
        "bayes_icl.prequential.mixture_mean",
    ),
)
