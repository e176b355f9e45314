"""Linear attention pretrained on finitely many prompts and tasks: its errors in the limit, from small dimensions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.fitted_linear_attention import (
    best_layer,
    layer_error,
    pretrained_layer_errors,
    sphere_tasks,
)
from theory.bayes_icl.linear_attention_asymptotics import Pretraining, bayes_error, endless_errors, pretrained_errors
from validation import style
from validation.study import Claim, Problem, Rival, Study

# Stands for no ridge: equations stay solvable, solutions are the shortest.
NO_RIDGE = 1e-9


def problem(settings, seed):
    """All pairs of samples tau and ridge lambda."""
    s = Problem(**settings, seed=seed)
    s.cases = [(tau, ridge) for ridge, taus in s.samples.items() for tau in taus]
    return s


fitted_errors = jax.jit(pretrained_layer_errors, static_argnames=("d", "tasks", "n", "context"))


@functools.cache
def solved(tau, ridge, context, tasks, noise, d, runs, seed):
    """Errors of all runs, (runs, 2)."""
    sizes = dict(d=d, tasks=round(tasks * d), n=round(tau * d**2), context=round(context * d))
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), d), run) for run in range(runs)]
    return np.stack([np.asarray(fitted_errors(key, **sizes, noise=noise, ridge=ridge or NO_RIDGE)) for key in keys])


@functools.cache
def endlessly_pretrained(tasks, context, noise, d, runs, seed):
    """Errors on fresh tasks of the best layers on fresh draws of k tasks, (numbers of tasks, runs): no prompts."""
    counts, length = np.round(np.array(tasks) * d).astype(int), round(context * d)

    @jax.jit
    def error(key, k):
        # As many for all, so that one program serves: those beyond the k-th are left out.
        drawn = sphere_tasks(key, counts.max(), d) * (jnp.arange(counts.max()) < k)[:, None]
        gamma = best_layer(jnp.sum(drawn, axis=0) / k, drawn.T @ drawn / k, length, noise)
        return layer_error(gamma, jnp.zeros(d), jnp.eye(d), length, noise)

    root = jax.random.fold_in(jax.random.key(seed + 1), d)
    keys = jax.random.split(root, (len(counts), runs))
    return np.array([[error(key, k) for key in row] for row, k in zip(keys, counts, strict=True)])


def predict(problem):
    """Errors on fresh and on pretrained tasks, (cases, 2), and finely for the figure; and those of endless prompts."""
    tau, ridge = np.array(problem.cases).T
    fixed = (problem.context, problem.tasks, problem.noise)
    fine = np.geomspace(0.5 * tau.min(), 2 * tau.max(), 241)
    curves = {r: np.stack(pretrained_errors(Pretraining(fine, *fixed, r)), axis=1) for r in problem.samples}
    return {
        "errors": np.stack(pretrained_errors(Pretraining(tau, *fixed, ridge)), axis=1),
        "fine": fine,
        "curves": curves,
        "endless": endless_of(problem, problem.endless_tasks),
    }


def endless_of(problem, tasks):
    """Errors on fresh tasks after endlessly many prompts of so many tasks."""
    return np.asarray(endless_errors(problem.endless_context, np.asarray(tasks), problem.noise).in_context)


def simulate_layers(problem):
    """Errors at each dimension, (cases, 2) a mean and its standard error, and extrapolated in 1 / d."""
    fixed = (problem.context, problem.tasks, problem.noise)
    few = zip(problem.dimensions, problem.runs, strict=True)
    found = [np.stack([solved(*case, *fixed, d, n, problem.seed) for case in problem.cases]) for d, n in few]
    of_all = (problem.endless_tasks, problem.endless_context, problem.noise)
    draws = [endlessly_pretrained(*of_all, d, problem.endless_runs, problem.seed) for d in problem.endless_dimensions]
    endless = extrapolated(problem.endless_dimensions, draws)
    return extrapolated(problem.dimensions, found) | {f"endless_{name}": x for name, x in endless.items()}


def extrapolated(dimensions, found):
    """From errors (cases, runs, ...) at two dimensions to many, with what the extrapolation may be off by."""
    means = [each.mean(axis=1) for each in found]
    spreads = [each.std(axis=1, ddof=1) / np.sqrt(each.shape[1]) for each in found]
    ratio = dimensions[1] / dimensions[0]
    # The dimensions' 1/d terms cancel.
    limit = (ratio * means[1] - means[0]) / (ratio - 1)
    spread = np.hypot(ratio * spreads[1], spreads[0]) / (ratio - 1)
    # The next term is of the size of the square of the first, relative to the limit.
    rest = ((means[0] - means[1]) / (ratio - 1)) ** 2 / limit
    return {
        "means": np.array(means),
        "spreads": np.array(spreads),
        "limit": limit,
        "error": np.hypot(spread, rest),
        "spread": spread,
    }


def off(which):
    """Extrapolated errors of one kind against the limit, in standard errors beside the next term in 1 / d."""

    def measure(prediction, observation):
        gap = observation["limit"][:, which] - prediction["errors"][:, which]
        return float(np.max(np.abs(gap) / observation["error"][:, which]))

    return measure


def off_endless(prediction, observation):
    """The same for endless prompts."""
    gap = observation["endless_limit"] - prediction["endless"]
    return float(np.max(np.abs(gap) / observation["endless_error"]))


def above(prediction, observation):
    """By how much any error of finite dimension lies below the limit, in its standard errors."""
    return float(np.max((prediction["errors"] - observation["means"]) / observation["spreads"]))


def draw(figure, problem, prediction, observation):
    left, right, third = figure.subplots(1, 3)
    tau, ridge = np.array(problem.cases).T
    for which, (axes, title) in enumerate(((left, "Fresh tasks"), (right, "Pretrained tasks"))):
        for i, (value, curve) in enumerate(prediction["curves"].items()):
            label = f"ridge {value:g}" if value else "no ridge"
            style.theory(axes, prediction["fine"], curve[:, which], i=i, label=label)
            here = ridge == value
            limit, error = observation["limit"][here, which], observation["error"][here, which]
            style.networks(axes, tau[here], limit, error=error, i=i, linestyle="none")
        for value in observation["means"]:
            axes.plot(tau, value[:, which], ".", color=style.RIVAL, markersize=3, zorder=1)
        axes.set(xscale="log", yscale="log", xlabel="prompts over dimension²  τ", title=title)
        axes.set_ylim(0.5 * problem.noise, 4 * prediction["errors"].max())
        axes.set_xticks([0.3, 1, 3], ["0.3", "1", "3"])
        axes.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
        axes.minorticks_off()
    floor = float(bayes_error(problem.context, problem.noise))
    style.rival(left, prediction["fine"], np.full(len(prediction["fine"]), floor), label="Bayes")
    left.set_ylabel("mean square error")
    left.legend(fontsize=7)
    fine = np.geomspace(0.7 * problem.endless_tasks[0], 1.5 * problem.endless_tasks[-1], 121)
    for i, context in ((2, problem.endless_context), (3, 1e6)):
        label = f"context {context:g} d" if i == 2 else "endless context"
        style.theory(third, fine, endless_errors(context, fine, problem.noise).in_context, i=i, label=label)
    limit, error = observation["endless_limit"], observation["endless_error"]
    style.networks(third, problem.endless_tasks, limit, error=error, i=2, linestyle="none")
    third.axvline(1, color=style.INK, linewidth=0.8, linestyle=":")
    third.set(xscale="log", xlabel="tasks over dimension  κ", title="Fresh tasks, endless prompts", ylim=(0, 1.3))
    third.set_xticks([0.25, 1, 4], ["0.25", "1", "4"])
    third.minorticks_off()
    third.legend(fontsize=7)


def believing(change):
    """A rival's errors from a changed setting."""

    def rival(problem, prediction):
        tau, ridge = np.array(problem.cases).T
        setting = change(Pretraining(tau, problem.context, problem.tasks, problem.noise, ridge))
        return prediction | {"errors": np.stack(pretrained_errors(setting), axis=1)}

    return rival


