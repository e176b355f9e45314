"""What a single example is worth: networks on a long-tailed mixture that fit all labels, stop early or decay."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.mlp import mlp
from sims.tasks.long_tail import cross_entropy, long_tail, mistakes
from sims.training import training
from theory.induction.associative_memory import power_law
from theory.induction.long_tail import expected_mass, memorisation_value, power_law_value, threshold_error, unseen_error
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

# Copies whose value is judged one by one.
FEW = (1, 2, 3)


def problem(settings, seed):
    """Frequencies by Zipf's law; arms are (examples, weight decay)."""
    own = Problem(**settings, seed=seed)
    own.frequencies = np.asarray(power_law(own.exponent, own.subpopulations))
    own.most = max(n for n, _ in own.arms)
    own.resolution = 1 / (own.most * own.runs)
    return own


def values(problem, seen=lambda copies, n: copies, frequencies=None):
    """tau_l for l from 0 on and each arm, (arms, most + 1)."""
    p, copies = problem.frequencies if frequencies is None else frequencies, np.arange(problem.most + 1)
    return np.stack([memorisation_value(p, n, np.clip(seen(copies, n), 0, n)) for n, _ in problem.arms])


def predict(problem):
    """Values, and the error of the best learner; nothing of it knows of a network."""
    p = problem.frequencies
    best = np.array([float(unseen_error(p, n, problem.labels)) for n, _ in problem.arms])
    return {
        "values": values(problem),
        "best": best,
        "fits": np.array([decay == 0 for _, decay in problem.arms]),
        "resolution": problem.resolution,
    }


def simulate_networks(problem):
    """Mistakes at some steps of training: by number of copies and in all.

    `number` of subpopulations wrong among the examples, and `mass` of those wrong on new exemplars, by copies:
    (runs, arms, times, most + 1); `error` on new exemplars of all, seen or not: (runs, arms, times).
    """
    p, widths = jnp.asarray(problem.frequencies), (problem.dimension, problem.width, problem.labels)

    def drawn(key, hyper):
        n = hyper["examples"]
        return hyper | {
            "data": long_tail(key, p, n, problem.most, problem.dimension, problem.labels, problem.variation)
        }

    def record(network, hyper):
        data, wrong = hyper["data"], mistakes(network, hyper["data"])
        by_copies = jnp.zeros((2, problem.most + 1)).at[:, data.counts]
        number, mass = by_copies.add(jnp.stack([wrong.examples, p * wrong.fresh]))
        return {"number": number, "mass": mass, "error": jnp.sum(p * wrong.fresh)}

    networks = training(
        lambda key, _: mlp(key, widths),
        cross_entropy,
        lambda hyper: optax.chain(optax.add_decayed_weights(hyper["decay"]), optax.sgd(problem.lr)),
        lambda _, hyper: hyper["data"],
        record,
        prepare=drawn,
    )
    arms = np.tile(np.array(problem.arms), (problem.runs, 1))
    hyper = {"examples": arms[:, 0], "decay": arms[:, 1]}
    seeds = problem.seed * len(arms) + np.arange(len(arms))
    found = simulate(networks, Runs(seeds, hyper, (len(seeds),)), problem.at, batching="map", optimised=True).records
    return {name: np.asarray(x).reshape(problem.runs, len(problem.arms), *x.shape[1:]) for name, x in found.items()}


def without_excess(prediction, observation):
    """Errors of networks that have fitted all labels, in standard errors from those of the best learner."""
    fits = prediction["fits"]
    return z_score(prediction["best"][fits], observation["error"][:, fits, -1])


def excess(prediction, observation):
    """Error on subpopulations that were seen, less the values of what is wrong among the examples, at all steps."""
    measured = observation["mass"][..., 1:].sum(axis=-1)
    expected = np.sum(prediction["values"][:, None] * observation["number"], axis=-1)
    return z_score(0, measured - expected, floor=prediction["resolution"])


