"""Initial weights as circuits have them: their effective rank says how rich a network trains, recurrent ones too."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.deep_linear import DeepLinear, squared_error
from sims.networks.recurrent import Recurrent, evidence, of_rank, under_dales_law
from sims.training import training
from theory.lazy_rich.initial_rank import alignment_deviation, expected_alignment, kernel_map
from theory.lazy_rich.laziness import alignment, effective_rank
from theory.lazy_rich.structured_weights import (
    cell_type_blocks,
    dale_weights,
    expected_effective_rank,
    low_rank_plus_noise,
)
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

CIRCUITS = ("rank 1", "low rank + noise", "Dale's law", "rank 3", "rank 12", "cell types", "Gaussian")
STRUCTURES = ("Gaussian", "cell types", "low rank + noise", "Dale's law")


def problem(settings, seed):
    """First layers of every structure for feed-forward networks, white inputs and random targets."""
    rng, d, hidden, runs = np.random.default_rng(seed), settings["d"], settings["hidden"], settings["runs"]
    x = np.linalg.qr(rng.normal(size=(2 * d, d)))[0] * np.sqrt(2 * d)
    low = np.outer(rng.normal(size=hidden), rng.normal(size=d))
    # Four fifths of the sending units excite; inhibition is four times as strong.
    signs = np.where(np.arange(d) < 0.8 * d, 1.0, -1.0)
    to, source = np.arange(hidden) % 2, (np.arange(d) >= d // 3).astype(int)
    means, deviations = np.array([[0.6, -0.2], [0.0, 0.4]]), np.array([[1.0, 0.2], [0.2, 0.5]])
    noise = rng.normal(size=(runs, hidden, d))
    weights = {
        "Gaussian": noise,
        "cell types": means[to][:, source] + deviations[to][:, source] * noise,
        "low rank + noise": low + 0.5 * noise,
        "Dale's law": signs * np.abs(np.where(signs > 0, 1.0, 4.0) * noise),
    }
    connectivity = {
        "Gaussian": low_rank_plus_noise(np.zeros((hidden, d)), 1.0),
        "cell types": cell_type_blocks(to, source, means, deviations),
        "low rank + noise": low_rank_plus_noise(low, 0.5),
        "Dale's law": dale_weights(signs, np.where(signs > 0, 1.0, 4.0), hidden),
    }
    targets = rng.normal(size=(runs, d))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    first = {name: settings["norm"] * w / np.linalg.norm(w, axis=(1, 2), keepdims=True) for name, w in weights.items()}
    return Problem(**settings, seed=seed, x=x, targets=targets, first=first, connectivity=connectivity)


def predict(problem):
    """Mean alignment of each structure's kernel with its start, from four cumulants of its weights."""
    ranks = np.array([expected_effective_rank(problem.connectivity[name]) for name in STRUCTURES])
    d = problem.d
    # The ratio of means is off by a relative 1/d or so, of which the alignment feels half.
    floor = expected_alignment(ranks, d) / (2 * d) + problem.norm
    return {
        "ranks": ranks,
        "alignment": np.asarray(expected_alignment(ranks, d)),
        "spread": np.asarray(alignment_deviation(ranks, d)),
        "floor": np.asarray(floor),
        "trend": 1.0,
        "aligned": 1.0,
    }


def simulate_networks(problem):
    """Alignment of the kernel at the end with its start: feed-forward by structure, recurrent by start and run."""
    found = [feed_forward(problem, problem.first[name]) for name in STRUCTURES]
    ranks, kept, pair = recurrent(problem)
    return {"feed-forward": np.stack(found), "rank": ranks, "recurrent": kept, "pair": pair}


@functools.cache
def linear(lr, hidden):
    """Gradient descent of a two-layer linear network from a readout of zero; what is recorded is its kernel's map."""

    def start(_, hyper):
        return DeepLinear((hyper["w1"], jnp.zeros((1, hidden))))

    def loss(model, hyper):
        return squared_error(model, hyper["x"], (hyper["beta"] @ hyper["x"])[None])

    run = training(start, loss, lambda _: optax.sgd(lr), lambda _, hyper: hyper, lambda model, _: model.weights)
    return run


def feed_forward(problem, first):
    runs = grid(np.arange(len(first)))
    x = np.broadcast_to(problem.x.T, (len(first), *problem.x.T.shape))
    runs = runs._replace(hyper={"w1": first, "beta": problem.targets, "x": x})
    w1, w2 = simulate(linear(problem.lr, problem.hidden), runs, [0, problem.steps], optimised=True).records
    maps = jax.vmap(jax.vmap(kernel_map))(w1, w2[:, :, 0])
    return np.asarray(alignment(maps[:, 1], maps[:, 0]))


