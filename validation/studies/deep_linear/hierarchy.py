"""Progressive differentiation: items of a tree are told apart level by level, from the root down."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.deep_linear import DeepLinear, aligned, gaussian, squared_error
from sims.probes.linear import mode_strengths
from sims.tasks.hierarchy import tree_table
from sims.training import training
from theory.deep_linear.hierarchy import (
    level_learning_time,
    level_singular_values,
    sampled_spectrum,
    tree_contrasts,
    tree_multiplicities,
    tree_spectrum,
)
from theory.deep_linear.modes import mode_strength
from validation import style
from validation.metrics import disorder, gap
from validation.study import Claim, Rival, Study, settings_as_problem

LEVELS = ("mean of all items", "two halves", "four quarters", "single items")


def problem(settings, seed):
    plain = settings_as_problem(settings, seed)
    plain.items = int(np.prod(plain.branching))
    return plain


def predict(problem):
    """From the tree alone: when each level is learned, and what a finite number of properties and steps does to it."""
    p, lam = problem, 1 / problem.items
    t = np.arange(p.steps + 1) * p.lr
    s = level_singular_values(p.branching, p.eps, p.properties)
    return half_times(p, tree_spectrum(p.branching, p.eps)) | {
        "t": t,
        "u": np.asarray(mode_strength(t[:, None], lam * s, p.u0, lam) / s),
        "levels": np.repeat(np.arange(len(s)), tree_multiplicities(p.branching)),
        "contrasts": np.asarray(tree_contrasts(p.branching)),
        # Without a hidden layer every mode decays as exp(-t/P); steps of size lr are early by lr (ln 2) / 2.
        "shallow_time": np.full(len(s), p.items * np.log(2)),
        "shallow_shift": -p.shallow_lr * np.log(2) / 2,
    }


def half_times(problem, eigenvalues):
    """Mean half time of the modes of each level, and its standard deviation over tables, to order 1 / properties."""
    p = problem
    true, spectrum = tree_spectrum(p.branching, p.eps), sampled_spectrum(p.branching, p.eps, p.properties)
    mean, deviation = perturbed(eigenvalues, true, spectrum, p.properties, p.u0, 1 / p.items, p.lr)
    return {"half_time": np.asarray(mean), "deviation": np.asarray(deviation)}


@jax.jit
def perturbed(eigenvalues, true, spectrum, properties, u0, lam, lr):
    def half_time(mu):
        return level_learning_time(0.5, jnp.sqrt(properties * mu), u0, lam)

    def speed(mu, a):
        return a * lam * (jnp.sqrt(properties * mu) - a**2)

    # In one dimension descent_error is -(speed / 2) ln(speed / speed at the start): it is late by half the logarithm.
    half = jnp.sqrt(jnp.sqrt(properties * eigenvalues) / 2)
    late = jnp.log(speed(eigenvalues, half) / speed(eigenvalues, jnp.sqrt(u0))) / 2
    slope, bend = jax.vmap(jax.grad(half_time)), jax.vmap(jax.grad(jax.grad(half_time)))
    mean = half_time(eigenvalues) + slope(eigenvalues) * (spectrum.mean - true)
    mean += bend(eigenvalues) * spectrum.scatter**2 / 2 + lr * late
    return mean, jnp.abs(slope(eigenvalues)) * spectrum.deviation


def simulate_networks(problem):
    """Tables drawn from the tree; deep networks, aligned with each or random, and shallow ones, trained on it."""
    p = problem
    key = jax.random.fold_in(jax.random.key(11), p.seed)
    draw_tables = jax.jit(jax.vmap(lambda k: tree_table(k, p.branching, p.eps, p.properties)))
    tables = draw_tables(jax.random.split(key, p.tables))
    left, s, right = np.linalg.svd(np.asarray(tables), full_matrices=False)
    hyper = {"table": np.asarray(tables), "left": left, "s": s, "right": np.swapaxes(right, 1, 2)}
    runs = Runs(np.arange(p.tables) + p.tables * p.seed, hyper, (p.tables,))
    inputs = jnp.eye(p.items)

    def trained(network, lr, record):
        return training(
            network,
            lambda model, table: squared_error(model, inputs, table),
            lambda _: optax.sgd(lr),
            lambda _, hyper: hyper["table"],
            record,
        )

    def start(key, hyper):
        layers = jnp.full((2, p.items), jnp.sqrt(p.u0))
        return aligned(key, hyper["left"], hyper["right"], layers, p.hidden)

    def similarity(model, _):
        return model.product().T @ model.product()

    def strengths(model, hyper):
        return mode_strengths(model, hyper["left"], hyper["right"]) / hyper["s"]

    random_scale = np.sqrt(2 * p.u0 / p.hidden)
    widths = (p.items, p.hidden, p.properties)
    deep = trained(start, p.lr, strengths)
    random = trained(lambda key, _: gaussian(key, widths, random_scale), p.lr, similarity)
    shallow = trained(lambda *_: DeepLinear((jnp.zeros((p.properties, p.items)),)), p.shallow_lr, similarity)
    each, sparse = every(p.steps, 1), every(2 * p.steps, 4)
    short = every(int(p.items / p.shallow_lr), 1)
    return {
        "t": each * p.lr,
        "table_similarity": np.swapaxes(hyper["table"], 1, 2) @ hyper["table"],
        "u": simulate(deep, runs, each).records,
        "random_t": sparse * p.lr,
        "random_similarity": simulate(random, runs, sparse).records,
        "shallow_t": short * p.shallow_lr,
        "shallow_similarity": simulate(shallow, runs, short).records,
    }


def crossing(t, curve):
    """When a curve that starts below 1/2 passes it; NaN if it never does."""
    above = int(np.argmax(curve > 0.5))
    return np.nan if above == 0 else float(np.interp(0.5, curve[above - 1 : above + 1], t[above - 1 : above + 1]))


def level_times(prediction, observation):
    """(tables, levels): half times of the singular modes of the aligned networks, averaged over each level."""
    times = np.array([[crossing(observation["t"], mode) for mode in run.T] for run in observation["u"]])
    levels = prediction["levels"]
    return np.stack([times[:, levels == level].mean(1) for level in np.unique(levels)], 1)


def contrast_times(prediction, observation, kind):
    """Half times of the networks' maps on the tree's own contrasts, averaged over tables."""
    contrasts, levels = prediction["contrasts"], prediction["levels"]

    def power(similarity):
        on_each = np.einsum("pi,...pq,qi->...i", contrasts, similarity, contrasts)
        return np.stack([on_each[..., levels == level].sum(-1) for level in np.unique(levels)], -1)

    learned = np.sqrt(power(observation[f"{kind}_similarity"]) / power(observation["table_similarity"])[:, None])
    return np.array([[crossing(observation[f"{kind}_t"], level) for level in run.T] for run in learned]).mean(0)


def lateness(prediction, observation):
    """Largest deviation of a level's mean half time from its prediction, in standard errors."""
    times = level_times(prediction, observation)
    return gap(prediction["half_time"], times.mean(0), prediction["deviation"] / np.sqrt(len(times)))


