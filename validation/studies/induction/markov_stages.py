"""Reading a Markov chain in context: single symbols first, pairs later, in a time that the first layer sets."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.markov_head import MarkovHead, next_symbol_loss, untrained_markov_head
from sims.tasks.markov_chains import chain_sequences, doubly_stochastic_chains, random_chains
from sims.training import training
from theory.induction.markov_chains import PRIORS, bigram_prediction, unigram_prediction
from theory.induction.markov_stages import all_contexts, plateau, stage, stage_flow
from theory.induction.ngram_heads import empirical_conditional
from validation import style
from validation.metrics import crossing_time, fitted_exponent, gap, log_mean, slope, z_score
from validation.study import Claim, Problem, Rival, Study

CURVES = ("loss", "unigram", "bigram", "previous")
# Attention to the symbol before at which the look back is counted as formed.
FORMED = 0.5


def problem(settings, seed):
    """All contexts of two symbols with their chances, for each kind of chain: what every mean is over; its plateau."""
    contexts = {prior: all_contexts(settings["length"], prior) for prior in PRIORS}
    waits = {prior: float(stage(plateau(seen), seen).loss) for prior, seen in contexts.items()}
    return Problem(**settings, seed=seed, contexts=contexts, plateaus=waits)


def records(problem):
    """Dense at first, when single symbols are learned."""
    return np.unique(np.concatenate([[0], np.geomspace(1, problem.steps, problem.records).astype(int)]))


def cases(problem):
    """Learning rate of the lags over that of the matrix, and kind of chain."""
    return [(rate, prior) for rate in problem.rates for prior in PRIORS]


def milestones(steps, curves, plateau):
    """ln of the steps at which the loss has come half way to its plateau, and attention to the symbol before is formed.

    Curves have a last axis of records; of ten times the last record where it never comes.
    """
    learned = crossing_time(steps, -curves["loss"], -(np.log(2) + plateau) / 2, never=10 * steps[-1])
    formed = crossing_time(steps, curves["previous"], FORMED, never=10 * steps[-1])
    # Not before the first step.
    return np.log(np.maximum(np.stack([learned, formed], axis=-1), 1.0))


def predict(problem):
    """Curves, milestones and plateau of each case, and what a hard-wired head says."""
    steps = records(problem)
    found = {"steps": steps, "rates": np.array(problem.rates)}
    for rate, prior in cases(problem):
        contexts = problem.contexts[prior]
        reader = stage_flow(problem.lr * steps, contexts, rate)
        curves = {name: np.asarray(getattr(stage(reader, contexts), name)) for name in CURVES}
        found[rate, prior] = curves | {"milestones": milestones(steps, curves, problem.plateaus[prior])}
    for prior in PRIORS:
        found["plateau", prior] = problem.plateaus[prior]
    return found | {"wired": pair_counts(problem, inclusive=True)}


def pair_counts(problem, inclusive):
    """Log-probabilities whose logits are counts of pairs: the shares that a hard-wired head reads, times their number.

    The first symbol, which nothing precedes, counts as preceded by itself.
    """
    x = np.asarray(problem.contexts["rows"].symbols)
    shares = np.asarray(empirical_conditional(x, 2, 1, inclusive))
    departures = np.stack([np.sum(x[:, :t] == x[:, t : t + 1], axis=1) for t in range(x.shape[1])], axis=1)
    first = (x == x[:, :1])[..., None] * np.eye(2)[x[:, :1]]
    return np.asarray(jax.nn.log_softmax(departures[..., None] * shares + first))


def head(problem):
    """Stochastic gradient descent on fresh sequences; what is recorded is a mean over all contexts."""

    def chains(key, hyper):
        kinds = [partial(draw, batch=problem.batch, symbols=2) for draw in (random_chains, doubly_stochastic_chains)]
        return jnp.where(hyper["doubly"], kinds[1](key), kinds[0](key))

    def batch(key, hyper):
        chain_key, key = jax.random.split(key)
        return chain_sequences(key, chains(chain_key, hyper), problem.length + 1)

    x = jnp.asarray(problem.contexts["rows"].symbols)
    following, weight = (jnp.stack([getattr(problem.contexts[p], f) for p in PRIORS]) for f in ("following", "weight"))
    counts = [jnp.asarray(guess(x, 2)) for guess in (unigram_prediction, bigram_prediction)]

    def record(model, hyper):
        kind = hyper["doubly"].astype(int)
        # A sequence and its mirror image count alike: both are read, for no symbol is special to the theory alone.
        both = [
            (model(x), following[kind], *counts),
            (model(1 - x), *(q[..., ::-1] for q in (following[kind], *counts))),
        ]
        mean = lambda values: weight[kind] @ jnp.mean(jnp.sum(values, axis=-1), axis=1)  # noqa: E731
        seen = [
            (-mean(true * log_p), mean(one * (jnp.log(one) - log_p)), mean(two * (jnp.log(two) - log_p)))
            for log_p, true, one, two in both
        ]
        loss, unigram, bigram = (sum(parts) / 2 for parts in zip(*seen, strict=True))
        back = jnp.arange(problem.length)[:, None] - jnp.arange(problem.length)
        attention = jax.nn.softmax(jnp.where(back >= 0, model.lags[jnp.abs(back)], -jnp.inf), axis=1)
        return dict(zip(CURVES, (loss, unigram, bigram, jnp.mean(jnp.diagonal(attention, -1))), strict=True))

    def names_of_parts(model):
        return eqx.tree_at(lambda m: (m.matrix, m.lags), model, ("matrix", "lags"))

    rates = lambda hyper: {"matrix": optax.sgd(problem.lr), "lags": optax.sgd(problem.lr * hyper["rate"])}  # noqa: E731
    return training(
        lambda _, __: untrained_markov_head(2, problem.length),
        next_symbol_loss,
        lambda hyper: optax.multi_transform(rates(hyper), names_of_parts),
        batch,
        record,
    )


def simulate_networks(problem):
    """Trained networks of every case, (runs, records); and one wired by hand."""
    seeds, at = problem.seed * problem.runs + np.arange(problem.runs), records(problem)
    runs = grid(seeds, rate=np.array(problem.rates), doubly=np.array([False, True]))
    seen = simulate(head(problem), runs, at, batching="vmap", optimised=True)
    curves = seen.on_grid()
    found = {}
    for i, rate in enumerate(problem.rates):
        for j, prior in enumerate(PRIORS):
            mine = {name: np.asarray(curves[name])[:, i, j] for name in CURVES}
            found[rate, prior] = mine | {"milestones": milestones(at, mine, problem.plateaus[prior])}
    x = problem.contexts["rows"].symbols
    wired = MarkovHead(jnp.eye(2), jnp.zeros(problem.length).at[1].set(80.0))
    return found | {"wired": np.asarray(wired(jnp.asarray(x)))}


def names(prediction):
    return [(rate, prior) for rate in prediction["rates"] for prior in PRIORS]


def timing(prediction, observation):
    """Milestones, ln steps, against the flow: standard errors over runs beside a step and two per cent."""
    worst = []
    for case in names(prediction):
        expected = prediction[case]["milestones"]
        floor = np.hypot(1 / np.exp(expected), 0.02)
        worst.append(z_score(expected, observation[case]["milestones"], floor=floor))
    return max(worst)


def stages(prediction, observation):
    """Runs that are nearest to counting pairs before they are nearest to counting symbols, or not, as predicted."""
    wrong = 0
    for case in names(prediction):
        expected, runs = (
            np.stack([side[case][name].argmin(axis=-1) for name in ("unigram", "bigram")], axis=-1)
            for side in (prediction, observation)
        )
        wrong += int(np.sum(np.sign(np.diff(runs)) != np.sign(np.diff(expected))))
    return wrong


def waiting(prediction, observation):
    """Loss of the runs of slowest lags, half way (in ln steps) between both milestones, against the plateau.

    In units of what the loss has fallen by then.
    """
    worst, slowest = [], prediction["rates"][0]
    for prior in PRIORS:
        runs, expected = observation[slowest, prior], prediction["plateau", prior]
        middle = np.exp(np.mean(prediction[slowest, prior]["milestones"]))
        loss = runs["loss"][:, np.abs(prediction["steps"] - middle).argmin()].mean()
        worst.append(abs(loss - expected) / (np.log(2) - loss))
    return max(worst)


def sooner(prediction, observation):
    """Runs in which the look back forms first for the other kind of chain than predicted."""
    wrong = 0
    for rate in prediction["rates"]:
        expected, runs = (
            np.subtract(*(side[rate, prior]["milestones"][..., 1] for prior in PRIORS))
            for side in (prediction, observation)
        )
        wrong += int(np.sum(np.sign(runs) != np.sign(expected)))
    return wrong


def exponent(prediction, prior):
    """Log-log slope of the predicted steps to look back in the learning rate of the lags."""
    return slope(
        prediction["rates"], [np.exp(prediction[rate, prior]["milestones"][1]) for rate in prediction["rates"]]
    )


def scaling(prediction, observation):
    """The exponent of the runs against that of the flow, in standard errors beside two hundredths."""
    worst = []
    for prior in PRIORS:
        runs = np.stack([np.exp(observation[rate, prior]["milestones"][:, 1]) for rate in prediction["rates"]])
        found, error = fitted_exponent(prediction["rates"], runs, statistic=log_mean)
        worst.append(abs(found - prediction.get("exponent", exponent(prediction, prior))) / np.hypot(error, 0.02))
    return max(worst)


def by_hand(prediction, observation):
    """The network that is wired by hand, in units of rounding."""
    return gap(prediction["wired"], observation["wired"], 1e-9)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    steps, slowest = prediction["steps"], problem.rates[0]
    labels = dict(rows="random rows", doubly_stochastic="doubly stochastic")
    for i, prior in enumerate(PRIORS):
        style.theory(left, steps, prediction[slowest, prior]["loss"], i=i, label=labels[prior])
        style.networks(left, steps, observation[slowest, prior]["loss"].mean(axis=0), i=i)
        style.rival(left, steps[[0, -1]], np.full(2, prediction["plateau", prior]), label=None if i else "plateau")
    left.set(xscale="symlog", xlabel="steps", ylabel="loss (nats)", ylim=(None, 0.74))
    left.set_title("Two drops")
    left.legend(loc="upper right", fontsize=7)

    curves = dict(unigram="KL from single symbols", bigram="KL from pairs")
    for i, (name, label) in enumerate(curves.items()):
        style.theory(middle, steps, prediction[slowest, "rows"][name], i=2 + i, label=label)
        style.networks(middle, steps, observation[slowest, "rows"][name].mean(axis=0), i=2 + i)
    middle.set(xscale="symlog", yscale="log", xlabel="steps", ylabel="nats", ylim=(None, 0.5))
    middle.set_title("Symbols, then pairs")
    middle.legend(loc="upper right", fontsize=7)

    rates = np.asarray(problem.rates)
    for i, prior in enumerate(PRIORS):
        expected = np.array([np.exp(prediction[rate, prior]["milestones"][1]) for rate in rates])
        runs = np.stack([observation[rate, prior]["milestones"][:, 1] for rate in rates])
        mean, spread = np.exp(runs.mean(axis=1)), np.exp(runs.mean(axis=1)) * runs.std(axis=1)
        style.theory(right, rates, expected, i=i, label=labels[prior])
        style.networks(right, rates, mean, i=i, error=spread)
    half = np.exp(prediction[rates[0], "rows"]["milestones"][1]) * (rates / rates[0]) ** -0.5
    style.rival(right, rates, half, label="slope -1/2")
    right.set(xscale="log", yscale="log", xlabel="lr of lags / lr of matrix", ylabel="steps", ylim=(None, half[0] * 5))
    right.set_xticks(rates, [f"{rate:g}" for rate in rates])
    right.minorticks_off()
    right.set_title("Steps to look back")
    right.legend(loc="upper right", fontsize=7)


def changed(prediction, **milestone):
    """The prediction with other milestones: name of the kind of chain -> function of both."""
    found = dict(prediction)
    for rate, prior in names(prediction):
        if prior in milestone:
            now = milestone[prior](rate)
            found[rate, prior] = prediction[rate, prior] | {"milestones": now}
    return found


def no_stages(problem, prediction):
    """Pairs are counted from the start: what is said of symbols holds of pairs."""
    found = dict(prediction)
    for case in names(prediction):
        mine = prediction[case]
        early = mine | {"bigram": mine["unigram"], "unigram": mine["bigram"]}
        found[case] = early | {"milestones": mine["milestones"][[0, 0]]}
    return found


def look_back_first(problem, prediction):
    """The look back comes first, the counting waits for it."""
    return changed(prediction, **{p: lambda rate, p=p: prediction[rate, p]["milestones"][::-1] for p in PRIORS})


def as_long(problem, prediction):
    """It takes doubly stochastic chains as long."""
    return changed(prediction, doubly_stochastic=lambda rate: prediction[rate, "rows"]["milestones"])


def both_rates(problem, prediction):
    """Steps go as the root of both learning rates, as where two layers grow together."""
    return prediction | {"exponent": -0.5}


def nothing_to_count(problem, prediction):
    """Where symbols are equally frequent there is nothing to gain before pairs are counted."""
    return prediction | {("plateau", "doubly_stochastic"): np.log(2)}


def last_pair_lost(problem, prediction):
    """A head does not see the pair that has just ended."""
    return prediction | {"wired": pair_counts(problem, inclusive=False)}


STUDY = Study(
    title="Stages of reading a Markov chain in context",
    question="Why does a network count single symbols before it counts pairs, and what sets how long it waits?",
    source="Edelman, Edelman, Goel, Malach & Tsilivis 2024 (arXiv:2402.11004), the minimal model",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(length=7, rates=(1.5, 4.5, 13.5), lr=0.15, batch=32, steps=1200, records=36, runs=5),
        "paper": dict(
            length=12, rates=(0.5, 1.0, 3.0, 9.0, 27.0), lr=0.05, batch=1024, steps=20_000, records=80, runs=16
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Single symbols are counted, and the look back forms, when the flow of three kinds of numbers says.",
            timing,
            5,
            "Standard errors of ln steps over runs, beside one step and two per cent for the noise of batches.",
        ),
        Claim(
            "A network is nearest to counting symbols before it is nearest to counting pairs.",
            stages,
            0,
            "An order of times.",
        ),
        Claim(
            "In between the loss waits at the best that uniform attention can do.",
            waiting,
            0.1,
            "A tenth of its first drop: lags that learn fast have begun to move.",
        ),
        Claim(
            "Chains whose symbols are equally frequent teach the look back sooner.",
            sooner,
            0,
            "An order of times.",
        ),
        Claim(
            "The wait is set by the first layer: its steps go as a power of that learning rate near minus one.",
            scaling,
            5,
            "Standard errors over runs (jackknife), beside two hundredths.",
        ),
        Claim(
            "Wired to look one step back, the network's logits are the counts that an n-gram head reads.",
            by_hand,
            1,
            "Rounding.",
        ),
    ),
    rivals=(
        Rival("Pairs are counted from the start.", no_stages),
        Rival("The look back forms before anything is counted.", look_back_first),
        Rival("Doubly stochastic chains take as long.", as_long),
        Rival("Steps go as the root of each learning rate.", both_rates),
        Rival("Where symbols are equally frequent the loss waits at chance.", nothing_to_count),
        Rival("A head does not see the pair that has just ended.", last_pair_lost),
    ),
    draw=draw,
    formulas=(
        "induction.markov_stages.logits",
        "induction.markov_stages.set_out_match",
        "induction.markov_stages.set_out_lags",
        "induction.markov_chains.counted_pairs",
    ),
)
