"""An associative memory under sign descent, Adam and Muon: which bases and which frequencies an optimiser minds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.associative_memory import Associations, cross_entropy, empty_memory, polar_descent
from sims.training import training
from theory.induction.spectral_descent import (
    TwoLevel,
    lone_rare_logit,
    rotated_sign_margin,
    sign_margin,
    two_level_muon,
    two_level_polar,
    two_level_recall,
)
from validation import style
from validation.metrics import gap, z_score
from validation.study import Claim, Problem, Rival, Study

# Relative; another order of sums, and singular vectors of a few dozen dimensions, through a few dozen steps.
ROUNDING = 1e-7
# Muon of optax: its momentum, its iterations of Newton and Schulz, and how far from one they leave singular values.
MOMENTUM, ITERATIONS, RESPONSE = 0.95, 5, 0.32


def problem(settings, seed):
    """Keys and values of each run, in rows: unit vectors for the first, random orthonormal bases for the others."""
    rng, k = np.random.default_rng(seed), settings["keys"]
    bases = np.linalg.qr(rng.normal(size=(2, settings["runs"], k, k)))[0]
    bases[:, 0] = np.eye(k)
    return Problem(**settings, seed=seed, bases=bases)


def frequencies(case):
    """Of every key, from (ratio, number of frequent keys, number of rare ones)."""
    ratio, frequent, rare = case
    p = np.array([1.0] * frequent + [ratio] * rare)
    return p / p.sum()


def predict(problem):
    lr, steps, cases = problem.lr, problem.steps, problem.cases
    practical = dict(momentum=MOMENTUM, iterations=ITERATIONS)
    return {
        "sign": np.asarray(sign_margin(np.arange(steps + 1), lr))[:, None] * np.ones(problem.keys),
        "adam": np.ones(problem.keys),
        "rotated": np.asarray(rotated_sign_margin(frequencies(cases[0]), lr)),
        "order": 1 / problem.keys,
        "muon": {case: key_losses(two_level_muon(steps, lr, *case), case) for case in cases},
        "practical": {case: key_losses(two_level_muon(steps, lr, *case, **practical), case) for case in cases},
        "polar": {case: first_margins(two_level_polar(*case), lr, case) for case in cases},
        "cases": cases,
    }


def key_losses(blocks, case):
    """-ln q of a frequent and of a rare key, (2, steps + 1)."""
    return np.stack([np.asarray(part.loss) for part in two_level_recall(blocks, *case[1:])])


def first_margins(blocks, lr, case):
    """Own logit over the mean of the others after a step, of a frequent and of a rare key. A key's logits sum to 0."""
    k = case[1] + case[2]
    return lr * np.array([float(blocks.frequent), float(blocks.rare)]) * k / (k - 1)


def trained(optimiser, problem, bases, p, **numbers):
    """Logits of memories in these bases (runs), each on its frequencies: (runs, times, keys, values)."""
    memories = training(
        lambda _, __: empty_memory(problem.keys),
        cross_entropy,
        optimiser,
        lambda _, hyper: Associations(hyper["keys"], hyper["values"], jnp.diag(hyper["frequencies"])),
        lambda model, hyper: model(hyper["keys"], hyper["values"]),
    )
    hyper = dict(keys=bases[0], values=bases[1], frequencies=p, **numbers)
    runs = grid(np.arange(len(p)))._replace(hyper=hyper)
    return simulate(memories, runs, np.arange(problem.steps + 1)).records


def simulate_networks(problem):
    """Margins of sign descent and of Adam, and logits of Muon in two forms, through a few steps."""

    def adam(hyper):
        return optax.adam(problem.lr, b1=hyper["first"], b2=hyper["second"], eps=1e-30)

    def practical(_):
        return optax.contrib.muon(problem.lr, beta=MOMENTUM, ns_steps=ITERATIONS, eps=1e-30)

    # Adam without averages is sign descent: in every basis, and then with its averages on unit vectors.
    bases, few = problem.bases, problem.few
    betas = {name: np.append(np.zeros(problem.runs), beta) for name, beta in (("first", 0.9), ("second", 0.999))}
    p = np.tile(frequencies(problem.cases[0]), (problem.runs + 1, 1))
    z = margins(trained(adam, problem, np.concatenate([bases, bases[:, :1]], axis=1), p, **betas))
    found = dict(sign=z[0], rotated=z[1:-1, 1], adam=z[-1])

    some = np.tile(bases[:, :few], (1, len(problem.cases), 1, 1))
    p = np.repeat([frequencies(case) for case in problem.cases], few, axis=0)
    for name, optimiser in (("muon", lambda _: polar_descent(problem.lr)), ("practical", practical)):
        z = trained(optimiser, problem, some, p)
        found[name] = {case: z[i * few : (i + 1) * few] for i, case in enumerate(problem.cases)}
    return found