@functools.cache
def circuit(units, samples, lr):
    """Gradient descent of a recurrent network of ReLU on which of two channels has more evidence, logistic loss."""

    def start(key, hyper):
        first, second = jax.random.split(key)
        given = jax.random.normal(first, (units, 2)) / jnp.sqrt(2), jax.random.normal(second, (units,)) / units
        return Recurrent(hyper["w"], *given)

    def loss(model, hyper):
        return jnp.mean(jnp.logaddexp(0.0, -hyper["y"] * model(hyper["x"])))

    def record(model, hyper):
        outputs = lambda w: eqx.tree_at(lambda m: m.recurrent, model, w)(hyper["x"])  # noqa: E731
        gradient = jax.jacrev(outputs)(model.recurrent).reshape(samples, -1)
        return {"kernel": gradient @ gradient.T, "weights": model.recurrent}

    return training(start, loss, lambda _: optax.sgd(lr), lambda _, hyper: hyper, record)


def recurrent(problem):
    """Effective rank of the recurrent weights at the start and alignment of their kernel, (starts, runs) each."""
    n, runs = problem.units, problem.runs_recurrent
    seeds = problem.seed * runs + np.arange(runs)
    simulation = circuit(n, problem.sequences, problem.lr_recurrent)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(3), seed))(seeds)
    x, y = jax.jit(jax.vmap(lambda key: evidence(key, problem.sequences, problem.times, problem.signal)))(keys)

    def trained(w):
        runs = grid(seeds)._replace(hyper={"w": np.asarray(w), "x": x, "y": y})
        found = simulate(simulation, runs, [0, problem.steps_recurrent], optimised=True).records
        kernels, weights = found["kernel"], found["weights"]
        return np.asarray(alignment(kernels[:, 1], kernels[:, 0])), np.asarray(weights[:, 1] - weights[:, 0])

    starts = circuits(problem, keys)
    kept, moved = zip(*[trained(w) for w in starts.values()], strict=True)
    ranks = [effective_rank(jnp.einsum("rij,rik->rjk", w, w)) for w in starts.values()]
    # What the full-rank network has learned, and any rank one, of a norm at which neither of them explodes.
    learned = jax.vmap(lambda w: of_rank(w, 1))(moved[list(starts).index("Gaussian")])
    pair = [
        trained(problem.weak * w / jnp.linalg.norm(w, axis=(1, 2), keepdims=True))[0]
        for w in (starts["rank 1"], learned)
    ]
    return np.stack(ranks), np.stack(kept), np.stack(pair)


