"""How often a model that fits its data generalises: gradient descent from random starts, counted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, simulate
from sims.training import gradient_descent
from theory.bayes_icl.inductive_bias import linear_inductive_bias, null_energy
from validation import style
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """One target, and data of which each number n of them is a beginning."""
    s = Problem(**settings, seed=seed)
    rng = np.random.default_rng(seed)
    s.target = rng.normal(size=s.dimension)
    s.inputs = rng.normal(size=(max(s.data), s.dimension))
    s.errors = np.array(s.shares) * s.dimension
    return s


def bits(problem, energy, freedom=None):
    """Bits for each number of data and each error, given the energy that n data leave."""
    d = problem.dimension
    return np.array(
        [
            [linear_inductive_bias(e, d, n if freedom is None else freedom(n), energy(n)) for e in problem.errors]
            for n in problem.data
        ]
    )


def predict(problem):
    """Bits of inductive bias, (data, errors)."""
    left = {n: null_energy(problem.inputs[:n], problem.target) for n in problem.data}
    return {"bits": bits(problem, left.get)}


def descended(inputs, labels, steps, starts, seed):
    """Weights of linear models after descent on the square loss from N(0, I) starts, (starts, d), in float64."""
    n, d = inputs.shape
    largest = np.linalg.norm(inputs, 2) ** 2 / n

    def loss(theta):
        return jnp.mean((inputs @ theta - labels) ** 2) / 2

    program = gradient_descent(lambda key, _: jax.random.normal(key, (d,)), loss, 1 / largest, lambda theta, _: theta)
    seeds = seed * starts + np.arange(starts)
    return simulate(program, Runs(seeds, {}, (starts,)), [0, steps], batching="vmap").records[:, -1]


def simulate_networks(problem):
    """Errors of the models that descent ends at, (data, starts), and how well they fit."""
    s, found, fit = problem, [], []
    for n in s.data:
        x = s.inputs[:n]
        weights = descended(x, x @ s.target, s.steps, s.starts, s.seed)
        found.append(np.sum((weights - s.target) ** 2, axis=1))
        fit.append(np.mean((weights @ x.T - x @ s.target) ** 2))
    return {"errors": np.array(found), "fit": np.array(fit), "levels": s.errors}


def shares(observation):
    """Fraction of models below each error, (data, errors)."""
    return np.mean(observation["errors"][:, :, None] <= observation["levels"], axis=1)


def frequency(prediction, observation):
    """Fractions of models that generalise, in standard errors of the predicted chance."""
    chance, many = 2.0 ** -prediction["bits"], observation["errors"].shape[1]
    # Where hardly any is expected, one of them is what may happen.
    error = np.sqrt(chance * (1 - chance) / many + 1 / many**2)
    return float(np.max(np.abs(shares(observation) - chance) / error))


def misfit(prediction, observation):
    """Square errors on the data, in millionths."""
    return float(np.max(observation["fit"])) * 1e6


def nothing_learned(problem, prediction):
    """The data do not narrow the choice."""
    return {"bits": bits(problem, lambda n: np.sum(problem.target**2), lambda n: 0)}


def any_target(problem, prediction):
    """The target is as far as the prior's mean is from itself: a central law."""
    return {"bits": bits(problem, lambda n: 0.0)}


def unprojected(problem, prediction):
    """The data show nothing of the target itself."""
    return {"bits": bits(problem, lambda n: np.sum(problem.target**2))}


def draw(figure, problem, prediction, observation):
    axes = figure.subplots()
    measured = shares(observation)
    for i, n in enumerate(problem.data):
        style.theory(axes, problem.shares, prediction["bits"][i], i=i, label=f"n = {n}")
        seen = measured[i] > 0
        style.networks(axes, np.array(problem.shares)[seen], -np.log2(measured[i][seen]), i=i, linestyle="none")
    axes.set(xlabel="error asked for, per parameter", ylabel="inductive bias, bits")
    axes.set_title(f"Linear models of {problem.dimension} parameters that fit n data")
    axes.set_ylim(-0.3, np.log2(observation["errors"].shape[1]))
    axes.legend()


STUDY = Study(
    title="Bits of inductive bias",
    question="How many bits does a task ask for beyond its data? How often does descent from a random start have them?",
    source="Boopathy et al. 2024 (IJCAI), for a linear model",
    regimes=("bayes", "rich"),
    asks="how well",
    sizes={
        "smoke": dict(dimension=12, data=(2, 4, 6), shares=(0.3, 0.5, 0.8, 1.2, 2.0), steps=2000, starts=4000),
        "paper": dict(dimension=24, data=(4, 8, 12), shares=(0.3, 0.5, 0.8, 1.2, 2.0), steps=10_000, starts=200_000),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim("Descent ends at models that fit.", misfit, 1, "A millionth of the noise of one label of unit weights."),
        Claim(
            "Of the models that fit, as many generalise as the prior says.",
            frequency,
            5,
            "Standard errors of a fraction of the starts.",
        ),
    ),
    rivals=(
        Rival("Data do not narrow the choice.", nothing_learned),
        Rival("Any target is as easy as none at all.", any_target),
        Rival("Data show which models fit, and nothing of the target.", unprojected),
    ),
    draw=draw,
    formulas=("bayes_icl.inductive_bias.one", "bayes_icl.inductive_bias.bits", "bayes_icl.inductive_bias.energy"),
)