def margins(logits):
    """Own logit over the mean of the others, of each key (last axis)."""
    z, k = np.asarray(logits), np.shape(logits)[-1]
    return (np.diagonal(z, axis1=-2, axis2=-1) * k - z.sum(axis=-1)) / (k - 1)


def losses(logits):
    """-ln q of each key (last axis)."""
    z = np.asarray(logits)
    high = z.max(axis=-1)
    total = high + np.log(np.sum(np.exp(z - high[..., None]), axis=-1))
    return total - np.diagonal(z, axis1=-2, axis2=-1)


def in_step(prediction, observation):
    """Margins of sign descent, and those of Adam over its first key's, on unit vectors."""
    adam = observation["adam"][1:]
    alike = gap(np.broadcast_to(prediction["adam"], adam.shape), adam / adam[:, :1], ROUNDING)
    return max(alike, gap(prediction["sign"], observation["sign"], ROUNDING))


def turned(prediction, observation):
    """Margins after a step of sign descent in random bases, averaged over keys of one kind."""
    count = prediction["cases"][0][1]
    expected, runs = (
        np.stack([x[..., :count].mean(axis=-1), x[..., count:].mean(axis=-1)], axis=-1)
        for x in (prediction["rotated"], observation["rotated"])
    )
    return z_score(expected, runs, floor=prediction["order"] * expected)


def stepped(name):
    """-ln q of every key at every step of Muon, exact or practical."""

    def measure(prediction, observation):
        worst = []
        for case in prediction["cases"]:
            expected = np.repeat(prediction[name][case], case[1:], axis=0).T
            worst.append(gap(expected, losses(observation[name][case]), ROUNDING))
        return max(worst)

    return measure


def nearly_polar(prediction, observation):
    """First step of Muon in practice against that of the exact polar factor, relative."""
    worst = []
    for case in prediction["cases"]:
        expected = np.repeat(prediction["polar"][case], case[1:])
        worst.append(gap(expected, margins(observation["practical"][case][:, 1]), RESPONSE * np.abs(expected)))
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    case = problem.cases[0]
    p, ends = frequencies(case), [0, -1]
    style.theory(left, p[ends], prediction["rotated"][ends], i=0, label="sign, random bases")
    seen = observation["rotated"]
    kinds = np.stack([seen[:, : case[1]].mean(axis=1), seen[:, case[1] :].mean(axis=1)])
    style.networks(left, p[ends], kinds.mean(axis=1), i=0, error=kinds.std(axis=1))
    style.theory(left, p[ends], prediction["sign"][1, ends], i=1, label="sign, unit vectors")
    style.networks(left, p[ends], observation["sign"][1, ends], i=1)
    style.theory(left, p[ends], prediction["polar"][case], i=2, label="Muon, any basis")
    style.networks(left, p[ends], margins(observation["muon"][case][-1, 1])[ends], i=2)
    style.rival(left, p[ends], p[ends] / p[0] * prediction["rotated"][0], label="in proportion")
    left.set(xscale="log", yscale="log", xlabel="frequency of a key", ylabel="margin after one step")
    left.set(xlim=(p[-1] / 2, 2 * p[0]), ylim=(0.1, 1500))
    left.set_title(f"{case[1]} frequent, {case[2]} rare keys")
    left.legend(loc="upper left", fontsize=7)

    steps = np.arange(problem.steps + 1)
    for axes, name, title in ((middle, "muon", "Muon, polar factors"), (right, "practical", "Muon in practice")):
        for i, case in enumerate(problem.cases[:2]):
            words = f"{case[1]} frequent keys", f"{case[2]} rare keys" if case[2] > 1 else "a lone rare key"
            for j in range(2):
                style.theory(axes, steps, np.exp(-prediction[name][case][j]), i=2 * i + j, label=words[j])
                seen = np.exp(-losses(observation[name][case][-1])[:, -j])
                style.networks(axes, steps, seen, i=2 * i + j, most=13)
        axes.set(xlabel="steps", ylabel="probability of the right value", ylim=(-0.03, 1.75))
        axes.set_yticks([0, 0.5, 1])
        axes.set_title(title)
    middle.legend(loc="upper left", fontsize=7)


