"""Whitened digits: the mode equation on real images, from prepared starts and from small random weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, grid, simulate
from sims.networks.deep_linear import DeepLinear, aligned, correlation_loss, squared_error
from sims.probes.linear import mode_strengths
from sims.tasks.digits import digits
from sims.training import gradient_descent
from theory.deep_linear.correlations import correlations, projected_strengths
from theory.deep_linear.end_to_end import map_and_descent_error
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.random_start import growing_and_decaying, random_start_strength
from theory.flow import descent_error, flow
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Problem, Rival, Study

MODES = 9  # ten classes, centred


def problem(settings, seed):
    """A split of the images, whitened; their modes; and small Gaussian weights, `starts` of them at each width."""
    data = digits(settings["train"], seed, whiten=True)
    left, s, right = np.linalg.svd(data.y @ data.x.T / settings["train"], full_matrices=False)
    random = np.random.default_rng(seed)
    weights = []
    for width in settings["widths"]:
        # The mean starting strength of a mode is width * scale^2 / 2: the same at every width.
        scale = np.sqrt(2 * settings["random_u0"] / width)
        shapes = (width, len(data.x)), (len(data.y), width)
        weights.append([scale * random.standard_normal((settings["starts"], *shape)) for shape in shapes])
    modes = dict(left=left[:, :MODES], s=s[:MODES], right=right[:MODES].T)
    return Problem(**settings, seed=seed, data=data, weights=weights, **modes)


def predict(problem):
    """Logistic modes and loss from the prepared start; closed form and exact flow from the random ones."""
    t, s, left, right = np.asarray(problem.t), problem.s, problem.left, problem.right
    data = correlations(problem.data.x, problem.data.y)
    parts = [starting_parts(*w, left, right) for w in problem.weights]
    p, q = (np.stack(x) for x in zip(*parts, strict=True))
    both = jnp.concatenate([jnp.full((1, MODES), problem.u0), p.reshape(-1, MODES)])
    decaying = jnp.concatenate([jnp.zeros((1, MODES)), q.reshape(-1, MODES)])
    error = step_error(t, s, both, decaying)
    u = mode_strength(t[:, None], s, problem.u0)
    w, e = map_and_descent_error(t, [w[0] for w in problem.weights[0]], data.sxx, data.syx)
    return {
        "t": t,
        "s": s,
        "p": p,
        "q": q,
        "u": u,
        "u_error_per_lr": error[:, 0],
        "loss": jnp.trace(data.syy) / 2 + (u * (u / 2 - s)).sum(axis=1),
        "loss_error_per_lr": ((u - s) * error[:, 0]).sum(axis=1),
        "random_u": random_start_strength(t[:, None], s, p[:, :, None], q[:, :, None]),
        "random_u_error_per_lr": error[:, 1:].swapaxes(0, 1).reshape(*p.shape[:2], len(t), MODES),
        "overlap": np.stack([overlap(*w, left, right) for w in problem.weights]),
        "exact_u": projected_strengths(w, left, right),
        "exact_u_error_per_lr": projected_strengths(e, left, right),
    }


# Over the starts.
starting_parts = jax.jit(jax.vmap(growing_and_decaying, (0, 0, None, None)))


def step_error(t, s, p, q):
    """Leading error per unit of learning rate on u = |x|^2 - |y|^2, x' = x (s - u), y' = -y (s - u)."""

    def field(parts):
        x, y = parts
        rest = s - (x**2 - y**2)
        return x * rest, -y * rest

    (x, y), (ex, ey) = descent_error(field, t, (jnp.sqrt(p), jnp.sqrt(q)))
    return 2 * (x * ex - y * ey)


def overlap(w1, w2, left, right):
    """Sum over the other modes of the squared cosine between their growing hidden vectors; (starts, modes)."""
    grown = w1 @ right + np.swapaxes(w2, 1, 2) @ left
    grown = grown / np.linalg.norm(grown, axis=1, keepdims=True)
    cosines = np.swapaxes(grown, 1, 2) @ grown
    return (cosines**2).sum(axis=2) - 1


def simulate_networks(problem):
    """Gradient descent on the images from a prepared start at several step sizes, and from random weights."""
    x, y = jnp.asarray(problem.data.x), jnp.asarray(problem.data.y)
    left, right = jnp.asarray(problem.left), jnp.asarray(problem.right)
    layers = jnp.full((2, MODES), jnp.sqrt(problem.u0))
    start = aligned(jax.random.key(problem.seed), left, right, layers, problem.hidden)
    prepared = gradient_descent(
        lambda _, __: start,
        lambda network: squared_error(network, x, y),
        "lr",
        lambda network, _: {"u": mode_strengths(network, left, right), "loss": squared_error(network, x, y)},
    )
    # One program for all step sizes: record at the largest one's rate, and pick the steps that fall on the times.
    lr, interval = np.asarray(problem.lr), round((problem.t[1] - problem.t[0]) / problem.lr[0])
    slowdown = np.rint(lr[0] / lr).astype(int)
    steps = interval * np.arange((len(problem.t) - 1) * slowdown[-1] + 1)
    records = simulate(prepared, grid(seeds=[problem.seed], lr=lr), steps).records
    at = np.arange(len(problem.t)) * slowdown[:, None]
    found = {name: np.stack([r[a] for r, a in zip(v, at, strict=True)]) for name, v in records.items()}

    sxx, syx = x @ x.T / x.shape[1], y @ x.T / x.shape[1]
    random = gradient_descent(
        lambda _, hyper: DeepLinear((hyper["w1"], hyper["w2"])),
        lambda network: correlation_loss(network, sxx, syx),
        problem.lr[-1],
        lambda network, _: mode_strengths(network, left, right),
    )
    at = np.rint(np.asarray(problem.t) / problem.lr[-1]).astype(int)
    strengths = []
    for w1, w2 in problem.weights:
        runs = Runs(np.arange(problem.starts), {"w1": w1, "w2": w2}, (problem.starts,))
        strengths.append(simulate(random, runs, at).records)
    return found | {"lr": lr, "widths": np.asarray(problem.widths), "random_u": np.stack(strengths)}


def beyond_leading(prediction, observation, name, found):
    """Deviation from theory + lr e at the smallest step size, in units of the largest lr e."""
    leading = observation["lr"][-1] * prediction[f"{name}_error_per_lr"]
    return gap(prediction[name] + leading, found, np.abs(leading).max())


def deviation(prediction, observation):
    """Largest |u_network - u_theory| from the prepared start, at each step size."""
    return np.abs(observation["u"] - prediction["u"]).max(axis=(1, 2))


def random_deviation(prediction, observation):
    """Largest |u_network - closed form - lr e| over time, for each width, start and mode."""
    leading = observation["lr"][-1] * prediction["random_u_error_per_lr"]
    return np.abs(observation["random_u"] - prediction["random_u"] - leading).max(axis=2)


def over_starts(values):
    """Mean over starts and modes, for each width."""
    return values.mean(axis=(1, 2))


def draw(figure, problem, prediction, observation):
    prepared, random, widths = figure.subplots(1, 3)
    t = prediction["t"]
    for i, mode in enumerate(range(0, MODES, 4)):
        style.theory(prepared, t, prediction["u"][:, mode], i=i, label=f"mode {mode + 1}, s = {problem.s[mode]:.2f}")
        style.networks(prepared, t, observation["u"][-1][:, mode], i=i)
        style.theory(random, t, prediction["random_u"][0, 0, :, mode], i=i, label=f"mode {mode + 1}")
        style.networks(random, t, observation["random_u"][0, 0, :, mode], i=i)
    style.rival(prepared, t, problem.s[0] * (1 - np.exp(-t)), label="one layer, mode 1")
    style.theory(prepared, t, prediction["loss"], i=3, label="loss")
    style.networks(prepared, t, observation["loss"][-1], i=3)
    prepared.set(xlabel="time  t = lr · steps", ylabel="mode strength u", title="Prepared start", ylim=(0, 0.75))
    random.set(xlabel="time  t = lr · steps", title=f"Random weights, width {problem.widths[0]}", ylim=(0, 0.5))
    delay = 4 / 27 * over_starts(problem.s * prediction["overlap"])
    style.theory(widths, problem.widths, delay, i=4, label="overlap, (4/27) s Σc²")
    error = over_starts(random_deviation(prediction, observation))
    style.networks(widths, problem.widths, error, i=4, label="networks")
    widths.set(xscale="log", yscale="log", xlabel="width", title="Deviation, random weights")
    widths.set_xticks(problem.widths, [str(w) for w in problem.widths])
    ticks = [m * 10.0**e for e in range(-6, 0) for m in (1, 3)]
    widths.set_yticks([y for y in ticks if delay.min() / 1.5 < y < delay.max() * 1.5])
    widths.yaxis.set_major_formatter("{x:g}")
    widths.minorticks_off()
    for axes in (prepared, random, widths):
        axes.legend()


def instead(curve):
    """A rival that believes in other curves u(t; s, u0), from the prepared start and from the random ones."""

    def believed(problem, prediction):
        t, s, p = prediction["t"][:, None], prediction["s"], prediction["p"][:, :, None]
        return prediction | {"u": curve(t, s, problem.u0), "random_u": curve(t, s, p)}

    return believed


def deeper(problem, prediction):
    """Three layers from the same start."""
    start = jnp.full(MODES, problem.u0)
    return prediction | {"u": flow(lambda u: 3 * u ** (4 / 3) * (prediction["s"] - u), prediction["t"], start)}


STUDY = Study(
    title="Whitened digits",
    question="Do real images, once whitened, drive a network through the textbook modes, and also from random weights?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eq. 12 and section 1",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            train=800,
            u0=1e-3,
            hidden=16,
            lr=(0.4, 0.2, 0.1),
            t=tuple(np.arange(51) * 0.8),
            random_u0=1e-4,
            widths=(32, 64, 128),
            starts=4,
        ),
        "paper": dict(
            train=1437,
            u0=1e-4,
            hidden=128,
            lr=(0.1, 0.05, 0.025),
            t=tuple(np.arange(76) * 0.8),
            random_u0=1e-5,
            widths=(64, 128, 256, 512),
            starts=16,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "From a prepared start, each mode is the logistic of its correlation, but for the step error.",
            lambda p, o: beyond_leading(p, o, "u", o["u"][-1]),
            0.2,
            "After the leading error lr·e(t) is added, the next order is lr·s ≈ 3 % of it per unit of log-growth "
            "ln(s/u0) ≈ 6.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviation(p, o), 1.0),
            0.1,
            "First order, with a curvature of about lr·s over the three step sizes.",
        ),
        Claim(
            "So is the training loss, the sum over modes, but for the same step error.",
            lambda p, o: beyond_leading(p, o, "loss", o["loss"][-1]),
            0.2,
            "As for the modes.",
        ),
        Claim(
            "From given random weights, the modes are those of the exact weight flow, but for the step error.",
            lambda p, o: beyond_leading(p, o, "exact_u", o["random_u"][0, 0]),
            0.2,
            "As from the prepared start.",
        ),
        Claim(
            "From small random weights, two numbers give each mode, but for the overlap of hidden vectors.",
            lambda p, o: np.max(over_starts(random_deviation(p, o)) / over_starts(p["s"] * p["overlap"] / 4)),
            1.0,
            "In units of s·Σc²/4, c the cosines with the other modes' hidden vectors: a mode that has been learned "
            "holds up a later one by s·c²/4 at most, modes of equal s each other by (4/27)·s·c², 0.6 of it.",
        ),
        Claim(
            "That departure vanishes in proportion to the overlap, which falls as 1 / width.",
            lambda p, o: rate(over_starts(p["overlap"]), over_starts(random_deviation(p, o)), 1.0),
            0.25,
            "First order; what is left is the scatter of a mean over the starts and modes, about 10 % at each width.",
        ),
    ),
    rivals=(
        Rival(
            "A shallow network: all modes share one time constant.",
            instead(lambda t, s, u0: s + (u0 - s) * np.exp(-t)),
        ),
        Rival(
            "Time runs twice as fast: the gradient of the squared error without its factor 1/2.",
            instead(lambda t, s, u0: mode_strength(2 * t, s, u0)),
        ),
        Rival(
            "Samples are summed, not averaged: time runs as many times as fast as there are images.",
            lambda problem, p: instead(lambda t, s, u0: mode_strength(problem.train * t, s, u0))(problem, p),
        ),
        Rival("Three layers instead of two.", deeper),
        Rival(
            "A random mode starts from its strength in the network map, u·W2 W1 v.",
            lambda problem, p: (
                p
                | {
                    "random_u": mode_strength(
                        p["t"][:, None], p["s"], np.maximum(np.abs(p["p"] - p["q"]), 1e-30)[:, :, None]
                    )
                }
            ),
        ),
    ),
    draw=draw,
    formulas=("deep_linear.modes.two_layer", "deep_linear.random_start.strength"),
)
