"""Mixtures of Markov chains: of four algorithms, which one networks come to that saw few chains, and which if many."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import divergence, losses
from sims.tasks.markov_chains import chain_sequences, random_chains
from sims.training import training
from theory.bayes_icl.markov_mixtures import (
    bigram_inference,
    bigram_retrieval,
    convex_weights,
    unigram_inference,
    unigram_retrieval,
)
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

NAMES = ("bigram retrieval", "unigram retrieval", "bigram inference", "unigram inference")
# Kinds of training: a pool of few chains, and a fresh chain for each string.
FEW, FRESH = 0, 1


def problem(settings, seed):
    """A pool of chains for each run, and strings to test on: of its pool for the first kind, of fresh chains else."""
    s = Problem(**settings, seed=seed)
    s.pooled = np.repeat([True, False], s.runs)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(23), seed), (2 * s.runs, 4))
    s.chains = np.stack([random_chains(key[0], s.pool, s.symbols) for key in keys])
    s.strings = np.stack([strings(s, *case) for case in zip(s.chains, s.pooled, keys[:, 1:], strict=True)])
    return s


def strings(s, chains, pooled, keys):
    drawn = random_chains(keys[0], s.tests, s.symbols)
    if pooled:
        drawn = jnp.asarray(chains)[jax.random.randint(keys[1], (s.tests,), 0, s.pool)]
    return np.asarray(chain_sequences(keys[2], drawn, s.length))


@functools.cache
def network(symbols, length, width, hidden, batch, lr):
    """Adam on fresh strings; tokens hold a symbol and the one before it, so that one layer can count pairs."""

    def untrained(key, _):
        tokens = symbols * (symbols + 1)
        drawn = transformer(key, tokens, length, width=width, heads=1, layers=1, hidden=hidden, outputs=symbols)
        return jax.tree.map(lambda x: x.astype(jnp.float32), drawn)

    def log_p(model, x):
        before = jnp.concatenate([jnp.full((len(x), 1), symbols, x.dtype), x[:, :-1]], axis=1)
        return jax.nn.log_softmax(model(symbols * before + x)[:, :-1])

    def fresh(key, hyper):
        of_chains, of_pool, of_strings = jax.random.split(key, 3)
        known = hyper["chains"][jax.random.randint(of_pool, (batch,), 0, len(hyper["chains"]))]
        chains = jnp.where(hyper["pooled"], known, random_chains(of_chains, batch, symbols))
        return chain_sequences(of_strings, chains, length)

    return training(
        untrained,
        lambda model, x: jnp.mean(losses(log_p(model, x), x[:, 1:])),
        lambda _: optax.adam(lr),
        fresh,
        lambda model, hyper: log_p(model, hyper["strings"]),
    )


def predict(s):
    """Log laws of all four algorithms for each symbol but the first, (kinds, runs, algorithms, strings, T - 1, k)."""

    def four(x, chains):
        found = (
            bigram_retrieval(x, chains),
            unigram_retrieval(x, chains),
            bigram_inference(x, s.symbols),
            unigram_inference(x, s.symbols),
        )
        return jnp.stack([one.log_law[1:-1] for one in found])

    many = jax.jit(jax.vmap(four, in_axes=(0, None), out_axes=1))
    laws = np.stack([many(x, chains) for x, chains in zip(s.strings, s.chains, strict=True)])
    return {
        "laws": laws.reshape(2, s.runs, *laws.shape[1:]),
        "strings": s.strings.reshape(2, s.runs, s.tests, s.length),
        # Which algorithm each kind of training ends in, and which one is Bayes for the few chains.
        "end": (0, 2),
        "bayes": 0,
    }


def simulate_networks(s):
    """Log laws of trained networks at all recorded steps, (kinds, runs, times, strings, T - 1, k)."""
    trained = network(s.symbols, s.length, s.width, s.hidden, s.batch, s.lr)
    many = 2 * s.runs
    at = np.linspace(0, s.steps, s.records).round().astype(int)
    hyper = dict(chains=s.chains, pooled=s.pooled, strings=s.strings)
    runs = Runs(s.seed * many + np.arange(many), hyper, (many,))
    found = np.asarray(simulate(trained, runs, at, batching="map", optimised=True).records, float)
    return {"q": found.reshape(2, s.runs, *found.shape[1:]), "at": at}


def distances(prediction, q):
    """KL(algorithm || network), mean over strings and positions, (kinds, runs, algorithms)."""
    return divergence(prediction["laws"], q[:, :, None]).mean(axis=(-1, -2))


def nearest(kind):
    """How far a network of that kind is from the algorithm it should end in, over half the distance to the next one."""

    def measure(prediction, observation):
        found = distances(prediction, observation["q"][:, :, -1])[kind].mean(axis=0)
        end = prediction["end"][kind]
        return float(found[end] / np.delete(found, end).min() / 0.5)

    return measure


def weights(prediction, observation):
    """Convex weights of the four algorithms in what networks say, (kinds, runs, algorithms)."""
    p, q = np.exp(prediction["laws"]), np.exp(observation["q"][:, :, -1])
    fit = lambda kind, run: convex_weights(q[kind, run], p[kind, run])  # noqa: E731
    return np.array([[fit(kind, run) for run in range(q.shape[1])] for kind in range(2)])


def shares(prediction, observation):
    """One less the weight of the algorithm that each kind should end in, in quarters: the larger of both kinds."""
    found = weights(prediction, observation).mean(axis=1)
    return float(max(1 - found[kind, end] for kind, end in enumerate(prediction["end"])) / 0.25)


def pythagoras(prediction, observation):
    """CE(q) - CE(p_B) - KL(p_B || q) of each string of the few chains, in standard errors, run by run."""
    p, q = prediction["laws"][FEW, :, prediction["bayes"]], observation["q"][FEW, :, -1]
    x = prediction["strings"][FEW, :, :, 1:]
    more = losses(q, x) - losses(p, x)
    return z_score(0.0, (more - divergence(p, q)).mean(axis=-1), axis=1)


def bayes_loses_least(prediction, observation):
    """How much less networks lose than Bayes on the few chains, in standard errors over strings: not at all."""
    p, q = prediction["laws"][FEW, :, prediction["bayes"]], observation["q"][FEW, :, -1]
    x = prediction["strings"][FEW, :, :, 1:]
    less = (losses(p, x) - losses(q, x)).mean(axis=-1)
    return float(np.max(less.mean(axis=1) / (less.std(axis=1, ddof=1) / np.sqrt(less.shape[1]))))


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    times = np.stack([distances(prediction, observation["q"][:, :, i]) for i in range(len(observation["at"]))])
    for kind, axes, title in ((FEW, left, f"{s.pool} chains"), (FRESH, middle, "Fresh chains")):
        for i, name in enumerate(NAMES):
            runs = times[:, kind, :, i]
            mean, error = runs.mean(axis=1), runs.std(axis=1, ddof=1) / np.sqrt(s.runs)
            style.networks(axes, observation["at"], mean, i=i, error=error, label=name, linestyle="-")
        axes.set(xlabel="steps", yscale="log", title=title)
    # Room for the names above the curves.
    left.set(ylabel="KL to networks (nats)", ylim=(None, 4))
    left.legend(fontsize=6.5, loc="upper right")
    t = 1 + np.arange(s.length - 1)
    for kind, label, i in ((FEW, f"{s.pool} chains", 0), (FRESH, "fresh chains", 2)):
        x = prediction["strings"][kind, :, :, 1:]
        mean = lambda y: losses(y, x).mean(axis=(0, 1))  # noqa: B023, E731
        end = prediction["end"][kind]
        style.theory(right, t, mean(prediction["laws"][kind, :, end]), i=i, label=NAMES[end])
        style.networks(right, t, mean(observation["q"][kind, :, -1]), i=i, label=f"networks, {label}")
    right.set(xlabel="symbols seen", ylabel="loss (nats)", title="Loss by position")
    right.legend(fontsize=6.5)


def ends(few, fresh, bayes=0):
    """Training ends in these algorithms."""
    return lambda s, prediction: prediction | {"end": (few, fresh), "bayes": bayes}


STUDY = Study(
    title="Four algorithms for Markov chains",
    question="Does a network recall the chains that it was trained on, or does it learn to read any chain?",
    source="Park et al. 2024 (arXiv:2412.01003)",
    regimes=("bayes",),
    asks="when",
    sizes={
        "smoke": dict(
            pool=4,
            symbols=3,
            length=24,
            width=32,
            hidden=64,
            batch=32,
            lr=3e-3,
            steps=800,
            records=13,
            tests=128,
            runs=3,
        ),
        "paper": dict(
            pool=4,
            symbols=10,
            length=512,
            width=64,
            hidden=256,
            batch=128,
            lr=6e-4,
            steps=108_000,
            records=13,
            tests=32,
            runs=3,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Networks that saw few chains come to bigram retrieval.",
            nearest(FEW),
            1,
            "At most half as far from it as from the next algorithm.",
        ),
        Claim(
            "Networks that saw a fresh chain in each string come to bigram inference.",
            nearest(FRESH),
            1,
            "At most half as far from it as from the next algorithm.",
        ),
        Claim(
            "The mixture of all four that fits best is nearly all of that algorithm.",
            shares,
            1,
            "A quarter for all others: training ends before it converges.",
        ),
        Claim(
            "On few chains, what networks lose more than Bayes is their relative entropy to Bayes.",
            pythagoras,
            5,
            "Standard errors over strings.",
        ),
        Claim("No network loses less than Bayes there.", bayes_loses_least, 5, "Standard errors over strings."),
    ),
    rivals=(
        Rival("With few chains, too, pairs in the string are all that is used.", ends(2, 2)),
        Rival("With few chains only frequencies of symbols are recalled.", ends(1, 2)),
        Rival("With fresh chains only frequencies of symbols are counted.", ends(0, 3)),
        Rival("The first chains are recalled also when chains are fresh.", ends(0, 0)),
        Rival("Bayes for few chains counts pairs.", ends(0, 2, 2)),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.markov_mixtures.bigram",
        "bayes_icl.markov_mixtures.unigram",
        "bayes_icl.markov_mixtures.kept",
        "bayes_icl.markov_mixtures.interior",
    ),
)
