"""A transformer that learned to name the best arm of bandits becomes Thompson sampling, and pays its regret."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.transformer import transformer
from sims.tasks.bandits import at_random, coin_arms, counted, played, tokens
from sims.training import training
from theory.bayes_icl.bandits import bayes_regret, greedy_policy, thompson_policy
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Histories of fresh bandits under arms drawn at random, and which arm was the best."""
    s = Problem(**settings, seed=seed)
    of_means, of_play = jax.random.split(jax.random.key(1_000_000 + seed))
    means = coin_arms(of_means, s.histories, s.arms)
    play = at_random(of_play, means, s.rounds)
    s.tokens, s.counts = np.asarray(tokens(play, s.arms)), np.asarray(counted(play, s.arms))
    s.labels = np.asarray(jnp.argmax(means, axis=1))
    return s


@functools.cache
def pretraining(arms, rounds, layers, width, batch, steps, lr):
    """Cross-entropy of the best arm of fresh bandits, after every prefix of a history of random arms."""

    def start(key, _):
        drawn = transformer(key, 2 * arms + 1, rounds, width=width, layers=layers, outputs=arms)
        return jax.tree.map(jnp.float32, drawn)

    def drawn(key, _):
        of_means, of_play = jax.random.split(key)
        means = coin_arms(of_means, batch, arms)
        return tokens(at_random(of_play, means, rounds), arms), jnp.argmax(means, axis=1)

    def loss(model, data):
        seen, label = data
        labels = jnp.broadcast_to(label[:, None], seen.shape)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(seen), labels))

    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, steps // 20, steps)
    return training(start, loss, lambda _: optax.adam(schedule), drawn, lambda model, _: ())


@functools.cache
def trained(arms, rounds, layers, width, batch, steps, lr, runs, seed):
    """Networks of several seeds, as a list."""
    program = pretraining(arms, rounds, layers, width, batch, steps, lr)
    seeds = [seed * runs + i for i in range(runs)]
    found = simulate(program, grid(seeds), [0, steps], batching="map", optimised=True).state.model
    return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(runs)]


def table(problem, chances):
    """Chances at every history, (histories, rounds, arms), from those at all counts."""
    counts = problem.counts.reshape(*problem.counts.shape[:2], -1)
    return np.asarray(chances)[tuple(np.moveaxis(counts, -1, 0))]


def predict(problem):
    """Thompson sampling: chances of being the best at every history, and its Bayes regret when it acts."""
    thompson = thompson_policy(problem.rounds, problem.arms)
    return {
        "chance": table(problem, thompson),
        "labels": problem.labels,
        "regret": np.asarray(bayes_regret(thompson)),
        "greedy": np.asarray(bayes_regret(greedy_policy(problem.rounds, problem.arms))),
    }


def simulate_networks(problem):
    """Log probabilities of trained networks on the histories, and their regrets when they draw arms from them."""
    s = problem
    networks = trained(s.arms, s.rounds, s.layers, s.width, s.batch, s.steps, s.lr, s.runs, s.seed)
    said = [np.asarray(jax.nn.log_softmax(jax.jit(net.__call__)(s.tokens)), float) for net in networks]
    keys = jax.random.split(jax.random.key(2_000_000 + s.seed), s.runs)
    acted = [acting(net, key, s.arms, s.rounds, s.players) for net, key in zip(networks, keys, strict=True)]
    return {"log_chance": np.stack(said), "regret": np.stack(acted)}


def acting(network, key, arms, rounds, players):
    """Mean regrets of each round, (players, rounds), of a network that draws arms from its own answers."""
    of_means, of_play = jax.random.split(key)
    memory = jnp.full((players, rounds + 1), 2 * arms)

    def choose(key, seen, t):
        answers = network(seen[:, :-1])
        return jax.random.categorical(key, jnp.take(answers, t, axis=1))

    def learn(seen, chosen, rewards, t):
        return seen.at[:, t + 1].set(2 * chosen + rewards.astype(seen.dtype))

    @jax.jit
    def play():
        return played(of_play, coin_arms(of_means, players, arms), rounds, choose, learn, memory).regrets

    return np.asarray(play(), float)


def divergences(prediction, observation):
    """KL from the predicted chances to the networks', (runs, histories, rounds)."""
    p = prediction["chance"]
    return np.sum(p * (np.log(p) - observation["log_chance"]), axis=-1)


def missed(prediction, observation):
    """KL of the networks as a share of the information about the best arm, in fiftieths."""
    p = prediction["chance"]
    information = np.mean(np.sum(p * np.log(p * p.shape[-1]), axis=-1))
    return np.max(np.mean(divergences(prediction, observation), axis=(1, 2))) / information * 50


