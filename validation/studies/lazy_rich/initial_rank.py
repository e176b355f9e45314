"""Rank of the initial weights: trained two-layer linear networks turn their kernel the more, the lower the rank."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.deep_linear import DeepLinear, squared_error
from sims.probes.ntk import empirical_ntk
from sims.training import training
from theory.lazy_rich.initial_rank import (
    expected_alignment,
    kernel_map,
    small_start_alignment,
    two_layer_alignment,
)
from theory.lazy_rich.laziness import alignment, effective_rank
from validation import style
from validation.metrics import disorder, gap, z_score
from validation.study import Claim, Problem, Rival, Study

ALIGNED = "aligned"


def problem(settings, seed):
    """White inputs, targets of random direction, first layers of given rank and one small norm, readouts of zero."""
    rng, d, hidden = np.random.default_rng(seed), settings["d"], settings["hidden"]
    x = np.linalg.qr(rng.normal(size=(settings["samples"], d)))[0] * np.sqrt(settings["samples"])
    targets = rng.normal(size=(settings["targets"], d))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)

    def first_layer(rank, beta):
        if rank == ALIGNED:
            w = np.outer(rng.normal(size=hidden), beta)
        else:
            left, right = (np.linalg.qr(rng.normal(size=(size, rank)))[0] for size in (hidden, d))
            w = left @ right.T
        return w / np.linalg.norm(w)

    small = settings["norm"] * np.array([[first_layer(r, beta) for beta in targets] for r in settings["ranks"]])
    # One target, starts of every norm.
    large = np.array([[n * first_layer(r, targets[0]) for n in settings["norms"]] for r in settings["scaled_ranks"]])
    return Problem(**settings, seed=seed, x=x, beta=targets, small=small, large=large)


def predict(problem):
    """Alignment of the kernel at the end with its start: small starts by the formula, others by the exact flow."""
    t = np.array([problem.lr * problem.steps])

    def at_scale(w1):
        return two_layer_alignment(t, problem.x, problem.x @ problem.beta[0], w1, jnp.zeros(problem.hidden))[0]

    starts = jax.vmap(jax.vmap(lambda w: kernel_map(w, jnp.zeros(problem.hidden))))(problem.small)
    return {
        "small": np.asarray(jax.vmap(jax.vmap(small_start_alignment), (0, None))(starts, problem.beta)),
        "mean": np.asarray(expected_alignment(random_ranks(problem, starts), problem.d)),
        "scale": np.array([[at_scale(w) for w in row] for row in problem.large]),
        "order": problem.norm**2,
        "step": 2 * problem.lr,
        "exception": problem.ranks.index(ALIGNED),
    }


def random_ranks(problem, starts):
    """Effective ranks of the first layers that do not look at the target."""
    return np.array([effective_rank(start[0]) for r, start in zip(problem.ranks, starts, strict=True) if r != ALIGNED])


def simulate_networks(problem):
    """The alignment of each trained network's own tangent kernel with that of its start."""
    shape = problem.small.shape[:2]
    small = turned(problem, problem.small.reshape(-1, *problem.small.shape[2:]), np.tile(problem.beta, (shape[0], 1)))
    large = problem.large.reshape(-1, *problem.large.shape[2:])
    scale = turned(problem, large, np.tile(problem.beta[:1], (len(large), 1)))
    return {"small": small.reshape(shape), "scale": scale.reshape(problem.large.shape[:2])}


def turned(problem, first, targets):
    x = jnp.asarray(problem.x.T)

    def start(_, hyper):
        return DeepLinear((hyper["w1"], jnp.zeros((1, problem.hidden))))

    def loss(model, beta):
        return squared_error(model, x, (beta @ x)[None])

    def kernel(model, _):
        found = empirical_ntk(model, x.T, apply=one_sample, strategy="jacobian")
        return found[:, 0, :, 0]

    run = training(start, loss, lambda _: optax.sgd(problem.lr), lambda _, hyper: hyper["beta"], kernel)
    runs = grid(seeds=np.arange(len(first)))._replace(hyper={"w1": first, "beta": targets})
    kernels = simulate(run, runs, [0, problem.steps]).records
    return np.asarray(alignment(kernels[:, 1], kernels[:, 0]))


def one_sample(network, x):
    return network(x[:, None])[:, 0]


def each(prediction, observation):
    """Every network against the formula of its own start and target, in units of the start's squared norm."""
    return gap(prediction["small"], observation["small"], prediction["order"])


def in_the_mean(prediction, observation):
    """Means over targets, in standard errors and the order of the start's squared norm."""
    random = np.delete(observation["small"], prediction["exception"], axis=0)
    return z_score(prediction["mean"], random.T, floor=prediction["order"])


def at_any_scale(prediction, observation):
    """Starts of every norm against the exact flow, in units of the step's own error."""
    return gap(prediction["scale"], observation["scale"], prediction["step"])


