"""Handwritten digits: what a deep linear network learns of real images, and when, from their correlations alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss, squared_error
from sims.probes.linear import mode_strengths
from sims.tasks.digits import digits
from sims.training import gradient_descent, training
from theory.deep_linear.correlations import correlations, projected_strengths, training_loss
from theory.deep_linear.end_to_end import balanced_weights, map_and_descent_error, modewise_strengths
from theory.deep_linear.modes import mode_strength
from validation import style
from validation.metrics import gap, rate, z_score
from validation.study import Claim, Problem, Rival, Study

MODES = 9  # ten classes, centred


def problem(settings, seed):
    """A split of the images, and the singular vectors of its input-output correlation."""
    data = digits(settings["train"], seed)
    left, s, right = np.linalg.svd(data.y @ data.x.T / settings["train"], full_matrices=False)
    modes = dict(left=left[:, :MODES], s=s[:MODES], right=right[:MODES].T)
    return Problem(**settings, seed=seed, data=data, **modes)


def predict(problem):
    """The flow of the network map at each depth, and the leading error of steps of the smallest size."""
    data, t = problem.data, np.asarray(problem.t)
    train, test = correlations(data.x, data.y), correlations(data.test_x, data.test_y)
    curves = [course(problem, depth, t, train, test) for depth in problem.depth]
    return {"t": t, "s": problem.s, **{name: np.stack([c[name] for c in curves]) for name in curves[0]}}


def course(problem, depth, t, train, test):
    """Strengths, losses and readings of one depth."""
    w0 = problem.u0 * problem.left @ problem.right.T
    w, e = map_and_descent_error(t, balanced_weights(w0, depth), train.sxx, train.syx)
    loss, change = losses(w, e, train, test)
    lr, frequency = problem.lr[-1], problem.data.frequency[:, None]
    outputs = np.asarray((w + lr * e) @ problem.data.test_x) + frequency
    second, first = np.sort(outputs, axis=1)[:, -2:].swapaxes(0, 1)
    return {
        "u": projected_strengths(w, problem.left, problem.right),
        "u_error_per_lr": projected_strengths(e, problem.left, problem.right),
        "loss": loss,
        "loss_error_per_lr": change,
        "reading": outputs.argmax(axis=1),
        # A step error of lr e moves two outputs towards each other by at most twice its largest entry.
        "certain": first - second > 2 * lr * np.abs(e @ problem.data.test_x).max(axis=1),
        "accuracy": (outputs.argmax(axis=1) == problem.data.test_labels).mean(axis=1),
    }


@jax.jit
def losses(w, e, *data):
    """Training and test loss of the maps w, and their change per unit of e; each (T, data sets)."""

    def loss(w):
        return jnp.stack([training_loss(w, c.sxx, c.syx, c.syy) for c in data])

    return jax.vmap(lambda w, e: jax.jvp(loss, (w,), (e,)))(w, e)


def simulate_networks(problem):
    """Gradient descent on all weights at each depth and step size; stochastic descent on samples at the first depth."""
    data = problem.data
    x, y, test_x, test_y = (jnp.asarray(a) for a in (data.x, data.y, data.test_x, data.test_y))
    left, right = jnp.asarray(problem.left), jnp.asarray(problem.right)
    sxx, syx = x @ x.T / x.shape[1], y @ x.T / x.shape[1]

    starts = [
        aligned(key, left, right, jnp.full((depth, MODES), problem.u0 ** (1 / depth)), problem.hidden)
        for depth, key in zip(
            problem.depth, jax.random.split(jax.random.key(problem.seed), len(problem.depth)), strict=True
        )
    ]

    def record(network, _):
        return {
            "u": mode_strengths(network, left, right),
            "loss": jnp.stack([squared_error(network, x, y), squared_error(network, test_x, test_y)]),
            "reading": jnp.argmax(network(test_x) + data.frequency[:, None], axis=0),
        }

    # One program for all step sizes: record at the largest one's rate, and pick the steps that fall on the times.
    lr, gap_steps = np.asarray(problem.lr), round((problem.t[1] - problem.t[0]) / problem.lr[0])
    slowdown = np.rint(lr[0] / lr).astype(int)
    steps = gap_steps * np.arange((len(problem.t) - 1) * slowdown[-1] + 1)
    runs = []
    for start in starts:
        descent = gradient_descent(lambda _, __, w=start: w, lambda n: correlation_loss(n, sxx, syx), "lr", record)
        records = simulate(descent, grid(seeds=[problem.seed], lr=lr), steps).records
        at = np.arange(len(problem.t)) * slowdown[:, None]
        runs.append({k: np.stack([r[a] for r, a in zip(v, at, strict=True)]) for k, v in records.items()})

    def batch(key, _):
        drawn = jax.random.randint(key, (problem.batch,), 0, x.shape[1])
        return x.T[drawn].T, y.T[drawn].T

    stochastic = training(
        lambda _, __: starts[0],
        lambda network, samples: squared_error(network, *samples),
        lambda _: optax.sgd(problem.sgd_lr),
        batch,
        lambda network, _: mode_strengths(network, left, right),
    )
    until = np.asarray(problem.t)[: problem.sgd_times]
    seeds = problem.seed * problem.sgd_seeds + np.arange(problem.sgd_seeds)
    sampled = simulate(stochastic, grid(seeds=seeds), np.rint(until / problem.sgd_lr).astype(int), batching="vmap")
    found = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    found["accuracy"] = (found["reading"] == data.test_labels).mean(axis=-1)
    return found | {"lr": lr, "sgd_u": sampled.records, "sgd_lr": problem.sgd_lr}


def deviation(prediction, observation):
    """Largest |u_network - u_theory| for each depth and step size."""
    return np.abs(observation["u"] - prediction["u"][:, None]).max(axis=(2, 3))


def beyond_leading(name):
    """Deviation of the smallest step's networks from theory + lr e, in units of each curve's largest lr e."""

    def measure(prediction, observation):
        leading = observation["lr"][-1] * prediction[f"{name}_error_per_lr"]
        scale = np.abs(leading).max(axis=1, keepdims=True)
        return gap(prediction[name] + leading, observation[name][:, -1], scale)

    return measure


def misread(prediction, observation):
    """Images that network and theory read differently although no step error could have turned them."""
    return int(np.sum((prediction["reading"] != observation["reading"][:, -1]) & prediction["certain"]))


def sampled_mean(prediction, observation):
    """Mean strengths of stochastic descent against theory, in standard errors and the shift that noise makes."""
    samples = observation["sgd_u"][:, 1:]
    times = slice(1, samples.shape[1] + 1)
    expected = prediction["u"][0] + observation["sgd_lr"] * prediction["u_error_per_lr"][0]
    shift = MODES * samples.var(axis=0, ddof=1) / prediction["u"][0][times]
    return z_score(expected[times], samples, floor=shift)


def draw(figure, problem, prediction, observation):
    *panels, seen = figure.subplots(1, 3)
    t = prediction["t"]
    for d, (axes, depth) in enumerate(zip(panels, problem.depth, strict=True)):
        for i, mode in enumerate(range(0, MODES, 2)):
            label = f"mode {mode + 1}, s = {problem.s[mode]:.2f}" if d else None
            style.theory(axes, t, prediction["u"][d][:, mode], i=i, label=label)
            style.networks(axes, t, observation["u"][d][-1][:, mode], i=i)
        axes.set(xlabel="time  t = lr · steps", title=f"{depth} layers: mode strength u", ylim=(-0.03, 1.2))
    alone = modewise(problem)[0]
    for mode in range(0, MODES, 2):
        style.rival(panels[0], t, alone[:, mode], label=None if mode else "if modes did not mix")
    for d, depth in enumerate(problem.depth):
        style.theory(seen, t, prediction["accuracy"][d], i=2 * d + 5, label=f"{depth} layers, share read")
        style.networks(seen, t, observation["accuracy"][d][-1], i=2 * d + 5)
        style.theory(seen, t, prediction["loss"][d][:, 1], i=2 * d + 5, linestyle=":", label=f"{depth} layers, loss")
        style.networks(seen, t, observation["loss"][d][-1][:, 1], i=2 * d + 5)
    seen.set(xlabel="time  t = lr · steps", title="Images never seen", ylim=(0, 1.5), yticks=np.arange(0, 1.1, 0.2))
    for axes in (*panels, seen):
        axes.legend(loc="upper left")


def in_time(new, t, u):
    """Each column of u(t), read at the times `new`."""
    return np.stack([np.interp(new, t, column) for column in np.asarray(u).T], axis=1)


def modewise(problem):
    """What unmixed modes would do, the same at every depth."""
    data = correlations(problem.data.x, problem.data.y)
    u = modewise_strengths(np.asarray(problem.t), data.sxx, data.syx, problem.u0)[:, :MODES]
    return np.stack([u] * len(problem.depth))


STUDY = Study(
    title="Handwritten digits",
    question="Real images are neither white nor aligned with their classes. Is the course of learning still fixed "
    "before training starts?",
    source="Arora, Cohen & Hazan 2018 (arXiv:1802.06509), theorem 1; Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120)",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            train=1200,
            depth=(2, 3),
            u0=1e-3,
            hidden=24,
            lr=(0.5, 0.25, 0.125),
            t=tuple(np.arange(71) * 2.0),
            sgd_lr=0.25,
            sgd_seeds=32,
            batch=32,
            sgd_times=31,
        ),
        "paper": dict(
            train=1437,
            depth=(2, 3),
            u0=1e-4,
            hidden=128,
            lr=(0.1, 0.05, 0.025),
            t=tuple(np.arange(151) * 2.0),
            sgd_lr=0.1,
            sgd_seeds=256,
            batch=64,
            sgd_times=76,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "At each depth, every mode of the networks departs from the end-to-end flow only by its own step error.",
            beyond_leading("u"),
            0.2,
            "After the leading error lr·e(t) is added, the next order is about lr·λ·N·u^(2-2/N) ≈ 0.1 of it per mode "
            "whose abrupt rise it shifts.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: np.max([rate(o["lr"], d, 1.0) for d in deviation(p, o)]),
            0.1,
            "First order, with a curvature of about lr·λ·N·u^(2-2/N) ≈ 0.1 to 0.4 over the three step sizes.",
        ),
        Claim(
            "The losses on training and on unseen images depart from theirs only by the same step error.",
            beyond_leading("loss"),
            0.2,
            "As for the modes.",
        ),
        Claim(
            "Networks and theory read the same digit on every unseen image that a step error could not turn.",
            misread,
            0,
            "A reading has no error.",
        ),
        Claim(
            "The mean of stochastic descent, on sampled minibatches, is the flow.",
            sampled_mean,
            5,
            "In standard errors over seeds; noise of variance σ² in each of the modes also shifts the mean of a mode "
            "by about modes·σ²/u, added in quadrature.",
        ),
    ),
    rivals=(
        Rival(
            "Each mode is a logistic of its own, with its own input variance, as if modes did not mix.",
            lambda problem, p: p | {"u": modewise(problem)},
        ),
        Rival(
            "Inputs are as good as white: λ = 1.",
            lambda problem, p: p | {"u": np.stack([mode_strength(p["t"][:, None], p["s"], problem.u0)] * 2)},
        ),
        Rival(
            "Depth does not matter: two layers and three learn alike.",
            lambda problem, p: p | {"u": p["u"][::-1]},
        ),
        Rival(
            "Time runs twice as fast: the gradient of the squared error without its factor 1/2.",
            lambda problem, p: p | {"u": np.stack([in_time(2 * p["t"], p["t"], u) for u in p["u"]])},
        ),
    ),
    draw=draw,
    formulas=("deep_linear.end_to_end.velocity", "deep_linear.end_to_end.diagonal"),
)
