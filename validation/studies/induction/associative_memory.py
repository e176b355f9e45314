"""An associative memory under gradient descent: which associations are stored when, and what that makes of the loss."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.associative_memory import Associations, attended_sequences, cross_entropy, empty_memory
from sims.training import training
from theory.induction.associative_memory import (
    attended_margin,
    flow_margin,
    loss_exponent,
    margin_recall,
    power_law,
    power_law_loss,
    recall_time,
)
from validation import style
from validation.metrics import gap, slope, z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Keys and values in rows, in two bases: of unit vectors, and two random orthonormal ones."""
    k = settings["keys"]
    bases = np.linalg.qr(np.random.default_rng(seed).normal(size=(2, 2, k, k)))[0]
    bases[0] = np.eye(k)
    at = np.unique(np.concatenate([[0], np.geomspace(1, settings["steps"], settings["records"])]).astype(int))
    return Problem(**settings, seed=seed, bases=bases, at=at, t=settings["lr"] * at)


def predict(problem):
    k, t = problem.keys, problem.t
    p = np.stack([np.asarray(power_law(alpha, k)) for alpha in problem.alphas])
    margins = np.asarray(flow_margin(t[:, None], p[:, None], float(k)))
    # The leading error of a finite step: half the speed, times the logarithm by which it has fallen.
    speed = p[:, None] * k / (np.exp(margins) + k - 1)
    laws = [power_law_loss(np.maximum(t, problem.lr), alpha, k) for alpha in problem.alphas]
    return {
        "t": t,
        "margins": margins,
        "ahead": problem.lr * speed / 2 * np.log(p[:, None] / speed),
        "loss": np.sum(p[:, None] * np.asarray(margin_recall(margins, float(k)).loss), axis=-1),
        "leading": np.stack([np.asarray(law.leading) for law in laws]),
        "ends": np.stack([np.asarray(law.leading - law.loss) for law in laws]),
        "window": np.stack([window(problem, alpha, one) for alpha, one in zip(problem.alphas, p, strict=True)]),
        "exponents": np.asarray(loss_exponent(np.array(problem.alphas))),
        "times": np.asarray(recall_time(p, float(k))),
        "lemma": float(attended_margin(problem.rate, float(k), problem.length, problem.copies)),
    }


def window(problem, alpha, p):
    """Times at which a fair number of keys is known, and the last one is not."""
    known = (p[0] * problem.t / np.log(problem.keys)) ** (1 / alpha)
    return (known > problem.fewest) & (p[-1] * problem.t < problem.last)


def simulate_networks(problem):
    """Margins and losses through training, (bases, exponents, times, ...), and margins after one step on sequences."""

    def data(hyper):
        return Associations(hyper["keys"], hyper["values"], jnp.diag(hyper["frequencies"]))

    def record(model, hyper):
        return {"margins": margins(model(hyper["keys"], hyper["values"])), "loss": cross_entropy(model, data(hyper))}

    memories = training(
        lambda _, __: empty_memory(problem.keys),
        cross_entropy,
        lambda _: optax.sgd(problem.lr),
        lambda _, hyper: data(hyper),
        record,
    )
    laws, few = np.stack([np.asarray(power_law(alpha, problem.keys)) for alpha in problem.alphas]), len(problem.alphas)
    keys, values = (np.repeat(problem.bases[:, i], few, axis=0) for i in range(2))
    runs = grid(np.arange(2 * few))._replace(hyper=dict(keys=keys, values=values, frequencies=np.tile(laws, (2, 1))))
    found = simulate(memories, runs, problem.at).records
    found = {name: value.reshape(2, few, *value.shape[1:]) for name, value in found.items()}
    return found | {"lemma": one_step(problem)}


def one_step(problem):
    """Mean margin of a single token after one step on sequences of tokens, of each run."""
    eye = jnp.eye(problem.keys)
    sequences = training(
        lambda _, __: empty_memory(problem.keys),
        cross_entropy,
        lambda _: optax.sgd(problem.rate),
        lambda key, _: attended_sequences(key, eye, eye, problem.batch, problem.length, problem.copies),
        lambda model, _: jnp.mean(margins(model(eye, eye))),
    )
    seeds = problem.seed * problem.runs + np.arange(problem.runs)
    return simulate(sequences, grid(seeds), [1], batching="map").records[:, 0]


def margins(logits):
    """Own logit over the mean of the others, of each key, from logits with an input in each row."""
    k = len(logits)
    return (jnp.diagonal(logits) * k - jnp.sum(logits, axis=-1)) / (k - 1)


def by_flow(prediction, observation):
    """Margins of all keys at all times, with the leading error of a finite step, in units of that error."""
    ahead = prediction["ahead"]
    return gap(prediction["margins"] + ahead, observation["margins"], ahead + 1e-9)


def powers(prediction, observation):
    """Exponents fitted to the loss with its two ends put back, against the predicted ones."""
    worst = []
    for i, beta in enumerate(prediction["exponents"]):
        seen = prediction["window"][i]
        for loss in observation["loss"][:, i]:
            worst.append(abs(slope(prediction["t"][seen], (loss + prediction["ends"][i])[seen]) + beta))
    return max(worst)


