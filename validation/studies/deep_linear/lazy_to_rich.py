"""From lazy to rich: the relative scale of the layers decides whether features are learned, and when."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.deep_linear import DeepLinear, correlation_loss
from sims.probes.ntk import empirical_ntk, kernel_distance
from sims.training import training
from theory.deep_linear.end_to_end import weight_velocity
from theory.deep_linear.matrix import Solution, delayed_rich_map, exact_solution, excess_loss, lazy_map
from theory.deep_linear.tangent_kernel import kernel_movement
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

# One time after the other: quicker to compile than steps in time.
solution_at = jax.jit(jax.vmap(exact_solution, (0, None, None, None)))
lazy_at = jax.jit(lazy_map)
delayed_at = jax.jit(jax.vmap(delayed_rich_map, (0, None, None, None)))
movement_between = jax.jit(kernel_movement)
SHAPES = ("square", "funnel")


def draw_problem(settings, seed):
    """A square network and one that widens upwards, each on its task, from starts of many relative scales."""
    rng = np.random.default_rng(seed)
    tasks = {}
    for shape in SHAPES:
        n_in, hidden, n_out = settings[shape]
        frames = {name: rotation(rng, n) for name, n in (("left", n_out), ("right", n_in), ("inner", hidden))}
        u, v = rotation(rng, n_out), rotation(rng, n_in)
        k = min(n_in, n_out)
        syx = (u[:, :k] * np.geomspace(settings["strongest"], settings["weakest"], k)) @ v[:, :k].T
        # White inputs: X X^T is a multiple of the identity.
        x = np.sqrt(n_in) * rotation(rng, n_in)
        tasks[shape] = SimpleNamespace(syx=syx, x=x, product=np.full(k, settings["size"]), frames=frames)
    lam = np.sort(np.concatenate([-np.asarray(settings["scales"]), [0.0], settings["scales"]]))
    return SimpleNamespace(**settings, seed=seed, tasks=tasks, lam=lam)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def start(task, lam):
    """Both layers, of the given singular values of their product, with W2^T W2 - W1 W1^T = lam I."""
    left, right, inner = (task.frames[name] for name in ("left", "right", "inner"))
    layers = np.zeros((len(inner), len(right))), np.zeros((len(left), len(inner)))
    larger = np.sqrt((np.hypot(lam, 2 * task.product) + abs(lam)) / 2)
    # The smaller one by division: a difference would cancel.
    strengths = (task.product / larger, larger) if lam >= 0 else (larger, task.product / larger)
    for layer, strength in zip(layers, strengths, strict=True):
        np.fill_diagonal(layer, strength)
    return inner @ layers[0] @ right.T, left @ layers[1] @ inner.T


def unit_of_time(shape, lam):
    """How long learning takes, up to a factor: 1/|lam| where it is lazy, lam where it is rich but delayed."""
    return 1 + abs(lam) if shape == "funnel" and lam > 0 else 1 / (1 + abs(lam))


def times(problem, shape, lam):
    return unit_of_time(shape, lam) * np.asarray(problem.t)


def predict(problem):
    """Per network: the map, the movement of the kernel, and the leading errors of steps of one unit of time."""
    return {"t": np.asarray(problem.t), "lam": problem.lam} | {
        shape: [network_curves(problem, shape, lam) for lam in problem.lam] for shape in SHAPES
    }


def network_curves(problem, shape, lam):
    task, t = problem.tasks[shape], times(problem, shape, lam)
    weights = start(task, lam)
    error = step_error(problem, t, task.syx, weights)
    unit = unit_of_time(shape, lam)
    return {
        "map": np.asarray(solution_at(t, *weights, task.syx).network_map),
        "movement": movement(task, lam, t),
        "limit": limit_map(task, weights, lam, t, lazy=shape == "square" or lam < 0),
        "map_error": unit * np.asarray(error[0]),
        "movement_error": unit * np.asarray(error[1]),
    }


def movement(task, lam, t, of=None):
    """Movement of the tangent kernel from t = 0 on, of the exact solution."""
    found = solution_at(t, *start(task, lam if of is None else of), task.syx)
    return np.asarray(movement_between(Solution(*(block[0] for block in found)), found))


def limit_map(task, weights, lam, t, lazy):
    """The map in the limit of large |lam|."""
    if lam == 0:
        return None
    w1, w2 = weights
    return np.asarray(lazy_at(t, w2 @ w1, task.syx, lam) if lazy else delayed_at(t, w2, task.syx, lam))


def step_error(problem, t, syx, weights):
    """Leading errors of gradient descent on the map and on the movement of the kernel, per unit of lr."""
    w1, w2 = weights
    # All in the shape of the larger network: outputs without weights and targets never get any.
    asleep = [(0, problem.funnel[2] - len(w2)), (0, 0)]
    path, errors = (
        (lower, upper[:, : len(w2)]) for lower, upper in weight_error(t, np.pad(syx, asleep), (w1, np.pad(w2, asleep)))
    )
    return seen_error(path, errors)


@jax.jit
def weight_error(t, syx, weights):
    """All weights along the flow, and the leading error that steps of unit size make on them."""

    def field(weights):
        return weight_velocity(weights, jnp.eye(syx.shape[1]), syx)

    return descent_error(field, t, weights, rtol=1e-7, atol=1e-10)


@jax.jit
def seen_error(path, errors):
    """The errors of the map and of the movement of the kernel that errors of the weights make."""

    def seen(path):
        first = jax.tree.map(lambda w: w[0], path)
        return path[1] @ path[0], kernel_movement(grams(first), jax.vmap(grams)(path))

    return jax.jvp(seen, (path,), (errors,))[1]


def grams(weights):
    w1, w2 = weights
    return Solution(w2 @ w1, w1.T @ w1, w2 @ w2.T)


def simulate_networks(problem):
    """Gradient descent on all weights of every network, at several step sizes, in units of the time they take."""
    return {"step": np.asarray(problem.step)} | {shape: trained(problem, shape) for shape in SHAPES}


def on_column(network, x):
    """A deep linear network takes columns, of which one is a sample."""
    return network(x[:, None])[:, 0]


def trained(problem, shape):
    """For each relative scale: maps (steps, times, n_out, n_in) and movements of the empirical kernel."""
    task = problem.tasks[shape]
    w1, w2 = (jnp.asarray(np.stack(layers)) for layers in zip(*(start(task, lam) for lam in problem.lam), strict=True))
    units = jnp.asarray([unit_of_time(shape, lam) for lam in problem.lam])
    x, syx = jnp.asarray(task.x), jnp.asarray(task.syx)

    def network(hyper):
        return DeepLinear((w1[hyper["start"]], w2[hyper["start"]]))

    def record(now, hyper):
        before, after = (empirical_ntk(weights, x.T, apply=on_column) for weights in (network(hyper), now))
        return {"map": now.product(), "movement": kernel_distance(before, after)}

    descent = training(
        lambda _, hyper: network(hyper),
        lambda now, _: correlation_loss(now, jnp.eye(x.shape[0]), syx),
        lambda hyper: optax.sgd(hyper["step"] * units[hyper["start"]]),
        lambda _, __: None,
        record,
    )
    starts = np.arange(len(units))
    runs = [
        simulate(
            descent,
            grid(seeds=[problem.seed], step=[step], start=starts),
            np.rint(np.asarray(problem.t) / step).astype(int),
        ).records
        for step in problem.step
    ]
    return [{name: np.stack([run[name][i] for run in runs]) for name in runs[0]} for i in starts]


def networks_of(prediction, observation):
    """Every network, as (its prediction, its observation)."""
    return [pair for shape in SHAPES for pair in zip(prediction[shape], observation[shape], strict=True)]


def movement_gap(prediction, observation):
    """Largest deviation of the movement at the smallest step, after the leading error, in units of it."""
    step = observation["step"][-1]
    return max(
        gap(
            expected["movement"] + step * expected["movement_error"],
            observed["movement"][-1],
            step * np.abs(expected["movement_error"]).max(),
        )
        for expected, observed in networks_of(prediction, observation)
    )


def movement_rate(prediction, observation):
    """Largest deviation from first order of the departure of the movement."""
    return max(
        rate(observation["step"], np.abs(observed["movement"] - expected["movement"]).max(axis=1), 1.0)
        for expected, observed in networks_of(prediction, observation)
    )


def lazy_order(prediction, observation):
    """Largest deviation from order lam^-4 of the movement of lazy networks, over the three largest scales."""
    lam = prediction["lam"]
    moved = {shape: np.array([run["movement"][-1, -1] for run in observation[shape]]) for shape in SHAPES}
    sides = (moved["square"][-3:], moved["square"][:3][::-1], moved["funnel"][:3][::-1])
    return max(rate(lam[-3:], side, -4.0) for side in sides)


def limit_order(shape, sign):
    """Deviation from order lam^-2 of the distance of maps from their limit, over the three largest scales."""

    def measure(prediction, observation):
        step, distances = observation["step"][-1], []
        order = range(len(prediction["lam"]))[-3:] if sign > 0 else (2, 1, 0)
        for i in order:
            expected, observed = prediction[shape][i], observation[shape][i]
            distance = observed["map"][-1] - step * expected["map_error"] - expected["limit"]
            # The limit of a delayed network takes over from the first record on.
            distances.append(np.abs(distance[1:]).max())
        return rate(prediction["lam"][-3:], distances, -2.0)

    return measure


def draw(figure, problem, prediction, observation):
    scales, curves = figure.subplots(1, 2)
    lam, t = prediction["lam"], prediction["t"]
    labels = {"square": "outputs = hidden units", "funnel": "outputs = 2 × hidden units"}
    for i, shape in enumerate(SHAPES):
        style.theory(scales, lam, [run["movement"][-1] for run in prediction[shape]], i=i, label=labels[shape])
        style.networks(scales, lam, [run["movement"][-1, -1] for run in observation[shape]], i=i)
    lazier = instead(larger_is_lazier)(problem, prediction)["funnel"]
    style.rival(scales, lam, [run["movement"][-1] for run in lazier], label="the same, if larger meant lazier")
    scales.set_xscale("symlog", linthresh=1)
    ends = [-lam[-1], -lam[-3], -1, 0, 1, lam[-3], lam[-1]]
    scales.set_xticks(ends, [f"{end:g}" for end in ends], minor=False)
    scales.set_xticks([], minor=True)
    scales.set(yscale="log", xlabel="relative scale of the layers λ", ylabel="S", title="Movement of the kernel")
    scales.legend(loc="lower center")
    middle, top = len(lam) // 2, len(lam) - 1
    shown = (("square", middle, "λ = 0: rich"), ("square", top, f"λ = {lam[top]:g}: lazy"))
    shown += (("funnel", top, f"λ = {lam[top]:g}, 2 × outputs: delayed"),)
    for i, (shape, which, label) in enumerate(shown):
        task = problem.tasks[shape]
        losses = [excess_loss(run[which]["map"], task.syx) for run in (prediction[shape], observation[shape])]
        style.theory(curves, t, losses[0] / losses[0][0], i=i + 2, label=label)
        style.networks(curves, t, losses[1][-1] / losses[0][0], i=i + 2)
    curves.set(xlabel="time, in units of 1, 1/λ, λ", ylabel="loss / loss at the start", title="Learning curves")
    curves.legend(loc="upper right")


def instead(belief):
    """A rival that believes in other curves of a network: belief(task, shape, lam, t) -> what it replaces."""

    def predict(problem, prediction):
        return prediction | {
            shape: [
                run | belief(problem.tasks[shape], shape, lam, times(problem, shape, lam))
                for lam, run in zip(problem.lam, prediction[shape], strict=True)
            ]
            for shape in SHAPES
        }

    return predict


def larger_is_lazier(task, shape, lam, t):
    """A network that widens upwards is as lazy with a large upper layer as with a large lower one."""
    if shape == "square" or lam <= 0:
        return {}
    return {
        "movement": movement(task, lam, t, of=-lam),
        "limit": limit_map(task, start(task, lam), lam, t, lazy=True),
    }


STUDY = Study(
    title="From lazy to rich",
    question="Does a network learn features, or only a readout of those that it starts with? What do unequally strong "
    "layers have to do with it?",
    source="Dominé et al. 2024 (arXiv:2409.14623), lazy, rich and delayed-rich regimes; Braun et al. 2022",
    regimes=("linear", "lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            square=(3, 3, 3),
            funnel=(3, 3, 6),
            scales=(0.3, 1.0, 2.5, 5.0, 10.0, 20.0),
            strongest=1.0,
            weakest=0.5,
            size=0.05,
            step=(1e-3, 5e-4, 2.5e-4),
            t=tuple(np.arange(31) * 0.15),
        ),
        "paper": dict(
            square=(10, 10, 10),
            funnel=(10, 10, 20),
            scales=(0.1, 0.3, 1.0, 2.5, 5.0, 10.0, 20.0),
            strongest=1.0,
            weakest=0.4,
            size=0.02,
            step=(1e-3, 5e-4, 2.5e-4),
            t=tuple(np.arange(51) * 0.2),
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The tangent kernel moves as the exact solution says, at every scale, but for the step error.",
            movement_gap,
            0.2,
            "After the leading error is added, the next order is lr·λ of it, at most 0.1 at the smallest step.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            movement_rate,
            0.2,
            "First order; the largest step has lr·λ = 0.4 at the largest scale: half of that over ln 4 is left.",
        ),
        Claim(
            "Where learning is lazy, the kernel moves by 1/λ⁴: whichever layer is larger in a square network, the "
            "lower one in a network that widens.",
            lazy_order,
            0.2,
            "Corrections of order 4 s²/λ² ≤ 16 % at the smallest of three scales leave 0.1 to 0.2 in the slope.",
        ),
        Claim(
            "Lazy maps relax exponentially, all modes alike, up to terms of order 1/λ².",
            lambda p, o: max(limit_order(*side)(p, o) for side in (("square", 1), ("square", -1), ("funnel", -1))),
            0.1,
            "The next order is s²/λ² ≤ 4 % of it at the smallest of three scales; a part is left in the slope.",
        ),
        Claim(
            "A widening network with a large upper layer is rich after a delay: its map is the target, projected onto "
            "a span that turns in a time λ, up to terms of order 1/λ².",
            limit_order("funnel", 1),
            0.3,
            "The next order is s²/λ² ≤ 4 % of it at the smallest of three scales, a few times over where the span of "
            "the start has far to turn.",
        ),
    ),
    rivals=(
        Rival("The tangent kernel never moves.", instead(lambda task, shape, lam, t: {"movement": np.zeros(len(t))})),
        Rival("Larger weights are lazier, whichever layer has them.", instead(larger_is_lazier)),
        Rival(
            "Balance does not matter: only the product at the start does.",
            instead(lambda task, shape, lam, t: {"movement": movement(task, lam, t, of=0.0)}),
        ),
        Rival(
            "The scale counts twice: κ² = s² + λ² instead of s² + λ²/4.",
            instead(lambda task, shape, lam, t: {"movement": movement(task, lam, t, of=2 * lam)}),
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.matrix.network_map",
        "deep_linear.matrix.lazy",
        "deep_linear.matrix.delayed",
        "deep_linear.tangent_kernel.movement",
    ),
)