def lazier_than_its_rank(prediction, observation):
    """Alignments out of order: random starts by rank, and the aligned one above the lowest of these."""
    means = observation["small"].mean(axis=1)
    exception = prediction["exception"]
    random = np.delete(means, exception)
    return disorder(random) + int(not means[exception] > random[0])


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    random = [i for i, rank in enumerate(problem.ranks) if rank != ALIGNED]
    ranks = [problem.ranks[i] for i in random]
    dense = np.linspace(1, problem.d, 60)
    style.theory(left, dense, np.asarray(expected_alignment(dense, problem.d)), i=0, label="mean over targets")
    runs = observation["small"][random]
    style.networks(left, ranks, runs.mean(axis=1), i=0, error=runs.std(axis=1), label="networks ± spread")
    exception = observation["small"][prediction["exception"]]
    style.theory(left, [1], [2 / np.sqrt(problem.d + 3)], i=1, label="aligned with the target")
    style.networks(left, [1], [exception.mean()], i=1)
    style.rival(left, dense, np.full_like(dense, prediction["mean"].mean()), label="rank does not matter")
    left.set(xlabel="rank of the first layer", ylabel="alignment of the kernel, end and start", ylim=(0, 1.05))
    left.set_title("Small starts")
    left.legend(loc="lower right", fontsize=7.5)
    for i, rank in enumerate(problem.scaled_ranks):
        style.theory(right, problem.norms, prediction["scale"][i], i=i + 2, label=f"rank {rank}")
        style.networks(right, problem.norms, observation["scale"][i], i=i + 2)
    right.set(xscale="log", xlabel="norm of the first layer at the start", ylim=(0, 1.05))
    right.set_title(f"Starts of any norm, at t = {problem.lr * problem.steps:g}")
    right.legend(loc="center left", fontsize=7.5)


def no_rank(problem, prediction):
    """The rank does not matter: all starts turn alike."""
    return prediction | {
        "small": np.full_like(prediction["small"], prediction["mean"].mean()),
        "mean": np.full_like(prediction["mean"], prediction["mean"].mean()),
    }


def low_is_lazy(problem, prediction):
    """A low rank has less to move: it is the lazy one."""
    return prediction | {"small": prediction["small"][::-1], "mean": prediction["mean"][::-1]}


def first_layer_alone(problem, prediction):
    """The kernel of the first layer's representation is all there is: its end is beta beta^T."""
    u = problem.beta
    m = np.einsum("rthi,rthj->rtij", problem.small, problem.small)
    small = np.einsum("ti,rtij,tj->rt", u, m, u) / np.sqrt(np.sum(m**2, axis=(2, 3)))
    rank = np.array([r for r in problem.ranks if r != ALIGNED])
    return prediction | {"small": small, "mean": np.sqrt(rank) / problem.d}


def by_norm_alone(problem, prediction):
    """Laziness is a matter of the weights' norm: at one norm all ranks turn alike."""
    return prediction | {"scale": np.broadcast_to(prediction["scale"].mean(axis=0), prediction["scale"].shape)}


STUDY = Study(
    title="Rank of the initial weights",
    question="At one and the same norm, do initial weights of low rank make learning richer or lazier?",
    source="Liu, Baratin, Cornford, Mihalas, Shea-Brown & Lajoie 2024 (arXiv:2310.08513)",
    regimes=("lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            d=12,
            hidden=24,
            samples=24,
            targets=16,
            ranks=(1, 2, 4, 12, ALIGNED),
            norm=1e-2,
            scaled_ranks=(1, 12),
            norms=(0.01, 0.3, 1.0, 2.0, 4.0),
            lr=0.02,
            steps=1500,
        ),
        "paper": dict(
            d=64,
            hidden=128,
            samples=128,
            targets=64,
            ranks=(1, 2, 4, 8, 16, 32, 64, ALIGNED),
            norm=1e-3,
            scaled_ranks=(1, 8, 64),
            norms=(0.01, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0),
            lr=0.005,
            steps=12_000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "A small start's kernel turns as its own first layer and target say.",
            each,
            3,
            "In units of the start's squared norm, the leading correction, with a factor of order one.",
        ),
        Claim(
            "On average over targets it keeps (1 + 1/d) sqrt(PR / (d + 3)) of its direction.",
            in_the_mean,
            5,
            "Standard errors over targets, and the start's squared norm.",
        ),
        Claim(
            "The lower the rank the richer, but for a start of rank one that looks along the target.",
            lazier_than_its_rank,
            0,
            "An order of means.",
        ),
        Claim(
            "Starts of any norm follow the exact flow, also where they wait at a saddle.",
            at_any_scale,
            1,
            "In units of lr times 2 |beta|, the fastest rate of the end: the leading error of a finite step.",
        ),
    ),
    rivals=(
        Rival("The rank does not matter.", no_rank),
        Rival("A low rank is the lazy one: it has less to move.", low_is_lazy),
        Rival("The first layer's representation is all that the kernel is.", first_layer_alone),
        Rival("Laziness is the norm of the weights and nothing else.", by_norm_alone),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.initial_rank.mean_alignment",
        "lazy_rich.initial_rank.alignment_spread",
        "lazy_rich.initial_rank.small_start",
    ),
)
