"""Conjunctions learned in context by a transformer, which hears what the inputs themselves tell about them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import rel_entr

from sims.engine import grid, simulate
from sims.networks.regression_transformer import regression_transformer
from sims.tasks.boolean_functions import conjunctions
from sims.training import training
from theory.bayes_icl.boolean_functions import conjunction_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Sequences of fresh conjunctions."""
    s = Problem(**settings, seed=seed)
    drawn = conjunctions(jax.random.key(1_000_000 + seed), s.sequences, s.examples, s.dimension, s.absent, s.forced)
    s.x, s.y = np.asarray(drawn.x, float), np.asarray(drawn.y, float)
    return s


@functools.cache
def pretraining(dimension, examples, absent, forced, layers, width, batch, steps, lr):
    """Cross-entropy of every label from its input and the pairs before."""

    def start(key, _):
        return jax.tree.map(jnp.float32, regression_transformer(key, dimension, examples, width=width, layers=layers))

    def drawn(key, _):
        found = conjunctions(key, batch, examples, dimension, absent, forced)
        return jax.tree.map(jnp.float32, (found.x, found.y))

    def loss(model, data):
        x, y = data
        # Labels are read as +1 and -1.
        return jnp.mean(optax.sigmoid_binary_cross_entropy(model(x, 2 * y - 1), y))

    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, steps // 20, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    return training(start, loss, lambda _: optimiser, drawn, lambda model, _: ())


@functools.cache
def trained(seeds, steps, *settings):
    """Networks of several seeds."""
    program = pretraining(*settings)
    return simulate(program, grid(list(seeds)), [0, steps], batching="map", optimised=True).state.model


def bayes(problem, absent, forced):
    """P(y_t = 1) on all sequences, (sequences, examples)."""

    @jax.jit
    def everywhere(x, y):
        one = functools.partial(conjunction_predictions, absent=absent, forced=forced)
        return jax.lax.map(lambda pair: one(*pair), (x, y), batch_size=512)

    return np.asarray(everywhere(problem.x, problem.y))


def predict(problem):
    """Bayes, which weighs conjunctions by the density of the inputs, and beside it what labels alone say."""
    heard = bayes(problem, problem.absent, problem.forced)
    deaf = bayes(problem, problem.absent, 0.0)
    return {"chance": heard, "labels": problem.y, "deaf": deaf, "apart": np.mean(divergence(heard, deaf))}


def simulate_networks(problem):
    """The networks' log-odds on the same sequences, (runs, sequences, examples)."""
    s = problem
    seeds = tuple(s.seed * s.runs + i for i in range(s.runs))
    settings = (s.dimension, s.examples, s.absent, s.forced, s.layers, s.width, s.batch, s.steps, s.lr)
    networks = trained(seeds, s.steps, *settings)
    answers = jax.jit(jax.vmap(lambda net, x, y: net(x, y), in_axes=(0, None, None)))
    said = answers(networks, jnp.float32(s.x), jnp.float32(2 * s.y - 1))
    return {"log_odds": np.asarray(said, float)}


def divergence(p, q):
    """KL of two coins in nats."""
    return rel_entr(p, q) + rel_entr(1 - p, 1 - q)


def divergences(prediction, observation):
    """KL from the predicted chances to the networks', (runs, sequences, examples), from log-odds."""
    p, odds = prediction["chance"], observation["log_odds"]
    return rel_entr(p, 1.0) + rel_entr(1 - p, 1.0) + p * np.logaddexp(0, -odds) + (1 - p) * np.logaddexp(0, odds)


def nearness(prediction, observation):
    """KL of the networks, over that from the predictor that hears the inputs to the one that does not."""
    return float(np.max(np.mean(divergences(prediction, observation), axis=(1, 2))) / prediction["apart"])


def pythagoras(prediction, observation):
    """E KL(p || q) = CE(q) - CE(p), for each network: what is left, in standard errors over sequences."""
    y, odds, p = prediction["labels"], observation["log_odds"], prediction["chance"]
    said = np.logaddexp(0, np.where(y == 1, -odds, odds))
    # A label that was impossible is a refutation, but a finite one.
    best = -np.log(np.maximum(np.where(y == 1, p, 1 - p), 1e-12))
    return z_score(0.0, np.mean(said - best - divergences(prediction, observation), axis=2), axis=1)


def labels_alone(problem, prediction):
    """Inputs tell nothing."""
    return prediction | {"chance": prediction["deaf"]}


def all_alike(problem, prediction):
    """All conjunctions are as probable, however long."""
    return prediction | {"chance": bayes(problem, 1 / 3, problem.forced)}


def late(problem, prediction):
    """The last pair is not yet known: the answer of the step before, at this input."""
    shifted = np.concatenate([prediction["chance"][:, :1], prediction["chance"][:, :-1]], axis=1)
    return prediction | {"chance": shifted}


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    t = np.arange(problem.examples)
    y, odds = prediction["labels"], observation["log_odds"]
    said = np.logaddexp(0, np.where(y == 1, -odds, odds)).mean(axis=1)
    for name, line, label in (("chance", style.theory, "Bayes"), ("deaf", style.rival, "labels alone")):
        p = prediction[name]
        line(left, t, -np.log(np.where(y == 1, p, 1 - p)).mean(axis=0), label=label)
    style.networks(left, t, said.mean(axis=0), label="networks", linestyle="none")
    left.set(xlabel="examples seen", ylabel="log loss, nats", title="Loss")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    q = 1 / (1 + np.exp(-odds[0]))
    style.theory(right, [0, 1], [0, 1], label="Bayes")
    keep = slice(0, 200)
    style.networks(
        right,
        prediction["chance"][keep].ravel(),
        q[keep].ravel(),
        linestyle="none",
        most=300,
        alpha=0.4,
        label="network",
    )
    right.set(xlabel="P(y = 1 | examples)", ylabel="network's answer", title="Answers")
    right.legend(loc="upper left")


STUDY = Study(
    title="Conjunctions in context",
    question="Does a transformer learn conjunctions as Bayes would, and hear what inputs tell about them?",
    source="Bhattamishra et al. 2023 (arXiv:2310.03016)",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(
            dimension=3,
            examples=4,
            absent=0.7,
            forced=0.3,
            layers=2,
            width=32,
            batch=96,
            steps=1500,
            lr=3e-3,
            runs=1,
            sequences=8192,
        ),
        "paper": dict(
            dimension=6,
            examples=40,
            absent=0.7,
            forced=0.3,
            layers=6,
            width=128,
            batch=64,
            steps=20_000,
            lr=1e-3,
            runs=4,
            sequences=8192,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The networks' answers are nearer to Bayes, who hears what inputs tell, than labels alone are.",
            nearness,
            1,
            "The divergence between the Bayes predictors that hear the inputs and that do not.",
        ),
        Claim("Their loss exceeds the optimum by their divergence from Bayes.", pythagoras, 5, "Standard errors."),
    ),
    rivals=(
        Rival("Only labels tell about the conjunction.", labels_alone),
        Rival("All conjunctions are equally probable.", all_alike),
        Rival("The last answer still stands.", late),
    ),
    draw=draw,
    formulas=("bayes_icl.boolean_functions.first", "bayes_icl.boolean_functions.later"),
)
