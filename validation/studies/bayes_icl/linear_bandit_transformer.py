"""Arms that share weights: a transformer that learned to name the best one becomes Thompson sampling of the weights."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sims.engine import grid, simulate
from sims.networks.mlp import layer_norm
from sims.networks.transformer import Block, transformer
from sims.tasks.bandits import at_random, gaussian, played
from sims.training import training
from theory.bayes_icl.bandits import linucb_index
from theory.bayes_icl.best_arm import linear_best_arm
from theory.bayes_icl.prequential import weight_posteriors
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


class Actor(eqx.Module):
    """Logits of the best arm before every round, from one token for each round before it."""

    embedding: Float[Array, "I D"]
    positions: Float[Array, "T D"]
    blocks: tuple[Block, ...]
    readout: Float[Array, "D K"]

    def __call__(self, tokens: Float[Array, "P T I"]) -> Float[Array, "P T K"]:
        h = tokens @ self.embedding + self.positions
        for block in self.blocks:
            h = block(h)
        return layer_norm(h) @ self.readout


def actor(key, arms, rounds, width, layers):
    of_blocks, of_embedding, of_readout = jax.random.split(key, 3)
    like = transformer(of_blocks, 1, rounds, width=width, layers=layers, outputs=1)
    embedding = jax.random.normal(of_embedding, (2 * arms, width)) / 2**0.5
    readout = jax.random.normal(of_readout, (width, arms)) / width**0.5
    return jax.tree.map(jnp.float32, Actor(embedding, like.positions, like.blocks, readout))


def features(arms):
    """Arms evenly on a circle."""
    angle = 2 * np.pi * np.arange(arms) / arms
    return jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def tokens(chosen, rewards, arms):
    """Which arm was pulled, and the same times its reward; zeros before the first round, the last round left out."""
    pulled = jax.nn.one_hot(chosen, arms, dtype=rewards.dtype)
    seen = jnp.concatenate([pulled, pulled * rewards[..., None]], axis=-1)
    return jnp.pad(seen, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def histories(key, batch, arms, rounds, noise, prior):
    """Fresh bandits under arms drawn at random: what happened, and which arm was the best."""
    of_weights, of_arms, of_rewards = jax.random.split(key, 3)
    means = prior**0.5 * jax.random.normal(of_weights, (batch, 2)) @ features(arms).T
    play = at_random(of_arms, means, rounds)
    rewards = gaussian(noise**0.5)(of_rewards, jnp.take_along_axis(means, play.arms, axis=1))
    return play._replace(rewards=rewards), jnp.argmax(means, axis=1)


def problem(settings, seed):
    s = Problem(**settings, seed=seed)
    s.play, s.labels = histories(jax.random.key(1_000_000 + seed), s.histories, s.arms, s.rounds, s.noise, s.prior)
    return s


@functools.cache
def pretraining(arms, rounds, layers, width, batch, steps, lr, noise, prior):
    """Cross-entropy of the best arm of fresh bandits, after every prefix of a history of random arms."""

    def drawn(key, _):
        play, label = histories(key, batch, arms, rounds, noise, prior)
        return tokens(play.arms, play.rewards, arms).astype(jnp.float32), label

    def loss(model, data):
        seen, label = data
        labels = jnp.broadcast_to(label[:, None], seen.shape[:2])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(seen), labels))

    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, steps // 20, steps)
    start = functools.partial(actor, arms=arms, rounds=rounds, width=width, layers=layers)
    return training(lambda key, _: start(key), loss, lambda _: optax.adam(schedule), drawn, lambda model, _: ())


@functools.partial(jax.jit, static_argnums=0)
def chances(arms, play, noise, prior):
    """P(arm a is the best | history), (P, T, K), by the posterior of the weights before every round."""
    x = features(arms)

    def of_history(history):
        belief = weight_posteriors(x[history[0]], history[1], noise, 0.0, prior)
        return jax.vmap(lambda m, c: linear_best_arm(x, m, c).probability)(belief.mean[:-1], belief.covariance[:-1])

    return jax.lax.map(of_history, (play.arms, play.rewards), batch_size=50)


def thompson(s, key, chosen, rewards, t):
    """Worth of the arms by weights that are drawn from their posterior."""
    belief = jax.vmap(weight_posteriors, (0, 0, None, None, None))(pulled(s, chosen, t), rewards, s.noise, 0.0, s.prior)
    mean, root = belief.mean[:, -1], jnp.linalg.cholesky(belief.covariance[:, -1])
    return (mean + jnp.einsum("pde,pe->pd", root, jax.random.normal(key, mean.shape))) @ features(s.arms).T


def linucb(s, key, chosen, rewards, t, deviations=1.0):
    """Posterior means and so many standard deviations; chance decides where all are equal."""
    index = functools.partial(linucb_index, ridge=s.noise / s.prior, radius=deviations * s.noise**0.5)
    found = jax.vmap(index, (None, 0, 0))(features(s.arms), pulled(s, chosen, t), rewards)
    return found + 1e-9 * jax.random.normal(key, found.shape)


def pulled(s, chosen, t):
    """Features of the arms so far; those of rounds that are still to come are zero and say nothing."""
    return features(s.arms)[chosen] * (jnp.arange(s.rounds) < t)[:, None]


RULES = {"thompson": thompson, "greedy": functools.partial(linucb, deviations=0.0), "linucb": linucb}


def regrets(s, index, seed):
    """Regrets up to each round of players that take the arm of the largest index, (players, rounds)."""
    of_weights, of_play = jax.random.split(jax.random.key(seed + s.seed))
    memory = jnp.zeros((s.players, s.rounds), int), jnp.zeros((s.players, s.rounds))

    def choose(key, seen, t):
        return jnp.argmax(index(s, key, *seen, t), axis=1)

    def learn(seen, chosen, rewards, t):
        return seen[0].at[:, t].set(chosen), seen[1].at[:, t].set(rewards)

    def play():
        means = s.prior**0.5 * jax.random.normal(of_weights, (s.players, 2)) @ features(s.arms).T
        return played(of_play, means, s.rounds, choose, learn, memory, gaussian(s.noise**0.5)).regrets

    return np.cumsum(np.asarray(jax.jit(play)(), float), axis=1)


def predict(s):
    """Thompson sampling: its chances at every history, and what it and others pay when they act."""
    chance = chances(s.arms, s.play, s.noise, s.prior)
    return {"chance": np.asarray(chance)} | {name: regrets(s, rule, 2_000_000) for name, rule in RULES.items()}


def simulate_networks(s):
    """Log probabilities of the trained network on the histories, and its regrets when it draws arms from them."""
    program = pretraining(s.arms, s.rounds, s.layers, s.width, s.batch, s.steps, s.lr, s.noise, s.prior)
    found = simulate(program, grid([s.seed]), [0, s.steps], batching="map", optimised=True).state.model
    network = jax.tree.map(lambda x: x[0], found)

    def answers(chosen, rewards):
        return jax.nn.log_softmax(network(tokens(chosen, rewards, s.arms).astype(jnp.float32)))

    def drawn(s, key, chosen, rewards, t):
        # The largest of log probabilities with Gumbel noise is a draw from them.
        said = jnp.take(answers(chosen, rewards), t, axis=1)
        return said + jax.random.gumbel(key, said.shape)

    said = np.asarray(jax.jit(answers)(s.play.arms, s.play.rewards), float)
    return {"log_chance": said, "labels": np.asarray(s.labels), "regret": regrets(s, drawn, 3_000_000)}


def logs(prediction):
    """Log chances; of hopeless arms, whose chance is below all numbers, a large negative number."""
    return np.log(np.maximum(prediction["chance"], 1e-300))


def divergences(prediction, observation):
    """KL from the predicted chances to the network's, (histories, rounds)."""
    return np.sum(prediction["chance"] * (logs(prediction) - observation["log_chance"]), axis=-1)


