"""Unbalanced modes: what the layers do not share at the start they never share, and it decides how they learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from sims.engine import grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss, semi_orthogonal
from sims.training import gradient_descent
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.unbalanced import half_time, imbalance, lazy_mode_strength, two_layer_strengths
from theory.deep_linear.unbalanced_depth import layer_strengths
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

closed_form = jax.jit(two_layer_strengths)
quadrature = jax.jit(layer_strengths)


def layers_of(t, start, s):
    """Strengths of all layers of one mode, two or more: (times, layers)."""
    return jnp.stack(closed_form(t, *start, s), axis=-1) if len(start) == 2 else quadrature(t, start, s)


def predict(problem):
    """Closed form for two layers, quadrature for three; and the leading error that steps of size lr make on them."""
    t, s = np.asarray(problem.t), problem.s
    two, three = np.asarray(problem.two), np.asarray(problem.three)
    # Two layers are three, of which one stays at 1: so one integration serves both depths.
    starts = np.concatenate([np.append(two, np.ones((1, two.shape[1])), axis=0), three], axis=1)
    learns = np.ones_like(starts)
    learns[2, : two.shape[1]] = 0
    error = step_error(t, s, starts, learns)
    return {
        "t": t,
        "two": np.stack([layers_of(t, start, s) for start in two.T], axis=-1),
        "three": np.stack([layers_of(t, start, s) for start in three.T], axis=-1),
        "two_error": error[:, :2, : two.shape[1]],
        "three_error": error[:, :, two.shape[1] :],
        "half": s / 2,
        "half_time": np.asarray(jax.jit(half_time)(*two, s)),
    }


def step_error(t, s, starts, learns):
    """Leading error of gradient descent on the layer strengths, per unit of lr: (times, layers, modes)."""

    def one(start, learns):
        def field(a):
            others = jnp.stack([jnp.prod(jnp.delete(a, layer)) for layer in range(len(a))])
            return learns * others * (s - jnp.prod(a))

        return descent_error(field, t, start)[1]

    return np.asarray(jax.jit(jax.vmap(one, in_axes=1, out_axes=2))(starts, learns))


def strength_error(layers, error):
    """The error of the mode strengths that errors of the layers make, to first order."""
    return sum(error[:, i] * np.delete(layers, i, axis=1).prod(axis=1) for i in range(layers.shape[1]))


def simulate_networks(problem):
    """Gradient descent on all weights, from aligned unbalanced starts, at several step sizes."""
    return {
        "lr": np.asarray(problem.lr),
        "two": trained(problem, problem.two),
        "three": trained(problem, problem.three),
    }


def trained(problem, starts):
    """Layer strengths of trained networks: (step sizes, times, layers, modes)."""
    starts = jnp.asarray(starts)
    keys = jax.random.split(jax.random.key(problem.seed), 3)
    left, right = (semi_orthogonal(key, problem.width, starts.shape[1]) for key in keys[:2])
    network = aligned(keys[2], left, right, starts, problem.width)
    # The hidden directions of the modes, which stay where they are.
    frames = [right]
    for weights, strengths in zip(network.weights, starts, strict=True):
        frames.append(weights @ frames[-1] / strengths)
    syx = problem.s * left @ right.T

    def strengths(network, _):
        return jnp.stack(
            [jnp.sum(b * (w @ a), axis=0) for w, a, b in zip(network.weights, frames[:-1], frames[1:], strict=True)]
        )

    descent = gradient_descent(
        lambda *_: network,
        lambda network: correlation_loss(network, jnp.eye(problem.width), syx),
        "lr",
        strengths,
    )
    steps = [np.rint(np.asarray(problem.t) / lr).astype(int) for lr in problem.lr]
    runs = [simulate(descent, grid(lr=[lr]), at) for lr, at in zip(problem.lr, steps, strict=True)]
    return np.stack([run.records[0] for run in runs])


def layers_gap(depth):
    """Largest deviation of the layers' strengths at the smallest step, after the leading error, in units of it."""

    def measure(prediction, observation):
        lr, error = observation["lr"][-1], prediction[f"{depth}_error"]
        expected = prediction[depth] + lr * error
        return gap(expected, observation[depth][-1], lr * np.abs(error).max(axis=(0, 1)))

    return measure


def deviation(prediction, observation, depth="two"):
    """Largest |u_network - u_theory| at each step size."""
    u = prediction[depth].prod(axis=1)
    return np.abs(observation[depth].prod(axis=2) - u).max(axis=(1, 2))


def half_time_gap(prediction, observation):
    """Deviation of the half times at the smallest step, in units of the delay that the leading error makes.

    By splines: between records a straight line errs by more than the steps do.
    """
    t, lr = prediction["t"], observation["lr"][-1]
    networks, theory = observation["two"][-1].prod(axis=1), prediction["two"].prod(axis=1)
    behind = -strength_error(prediction["two"], prediction["two_error"])
    found, delay = [], []
    for u, expected, late in zip(networks.T, theory.T, behind.T, strict=True):
        half = CubicSpline(t, u).solve(prediction["half"], extrapolate=False)[0]
        found.append(half)
        delay.append(CubicSpline(t, late)(half) / CubicSpline(t, expected)(half, 1))
    delay = np.array(delay)
    return gap(prediction["half_time"] + lr * delay, np.array(found), lr * np.abs(delay).max())


