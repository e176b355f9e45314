"""From few tasks to many: a transformer knows its pool by heart, or learns the law behind it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import gaussian_tasks, pooled_tasks, prompts
from theory.bayes_icl.task_diversity import deltas, task_predictors
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

KINDS = ("pool", "new")


def problem(settings, seed):
    """The pools, nested, and for each number of tasks prompts of its own tasks and of new ones."""
    given = Problem(**settings, seed=seed)
    key = jax.random.key(seed)
    pool = gaussian_tasks(jax.random.fold_in(key, 0), max(given.tasks), given.dimension)
    given.pool = np.asarray(pool)
    given.tests = {}
    for i, known in enumerate(given.tasks):
        for j, kind in enumerate(KINDS):
            of_tasks, of_prompts = jax.random.split(jax.random.fold_in(key, 1 + len(KINDS) * i + j))
            drawn = gaussian_tasks(of_tasks, given.prompts, given.dimension)
            own = pooled_tasks(of_tasks, pool, given.prompts, known)
            seen = prompts(of_prompts, own if kind == "pool" else drawn, given.context, given.noise)
            given.tests[known, kind] = seen.x, seen.y, jnp.einsum("pnd,pd->pn", seen.x, seen.w)
    return given


def predictions(given, noise=None, pool=None):
    """(dMMSE, ridge) on the prompts of each number of tasks and kind, (2, P, n)."""
    pool, noise = given.pool if pool is None else pool, given.noise if noise is None else noise
    return {
        (known, kind): np.stack(task_predictors(pool[:known], x, y, noise))
        for (known, kind), (x, y, _) in given.tests.items()
    }


def predict(given):
    return {"tasks": given.tasks, "dimension": given.dimension, "values": predictions(given)}


@functools.cache
def network(dimension, context, batch, width, steps, lr):
    """Tasks from the first `known` rows of the pool."""

    def drawn(key, settings):
        of_tasks, of_prompts = jax.random.split(key)
        tasks = pooled_tasks(of_tasks, settings["pool"], batch, settings["known"])
        seen = prompts(of_prompts, tasks, context, settings["noise"])
        return seen.x, seen.y

    return regression_training(drawn, dimension, context, steps=steps, lr=lr, width=width)


def simulate_networks(given):
    """Outputs at the end of training, by number of tasks and kind of prompts: (P, n)."""
    program = network(given.dimension, given.context, given.batch, given.width, given.steps, given.lr)
    many = len(given.tasks)
    x, y = (
        np.stack([np.concatenate([given.tests[known, kind][i] for kind in KINDS]) for known in given.tasks])
        for i in (0, 1)
    )
    hyper = {
        "x": np.float32(x),
        "y": np.float32(y),
        "known": np.array(given.tasks),
        "noise": np.full(many, given.noise),
    }
    hyper["pool"] = np.broadcast_to(np.float32(given.pool), (many, *given.pool.shape))
    runs = Runs(given.seed * many + np.arange(many), hyper, (many,))
    found = simulate(program, runs, every(given.steps, given.steps), batching="map", optimised=True).records
    halves = np.asarray(found, float)[:, -1].reshape(many, len(KINDS), given.prompts, given.context)
    return {
        "outputs": {(known, kind): halves[i, j] for i, known in enumerate(given.tasks) for j, kind in enumerate(KINDS)},
        "truth": {which: np.asarray(part[2]) for which, part in given.tests.items()},
    }


def between(prediction, observation, which):
    of_pool, of_law = prediction["values"][which]
    return deltas(observation["outputs"][which], of_pool, of_law, prediction["dimension"])


def memorises(prediction, observation):
    """Few tasks: distance to dMMSE on the pool, over a tenth of that between dMMSE and ridge."""
    found = between(prediction, observation, (prediction["tasks"][0], "pool"))
    return float(found.to_pool / (0.1 * found.between))


def generalises(prediction, observation):
    """Many tasks: distance to ridge on new tasks, over that to dMMSE."""
    found = between(prediction, observation, (prediction["tasks"][-1], "new"))
    return float(found.to_ridge / found.to_pool)


def falls(prediction, observation):
    """Pairs of neighbouring numbers of tasks of which the larger leaves more weight on dMMSE, on new tasks."""
    weights = [float(between(prediction, observation, (known, "new")).memorising) for known in prediction["tasks"]]
    return float(np.sum(~(np.diff(weights) < 0)))


def pythagoras(prediction, observation):
    """On its own pool dMMSE is Bayes: risk less distance to it and its own risk, in standard errors over prompts."""
    worst = []
    for known in prediction["tasks"]:
        g, truth = observation["outputs"][known, "pool"], observation["truth"][known, "pool"]
        bayes = prediction["values"][known, "pool"][0]
        left = np.mean((g - truth) ** 2 - (g - bayes) ** 2 - (bayes - truth) ** 2, axis=1)
        worst.append(z_score(0.0, left))
    return max(worst)


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    for panel, kind, title in ((left, "pool", "Tasks of the pool"), (right, "new", "New tasks")):
        risks = {"network": [], "pool": [], "ridge": []}
        for known in given.tasks:
            truth = observation["truth"][known, kind]
            of_pool, of_law = prediction["values"][known, kind]
            for name, values in (
                ("network", observation["outputs"][known, kind]),
                ("pool", of_pool),
                ("ridge", of_law),
            ):
                risks[name].append(np.mean((values - truth) ** 2) / given.dimension)
        style.theory(panel, given.tasks, risks["pool"], i=0, label="Bayes for the pool (dMMSE)")
        style.theory(panel, given.tasks, risks["ridge"], i=1, label="Bayes for the law (ridge)")
        style.networks(panel, given.tasks, risks["network"], i=2, label="transformer")
        panel.set(xscale="log", xlabel="tasks in the pool", ylabel="excess risk per dimension", ylim=(0, None))
        panel.set_title(title)
    right.legend(fontsize=7)


def swapped(given, prediction):
    """Ridge regression in place of the pool's predictor, and the other way round."""
    return prediction | {"values": {which: found[::-1] for which, found in prediction["values"].items()}}


