"""Transformers and recurrent networks on the same prompts of noisy linear regression, judged by the same claims."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, simulate
from sims.networks.recurrent_regression import recurrent_regression
from sims.networks.regression_transformer import regression_transformer
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from theory.bayes_icl.algorithms import gradient_descent, prefix_predictions, ridge
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

NETWORKS = {
    "shifted": regression_transformer,
    "no positions": functools.partial(regression_transformer, positions=False),
    "interleaved": functools.partial(regression_transformer, tokens="interleaved"),
    "GRU": functools.partial(recurrent_regression, kind="gru"),
    "LSTM": functools.partial(recurrent_regression, kind="lstm"),
}
BOUND, ATTENTION, RECURRENT = tuple(NETWORKS)[:2], tuple(NETWORKS)[:3], tuple(NETWORKS)[3:]
# Who is nearer to Bayes than whom: early in training, and, at its end, after one pair and in the second half.
ORDER = {
    "early": (BOUND, ("interleaved", *RECURRENT)),
    "first": (ATTENTION, RECURRENT),
    "late": (("LSTM",), (*ATTENTION, "GRU")),
}
FOUND = "Of two networks the nearer one; which one it is was found in such runs, not derived."


def problem(settings, seed):
    """Prompts that no network was trained on, with their values without noise: the same numbers for everyone."""
    s = Problem(**settings, seed=seed)
    of_tasks, of_prompts = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2**31 - 1))
    drawn = prompts(of_prompts, gaussian_tasks(of_tasks, s.tests, s.dimension), s.context, s.noise)
    s.x, s.y, s.truth = drawn.x, drawn.y, np.asarray(jnp.einsum("pnd,pd->pn", drawn.x, drawn.w))
    s.shape = dict(zip(NETWORKS, s.shapes, strict=True))
    return s


def everywhere(s, rule):
    """What a rule says of all labels, (tests, n)."""
    return np.asarray(jax.jit(jax.vmap(functools.partial(prefix_predictions, rule)))(s.x, s.y))


def last_two(x, y, query, seen, *, penalty):
    """Ridge regression on the last two of the pairs that have been seen."""
    return ridge(x, y, query, seen * (jnp.cumsum(seen[::-1])[::-1] <= 2), penalty=penalty)


def predict(s):
    """The Bayes predictor, for every network, the excess risk that it leaves, and who is nearer to it."""
    bayes = jax.jit(jax.vmap(lambda x, y: linear_predictions(x, y, s.noise)))(s.x, s.y)
    # The best single rate of one step, for n pairs of white inputs.
    rate = 1 / (s.context + 1 + s.dimension + s.noise)
    others = {
        "the last two pairs": everywhere(s, functools.partial(last_two, penalty=s.noise)),
        "one step": everywhere(s, functools.partial(gradient_descent, rate=rate)),
        "the prior mean": np.zeros_like(s.truth),
    }
    values = dict.fromkeys(NETWORKS, np.asarray(bayes.mean))
    return {"values": values, "excess": np.asarray(bayes.variance - s.noise), "others": others, "order": ORDER}


@functools.cache
def training_of(name, width, layers, dimension, context, noise, batch, steps, lr):
    """Fresh tasks at every step; networks of one seed are shown the same prompts."""

    def drawn(key, _):
        of_tasks, of_prompts = jax.random.split(key)
        seen = prompts(of_prompts, gaussian_tasks(of_tasks, batch, dimension, dtype=jnp.float32), context, noise)
        return seen.x, seen.y

    settings = dict(steps=steps, lr=lr, width=width, layers=layers, network=NETWORKS[name])
    return regression_training(drawn, dimension, context, **settings)


def parameters(s, name):
    """How many numbers a network learns."""
    width, layers = s.shape[name]
    start = functools.partial(NETWORKS[name], dimension=s.dimension, context=s.context, width=width, layers=layers)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(start, jax.random.key(0))))


def simulate_networks(s):
    """What each network says of all labels, early and in the end, (2, tests, n)."""
    hyper = {"x": np.asarray(s.x, np.float32)[None], "y": np.asarray(s.y, np.float32)[None]}
    found = {}
    for name in NETWORKS:
        program = training_of(name, *s.shape[name], s.dimension, s.context, s.noise, s.batch, s.steps, s.lr)
        runs = Runs(np.array([s.seed]), hyper, (1,))
        records = simulate(program, runs, [s.early, s.steps], batching="map", optimised=True).records
        found[name] = np.asarray(records, float)[0]
    return {"outputs": found, "truth": s.truth}


def distances(prediction, observation, which=-1):
    """Mean squared distance of each network to Bayes by position, (n,)."""
    outputs = observation["outputs"]
    return {name: np.mean((outputs[name][which] - prediction["values"][name]) ** 2, axis=0) for name in NETWORKS}


def pythagoras(prediction, observation):
    """E (g - f)^2 - E (g - f_B)^2 - E Var f at every position, in standard errors over prompts."""
    worst = []
    for name, (*_, g) in observation["outputs"].items():
        left = (g - observation["truth"]) ** 2 - (g - prediction["values"][name]) ** 2
        worst.append(z_score(0.0, left - prediction["excess"]))
    return max(worst)


def below(prediction, observation):
    """By how much a network is better than Bayes at any position, in standard errors over prompts."""
    worst = 0.0
    for *_, g in observation["outputs"].values():
        more = (g - observation["truth"]) ** 2 - prediction["excess"]
        worst = max(worst, float(np.max(-more.mean(axis=0) / (more.std(axis=0, ddof=1) / len(more) ** 0.5))))
    return worst


def near(prediction, observation):
    """Distance to Bayes of the worst network, over a tenth of what can be predicted at all."""
    found = distances(prediction, observation).values()
    return float(max(map(np.mean, found)) / (0.1 * np.mean(observation["truth"] ** 2)))


def nearest(prediction, observation):
    """Distance to Bayes over that to the nearest of the other rules, of the worst network."""
    found = distances(prediction, observation)
    worst = []
    for name, (*_, g) in observation["outputs"].items():
        worst.append(np.mean(found[name]) / min(np.mean((g - other) ** 2) for other in prediction["others"].values()))
    return float(max(worst))


def ahead(when):
    """Distance to Bayes of the worst network that is said to be nearer, over that of the best other one."""

    def measure(prediction, observation):
        found = distances(prediction, observation, 0 if when == "early" else -1)
        half = prediction["excess"].shape[1] // 2
        at = {"early": slice(None), "first": slice(1, 2), "late": slice(half, None)}[when]
        nearer, others = ([np.mean(found[name][at]) for name in names] for names in prediction["order"][when])
        return float(max(nearer) / min(others))

    return measure


def draw(figure, s, prediction, observation):
    left, right = figure.subplots(1, 2)
    positions, signal = np.arange(s.context), np.mean(s.truth**2)
    style.theory(left, positions, prediction["excess"].mean(axis=0), color=style.INK, label="Bayes")
    two = np.mean((prediction["others"]["the last two pairs"] - s.truth) ** 2, axis=0)
    style.rival(left, positions, two, label="last two pairs")
    kinds = (
        (f"step {s.early}", 0, slice(None), "s"),
        (f"step {s.steps}", -1, slice(None), "o"),
        ("one pair seen", -1, slice(1, 2), "^"),
        ("second half", -1, slice(s.context // 2, None), "v"),
    )
    for i, (name, (*_, g)) in enumerate(observation["outputs"].items()):
        risk = np.mean((g - s.truth) ** 2, axis=0)
        style.networks(left, positions, risk, i=i, label=name, linestyle="-")
        for _, which, at, marker in kinds:
            share = np.mean(distances(prediction, observation, which)[name][at]) / signal
            style.networks(right, [share], [-i], i=i, marker=marker)
    for label, *_, marker in kinds:
        style.networks(right, [np.nan], [np.nan], color=style.INK, marker=marker, linestyle="none", label=label)
    prior = np.mean(prediction["values"]["shifted"] ** 2) / signal
    style.rival(right, [prior] * 2, [0.4, 0.6 - len(NETWORKS)], label="prior mean")
    left.set(xlabel="pairs seen", ylabel="excess risk", yscale="log", title="Risk by position")
    left.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
    rows = [f"{name}\n{parameters(s, name):,} parameters" for name in NETWORKS]
    right.set_yticks(-np.arange(len(NETWORKS)), rows, fontsize=7)
    right.set(xlabel="share of the signal", xscale="log", xlim=(None, 1), title="Distance to Bayes")
    right.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
    for panel, columns in ((left, 4), (right, 3)):
        panel.minorticks_off()
        panel.legend(fontsize=7, ncols=columns, loc="upper center", bbox_to_anchor=(0.4, -0.2), columnspacing=1)


def believed_of(names, other):
    """Other values in the place of Bayes for the networks of these names."""

    def believed(s, prediction):
        return prediction | {"values": prediction["values"] | dict.fromkeys(names, other(s, prediction))}

    return believed


def knowing(s, _):
    """The posterior after y_t in place of the one before."""

    def at(x, y, t):
        return ridge(x, y, x[t], (jnp.arange(s.context) <= t).astype(x.dtype), penalty=s.noise)

    everyone = jax.vmap(jax.vmap(at, in_axes=(None, None, 0)), in_axes=(0, 0, None))
    return np.asarray(jax.jit(everyone)(s.x, s.y, jnp.arange(s.context)))


def rule(name):
    """One of the other rules, as it stands in the prediction."""
    return lambda _, prediction: prediction["others"][name]


def turned(when, nearer, others):
    """Another order of distances."""
    return lambda _, prediction: prediction | {"order": prediction["order"] | {when: (nearer, others)}}


STUDY = Study(
    title="Attention, recurrence and Bayes",
    question="Which networks come near Bayes on the same prompts?",
    source="Lee et al. 2024 (arXiv:2310.08049), linear regression with noise; Garg et al. 2022 (arXiv:2208.01066)",
    # Width and layers of each network, in their order, for about as many parameters.
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(dimension=2, context=8, noise=0.1, tests=3000, batch=64, early=60, steps=800, lr=1e-2)
        | dict(shapes=((24, 2), (24, 2), (24, 2), (65, 1), (56, 1))),
        "paper": dict(dimension=8, context=16, noise=0.1, tests=6000, batch=256, early=5000, steps=100_000, lr=1e-3)
        | dict(shapes=((128, 3), (128, 3), (128, 3), (435, 1), (376, 1))),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The excess risk of each network is that of Bayes and its distance to Bayes, at every position.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
        Claim("No network is below Bayes at any position.", below, 5, "Standard errors over prompts."),
        Claim(
            "Each network is within a tenth of the signal of the Bayes predictor.",
            near,
            1,
            "A tenth: what small networks have not learned when training stops.",
        ),
        Claim(
            "None is nearer to the last two pairs, to one step of gradient descent or to the prior mean than to Bayes.",
            nearest,
            1,
            "Of two rules the nearer one is what it says.",
        ),
        Claim("Early in training, networks that attend to whole pairs are nearest.", ahead("early"), 1, FOUND),
        Claim("After one pair, networks with attention are nearer than recurrent ones.", ahead("first"), 1, FOUND),
        Claim("In the second half of the context the LSTM is nearest.", ahead("late"), 1, FOUND),
    ),
    rivals=(
        Rival(
            "The penalty is the standard deviation of the noise, not its variance.",
            believed_of(NETWORKS, lambda s, _: everywhere(s, functools.partial(ridge, penalty=s.noise**0.5))),
        ),
        Rival("They know the label that they are asked for.", believed_of(NETWORKS, knowing)),
        Rival(
            "Recurrent networks cannot regress in context: they stay at the prior mean.",
            believed_of(RECURRENT, rule("the prior mean")),
        ),
        Rival("Recurrent networks forget all but two pairs.", believed_of(RECURRENT, rule("the last two pairs"))),
        Rival(
            "Without positions attention can only average: one step of gradient descent.",
            believed_of(("no positions",), rule("one step")),
        ),
        Rival("It costs nothing to find the label of an input.", turned("early", ("interleaved",), BOUND)),
        Rival("Who reads pairs one by one knows best what a single one says.", turned("first", RECURRENT, ATTENTION)),
        Rival("A state of fixed size loses what attention keeps.", turned("late", ATTENTION, RECURRENT)),
    ),
    draw=draw,
    formulas=("bayes_icl.prequential.second_label", "bayes_icl.prequential.linear_mean", "bayes_icl.algorithms.ridge"),
)