def same_in_any_basis(problem, prediction):
    """Signs do not mind the basis."""
    return prediction | {"rotated": np.full(problem.keys, prediction["sign"][1, 0])}


def adam_as_gradient(problem, prediction):
    """Adam learns keys as often as they come, like gradient descent."""
    p = frequencies(problem.cases[0])
    return prediction | {"adam": p / p[0]}


def rescaled(problem, prediction):
    """Muon is gradient descent at another rate: the one that fits frequent keys."""
    found = {}
    for case in problem.cases:
        ratio, k = case[0], case[1] + case[2]
        z = np.asarray(two_level_muon(problem.steps, problem.lr, *case).frequent)
        other = -z / (k - 1)
        found[case] = key_losses(TwoLevel(z, other, other, ratio * z, ratio * other, ratio * other), case)
    return prediction | {"muon": found}


def always_balanced(problem, prediction):
    """Muon stores all keys alike, however rare."""
    return prediction | {"muon": {case: both[[0, 0]] for case, both in prediction["muon"].items()}}


def never_healed(problem, prediction):
    """What Muon neglects at its first step it neglects for ever."""
    found = dict(prediction["muon"])
    for case in problem.cases:
        if case[2] == 1:
            own = problem.lr * np.arange(problem.steps + 1) * float(lone_rare_logit(case[0], float(case[1] + 1)))
            rare = np.log1p(case[1] * np.exp(-own * (case[1] + 1) / case[1]))
            found[case] = np.stack([found[case][0], rare])
    return prediction | {"muon": found}


def ideal(problem, prediction):
    """Newton and Schulz give the polar factor, and momentum does not matter."""
    return prediction | {"practical": prediction["muon"]}


STUDY = Study(
    title="Associative memory under sign descent, Adam and Muon",
    question="Does an optimiser learn rare associations as fast as frequent ones, and in any basis?",
    source="Derived here, on the associative memory of Bietti et al. 2023 (arXiv:2306.00802)",
    regimes=("attention",),
    asks="how trained",
    sizes={
        "smoke": dict(
            keys=40,
            # (ratio of frequencies, frequent keys, rare keys)
            cases=((1 / 28, 5, 35), (1e-3, 39, 1)),
            runs=10,
            few=2,
            lr=0.5,
            steps=24,
        ),
        "paper": dict(
            keys=400,
            cases=((1 / 316, 5, 395), (1e-4, 399, 1), (1 / 20, 100, 300)),
            runs=16,
            few=3,
            lr=0.5,
            steps=40,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim("On unit vectors, sign descent and Adam learn all keys at one pace.", in_step, 1, "Rounding."),
        Claim(
            "In random bases a step of sign descent learns keys nearly as often as they come.",
            turned,
            5,
            "Standard errors over bases, beside 1/K.",
        ),
        Claim(
            "Muon by exact polar factors follows the recursion of two levels, in any basis.",
            stepped("muon"),
            1,
            "Rounding.",
        ),
        Claim(
            "Muon in practice follows it with momentum, and with what Newton and Schulz make of singular values.",
            stepped("practical"),
            1,
            "Rounding.",
        ),
        Claim(
            "The first step of Muon in practice is that of the polar factor, up to the iteration's response.",
            nearly_polar,
            1,
            "Singular values come out between 0.68 and 1.2 instead of one.",
        ),
    ),
    rivals=(
        Rival("Signs do not mind the basis.", same_in_any_basis),
        Rival("Adam learns keys as often as they come.", adam_as_gradient),
        Rival("Muon is gradient descent at another rate.", rescaled),
        Rival("Muon stores all keys alike, however rare.", always_balanced),
        Rival("What Muon neglects at its first step it neglects for ever.", never_healed),
        Rival("Newton and Schulz give the polar factor.", ideal),
    ),
    draw=draw,
    formulas=(
        "induction.spectral_descent.rotated_sign",
        "induction.spectral_descent.rare_logit",
        "induction.spectral_descent.two_steps",
        "induction.spectral_descent.quintic",
    ),
)