def each_value(prediction, observation):
    """The same for one, two and three copies, averaged over steps and over arms."""
    deviation = observation["mass"] - prediction["values"][:, None] * observation["number"]
    return z_score(0, deviation[..., FEW].mean(axis=(1, 2)), floor=prediction["resolution"])


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    largest = [i for i, (n, _) in enumerate(problem.arms) if n == problem.most]
    draw_values(left, problem, prediction, observation, largest)
    draw_training(middle, problem, prediction, observation, largest)
    draw_examples(right, problem, prediction, observation)


def draw_values(axes, problem, prediction, observation, largest):
    """Mass that is wrong over the number of subpopulations that are, by copies."""
    n, copies = problem.most, np.arange(1, 9)
    number, mass = (observation[name][:, largest].sum(axis=(1, 2))[:, copies] for name in ("number", "mass"))
    measured = mass.sum(axis=0) / number.sum(axis=0)
    # A ratio of means over runs.
    error = (mass - measured * number).std(axis=0) * np.sqrt(len(mass)) / number.sum(axis=0)
    style.theory(axes, copies, n * prediction["values"][largest[0], copies], label="$n \\tau_l$")
    style.rival(axes, copies, copies, label="l, the count")
    limit = n * np.asarray(power_law_value(problem.exponent, float(n), copies))
    style.theory(axes, copies, limit, i=1, linestyle=":", label="$l - 1/\\alpha$, no end of tail")
    style.networks(axes, copies, n * measured, error=n * error, label="networks", linestyle="none")
    axes.set(xlabel="copies seen l", ylabel="mass of a mistake × n", ylim=(0, 13))
    axes.set_title("What an example is worth")
    axes.legend(loc="upper left", fontsize=7)