def scores(prediction, observation):
    """Log losses of the networks less those of the predicted chances, on the labels, (runs, histories, rounds)."""
    best = prediction["labels"][None, :, None, None]
    said = np.take_along_axis(observation["log_chance"], best, axis=-1)[..., 0]
    return np.log(np.take_along_axis(prediction["chance"], best[0], axis=-1)[..., 0]) - said


def pythagoras(prediction, observation):
    """E KL(p || q) = CE(q) - CE(p), for each network: what is left, in standard errors over histories."""
    left = np.mean(scores(prediction, observation) - divergences(prediction, observation), axis=2)
    return z_score(0.0, left, axis=1)


def regret(prediction, observation):
    """Sum of regrets up to each round, over all players of all networks, in standard errors."""
    runs = np.cumsum(observation["regret"], axis=2)
    return z_score(np.cumsum(prediction["regret"]), runs.reshape(-1, runs.shape[-1]))


def before_the_last(problem, prediction):
    """The last reward is not yet known."""
    late = np.concatenate([prediction["chance"][:, :1], prediction["chance"][:, :-1]], axis=1)
    return prediction | {"chance": late}


def other_prior(problem, prediction):
    """Means are believed to be near 0 or 1: Jeffreys' prior."""
    chances = thompson_policy(problem.rounds, problem.arms, np.full(2, 0.5))
    return prediction | {"chance": table(problem, chances)}


def proportional(problem, prediction):
    """Arms are named in proportion to their posterior means."""
    mean = (1 + problem.counts[..., 0]) / (2 + problem.counts.sum(axis=-1))
    return prediction | {"chance": mean / mean.sum(axis=-1, keepdims=True)}


def greedy(problem, prediction):
    """It plays the arm of the largest posterior mean."""
    return prediction | {"regret": prediction["greedy"]}


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    p, q = prediction["chance"][..., 0], np.exp(observation["log_chance"][0, ..., 0])
    style.theory(left, [0, 1], [0, 1], label="Thompson sampling")
    shown = np.unique(p[:, problem.rounds // 2 :].round(9), return_index=True)[1]
    late = (x[:, problem.rounds // 2 :].ravel()[shown] for x in (p, q))
    style.networks(left, *late, linestyle="none", label="network", most=60)
    left.set(xlabel="P(arm 1 is best | history)", ylabel="network's answer", title="What it says")
    left.legend(loc="upper left")
    t = np.arange(1, problem.rounds + 1)
    style.theory(right, t, np.cumsum(prediction["regret"]), label="Thompson sampling, exact")
    runs = np.cumsum(observation["regret"], axis=2).reshape(-1, problem.rounds)
    error = runs.std(axis=0) / np.sqrt(len(runs))
    style.networks(right, t, runs.mean(axis=0), error=error, label="networks")
    style.rival(right, t, np.cumsum(prediction["greedy"]), label="greedy, exact")
    right.set(xlabel="rounds", ylabel="Bayes regret", title="What it pays")
    right.legend(loc="upper left")


STUDY = Study(
    title="Decision pretraining and Thompson sampling",
    question="Does a transformer that is trained to name the best arm of bandits become Thompson sampling?",
    source="Lee et al. 2023 (arXiv:2306.14892)",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(
            arms=2, rounds=8, layers=1, width=32, batch=64, steps=1500, lr=3e-3, runs=1, histories=8192, players=4096
        ),
        "paper": dict(
            arms=2,
            rounds=24,
            layers=4,
            width=64,
            batch=512,
            steps=30_000,
            lr=1e-3,
            runs=4,
            histories=65_536,
            players=65_536,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Its answer is the probability that an arm is the best: it misses little of what histories tell.",
            missed,
            1,
            "A fiftieth of the information about the best arm.",
        ),
        Claim(
            "Its loss exceeds the optimum by its divergence from Thompson sampling.",
            pythagoras,
            5,
            "Standard errors over histories.",
        ),
        Claim(
            "When it acts, it pays the Bayes regret of Thompson sampling.", regret, 5, "Standard errors over players."
        ),
    ),
    rivals=(
        Rival("It does not use the last reward.", before_the_last),
        Rival("It believes that arms are good or bad and little in between.", other_prior),
        Rival("It names arms in proportion to what they are worth.", proportional),
        Rival("It plays the arm that is worth most.", greedy),
    ),
    draw=draw,
    formulas=("bayes_icl.best_arm.powers", "bayes_icl.bandits.second_round"),
)