def endless(problem, prediction):
    """As many prompts as one likes."""
    found = np.stack(endless_errors(problem.context, problem.tasks, problem.noise))
    return prediction | {"errors": np.broadcast_to(found, prediction["errors"].shape)}


def no_transition(problem, prediction):
    """Each task beyond the first teaches as much: what is missing is missing in proportion to 1 / (1 + kappa)."""
    all_tasks, none = endless_of(problem, 1e9), 1 + problem.noise
    missing = 1 / (1 + np.asarray(problem.endless_tasks))
    return prediction | {"endless": all_tasks + (none - all_tasks) * missing}


def bayes(problem, prediction):
    """Ridge regression on the context itself."""
    found = float(bayes_error(problem.context, problem.noise))
    return prediction | {"errors": np.full_like(prediction["errors"], found)}


STUDY = Study(
    title="Linear attention in many dimensions",
    question="How many prompts and tasks does pretraining take until linear attention learns fresh tasks in context?",
    source="Lu, Letey, Zavatone-Veth, Maiti & Pehlevan 2024 (arXiv:2405.11751)",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(
            # The same prompts for each ridge: sizes are compiled, ridges are not.
            samples={0.0: (0.4, 1.6, 2.5), 0.3: (0.4, 1.6, 2.5)},
            context=1.0,
            tasks=0.5,
            noise=0.1,
            dimensions=(12, 24),
            runs=(24, 8),
            endless_context=20.0,
            endless_tasks=(0.25, 0.5, 1.0, 1.5, 2.0, 4.0),
            endless_dimensions=(32, 64),
            endless_runs=64,
        ),
        "paper": dict(
            samples={0.0: (0.2, 0.4, 0.6, 1.5, 2.0, 3.0), 0.3: (0.5, 1.0, 2.0, 3.0)},
            context=1.0,
            tasks=0.5,
            noise=0.1,
            dimensions=(32, 64),
            runs=(64, 32),
            endless_context=100.0,
            endless_tasks=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0),
            endless_dimensions=(128, 256),
            endless_runs=64,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_layers,
    claims=(
        Claim("Errors on fresh tasks.", off(0), 5, "Standard errors over layers, beside the next term in 1 / d."),
        Claim("Errors on pretrained tasks.", off(1), 5, "Standard errors over layers, beside the next term in 1 / d."),
        Claim(
            "After endless prompts fresh tasks are learned from as many tasks as dimensions on.",
            off_endless,
            5,
            "Standard errors over draws of the tasks, beside the next term in 1 / d.",
        ),
        Claim("No finite dimension does better than the limit.", above, 5, "Standard errors over layers."),
    ),
    rivals=(
        Rival("Prompts are endless.", endless),
        Rival("Tasks are all tasks.", believing(lambda setting: setting._replace(tasks=1e9))),
        Rival("The ridge alone regularises.", believing(lambda setting: setting._replace(ridge=0.0))),
        Rival("A context's noise is that of its labels.", believing(lambda s: s._replace(context=s.context / s.noise))),
        Rival("There is no transition in the number of tasks.", no_transition),
        Rival("Linear attention is the Bayes predictor.", bayes),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.linear_attention_asymptotics.ridge",
        "bayes_icl.linear_attention_asymptotics.fresh",
        "bayes_icl.linear_attention_asymptotics.memorised",
    ),
)