def missed(prediction, observation):
    """KL of the network as a share of the information about the best arm, in twentieths."""
    p = prediction["chance"]
    information = np.mean(np.sum(p * (logs(prediction) + np.log(p.shape[-1])), axis=-1))
    return float(np.mean(divergences(prediction, observation)) / information * 20)


def pythagoras(prediction, observation):
    """E KL(p || q) = CE(q) - CE(p): what is left, in standard errors over histories."""
    best = observation["labels"][:, None, None]
    loss = [np.take_along_axis(x, best, axis=2)[..., 0] for x in (logs(prediction), observation["log_chance"])]
    return z_score(0.0, np.mean(loss[0] - loss[1] - divergences(prediction, observation), axis=1))


def regret(prediction, observation):
    """Difference of the sums of regrets up to each round, in standard errors over both: the largest."""
    both = prediction["thompson"], observation["regret"]
    apart = np.mean(both[0], axis=0) - np.mean(both[1], axis=0)
    return float(np.max(np.abs(apart) / np.sqrt(sum(part.var(axis=0, ddof=1) / len(part) for part in both))))


def before_the_last(s, prediction):
    """The last reward is not yet known."""
    return prediction | {"chance": prediction["chance"][:, np.maximum(np.arange(s.rounds) - 1, 0)]}


