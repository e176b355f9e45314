"""Attention with frozen random scores: the kernel of many heads, and what scores around the identity are good for."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.random_feature_attention import drawn_scores, fitted
from theory.induction.random_feature_attention import attention_kernel, kernel_ridge
from validation import style
from validation.metrics import fitted_exponent, z_score
from validation.study import Claim, Problem, Rival, Study

KINDS = ("plain", "biased")
TARGETS = ("overlap", "other")
NAMES = {"plain": "W ~ Gaussian", "biased": "W ~ b + Gaussian"}


def problem(settings, seed):
    """Unit queries and keys, and two targets: of the overlap of query and key, and of that with a turned key."""
    rng, d = np.random.default_rng(seed), settings["d"]
    total = settings["samples"] + settings["tests"]
    x, keys = rng.normal(size=(total, d)), rng.normal(size=(total, settings["keys"], d))
    x, keys = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, keys))
    direction = rng.normal(size=d) / np.sqrt(d)
    # A turn without a trace: no part of the identity.
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    turn = turn - np.trace(turn) / d * np.eye(d)
    turn *= np.sqrt(d) / np.linalg.norm(turn)
    y = []
    for form in (np.eye(d), turn):
        scores = np.einsum("pc,cd,pnd->pn", x, form, keys)
        target = np.mean(np.maximum(scores, 0) * (keys @ direction), axis=1)
        y.append(target / np.std(target))
    return Problem(
        **settings, seed=seed, x=x, z=keys, y=np.stack(y), biases=dict(zip(KINDS, (0.0, settings["bias"]), strict=True))
    )


def ridge_predictions(problem, kernel):
    """What kernel ridge regression says at new points, for each kind and target, (kinds, targets, tests)."""
    p, found = problem.samples, []
    for kind in KINDS:
        k = np.asarray(kernel(problem.x, problem.z, problem.x[:p], problem.z[:p], problem.biases[kind]))
        found.append([kernel_ridge(k[:p], k[p:], y[:p], problem.ridge) for y in problem.y])
    return np.asarray(found)


def predict(problem, kernel=None):
    """Predictions of infinitely many heads, their errors, and how those of M heads come to them."""

    def own(x, z, other, other_z, bias):
        return attention_kernel(x, z, other, other_z, problem.deviation, bias)

    outputs = ridge_predictions(problem, kernel or own)
    new = problem.y[:, problem.samples :]
    error = np.mean((outputs - new) ** 2, axis=2)
    return {"outputs": outputs, "error": error, "order": -0.5, "heads": np.array(problem.heads), "new": new}


@functools.partial(jax.jit, static_argnums=(0, 1))
def trained(heads, settings, keys, x, z, y, bias):
    """Outputs at new points of layers of `heads` heads, fitted to each target: (runs, targets, tests)."""
    samples, deviation, ridge = settings

    def one(key):
        scores = drawn_scores(key, heads, x.shape[1], deviation, bias)
        layers = [fitted(scores, x[:samples], z[:samples], target[:samples], ridge) for target in y]
        return jnp.stack([layer(x[samples:], z[samples:]) for layer in layers])

    return jax.lax.map(one, keys)


def simulate_networks(problem):
    """Outputs at new points: (heads, runs, kinds, targets, tests)."""
    settings = problem.samples, problem.deviation, problem.ridge
    keys = jax.random.split(jax.random.key(problem.seed), problem.runs)
    data = tuple(jnp.asarray(v) for v in (problem.x, problem.z, problem.y))
    found = [
        [np.asarray(trained(heads, settings, keys, *data, problem.biases[kind])) for kind in KINDS]
        for heads in problem.heads
    ]
    return {"outputs": np.moveaxis(np.asarray(found), 1, 2)}


def deviations(prediction, observation):
    """Root mean squared deviation of outputs from those of infinitely many heads, (heads, runs, kinds, targets)."""
    return np.sqrt(np.mean((observation["outputs"] - prediction["outputs"]) ** 2, axis=4))


def exponent(prediction, observation):
    """Exponent of that deviation over M against the predicted one, in standard errors over runs beside 1 / sqrt M."""
    found = deviations(prediction, observation)
    floor = 1 / np.sqrt(prediction["heads"][-1])
    each = [fitted_exponent(prediction["heads"], found[:, :, i, j]) for i in range(2) for j in range(2)]
    return max(abs(value - prediction["order"]) / np.hypot(error, floor) for value, error in each)


def errors(prediction, observation):
    """ln of errors of the most heads against the predicted ones, in standard errors and the order 1 / sqrt M."""
    found = np.mean((observation["outputs"][-1] - prediction["new"]) ** 2, axis=3)
    return z_score(np.log(prediction["error"]), np.log(found), floor=1 / np.sqrt(prediction["heads"][-1]))


def wrong_orders(prediction, observation):
    """Targets for which the kind of smaller error, on average over runs, is not the predicted one."""
    found = np.mean((observation["outputs"][-1] - prediction["new"]) ** 2, axis=(0, 3))
    expected = np.sign(prediction["error"][0] - prediction["error"][1])
    return int(np.sum(np.sign(found[0] - found[1]) != expected))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    heads = prediction["heads"]
    found = deviations(prediction, observation).mean(axis=3)
    for i, kind in enumerate(KINDS):
        mean = np.exp(np.log(found[:, :, i]).mean(axis=1))
        line = mean[-1] * (heads / heads[-1]) ** prediction["order"]
        style.theory(left, heads, line, i=i)
        style.networks(left, heads, mean, i=i, label=NAMES[kind])
    style.rival(left, heads, mean[0] * heads[0] / heads, label="1 / M")
    left.set(xscale="log", yscale="log", xlabel="heads M", ylabel="deviation from the kernel")
    left.set_title("Falls as M$^{-1/2}$")
    left.legend(loc="lower left", fontsize=7.5)

    squares = np.mean((observation["outputs"] - prediction["new"]) ** 2, axis=4)
    titles = {"overlap": "Target of the overlap", "other": "Target of another form"}
    for axes, (j, target) in zip((middle, right), enumerate(TARGETS), strict=True):
        for i, kind in enumerate(KINDS):
            style.theory(axes, heads, np.full(len(heads), prediction["error"][i, j]), i=i)
            runs = squares[:, :, i, j]
            style.networks(axes, heads, runs.mean(axis=1), i=i, error=runs.std(axis=1), label=NAMES[kind])
        axes.set(xscale="log", xlabel="heads M", ylim=(0, 1.6 * squares[:, :, :, j].mean(axis=1).max()))
        axes.set_title(titles[target])
        axes.legend(loc="upper right", fontsize=7.5)
    middle.set_ylabel("test error")
    for axes in (left, middle, right):
        axes.set_xticks(heads[::2], [str(m) for m in heads[::2]])
        axes.minorticks_off()


def faster(problem, prediction):
    """Heads come to the kernel as 1 / M."""
    return prediction | {"order": -1.0}


def unaware(problem, prediction):
    """Training finds the overlap also from scores without a mean: both kinds do as well."""
    return prediction | {"error": prediction["error"][:1].repeat(2, axis=0)}


def always_better(problem, prediction):
    """A mean of the scores helps for any target by as much as for the overlap."""
    gain = prediction["error"][1, 0] / prediction["error"][0, 0]
    error = prediction["error"].copy()
    error[1, 1] = error[0, 1] * gain
    return prediction | {"error": error}


def mean_key(problem, prediction):
    """Only the mean of the keys matters."""

    def kernel(x, z, other, other_z, bias):
        middle, other_middle = (v.mean(axis=1, keepdims=True) for v in (z, other_z))
        return attention_kernel(x, middle, other, other_middle, problem.deviation, bias)

    return predict(problem, kernel)


STUDY = Study(
    title="Attention with frozen random scores",
    question="What do many heads with random scores learn, and when is a mean of these scores an advantage?",
    source="Fu, Guo, Bai & Mei 2023 (arXiv:2307.11353)",
    regimes=("attention", "lazy"),
    asks="how well",
    sizes={
        "smoke": dict(
            d=4,
            keys=3,
            samples=60,
            tests=80,
            heads=(32, 64, 128, 256, 512),
            runs=10,
            deviation=1.0,
            bias=3.0,
            ridge=1e-2,
        ),
        "paper": dict(
            d=8,
            keys=8,
            samples=200,
            tests=200,
            heads=(64, 128, 256, 512, 1024, 2048, 4096),
            runs=20,
            deviation=1.0,
            bias=3.0,
            ridge=1e-2,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Outputs of M heads come to those of the kernel as M^{-1/2}.",
            exponent,
            5,
            "Standard errors of the exponent over runs, beside 1 / sqrt M of the next order.",
        ),
        Claim(
            "Many heads make the errors of the kernel, with and without a mean of the scores.",
            errors,
            5,
            "Standard errors of ln error over runs, beside 1 / sqrt M.",
        ),
        Claim(
            "Scores around the identity are better for a target of the overlap, and worse for another.",
            wrong_orders,
            0,
            "An order of errors.",
        ),
    ),
    rivals=(
        Rival("Heads come to the kernel as 1 / M.", faster),
        Rival("Both kinds do as well: training finds the overlap.", unaware),
        Rival("A mean of the scores helps for any target.", always_better),
        Rival("Only the mean of the keys matters.", mean_key),
    ),
    draw=draw,
    formulas=("induction.random_feature_attention.relu_product", "induction.random_feature_attention.pair"),
)