def another_pool(given, prediction):
    fresh = np.asarray(gaussian_tasks(jax.random.key(given.seed + 1000), max(given.tasks), given.dimension))
    return prediction | {"values": predictions(given, pool=fresh)}


STUDY = Study(
    title="Task diversity",
    question="With how many tasks does a transformer stop to know them by heart and learn the law behind them?",
    source="Raventos et al. 2023 (arXiv:2306.15063)",
    regimes=("bayes",),
    asks="when",
    sizes={
        "smoke": dict(
            dimension=2,
            context=8,
            noise=0.25,
            tasks=(2, 8, 128),
            batch=128,
            width=32,
            steps=700,
            lr=3e-3,
            prompts=1000,
        ),
        "paper": dict(
            dimension=8,
            context=16,
            noise=0.25,
            tasks=(4, 16, 64, 256, 1024, 4096, 16384),
            batch=256,
            width=128,
            steps=200_000,
            lr=1e-3,
            prompts=4000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "With few tasks the network is the Bayes predictor of its pool.",
            memorises,
            1,
            "A tenth of the distance between both predictors: what is left to learn when training stops.",
        ),
        Claim(
            "With many it is nearer to ridge regression on new tasks.",
            generalises,
            1,
            "Of two predictors the nearer one is what it says.",
        ),
        Claim(
            "The more tasks, the less it knows them by heart.",
            falls,
            0,
            "Every pair of neighbouring numbers of tasks in order.",
        ),
        Claim(
            "Its risk on its own pool is that of the pool's predictor and its distance to that.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("Few tasks are met by ridge regression, many by the pool's predictor.", swapped),
        Rival("Any pool of that size is as good.", another_pool),
        Rival(
            "The posterior over the pool never moves.",
            lambda given, prediction: prediction | {"values": predictions(given, noise=1e9)},
        ),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.task_diversity.pooled",
        "bayes_icl.task_diversity.memorising",
        "bayes_icl.discrete_tasks.second_variance",
    ),
)
