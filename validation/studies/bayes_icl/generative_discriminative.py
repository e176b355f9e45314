"""Generative or discriminative: samples that linear rules need, from estimated means or by logistic regression."""

from __future__ import annotations

import functools

import jax
import numpy as np
from scipy.stats import norm

from sims.engine import Runs, simulate
from sims.tasks.gaussian_classes import largest_errors, opposite_means, rule_training
from theory.bayes_icl.generative_discriminative import (
    estimated_means_error,
    linear_rule_error,
    mean_samples,
    samples_for_excess,
)
from validation import style
from validation.metrics import crossing_time, gap, slope, z_score
from validation.study import Claim, Problem, Rival, Study

# What stays when features are added: the distance of the classes, or what each feature tells.
DISTANCE, FEATURE = 0, 1
RULES = ("logistic regression", "estimated means")


def problem(settings, seed):
    """Dimensions and distances (regimes, dimensions), samples of each class (regimes, dimensions, sizes)."""
    s = Problem(**settings, seed=seed)
    s.dimension = np.array([s.dimensions, s.many_dimensions])
    s.separation = np.stack([np.full(s.dimension.shape[1], s.distance), s.feature * np.sqrt(s.dimension[FEATURE])])
    base = np.stack([s.dimension[DISTANCE], np.full(s.dimension.shape[1], s.base)])
    s.samples = (base[..., None] * np.array(s.sizes)).astype(int)
    s.means, s.spread = zip(*map(opposite_means, s.dimension, s.separation), strict=True)
    return s


@jax.jit
def expected(separation, dimension, samples, share, features, failure):
    """Errors with estimated means, samples for a share of the distance, samples for all means."""
    return (
        estimated_means_error(separation[..., None], dimension[..., None], samples),
        samples_for_excess(separation, dimension, share),
        mean_samples(features, 1.0, failure),
    )


def predict(s):
    """Errors, samples that are needed for a share of the distance, and how well all means are known."""
    given = s.separation, s.dimension, s.samples, s.share, np.array(s.features), s.failure
    error, needed, unit = map(np.asarray, expected(*given))
    return {
        "error": error,
        # With true means, and with true means of a distance that is shorter by the share.
        "best": norm.cdf(-s.separation / 2),
        "level": norm.cdf(-(1 - s.share) * s.separation / 2),
        "needed": needed,
        # An error of one takes `unit` samples; with more of them it is less.
        "accuracy": np.sqrt(unit / s.known),
        "of_rule": functools.partial(rule_errors, s),
    } | {name: getattr(s, name) for name in ("failure", "samples", "dimension")}


def rule_errors(s, rules, covariances=None):
    """Errors of rules, (regimes, dimensions, sizes, runs, rules), with a covariance of one or one for each rule."""
    found = []
    for regime in (DISTANCE, FEATURE):
        weights, bias = (rules[name][regime] for name in ("weights", "bias"))
        means = s.means[regime][:, None, None, None]
        means = np.broadcast_to(means, (*bias.shape, *means.shape[-2:]))
        covariance = np.ones(bias.shape) if covariances is None else covariances[regime]
        flat = (x.reshape(-1, *x.shape[bias.ndim :]) for x in (weights, bias, means, covariance))
        found.append(np.asarray(many_errors(*flat)).reshape(bias.shape))
    return np.stack(found)


many_errors = jax.jit(jax.vmap(linear_rule_error))
program = functools.cache(rule_training)


def simulate_rules(s):
    """By regime both rules of every run and their mistakes, (dimensions, sizes, runs, rules); and errors of means."""
    found = []
    for regime in (DISTANCE, FEATURE):
        means, spread = np.float32(s.means[regime]), np.float32(s.spread[regime])
        shape = (*s.samples[regime].shape, s.runs)
        which, size, _ = (i.ravel() for i in np.indices(shape))
        hyper = dict(means=means[which], spread=spread[which], samples=s.samples[regime][which, size])
        runs = Runs(s.seed * len(size) + np.arange(len(size)), hyper, shape)
        trained = program(int(s.samples[regime].max()), s.tests, s.lr)
        records = simulate(trained, runs, [s.steps], batching="map", optimised=True).on_grid()
        found.append({name: np.asarray(x[:, :, :, 0], float) for name, x in records.items()})
    rng = np.random.default_rng(s.seed)
    errors = np.stack([largest_errors(rng, s.repeats, s.known, d) for d in s.features])
    both = {name: [each[name] for each in found] for name in found[0]}
    return both | {"errors": errors, "fresh": 2 * s.tests * s.runs}