def other_noise(s, prediction):
    return prediction | {"chance": np.asarray(chances(s.arms, s.play, s.noise**0.5, s.prior))}


def other_prior(s, prediction):
    return prediction | {"chance": np.asarray(chances(s.arms, s.play, s.noise, s.prior**2))}


def draw(figure, s, prediction, observation):
    left, right = figure.subplots(1, 2)
    p, q = (x[:, 1:].reshape(-1, s.arms)[:, 0] for x in (prediction["chance"], np.exp(observation["log_chance"])))
    shown = np.argsort(p)[np.linspace(0, len(p) - 1, 400).astype(int)]
    style.theory(left, [0, 1], [0, 1], label="Thompson sampling")
    style.networks(left, p[shown], q[shown], linestyle="none", label="transformer", most=400, alpha=0.5)
    left.set(xlabel="P(arm 1 is best | history)", ylabel="transformer's answer", title="What it says")
    left.legend(loc="upper left")
    t = np.arange(1, s.rounds + 1)
    style.theory(right, t, prediction["thompson"].mean(axis=0), label="Thompson sampling")
    paid = observation["regret"]
    style.networks(right, t, paid.mean(axis=0), error=paid.std(axis=0) / len(paid) ** 0.5, label="transformer")
    style.rival(right, t, prediction["greedy"].mean(axis=0), label="greedy")
    style.rival(right, t, prediction["linucb"].mean(axis=0), label="LinUCB", linestyle=":")
    right.set(xlabel="rounds", ylabel="Bayes regret", ylim=(0, None), title="What it pays")
    right.legend(loc="upper left")


def paid_by(rule):
    return lambda s, prediction: prediction | {"thompson": prediction[rule]}


STUDY = Study(
    title="Decision pretraining on linear bandits",
    question="Where arms share weights, does naming the best arm become Thompson sampling of the weights?",
    source="Lee et al. 2023 (arXiv:2306.14892), linear bandits",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(rounds=8, noise=0.25, prior=0.25, layers=1, batch=128, steps=900, lr=3e-3, histories=800)
        | dict(arms=5, width=32, players=3000),
        "paper": dict(rounds=200, noise=0.09, prior=0.5, layers=4, batch=64, steps=100_000, lr=1e-4, histories=2000)
        | dict(arms=10, width=32, players=4096),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Its answer is the probability that an arm is the best: it misses little of what histories tell.",
            missed,
            1,
            "A twentieth of the information about the best arm: what has not been learned when training stops.",
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
        Rival("It takes the noise's standard deviation for its variance.", other_noise),
        Rival("It takes the prior variance for a standard deviation.", other_prior),
        Rival("It plays the arm that is worth most.", paid_by("greedy")),
        Rival("It plays the arm that may be worth most: LinUCB.", paid_by("linucb")),
    ),
    draw=draw,
    formulas=("bayes_icl.best_arm.two_linear", "bayes_icl.best_arm.sectors"),
)