def excess_scatter(prediction, observation):
    """Largest deviation of the logarithm of the tables' standard deviation, in its standard errors."""
    times = level_times(prediction, observation)
    ratio = np.log(times.std(0, ddof=1) / prediction["deviation"])
    return gap(0.0, ratio, 1 / np.sqrt(2 * (len(times) - 1)))


def draw(figure, problem, prediction, observation):
    curves, stages = figure.subplots(1, 2, width_ratios=(1.5, 1))
    levels = prediction["levels"]
    for level in range(levels[-1] + 1):
        name = LEVELS[level] if levels[-1] + 1 == len(LEVELS) else f"level {level}"
        of_level = observation["u"][:, :, levels == level].mean(2)
        style.theory(curves, prediction["t"], prediction["u"][:, level], i=level, label=name)
        style.band(curves, observation["t"], of_level, i=level)
        style.networks(curves, observation["t"], of_level.mean(0), i=level)
    curves.set(xlabel="time  t = lr · steps", ylabel="u / s", title="Strength of each level", ylim=(-0.03, 1.3))
    curves.legend(loc="upper left", ncols=2)
    x = np.arange(levels[-1] + 1)
    times = level_times(prediction, observation)
    style.theory(stages, x, prediction["half_time"], i=4, label="theory")
    style.networks(stages, x, times.mean(0), i=4, error=times.std(0), label="deep, aligned")
    random = contrast_times(prediction, observation, "random")
    style.networks(stages, x, random, i=5, label="deep, random")
    style.rival(stages, x, prediction["shallow_time"])
    style.networks(stages, x, contrast_times(prediction, observation, "shallow"), i=6, label="one layer")
    stages.set(xlabel="level, coarse to fine", ylabel="half time", title="When it is learned", xticks=x)
    stages.set_ylim(0, 1.6 * prediction["shallow_time"].max())
    stages.legend(loc="upper left", ncols=2)