def lemma(prediction, observation):
    return z_score(prediction["lemma"], observation["lemma"])


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    t, unit, k = prediction["t"][1:], problem.unit, problem.keys
    for i, key in enumerate(problem.shown):
        share, seen = (
            np.asarray(margin_recall(m["margins"][at][1:, key - 1], float(k)).probability)
            for m, at in ((prediction, unit), (observation, (1, unit)))
        )
        style.theory(left, t, share, i=i, label=f"key {key}")
        style.networks(left, t, seen, i=i, most=16)
    line = prediction["t"][1:] / prediction["times"][unit, problem.shown[1] - 1] * np.log(k - 1)
    style.rival(left, t, 1 / (1 + (k - 1) * np.exp(-line)), label="linear margin")
    left.set(xscale="log", xlabel="time  lr · steps", ylabel="probability of its value", ylim=(-0.03, 1.75))
    left.set_yticks([0, 0.5, 1])
    left.set_title(f"Keys by frequency, α = {problem.alphas[unit]:g}")
    left.legend(loc="upper left", fontsize=7, ncols=2)

    ranks = np.arange(1, k + 1)
    for i, alpha in enumerate(problem.alphas):
        style.theory(middle, ranks, prediction["times"][i], i=i, label=f"α = {alpha:g}")
        style.networks(middle, ranks, half_times(problem, observation["margins"][1, i]), i=i, most=16)
    middle.set(xscale="log", yscale="log", xlabel="rank of the key", ylabel="time to q = ½")
    middle.set_ylim(None, 3 * t[-1])
    middle.set_title("Later as 1/p")
    middle.legend(loc="upper left", fontsize=7)

    for i, alpha in enumerate(problem.alphas):
        style.theory(right, t, prediction["loss"][i, 1:], i=i, label=f"α = {alpha:g}")
        style.networks(right, t, observation["loss"][1, i, 1:], i=i, most=16)
        seen = prediction["window"][i]
        style.rival(
            right,
            prediction["t"][seen],
            prediction["leading"][i, seen],
            label="pure power" if i == 0 else None,
            color=style.INK,
        )
    right.set(xscale="log", yscale="log", xlabel="time", ylabel="loss (nats)")
    right.set_title("t to the −(1 − 1/α)")
    right.legend(loc="lower left", fontsize=7)


def half_times(problem, seen):
    """When each key's margin passes ln(K - 1), by linear interpolation; NaN where it does not."""
    level, found = np.log(problem.keys - 1), []
    for curve in seen.T:
        found.append(np.interp(level, curve, problem.t) if curve[-1] > level else np.nan)
    return np.array(found)


def linear(problem, prediction):
    """Margins grow linearly for ever."""
    p = np.stack([np.asarray(power_law(alpha, problem.keys)) for alpha in problem.alphas])
    return prediction | {"margins": prediction["t"][:, None] * p[:, None]}


def without_others(problem, prediction):
    """Wrong values do not move: the margin's speed is p (1 - q)."""
    k = float(problem.keys)
    p = np.stack([np.asarray(power_law(alpha, problem.keys)) for alpha in problem.alphas])
    t = prediction["t"][:, None] * (1 - 1 / k)
    return prediction | {"margins": np.asarray(flow_margin(t, p[:, None], k))}


def key_by_key(problem, prediction):
    """The loss falls as 1 / t, as that of each key does."""
    return prediction | {"exponents": np.ones(len(problem.alphas))}


def mass_by_time(problem, prediction):
    """Keys known at time t are the first t, and the rest has mass t^{1 - alpha}."""
    return prediction | {"exponents": np.array(problem.alphas) - 1}


def all_attended(problem, prediction):
    """A first step stores what is attended, answer or not."""
    return prediction | {"lemma": problem.rate / problem.keys}


STUDY = Study(
    title="Associative memory under gradient descent",
    question="Which associations are stored first, how long do rare ones take, and why does the loss fall as a power?",
    source="Bietti et al. 2023 (arXiv:2306.00802) for the memory and the first step; closed forms derived here",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            keys=64,
            alphas=(1.5, 2.0, 3.0),
            unit=1,
            shown=(1, 3, 10, 30),
            lr=0.5,
            steps=4000,
            records=60,
            # Exponents are fitted while so many keys are known, and the last is learned to this exposure.
            fewest=4,
            last=0.2,
            runs=8,
            rate=0.5,
            batch=4096,
            length=16,
            copies=2,
        ),
        "paper": dict(
            keys=500,
            alphas=(1.25, 1.5, 2.0, 3.0),
            unit=2,
            shown=(1, 5, 20, 100),
            lr=0.5,
            steps=200_000,
            records=120,
            fewest=10,
            last=0.2,
            runs=32,
            rate=0.5,
            batch=65_536,
            length=256,
            copies=4,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Every key's margin follows its closed form, in any basis, ahead by the error of a finite step.",
            by_flow,
            0.5,
            "Of the leading error; the next order is the step times the largest frequency, below a half.",
        ),
        Claim(
            "The loss on a power law falls with the exponent 1 - 1/alpha.",
            powers,
            0.03,
            "What both ends leave of the slope beyond their first order.",
        ),
        Claim(
            "A first step under uniform attention stores the answer, and no noise.",
            lemma,
            5,
            "Standard errors over batches.",
        ),
    ),
    rivals=(
        Rival("Margins grow linearly for ever.", linear),
        Rival("Wrong values do not move.", without_others),
        Rival("The loss falls as 1/t, as that of each key does.", key_by_key),
        Rival("The exponent is alpha - 1.", mass_by_time),
        Rival("A first step stores what is attended, answer or not.", all_attended),
    ),
    draw=draw,
    formulas=(
        "induction.associative_memory.margin",
        "induction.associative_memory.recall_time",
        "induction.associative_memory.power_law_loss",
        "induction.associative_memory.attended",
    ),
)