def draw_training(axes, problem, prediction, observation, largest):
    """Errors through training, and those predicted from what is wrong among the examples."""
    at = np.maximum(problem.at, 1)
    for i, arm in enumerate(largest):
        number = observation["number"][:, arm].mean(axis=0)
        line = prediction["best"][arm] + number @ prediction["values"][arm]
        runs = observation["error"][:, arm]
        error = runs.std(axis=0) / np.sqrt(len(runs))
        decay = problem.arms[arm][1]
        style.theory(axes, at, line, i=i)
        style.networks(axes, at, runs.mean(axis=0), i=i, error=error, label=f"decay {decay:g}", linestyle="none")
        if decay == 0:
            count = prediction["best"][arm] + number @ np.arange(problem.most + 1) / problem.most
            style.rival(axes, at, count, label="count / n")
    axes.axhline(prediction["best"][largest[0]], color=style.INK, linewidth=0.8, linestyle=":", label="best learner")
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="test error", ylim=(0.06, 1))
    axes.set_yticks([0.1, 0.3, 1], ["0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.set_title(f"Stopped or decayed, n = {problem.most}")
    axes.legend(loc="upper right", fontsize=7)


def draw_examples(axes, problem, prediction, observation):
    """Errors over the number of examples, of networks that fit them all, and of those that need copies."""
    n = np.unique(np.geomspace(min(n for n, _ in problem.arms) / 1.5, 1.5 * problem.most, 12).round())
    p, c = problem.frequencies, problem.labels
    best = np.array([float(unseen_error(p, x, c)) for x in n])
    style.theory(axes, n, best, label="best learner")
    for i, copies in enumerate((2, 4), start=1):
        more = [float(threshold_error(p, x, copies, c)) for x in n]
        style.theory(axes, n, best + np.array(more), i=i, label=f"needs {copies} copies")
    fits = prediction["fits"]
    for i, label, which, marker in ((0, "all fitted", fits, "o"), (3, "decayed", ~fits, "s")):
        runs = observation["error"][:, which, -1]
        error = runs.std(axis=0) / np.sqrt(len(runs))
        x = [problem.arms[i][0] for i in np.flatnonzero(which)]
        style.networks(axes, x, runs.mean(axis=0), error=error, label=label, marker=marker, i=i, linestyle="none")
    axes.set(xscale="log", yscale="log", xlabel="examples n", ylabel="test error", ylim=(0.06, 1))
    axes.set_xticks([x for x, decay in problem.arms if decay == 0], [str(x) for x, d in problem.arms if d == 0])
    axes.set_yticks([0.1, 0.3, 1], ["0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.set_title("After training")
    axes.legend(loc="upper right", fontsize=7)


def counts(problem, prediction):
    """A subpopulation is as frequent as it was seen, l / n: an error among examples costs the same at test."""
    copies = np.arange(problem.most + 1)
    return prediction | {"values": np.stack([copies / n for n, _ in problem.arms])}


def shifted(problem, prediction):
    """The example itself counts as one more: tau_{l+1}."""
    return prediction | {"values": values(problem, lambda copies, n: copies + 1)}


def alike(problem, prediction):
    """All subpopulations are equally frequent."""
    p = np.full(problem.subpopulations, 1 / problem.subpopulations)
    best = np.array([float(unseen_error(p, n, problem.labels)) for n, _ in problem.arms])
    return prediction | {"values": values(problem, frequencies=p), "best": best}


def worthless(problem, prediction):
    """What was seen once is an outlier: nothing is lost with it."""
    found = prediction["values"].copy()
    found[:, 1] = 0.0
    return prediction | {"values": found}


def without_luck(problem, prediction):
    """All of what is unseen is wrong."""
    missing = [float(expected_mass(problem.frequencies, n, 0)) for n, _ in problem.arms]
    return prediction | {"best": np.array(missing)}


STUDY = Study(
    title="Memorisation in a long tail",
    question="What does it cost to forget what was seen once, and does a network that fits all labels pay for it?",
    source="Feldman 2020 (arXiv:1906.05271), the main theorem",
    regimes=("attention",),
    asks="how well",
    sizes={
        "smoke": dict(
            exponent=1.5,
            subpopulations=400,
            dimension=48,
            width=48,
            labels=4,
            variation=0.05,
            # (examples, weight decay)
            arms=((40, 0.0), (80, 0.0), (160, 0.0), (160, 0.01), (160, 0.03)),
            lr=1.0,
            at=(0, 5, 10, 20, 40, 80, 160, 240),
            runs=12,
        ),
        "paper": dict(
            exponent=1.5,
            subpopulations=5000,
            dimension=256,
            width=512,
            labels=10,
            variation=0.05,
            arms=((250, 0.0), (500, 0.0), (1000, 0.0), (2000, 0.0), (2000, 0.001), (2000, 0.003)),
            lr=1.0,
            at=(0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120),
            runs=32,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "A network that has fitted all labels has the error of the best learner: what is unseen.",
            without_excess,
            5,
            "Standard errors over mixtures and networks; nothing is measured beforehand.",
        ),
        Claim(
            "At any step, with or without decay, the excess error is the sum of the values of all mistakes.",
            excess,
            5,
            "Standard errors over runs, beside one mistake in one run.",
        ),
        Claim(
            "One, two and three copies each have their own value.",
            each_value,
            5,
            "Standard errors over runs, beside one mistake in one run.",
        ),
    ),
    rivals=(
        Rival("What was seen l times has the frequency l / n: training error costs what it says.", counts),
        Rival("The example itself counts as one more: tau_{l+1}.", shifted),
        Rival("All subpopulations are equally frequent.", alike),
        Rival("What was seen once is an outlier and worth nothing.", worthless),
        Rival("All of what is unseen is wrong.", without_luck),
    ),
    draw=draw,
    formulas=(
        "induction.long_tail.value",
        "induction.long_tail.mass",
        "induction.long_tail.unseen",
        "induction.long_tail.excess",
        "induction.long_tail.threshold",
        "induction.long_tail.power_law",
    ),
)
