"""Trained stacks of linear attention against the best gradient descent, GD++ and Newton's iteration."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.linear_attention import descent_layers, random_layers, square_loss
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from sims.training import training
from theory.bayes_icl.algorithms import spectral_rule
from theory.bayes_icl.gradient_descent_layers import shrinking_descent
from theory.bayes_icl.iterative_newton import newton
from theory.bayes_icl.stacked_layers import best_descent, best_layers
from validation import style
from validation.study import Claim, Problem, Rival, Study

# So many steps of gradient descent are shown, and may be what a stack is worth.
MOST_STEPS = 12


def uniform(key, shape, dtype):
    """White inputs without tails, in which a rare prompt would outweigh all others."""
    return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


def problem(settings, seed):
    """Prompts to test on, the last pair of which is asked for, and the spectra of others of the same law."""
    given = Problem(**settings, seed=seed)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(3_000_017), seed), 3)
    tasks = gaussian_tasks(keys[0], given.tests, given.dimension)
    given.tested = prompts(keys[1], tasks, given.context + 1, 0.0, entries=uniform)
    x = np.asarray(prompts(keys[2], tasks[: given.spectra], given.context, 0.0, entries=uniform).x)
    given.spectra = np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x)
    return given


def said(given, rule):
    """What a rule of the context says of every query that is asked for, (P,)."""
    x, y = given.tested.x, given.tested.y
    return np.asarray(jax.vmap(rule)(x[:, :-1], y[:, :-1], x[:, -1]))


def predict(given):
    """By number of layers: what the best GD++ says, its rates and shrinking; and what the best k steps leave."""
    found = {"outputs": {}, "best": {}, "risk": {}}
    for layers in given.layers:
        best = best_layers(given.spectra, layers)
        rule = functools.partial(shrinking_descent, rates=best.rates, shrinking=best.shrinking)
        found["outputs"][layers] = said(given, rule)
        found["risk"][layers] = float(best.risk)
        # As the network's own weights, which multiply means over the context.
        found["best"][layers] = given.context * np.stack([best.rates, best.shrinking])
    found["steps"] = np.array([float(best_descent(given.spectra, k + 1).risk) for k in range(MOST_STEPS)])
    return found


@functools.cache
def learner(dimension, context, batch, start, steps, lr, layers):
    def fresh(key, _):
        of_tasks, of_pairs = jax.random.split(key)
        tasks = gaussian_tasks(of_tasks, batch, dimension, dtype=jnp.float32)
        return prompts(of_pairs, tasks, context + 1, 0.0, entries=uniform)

    small_steps = descent_layers(jnp.broadcast_to(0.1 * jnp.eye(dimension), (layers, dimension, dimension)))

    def network(key, _):
        """Random layers next to some that take small steps: from random ones alone training waits at a saddle."""
        drawn = random_layers(key, dimension, start, layers)
        return jax.tree.map(lambda one, other: (one + other).astype(jnp.float32), drawn, small_steps)

    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(lr, steps)))

    def record(model, hyper):
        return model(hyper["x"][:, :-1], hyper["y"][:, :-1], hyper["x"][:, -1])

    return training(network, square_loss, lambda _: optimiser, fresh, record)


def simulate_networks(given):
    """By number of layers: outputs on the tests on the way, and the parts of trained weights that GD++ has."""
    sizes = given.dimension, given.context, given.batch, given.start, given.steps, given.lr
    at = every(given.steps, given.every)
    x, y = (np.asarray(part, np.float32) for part in given.tested[:2])
    alike = {"x": np.stack([x] * given.runs), "y": np.stack([y] * given.runs)}
    seen = {"t": at, "outputs": {}, "weights": {}, "labels": np.asarray(given.tested.y[:, -1])}
    for layers in given.layers:
        runs = Runs(given.seed * given.runs + np.arange(given.runs), alike, (given.runs,))
        found = simulate(learner(*sizes, layers), runs, at, batching="map", optimised=True)
        seen["outputs"][layers] = np.asarray(found.records, float)
        seen["weights"][layers] = np.stack([parts(layer) for layer in found.state.model.layers], axis=-1)
    return seen


def parts(layer):
    """Rate and shrinking of a trained layer, (runs, 2): minus what it reads of labels and inputs, times its match."""
    matched, values = np.asarray(layer.scores[:, 0], float), np.asarray(layer.values[:, 0], float)
    d = matched.shape[-1] - 1
    match = np.trace(matched[:, :d, :d], axis1=1, axis2=2) / d
    inputs = np.trace(values[:, :d, :d], axis1=1, axis2=2) / d
    return -match[:, None] * np.stack([values[:, d, d], inputs], axis=1)


def risks(observation, layers):
    """Mean square error on the tests, on the way, (runs, times)."""
    return np.mean((observation["outputs"][layers] - observation["labels"]) ** 2, axis=-1)


def converged(prediction):
    """Numbers of layers whose training gets to its end in the steps that it has."""
    return [layers for layers in prediction["outputs"] if layers <= 2]


def near(prediction, observation):
    """Distance to GD++ over a tenth of the error that GD++ itself leaves, in the worst run."""
    worst = []
    for layers in converged(prediction):
        theirs = prediction["outputs"][layers]
        far = np.mean((observation["outputs"][layers][:, -1] - theirs) ** 2, axis=1)
        worst.append(far.max() / (0.1 * np.mean((theirs - observation["labels"]) ** 2)))
    return float(max(worst))


def weights(prediction, observation):
    """Rates and shrinking against the best ones, over a tenth; the last layer's shrinking reaches no output."""
    worst = []
    for layers in converged(prediction):
        found, best = observation["weights"][layers], prediction["best"][layers]
        off = np.abs(found - best) / np.where(best == 0, np.inf, 0.1 * np.abs(best))
        worst.append(off.max())
    return float(max(worst))