def circuits(problem, keys):
    """Recurrent weights at the start, all of one norm: {name: (runs, n, n)}."""
    n = problem.units
    signs = jnp.where(jnp.arange(n) < 0.8 * n, 1.0, -1.0)
    types = jnp.where((jnp.arange(n)[:, None] < n // 2) == (jnp.arange(n) < n // 2), 1.0, 0.3)

    def draw(key):
        first, second, third, fourth = jax.random.split(key, 4)
        gaussian, ends = jax.random.normal(first, (n, n)), jax.random.normal(second, (2, n))
        return {
            "rank 1": of_rank(gaussian, 1),
            "low rank + noise": jnp.outer(*ends) + 0.5 * jax.random.normal(third, (n, n)),
            "Dale's law": under_dales_law(fourth, signs, jnp.where(signs > 0, 1.0, 4.0), n),
            "rank 3": of_rank(gaussian, 3),
            "rank 12": of_rank(gaussian, 12),
            "cell types": types * jax.random.normal(third, (n, n)),
            "Gaussian": gaussian,
        }

    drawn = jax.jit(jax.vmap(draw))(keys)
    size = problem.gain * np.sqrt(n)
    # In this order: what has been through `jit` comes back sorted by name.
    return {name: drawn[name] * (size / jnp.linalg.norm(drawn[name], axis=(1, 2), keepdims=True)) for name in CIRCUITS}


def feed_forward_means(prediction, observation):
    """Means over networks against the cumulants' prediction, in standard errors and the floor of the ratio of means."""
    return z_score(prediction["alignment"], observation["feed-forward"].T, floor=prediction["floor"])


def trend(observation):
    """Slope of the recurrent kernel's alignment in ln(effective rank) over all starts, by run."""
    x, y = np.log(observation["rank"]), observation["recurrent"]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.sum(x * y, axis=0) / np.sum(x**2, axis=0)


def no_trend(prediction, observation):
    """Standard errors by which the trend is not of the predicted sign, plus 3: at most 0 where it is, by 3 of them."""
    return 3 - prediction["trend"] * significance(trend(observation))


def not_the_exception(prediction, observation):
    """The same of a start of rank one along the task against a random one of the same norm."""
    random, aligned = observation["pair"]
    return 3 - prediction["aligned"] * significance(aligned - random)


def significance(runs):
    return float(np.mean(runs) / (np.std(runs, ddof=1) / np.sqrt(len(runs))))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    dense = np.linspace(1, problem.d, 60)
    style.theory(left, dense, np.asarray(expected_alignment(dense, problem.d)), i=0, label="from four cumulants")
    runs = observation["feed-forward"]
    for i, name in enumerate(STRUCTURES):
        style.networks(left, [prediction["ranks"][i]], [runs[i].mean()], i=i, error=[runs[i].std()], label=name)
    left.set(xlabel="expected effective rank of the start", ylabel="alignment of the kernel, end and start")
    left.set(ylim=(0, 1.05))
    left.set_title("Two linear layers, small start")
    left.legend(loc="lower right", fontsize=7.5)
    ranks, kept = observation["rank"], observation["recurrent"]
    for i, name in enumerate(CIRCUITS):
        error = kept[i].std() / np.sqrt(kept.shape[1])
        style.networks(right, [ranks[i].mean()], [kept[i].mean()], i=i, error=[error], label=name)
    x = np.geomspace(1, ranks.max(), 40)
    for i, (value, name) in enumerate(zip(observation["pair"], ("rank 1, weak", "weak, along the task"), strict=True)):
        style.networks(right, [1], [value.mean()], i=len(CIRCUITS) + i, label=name, marker="s")
    slope, centre = trend(observation).mean(), np.log(ranks).mean()
    style.rival(right, x, kept.mean() + slope * (np.log(x) - centre), label="trend")
    right.set(xscale="log", xlabel="effective rank of the recurrent weights", ylim=(0.2, 1.1))
    right.set_title("Recurrent networks of ReLU")
    right.legend(loc="upper left", fontsize=6.5, ncols=2)


def size_alone(problem, prediction):
    """Structure does not matter at one and the same norm: all are as lazy as Gaussian weights."""
    return prediction | {"alignment": np.full_like(prediction["alignment"], prediction["alignment"][0])}


def means_do_not_count(problem, prediction):
    """Only variances count, not the means of the weights."""
    ranks = []
    for name in STRUCTURES:
        given = problem.connectivity[name]
        ranks.append(expected_effective_rank(given._replace(mean=0 * given.mean, third=0 * given.third)))
    return prediction | {"alignment": np.asarray(expected_alignment(np.array(ranks), problem.d))}


def low_is_lazy(problem, prediction):
    """A low rank has less to move: recurrent networks with one are the lazy ones."""
    return prediction | {"trend": -1.0}


def rank_is_all(problem, prediction):
    """The rank is all: a start along the task is no lazier than any other of rank one."""
    return prediction | {"aligned": -1.0}


STUDY = Study(
    title="Structured initial weights",
    question="How rich do networks train whose weights start as those of circuits: low rank, cell types, Dale's law?",
    source="Liu, Baratin, Cornford, Mihalas, Shea-Brown & Lajoie 2024 (arXiv:2310.08513)",
    regimes=("lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            d=12,
            hidden=24,
            norm=0.02,
            runs=40,
            lr=0.05,
            steps=500,
            units=32,
            gain=0.9,
            weak=1.0,
            sequences=32,
            times=6,
            signal=0.4,
            lr_recurrent=0.1,
            steps_recurrent=400,
            runs_recurrent=12,
        ),
        "paper": dict(
            d=64,
            hidden=128,
            norm=0.002,
            runs=64,
            lr=0.02,
            steps=3000,
            units=300,
            gain=1.25,
            weak=1.0,
            sequences=256,
            times=16,
            signal=0.25,
            lr_recurrent=0.02,
            steps_recurrent=10_000,
            runs_recurrent=10,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Feed-forward networks keep as much of their kernel as four cumulants of their weights say.",
            feed_forward_means,
            5,
            "Standard errors over networks, beside 1/(2d) for a ratio of means and the norm of the start.",
        ),
        Claim(
            "Recurrent kernels keep the more of their direction, the larger the effective rank of the start.",
            no_trend,
            0,
            "Three standard errors of the slope over runs; that the theory's sign holds here is not derived.",
        ),
        Claim(
            "A start of rank one along what the task will teach is lazier than a random one.",
            not_the_exception,
            0,
            "Three standard errors of the difference over runs.",
        ),
    ),
    rivals=(
        Rival("At one and the same norm structure does not matter.", size_alone),
        Rival("Means of the weights do not count.", means_do_not_count),
        Rival("A low rank has less to move and is the lazy one.", low_is_lazy),
        Rival("The rank is all.", rank_is_all),
    ),
    draw=draw,
    formulas=("lazy_rich.structured_weights.fourth_norm", "lazy_rich.initial_rank.mean_alignment"),
)