def draw(figure, problem, prediction, observation):
    axes, plane = figure.subplots(1, 2, width_ratios=(1.5, 1))
    t = prediction["t"]
    starts = np.asarray(problem.two)
    for i, (a0, b0) in enumerate(starts.T):
        label = f"{a0:g}, {b0:g}"
        style.theory(axes, t, prediction["two"][:, :, i].prod(axis=1), i=i, label=label)
        style.networks(axes, t, observation["two"][-1][:, :, i].prod(axis=1), i=i)
        style.theory(plane, *prediction["two"][:, :, i].T, i=i)
        style.networks(plane, *observation["two"][-1][:, :, i].T, i=i, most=12)
    style.rival(axes, t, mode_strength(t, problem.s, np.abs(starts[:, 1].prod())), label="0.05, 0.8, if balanced")
    axes.set(xlabel="time  t = lr · steps", ylabel="mode strength u = a b", title="Two-layer modes, s alike")
    axes.legend(title="a(0), b(0)", loc="lower right")
    plane.set(xlabel="first layer a", ylabel="second layer b", title="On hyperbolas b² − a² = Λ")


def instead(strengths):
    """A rival that believes in other layer strengths: (t, start, s) -> (times, layers)."""

    def predict(problem, prediction):
        t = np.asarray(problem.t)
        wrong = {
            depth: np.stack([np.asarray(strengths(t, start, problem.s)) for start in np.asarray(starts).T], axis=-1)
            for depth, starts in (("two", problem.two), ("three", problem.three))
        }
        return prediction | wrong

    return predict


def balanced(t, start, s):
    """Equal layers of the same mode strength at the start."""
    return layers_of(t, np.full(len(start), np.abs(start.prod()) ** (1 / len(start))), s)


def lazy(t, start, s):
    """The weakest layer relaxes while the others stay as they are."""
    weakest = np.argmin(np.abs(start))
    others = np.delete(start, weakest).prod()
    u = lazy_mode_strength(t, start.prod(), s, others**2)
    strengths = np.tile(start, (len(t), 1))
    strengths[:, weakest] = u / others
    return strengths


def doubled(t, start, s):
    """The same mode strength at the start with twice the imbalance."""
    u0, twice = start[:2].prod(), 2 * float(imbalance(*start[:2]))
    b0 = np.sqrt((np.hypot(twice, 2 * u0) + twice) / 2)
    return layers_of(t, np.concatenate([[u0 / b0, b0], start[2:]]), s)


STUDY = Study(
    title="Unbalanced modes",
    question="Layers that start unequally strong keep b² − a² for ever. What does that do to the plateau, and what "
    "becomes of a mode that starts with the wrong sign?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), appendix on hyperbolic dynamics; Kunin et al. 2024 "
    "(arXiv:2406.06158)",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            s=1.5,
            two=((0.03, 0.05, 1.0, -0.5, 0.02), (0.03, 0.8, 0.1, 0.4, 2.0)),
            three=((0.3, 0.1, -0.3), (0.3, 0.4, 0.5), (0.3, 0.9, 0.4)),
            width=12,
            lr=(0.025, 0.0125, 0.00625),
            t=tuple(np.arange(121) * 0.05),
        ),
        "paper": dict(
            s=1.5,
            two=((0.003, 0.05, 1.0, -0.5, 0.02), (0.003, 0.8, 0.1, 0.499, 3.0)),
            three=((0.1, 0.05, -0.3), (0.1, 0.4, 0.31), (0.1, 0.9, 0.4)),
            width=128,
            lr=(0.004, 0.002, 0.001),
            t=tuple(np.arange(1501) * 0.02),
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Both layers of a two-layer network follow the closed form, but for their own step error.",
            layers_gap("two"),
            0.1,
            "After the leading error lr·e(t) is added, the next order is lr·(s + |Λ|) ≈ 2 % of it, a few times over "
            "while the error grows.",
        ),
        Claim(
            "All layers of a three-layer network follow the quadrature in the same sense.",
            layers_gap("three"),
            0.1,
            "As for two layers.",
        ),
        Claim(
            "The departure of the mode strengths vanishes in proportion to the learning rate.",
            lambda p, o: max(rate(o["lr"], deviation(p, o, depth), 1.0) for depth in ("two", "three")),
            0.1,
            "First order, with a curvature of a few times lr·s over the three step sizes.",
        ),
        Claim(
            "Half the final strength is passed at the closed-form half time.",
            half_time_gap,
            0.2,
            "In units of the delay that the leading error makes; the next order is a few times lr·(s + |Λ|) of it.",
        ),
    ),
    rivals=(
        Rival("Only the mode strength at the start counts: the balanced logistic.", instead(balanced)),
        Rival("Lazy learning: the stronger layers stay, u relaxes at the rate of their square.", instead(lazy)),
        Rival("The imbalance counts twice: κ² = s² + Λ² instead of s² + Λ²/4.", instead(doubled)),
        Rival("Signs at the start make no difference.", instead(lambda t, start, s: layers_of(t, np.abs(start), s))),
    ),
    draw=draw,
    formulas=("deep_linear.unbalanced.first_layer", "deep_linear.unbalanced_depth.three_layers"),
)
