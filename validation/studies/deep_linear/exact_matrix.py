"""Exact matrix dynamics: two-layer networks whose modes mix, from unequally strong layers, at any widths."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import DeepLinear, correlation_loss
from sims.training import gradient_descent
from theory.deep_linear.end_to_end import weight_velocity
from theory.deep_linear.matrix import exact_solution
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

BLOCKS = ("map", "hidden", "output")
solution_at = jax.jit(exact_solution)


def draw_problem(settings, seed):
    """Task and starts are rotated at random against each other, so that no mode is alone."""
    rng = np.random.default_rng(seed)
    tasks = []
    for widths, lams in settings["networks"]:
        n_in, hidden, n_out = widths
        left, right, inner, u, v = (rotation(rng, n) for n in (n_out, n_in, hidden, n_out, n_in))
        k = min(n_in, n_out)
        s = np.geomspace(settings["strongest"], settings["weakest"], k)
        rotations = dict(left=left, right=right, inner=inner)
        product = settings["size"] * np.geomspace(1, 0.3, min(widths))
        starts = {lam: weights_of(product, lam, rotations) for lam in lams}
        tasks.append(SimpleNamespace(syx=(u[:, :k] * s) @ v[:, :k].T, starts=starts, product=product, **rotations))
    return SimpleNamespace(**settings, seed=seed, tasks=tasks)


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def weights_of(product, lam, rotations):
    """Both layers, of the given singular values of their product, with W2^T W2 - W1 W1^T = lam I."""
    left, right, inner = (rotations[name] for name in ("left", "right", "inner"))
    s = np.append(product, np.zeros(len(inner) - len(product)))
    root = np.hypot(lam, 2 * s)
    layers = np.zeros((len(inner), len(right))), np.zeros((len(left), len(inner)))
    for layer, square in zip(layers, (root - lam, root + lam), strict=True):
        np.fill_diagonal(layer, np.sqrt(square / 2))
    return inner @ layers[0] @ right.T, left @ layers[1] @ inner.T


def predict(problem):
    """The exact solution, and the leading error that steps of size lr make on it."""
    t = np.asarray(problem.t)
    found = [blocks_of(solution_at(t, *start, task.syx)) for task, start in cases(problem)]
    errors = [leading_error(problem, t, task.syx, start) for task, start in cases(problem)]
    return {"t": t, "found": found, "error": errors}


def cases(problem):
    """Every task with every start of it."""
    return [(task, start) for task in problem.tasks for start in task.starts.values()]


def blocks_of(solution):
    return {name: np.asarray(block) for name, block in zip(BLOCKS, solution, strict=True)}


def leading_error(problem, t, syx, start):
    """`step_error` in the widest of the networks: units without weights on either side never get any."""
    widths = np.max([widths for widths, _ in problem.networks], axis=0)
    n_in, hidden, n_out = start[0].shape[1], len(start[0]), len(syx)
    w1, w2, syx = (
        np.pad(x, [(0, more - has) for has, more in zip(x.shape, shape, strict=True)])
        for x, shape in ((start[0], widths[[1, 0]]), (start[1], widths[[2, 1]]), (syx, widths[[2, 0]]))
    )
    kept = {"map": (n_out, n_in), "hidden": (n_in, n_in), "output": (n_out, n_out), "scale": (hidden, hidden)}
    error = step_error(t, syx, (w1, w2))
    return {name: np.asarray(error[name])[:, :rows, :columns] for name, (rows, columns) in kept.items()}


@jax.jit
def step_error(t, syx, start):
    """Leading error of gradient descent on what the data see, and on the relative scale, per unit of lr."""

    def field(weights):
        return weight_velocity(weights, jnp.eye(syx.shape[1]), syx)

    weights, errors = descent_error(field, t, start, rtol=1e-8, atol=1e-11)
    return jax.jvp(jax.vmap(seen), (weights,), (errors,))[1]


def seen(weights):
    w1, w2 = weights
    return {"map": w2 @ w1, "hidden": w1.T @ w1, "output": w2 @ w2.T, "scale": w2.T @ w2 - w1 @ w1.T}


def simulate_networks(problem):
    """Gradient descent on all weights of every network, at several step sizes."""
    runs = [run for task in problem.tasks for run in trained(problem, task)]
    return {"lr": np.asarray(problem.lr), "found": runs, "lam": [lam for task in problem.tasks for lam in task.starts]}


def trained(problem, task):
    """What the data see of the networks of one task: for each start, blocks of shape (step sizes, times, ...)."""
    w1, w2 = (jnp.stack([start[layer] for start in task.starts.values()]) for layer in (0, 1))
    descent = gradient_descent(
        lambda _, hyper: DeepLinear((w1[hyper["start"]], w2[hyper["start"]])),
        lambda network: correlation_loss(network, jnp.eye(w1.shape[2]), jnp.asarray(task.syx)),
        "lr",
        lambda network, _: {
            "map": network.product(),
            "hidden": network.weights[0].T @ network.weights[0],
            "output": network.weights[1] @ network.weights[1].T,
            "scale": network.weights[1].T @ network.weights[1] - network.weights[0] @ network.weights[0].T,
        },
    )
    runs = [
        simulate(
            descent,
            grid(seeds=[problem.seed], lr=[lr], start=np.arange(len(w1))),
            np.rint(np.asarray(problem.t) / lr).astype(int),
        ).records
        for lr in problem.lr
    ]
    return [{name: np.stack([run[name][i] for run in runs]) for name in runs[0]} for i in range(len(w1))]


def blocks_gap(*names):
    """Largest deviation at the smallest step, after the leading error, in units of it, over all networks."""

    def measure(prediction, observation):
        lr = observation["lr"][-1]
        return max(
            gap(
                expected[name] + lr * error[name],
                observed[name][-1],
                lr * np.abs(error[name]).max(),
            )
            for expected, error, observed in zip(
                prediction["found"], prediction["error"], observation["found"], strict=True
            )
            for name in names
        )

    return measure


def deviation(expected, observed):
    """Largest |map of network - map of theory| at each step size."""
    return np.abs(observed["map"] - expected["map"]).max(axis=(1, 2, 3))


def worst_rate(prediction, observation):
    pairs = zip(prediction["found"], observation["found"], strict=True)
    return max(rate(observation["lr"], deviation(*pair), 1.0) for pair in pairs)


def scale_gap(prediction, observation):
    """Deviation of W2^T W2 - W1 W1^T from lam I at the smallest step, after the leading error, in units of it."""
    lr = observation["lr"][-1]
    measured = []
    for lam, error, observed in zip(observation["lam"], prediction["error"], observation["found"], strict=True):
        expected = lam * np.eye(observed["scale"].shape[-1]) + lr * np.asarray(error["scale"])
        measured.append(gap(expected, observed["scale"][-1], lr * np.abs(error["scale"]).max()))
    return max(measured)


def draw(figure, problem, prediction, observation):
    panels = figure.subplots(1, 2)
    t = prediction["t"]
    lams = [(task, lam) for task in problem.tasks for lam in task.starts]
    for i, ((task, lam), expected, observed) in enumerate(
        zip(lams, prediction["found"], observation["found"], strict=True)
    ):
        u, _, vt = np.linalg.svd(task.syx)
        hidden, top = task.inner.shape[0], task is problem.tasks[0]
        label = f"{hidden} hidden, λ = {lam:g}"
        # The second mode, and what of the map leads from the first right vector to the second left one.
        for axes, left in zip(panels, (u[:, 1], u[:, 0]), strict=True):
            curve = [left @ w @ vt[1] for w in expected["map"]]
            points = [left @ w @ vt[1] for w in observed["map"][-1]]
            style.theory(axes, t, curve, i=i, label=label if axes is panels[0] else None)
            style.networks(axes, t, points, i=i)
        if top and lam == 0:
            logistic = decoupled(problem, prediction)["found"][i]["map"]
            style.rival(panels[0], t, [u[:, 1] @ w @ vt[1] for w in logistic], label="λ = 0, if modes decoupled")
    panels[0].set(xlabel="time  t = lr · steps", ylabel="u₂ · W v₂", title="Strength of the second mode")
    panels[1].set(xlabel="time  t = lr · steps", ylabel="u₁ · W v₂", title="Mixing of the first two modes")
    panels[1].legend(*panels[0].get_legend_handles_labels(), loc="upper right")


def instead(solve):
    """A rival that believes in another solution: solve(t, task, lam) -> (map, hidden, output)."""

    def predict(problem, prediction):
        t = prediction["t"]
        found = [blocks_of(solve(t, task, lam)) for task in problem.tasks for lam in task.starts]
        return prediction | {"found": found}

    return predict


def with_scale(task, t, lam):
    """The exact solution from the same product at another relative scale."""
    rotations = dict(left=task.left, right=task.right, inner=task.inner)
    return solution_at(t, *weights_of(task.product, lam, rotations), task.syx)


def modes_alone(t, task, lam):
    """Each mode of the task grows from its own projection of the start."""
    w1, w2 = task.starts[lam]
    u, s, vt = np.linalg.svd(task.syx, full_matrices=False)
    alone = np.abs(np.einsum("ok,oi,ki->k", u, w2 @ w1, vt))
    strength = s / (1 + (s / alone - 1) * np.exp(-2 * s * t[:, None]))
    return tuple(np.einsum("ok,tk,ik->toi", a, strength, b) for a, b in ((u, vt.T), (vt.T, vt.T), (u, u)))


decoupled = instead(modes_alone)

STUDY = Study(
    title="Exact matrix dynamics",
    question="What does a two-layer network do from a start that is not aligned with its task, whose layers are not "
    "equally strong, at widths that are not equal?",
    source="Braun, Dominé, Fitzgerald & Saxe 2022; Dominé et al. 2024 (arXiv:2409.14623); Fukumizu 1998",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            networks=(((5, 3, 4), (-2.0, 0.0, 2.0)), ((3, 6, 4), (0.0,))),
            strongest=2.0,
            weakest=0.6,
            size=0.1,
            lr=(0.01, 0.005, 0.0025),
            t=tuple(np.arange(61) * 0.1),
        ),
        "paper": dict(
            networks=(((50, 20, 30), (-2.0, -0.5, 0.0, 0.5, 2.0)), ((20, 60, 30), (0.0,)), ((30, 30, 30), (-5.0, 5.0))),
            strongest=2.0,
            weakest=0.3,
            size=0.02,
            lr=(0.004, 0.002, 0.001),
            t=tuple(np.arange(121) * 0.1),
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The network map follows the exact solution, but for the step error of gradient descent.",
            blocks_gap("map"),
            0.05,
            "After the leading error lr·e(t) is added, the next order is lr·2s ≈ 1 % of it, a few times over while "
            "the error grows.",
        ),
        Claim(
            "So do the hidden similarity and the Gram matrix of the outputs.",
            blocks_gap("hidden", "output"),
            0.05,
            "As for the map: all three are blocks of one matrix.",
        ),
        Claim(
            "The departure of the map vanishes in proportion to the learning rate.",
            worst_rate,
            0.05,
            "First order, with a curvature of lr·2s ≈ 4 % at the largest step, of which a part is left in the slope.",
        ),
        Claim(
            "W2ᵀ W2 − W1 W1ᵀ stays λ I, but for the step error.",
            scale_gap,
            0.05,
            "Gradient flow conserves it exactly, so that all of the deviation is the step error; then as for the map.",
        ),
    ),
    rivals=(
        Rival(
            "Only the product at the start counts: the balanced solution (λ = 0) for every start.",
            instead(lambda t, task, lam: with_scale(task, t, 0.0)),
        ),
        Rival(
            "Which layer is larger makes no difference.",
            instead(lambda t, task, lam: with_scale(task, t, -lam)),
        ),
        Rival("Modes decouple: each follows its own logistic curve from its share of the start.", decoupled),
        Rival(
            "Time runs twice as fast: the loss without its factor 1/2.",
            instead(lambda t, task, lam: solution_at(2 * t, *task.starts[lam], task.syx)),
        ),
    ),
    draw=draw,
    formulas=tuple(f"deep_linear.matrix.{f}" for f in ("network_map", "hidden_similarity", "output_gram")),
)