def of_each_rule(prediction, observation):
    """Mistakes on all fresh samples, in standard errors of what the weights of the rules say."""
    exact, many = prediction["of_rule"](observation), observation["fresh"]
    # Where hardly any is expected, one of them is what may happen.
    error = np.sqrt((exact * (1 - exact)).mean(axis=3) / many + 1 / many**2)
    return gap(exact.mean(axis=3), np.mean(observation["mistakes"], axis=3), error)


def with_means(prediction, observation):
    """Errors of estimated means on average, in standard errors, with 1 / sqrt(m) of the excess for the theory."""
    excess = prediction["error"] - prediction["best"][..., None]
    found = prediction["of_rule"](observation)[..., 1]
    return z_score(prediction["error"], found, axis=3, floor=excess / np.sqrt(prediction["samples"]))


def samples_needed(s, exact):
    """Samples of each class at which mean errors (regimes, dimensions, sizes, runs, rules) have fallen to the level."""
    curve = exact.mean(axis=3).swapaxes(-1, -2)
    cells = np.ndindex(curve.shape[:-1])
    found = [crossing_time(np.log(s["samples"][i, j]), -curve[i, j, k], -s["level"][i, j]) for i, j, k in cells]
    return np.exp(np.reshape(found, curve.shape[:-1]))


def powers(prediction, observation):
    """Powers of d with which samples that are needed grow, less the predicted ones: the largest difference."""
    found = samples_needed(prediction, prediction["of_rule"](observation))
    apart = [
        slope(d, found[regime, :, rule]) - slope(d, prediction["needed"][regime])
        for regime, d in enumerate(prediction["dimension"])
        for rule in range(len(RULES))
    ]
    return float(np.max(np.abs(apart)))


def all_means(prediction, observation):
    """Share of runs in which some mean is off by more than the accuracy, in its standard errors."""
    failed, chance = observation["errors"] > prediction["accuracy"][:, None], prediction["failure"]
    return gap(chance, failed.mean(axis=1), np.sqrt(chance * (1 - chance) / failed.shape[1]))


def sooner(prediction, observation):
    """Samples that estimated means need over those that logistic regression does, where the distance stays."""
    found = samples_needed(prediction, prediction["of_rule"](observation))[DISTANCE]
    # Where neither ever gets there, nothing is said.
    with np.errstate(invalid="ignore"):
        return float(np.max(found[:, 1] / found[:, 0]))


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    exact, i = prediction["of_rule"](observation), len(s.dimensions) // 2
    found, sizes = samples_needed(prediction, exact), s.samples[DISTANCE][i]
    m = np.geomspace(sizes[0], sizes[-1], 50)
    style.theory(left, m, estimated_means_error(s.distance, s.dimensions[i], m), i=1, label="theory of means")
    left.axhline(prediction["best"][DISTANCE, i], color=style.INK, linewidth=0.6)
    for rule, name in enumerate(RULES):
        runs = exact[DISTANCE, i, ..., rule]
        style.networks(left, sizes, runs.mean(axis=1), i=rule, error=runs.std(axis=1) / s.runs**0.5, label=name)
        for regime, marker in ((DISTANCE, "o"), (FEATURE, "s")):
            style.networks(middle, s.dimension[regime], found[regime, :, rule], i=rule, marker=marker)
    left.set(xlabel="samples of each class", ylabel="error", xscale="log", ylim=(None, 0.32))
    left.set_title(f"{s.dimensions[i]} features")
    left.legend(fontsize=7)
    for regime, name in enumerate(("distance\nstays", "features\nalike")):
        style.theory(middle, s.dimension[regime], prediction["needed"][regime], i=1)
        middle.annotate(name, (s.dimension[regime, 0], 11), fontsize=7, color=style.INK, va="top")
    middle.set(xscale="log", yscale="log", xlabel="features", ylabel="samples to classify well")
    middle.set(title="Two ways to add features", ylim=(5, 600))
    for axes, at in ((left, sizes), (middle, np.unique(s.dimension))):
        axes.set_xticks(at, [f"{x:g}" for x in at])
        axes.minorticks_off()
    d = np.geomspace(1, max(s.features), 60)
    style.theory(right, d, mean_samples(d, s.accuracy, s.failure), i=2, label="all means, exact")
    style.rival(right, d, 2 * np.log(2 * d / s.failure) / s.accuracy**2, label="union bound")
    seen = s.known * (np.quantile(observation["errors"], 1 - s.failure, axis=1) / s.accuracy) ** 2
    style.networks(right, s.features, seen, i=2, linestyle="none", label="measured")
    right.set(xscale="log", xlabel="features", ylabel="samples to know all means")
    right.set(title=f"All means within {s.accuracy:g}", ylim=0)
    right.legend(fontsize=7)