def worth(prediction, observation):
    """Error over that of the best 2 k - 1 steps, for stacks of k layers; the worst run."""
    stacks = observation["outputs"]
    return float(max(risks(observation, k)[:, -1].max() / prediction["steps"][2 * k - 2] for k in stacks))


def bound(prediction, observation):
    """The best polynomial of the degree of k layers over their error, the best run; less what prompts scatter."""
    worst = []
    for layers in observation["outputs"]:
        errors = (observation["outputs"][layers][:, -1] - observation["labels"]) ** 2
        high = errors.mean(axis=1) + 5 * errors.std(axis=1, ddof=1) / errors.shape[1] ** 0.5
        worst.append(prediction["steps"][min((3**layers - 1) // 2, MOST_STEPS) - 1] / high.min())
    return float(max(worst))


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i, layers in enumerate(given.layers):
        found = risks(observation, layers)
        label = f"{layers} layer{'s' * (layers > 1)}"
        style.networks(left, observation["t"][1:], found[:, 1:].mean(axis=0), i=i, label=label)
        style.theory(left, observation["t"][1:], np.full(len(observation["t"]) - 1, prediction["risk"][layers]), i=i)
    left.set(yscale="log", xlabel="training steps", ylabel="squared error")
    left.legend(fontsize=7)
    left.set_title("Stacks, and the best GD++ of as many layers")
    counts = np.arange(1, MOST_STEPS + 1)
    style.rival(right, counts, prediction["steps"], label="best gradient descent")
    newtons = [
        np.mean((said(given, functools.partial(newton, steps=int(k))) - observation["labels"]) ** 2) for k in counts
    ]
    right.plot(counts, newtons, ":", color=style.INK, linewidth=1, label="Newton's iteration")
    style.theory(right, list(given.layers), [prediction["risk"][k] for k in given.layers], label="best GD++")
    last = [risks(observation, k)[:, -1].mean() for k in given.layers]
    style.networks(right, list(given.layers), last, label="trained stack")
    right.set(yscale="log", xlabel="layers, or steps", ylabel="squared error", ylim=(1e-5, None))
    right.legend(fontsize=7)
    right.set_title("What a layer is worth")


def instead(rule):
    """Another rule of as many steps as there are layers, and that a layer is worth so many steps."""

    def rival(given, prediction):
        return prediction | {"outputs": {k: said(given, functools.partial(rule, given, k)) for k in given.layers}}

    return rival


def descended(given, k, x, y, query):
    """The best k steps of gradient descent, as a polynomial through their shares at the drawn spectra."""
    lam = given.spectra.ravel()
    top = lam.max()
    fit = np.polynomial.chebyshev.Chebyshev.fit(lam, np.asarray(best_descent(given.spectra, k).shares).ravel(), k)
    inner = np.asarray(fit.convert(domain=[0, top]).coef)

    def share(values):
        return jnp.cos(jnp.arccos(jnp.clip(2 * values / top - 1, -1, 1))[:, None] * np.arange(k + 1)) @ inner

    return spectral_rule(x, y, query, share=share)


def not_shrunk(given, prediction):
    """The rates of GD++, and inputs that stay as they are."""
    found = {}
    for layers in given.layers:
        rates = prediction["best"][layers][0] / given.context
        rule = functools.partial(shrinking_descent, rates=rates, shrinking=np.zeros(layers))
        found[layers] = said(given, rule)
    return prediction | {"outputs": found}


STUDY = Study(
    title="What a layer is worth",
    question="How many steps of gradient descent, or of Newton's iteration, is a stack of linear attention?",
    source="von Oswald et al. 2023 (arXiv:2212.07677); Fu et al. 2023 (arXiv:2310.17086)",
    regimes=("bayes", "attention"),
    asks="what",
    sizes={
        "smoke": dict(
            dimension=4,
            context=16,
            layers=(2, 3),
            batch=128,
            start=0.05,
            steps=3000,
            every=300,
            lr=0.005,
            runs=1,
            tests=4000,
            spectra=1000,
        ),
        "paper": dict(
            dimension=10,
            context=20,
            layers=(2, 3),
            batch=2048,
            start=0.02,
            steps=50_000,
            every=2500,
            lr=0.002,
            runs=8,
            tests=16_000,
            spectra=4000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Two layers say what the best GD++ says.",
            near,
            1,
            "A tenth of the error that the best GD++ leaves: a stack has more entries than GD++, and may use them.",
        ),
        Claim(
            "Their weights are its rates and its shrinking.",
            weights,
            1,
            "A tenth: near the optimum an error of ten per cent in a rate costs one per cent.",
        ),
        Claim(
            "Stacks of two layers and three leave less than the best 2 k - 1 steps of gradient descent.",
            worth,
            1,
            "An inequality: the best steps have rates of their own, and nothing of theirs is left to training.",
        ),
        Claim(
            "No stack of k layers leaves less than the best polynomial of degree (3^k - 1) / 2.",
            bound,
            1,
            "An inequality, up to five standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("A layer is a step of gradient descent.", instead(descended)),
        Rival("A layer is a step of Newton's iteration.", instead(lambda _, k, x, y, q: newton(x, y, q, steps=k))),
        Rival("Layers take the rates of GD++ and leave the inputs as they are.", not_shrunk),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.stacked_layers.filter_risk",
        "bayes_icl.stacked_layers.one_step",
        "bayes_icl.stacked_layers.two_steps",
        "bayes_icl.iterative_newton.share",
    ),
)