def instead(eigenvalues):
    """A rival that believes in another spectrum of the tree."""
    return lambda problem, prediction: prediction | half_times(problem, jnp.asarray(eigenvalues(problem)))


def correlations(problem, power):
    """Correlation of items by level of their last common ancestor, and leaves below a node of each level."""
    depth = len(problem.branching)
    q = (1 - 2 * problem.eps) ** (power * (depth - np.arange(depth + 1.0)))
    return q, np.array([np.prod(problem.branching[k:]) for k in range(depth + 1)] + [0.0])


def spectrum_of(problem, power=2, subtracted=True):
    """The spectrum with other correlations, or without the branches that a contrast subtracts."""
    q, below = correlations(problem, power)
    shells = q * (below[:-1] - below[1:])
    sums = np.append(np.cumsum(shells[::-1])[::-1][1:], 0.0)[: len(q) - 1]
    return np.concatenate([[shells.sum()], sums - (q * below[1:])[:-1] * subtracted])


STUDY = Study(
    title="Progressive differentiation",
    question="Why do animals and plants come apart in a child's mind, and in a network, before canaries and salmon?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120); 2019 (PNAS 116, 11537)",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            branching=(2, 2, 2),
            eps=0.1,
            properties=400,
            tables=32,
            u0=1e-2,
            hidden=16,
            lr=0.01,
            shallow_lr=0.1,
            steps=320,
        ),
        "paper": dict(
            branching=(2, 2, 2),
            eps=0.1,
            properties=4000,
            tables=256,
            u0=1e-2,
            hidden=64,
            lr=0.002,
            shallow_lr=0.1,
            steps=600,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Each level is learned when the tree's spectrum says, over networks trained on sampled tables.",
            lateness,
            5,
            "Standard errors, from the fourth moments of the properties; the prediction holds the mean effect of their "
            "finite number and of the finite step, and what is left is of order properties^(-3/2).",
        ),
        Claim(
            "Tables of this many properties scatter the half times as the fourth moments of the diffusion predict.",
            excess_scatter,
            5,
            "Standard errors of a standard deviation of a nearly normal quantity.",
        ),
        Claim(
            "From small random weights the levels of the tree are learned coarse to fine.",
            lambda p, o: disorder(contrast_times(p, o, "random")),
            0,
            "An order has no error.",
        ),
        Claim(
            "Networks without a hidden layer learn all levels at once.",
            lambda p, o: gap(
                p["shallow_time"] + p["shallow_shift"], contrast_times(p, o, "shallow"), np.abs(p["shallow_shift"])
            ),
            0.05,
            "The next order of the step is lr/P times the leading shift, the interpolation between steps as much.",
        ),
    ),
    rivals=(
        Rival(
            "All levels are learned at the same time, as without a hidden layer.",
            lambda problem, prediction: (
                prediction | {"half_time": np.full_like(prediction["half_time"], prediction["half_time"].mean())}
            ),
        ),
        Rival(
            "A contrast is as strong as the similarity within a branch, with nothing subtracted for the others.",
            instead(lambda problem: spectrum_of(problem, subtracted=False)),
        ),
        Rival(
            "Items are as correlated as an item and their common ancestor: (1 - 2 eps)^(D - k).",
            instead(lambda problem: spectrum_of(problem, power=1)),
        ),
        Rival(
            "Depth only scales time: shallow networks learn the levels one after the other too.",
            lambda problem, prediction: prediction | {"shallow_time": prediction["half_time"]},
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.hierarchy.mean_mode",
        "deep_linear.hierarchy.first_split",
        "deep_linear.hierarchy.last_split",
        "deep_linear.hierarchy.sampled_mean",
        "deep_linear.hierarchy.learning_time",
    ),
)