def growing(samples):
    """Samples to classify grow with the features like others, however features are added."""

    def believed(s, prediction):
        like = np.asarray(samples(s.dimension, 1.0, s.failure))
        return prediction | {"needed": prediction["needed"][:, :1] * like / like[:, :1]}

    return believed


def together(s, prediction):
    """Samples of both classes are counted together."""
    half = estimated_means_error(s.separation[..., None], s.dimension[..., None], s.samples / 2)
    return prediction | {"error": np.asarray(half)}


def variance_for_deviation(s, prediction):
    """What a rule says is measured in units of its variance."""

    def of_rule(rules):
        return rule_errors(s, rules, [np.sum(w**2, axis=-1) for w in rules["weights"]])

    return prediction | {"of_rule": of_rule}


def union_bound(s, prediction):
    """Errors of means exclude each other."""
    return prediction | {"accuracy": np.sqrt(2 * np.log(2 * np.array(s.features) / s.failure) / s.known)}


COMMON = dict(distance=2.0, feature=0.5, share=0.2, base=8, known=20, failure=0.2, accuracy=0.5)

STUDY = Study(
    title="Generative or discriminative",
    question="How many samples does a linear rule need in many dimensions: as many as there are features, or few?",
    source="Ng & Jordan 2001; Zheng et al. 2023 (arXiv:2302.02334), for Gaussian classes",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(
            COMMON,
            dimensions=(16, 32, 64),
            many_dimensions=(64, 128, 256),
            sizes=(0.5, 1, 2, 4),
            runs=20,
            tests=250,
            lr=0.1,
            steps=400,
            features=(10, 100, 1000),
            repeats=1000,
        ),
        "paper": dict(
            COMMON,
            dimensions=(32, 64, 128, 256),
            many_dimensions=(64, 256, 1024, 2048),
            sizes=(0.5, 1, 2, 4, 8),
            runs=100,
            tests=1000,
            lr=0.01,
            steps=8000,
            features=(10, 100, 1000, 10_000),
            repeats=4000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_rules,
    claims=(
        Claim("Rules err on fresh samples as often as their weights say.", of_each_rule, 5, "Standard errors."),
        Claim(
            "Estimated means err as predicted.",
            with_means,
            5,
            "Standard errors over runs, and corrections of the order of 1/√m of the excess.",
        ),
        Claim(
            "Samples to classify well grow with d at a fixed distance, not at all where features tell the same each.",
            powers,
            0.5,
            "Nearer to the one power of d than to the other, for both rules.",
        ),
        Claim("At a fixed distance estimated means need fewer samples than descent.", sooner, 1, "Of two the smaller."),
        Claim(
            "All means are known after as many samples as predicted, which grow with ln d.",
            all_means,
            5,
            "Standard errors of a share of runs.",
        ),
    ),
    rivals=(
        Rival("Samples that grow with ln d are enough to classify, too.", growing(mean_samples)),
        Rival("Samples must always be in proportion to the features.", growing(lambda d, *_: d)),
        Rival("Samples of both classes are counted together.", together),
        Rival("What a rule says is measured in units of its variance.", variance_for_deviation),
        Rival("The union bound is exact.", union_bound),
    ),
    draw=draw,
    formulas=tuple(
        f"bayes_icl.generative_discriminative.{name}" for name in ("rule", "samples", "estimated", "needed")
    ),
)
