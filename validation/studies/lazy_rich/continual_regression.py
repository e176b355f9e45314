"""Continual learning in linear regression: what the second task does to the first, and what the first does for it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.tasks.continual import course, elastic_solution, related_teachers, teacher_tasks
from theory.lazy_rich.continual_regression import (
    descent_filter,
    fisher_pull,
    flow_filter,
    forgetting,
    joint_ridge_errors,
    pull_filter,
    sequential_errors,
    transfer,
)
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

# How a student learns its second task; each column of a table of errors.
TRAINED = ("flow", "stopped")
SOLVED = ("pull", "full Fisher")


def alphas(problem):
    return np.array(problem.samples) / problem.inputs


def grams(problem):
    return [np.array([[1, rho], [rho, 1]]) for rho in problem.correlations]


def predict(problem, noisy=1.0, grams_of=grams):
    """Errors of both tasks after each stage, (correlations, stages, tasks), by the way of learning."""
    alpha, noise = alphas(problem), problem.noise
    filters = {
        "flow": (flow_filter(alpha, problem.inputs), noise * noisy),
        "stopped": (descent_filter(problem.stop, problem.lr, alpha, problem.inputs), noise * noisy),
        "pull": (pulls(problem, alpha), noise),
    }
    found = {
        name: np.stack([sequential_errors(gram, learned, level)[1:] for gram in grams_of(problem)])
        for name, (learned, level) in filters.items()
    }
    weights = np.array([problem.strength, 1.0])
    full = [
        joint_ridge_errors(gram, alpha, weights, problem.strength * problem.ridge, noise) for gram in grams_of(problem)
    ]
    # The first stage is ridge regression either way.
    found["full Fisher"] = np.stack([found["pull"][:, 0], np.stack(full)], axis=1)
    rho = np.array(problem.correlations)
    changes = {"forgetting": forgetting(rho, *alpha, noise), "transfer": transfer(rho, *alpha, noise)}
    found |= {name: np.asarray(value) for name, value in changes.items()}
    slopes = {"slope": -2 * alpha[1], "gain": 2 * alpha[0] * (1 - alpha[1])}
    return found | slopes | {"rho": rho, "order": 1 / problem.inputs}


def pulls(problem, alpha):
    """Ridge regression, then the pull that is a diagonal Fisher matrix."""
    return pull_filter(np.array([problem.ridge, fisher_pull(problem.strength, alpha[0], problem.ridge)]), alpha)


def data(problem):
    """Teachers and tasks of a run; the same draws at every correlation."""

    def draw(key, hyper):
        teacher_key, task_key = jax.random.split(jax.random.fold_in(key, problem.seed))
        w = related_teachers(teacher_key, hyper["correlation"], problem.inputs)
        label = lambda key, y: y + jnp.sqrt(problem.noise) * jax.random.normal(key, y.shape)  # noqa: E731
        return teacher_tasks(task_key, w, problem.samples, label), w

    return draw


def errors(w, teachers, _):
    return jnp.mean((w - teachers) ** 2, axis=1)


def loss(w, task):
    return jnp.sum((task.y - task.x @ w) ** 2) / 2


def descended(problem, runs, steps, first=0):
    """Gradient descent on the tasks from `first` on, `steps` each, from zero weights: (seeds, rho, stages, tasks)."""

    def tasks(key, hyper):
        both, w = data(problem)(key, hyper)
        return jax.tree.map(lambda leaf: leaf[first:], both), w

    simulation = course(
        tasks,
        lambda tasks: jnp.zeros(problem.inputs),
        lambda w, _: w,
        lambda w, task, _: w - problem.lr * jax.grad(loss)(w, task),
        steps,
        errors,
    )
    return simulate(simulation, runs, steps * np.arange(3 - first)).on_grid()[:, :, 1:]


def consolidated(problem, runs, full):
    """One linear solve for each task: ridge, then a pull by the Fisher matrix of the first, or by its diagonal."""
    own = (lambda matrix: matrix) if full else jnp.diagonal

    def advance(learner, task, _):
        w, pull = learner
        fisher = task.x.T @ task.x + problem.ridge * jnp.eye(problem.inputs)
        return elastic_solution(task, w, pull), problem.strength * own(fisher)

    simulation = course(
        data(problem),
        lambda _: (jnp.zeros(problem.inputs), own(problem.ridge * jnp.eye(problem.inputs))),
        lambda learner, _: learner,
        advance,
        1,
        lambda learner, teachers, hyper: errors(learner[0], teachers, hyper),
    )
    return simulate(simulation, runs, range(3)).on_grid()[:, :, 1:]


def simulate_students(problem):
    runs = grid(problem.seeds, correlation=problem.correlations)
    flow, alone = (descended(problem, runs, problem.steps, first) for first in (0, 1))
    found = {"flow": flow, "stopped": descended(problem, runs, problem.stop)}
    found |= {name: consolidated(problem, runs, full) for name, full in zip(SOLVED, (False, True), strict=True)}
    return found | {"forgetting": flow[:, :, 1, 0] - flow[:, :, 0, 0], "transfer": alone[:, :, 0, 1] - flow[:, :, 1, 1]}


def exactly(prediction, observation):
    """Errors of trained students, all tasks and stages, against means that are exact at this N."""
    return max(z_score(prediction[name], observation[name]) for name in TRAINED)


def in_size(prediction, observation):
    """Errors of elastic students, with the order 1/N that the limit leaves out."""
    return max(
        z_score(prediction[name], observation[name], floor=prediction["order"] * prediction[name]) for name in SOLVED
    )


def lines(prediction, observation):
    """Slopes in the correlation of what is forgotten and what is transferred, run by run, against their two numbers."""
    rho = prediction["rho"]
    fitted = {name: np.polyfit(rho, observation[name].T, 1)[0] for name in ("forgetting", "transfer")}
    return max(
        z_score(prediction[slope], fitted[name]) for slope, name in (("slope", "forgetting"), ("gain", "transfer"))
    )


def levels(prediction, observation):
    """What is forgotten and transferred at each correlation; the closed forms are those of N = infinity."""
    names = ("forgetting", "transfer")
    return max(z_score(prediction[name], observation[name], floor=prediction["order"]) for name in names)


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    rho = prediction["rho"]
    for i, name in enumerate(("forgetting", "transfer")):
        runs = observation[name]
        style.theory(left, rho, prediction[name], i=i, label=name)
        style.networks(left, rho, runs.mean(axis=0), i=i, error=runs.std(axis=0) / np.sqrt(len(runs)))
    left.axhline(0, color=style.INK, linewidth=0.7)
    left.set(xlabel="correlation of the teachers", xticks=(-0.5, 0, 0.5, 1), ylabel="change of error")
    left.set_title("Gradient flow")
    left.legend(loc="upper right")

    for i, name in enumerate((*TRAINED, *SOLVED)):
        first = observation[name][:, :, 1, 0]
        label = {"pull": "diagonal Fisher"}.get(name, name)
        style.theory(right, rho, prediction[name][:, 1, 0], i=2 + i, label=label)
        style.networks(right, rho, first.mean(axis=0), i=2 + i)
    right.axhline(prediction["flow"][0, 0, 0], color=style.INK, linewidth=0.7, linestyle=":")
    right.set(xlabel="correlation of the teachers", xticks=(-0.5, 0, 0.5, 1), ylabel="error on the first task")
    right.set_title("After both; dotted: flow, after the first")
    right.legend(loc="upper right")


def unrelated(problem, prediction):
    """What is forgotten does not depend on how the tasks are related."""
    nearest = np.abs(prediction["rho"]).argmin()
    same = {name: np.repeat(prediction[name][[nearest]], len(prediction["rho"]), 0) for name in (*TRAINED, *SOLVED)}
    return prediction | same | {"slope": 0.0, "gain": 0.0}


def noiseless(problem, prediction):
    """Label noise does not get into the weights of trained students."""
    return prediction | {name: predict(problem, noisy=0.0)[name] for name in TRAINED}


def half_distance(problem, prediction):
    """Teachers are 1 - rho apart, not 2 (1 - rho)."""
    halved = lambda problem: [(1 + gram) / 2 for gram in grams(problem)]  # noqa: E731
    found = predict(problem, grams_of=halved)
    return prediction | {name: found[name] for name in (*TRAINED, "pull")} | {"slope": prediction["slope"] / 2}


def one_fisher(problem, prediction):
    """A diagonal Fisher matrix does what the full one does."""
    return prediction | {"pull": prediction["full Fisher"]}


STUDY = Study(
    title="Continual learning in linear regression",
    question="When does a second task destroy what was learned of a first, and when does the first one help?",
    source="closed forms derived in derivations/lazy_rich/continual_regression.py; elastic consolidation: "
    "Kirkpatrick et al. 2017 (arXiv:1612.00796)",
    regimes=("linear", "lazy"),
    asks="how well",
    sizes={
        "smoke": dict(
            inputs=80,
            samples=(32, 24),
            correlations=(-0.5, 0.25, 0.7, 0.95),
            noise=0.1,
            ridge=0.1,
            strength=2.0,
            # Of the loss (1/2) |y - X w|^2, whose slowest direction learns at about (1 - sqrt 0.4)^2 = 0.13.
            lr=0.6,
            steps=200,
            stop=5,
            seeds=64,
        ),
        "paper": dict(
            inputs=1000,
            samples=(400, 300),
            correlations=(-0.5, 0.25, 0.7, 0.95),
            noise=0.1,
            ridge=0.1,
            strength=2.0,
            lr=0.6,
            steps=500,
            stop=5,
            seeds=100,
        ),
    },
    predict=predict,
    simulate=simulate_students,
    claims=(
        Claim(
            "Gradient descent, to convergence or stopped, has the predicted errors on both tasks after each.",
            exactly,
            5,
            "Standard errors of the mean over data sets; the prediction is exact in the mean at this N.",
        ),
        Claim(
            "Elastic consolidation with a diagonal Fisher matrix is an isotropic pull, with the full one joint ridge.",
            in_size,
            5,
            "Standard errors, and the relative order 1/N that the limit of large N leaves out.",
        ),
        Claim(
            "What is forgotten falls with correlation at the rate 2 alpha_2, what is gained rises at "
            "2 alpha_1 (1 - alpha_2).",
            lines,
            5,
            "Standard errors of slopes that are fitted run by run.",
        ),
        Claim(
            "A second task harms the first below one correlation and is helped by it above another, as predicted.",
            levels,
            5,
            "Standard errors, and the order 1/N.",
        ),
    ),
    rivals=(
        Rival("What is forgotten does not depend on how the tasks are related.", unrelated),
        Rival("Label noise does not get into the weights.", noiseless),
        Rival("Teachers are 1 - rho apart.", half_distance),
        Rival("A diagonal Fisher matrix does what the full one does.", one_fisher),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.continual_regression.errors_after",
        "lazy_rich.continual_regression.forgetting",
        "lazy_rich.continual_regression.transfer",
        "lazy_rich.continual_regression.joint_ridge",
    ),
)
