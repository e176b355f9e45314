"""Attention as a support vector machine: where trained attention weights point, how fast, and what they forget last."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.attention_layer import AttentionFactors, AttentionWeights, logistic_loss, normalised_descent, scores
from sims.training import training
from theory.induction.attention_svm import (
    attention_slope,
    locally_optimal,
    margin_deficit,
    misalignment,
    path_offset,
    relaxation_rate,
    residual_attention,
)
from theory.induction.max_margin import max_margin
from validation import style
from validation.metrics import fitted_exponent, gap, log_mean
from validation.study import Claim, Problem, Rival, Study

# Both parametrisations and their norms.
NORMS = {"weights": "frobenius", "factors": "nuclear"}


def samples(rng, n, size, d, width):
    """Tokens, queries, readout, labels and token scores, of which the first is the best of each sample."""
    x = np.zeros((n, size, width))
    z = np.zeros((n, width))
    x[:, :, :d], z[:, :d] = rng.normal(size=(n, size, d)) * 1.5 / np.sqrt(d), rng.normal(size=(n, d)) * 1.5 / np.sqrt(d)
    labels = rng.choice([-1.0, 1.0], size=n)
    values = np.concatenate([np.ones((n, 1)), rng.uniform(-0.5, 0.5, size=(n, size - 1))], axis=1)
    # The readout is the first unit vector.
    x[:, :, 0] = labels[:, None] * values
    return dict(x=x, z=z, labels=labels, values=values)


def problem(settings, seed):
    """Samples that are typical of each case, all with tokens of best score first, then with another selection."""
    rng, shape = np.random.default_rng(seed), (settings["n"], settings["tokens"])
    found, best = [], np.zeros(shape[0], int)
    while len(found) < settings["runs"]:
        one = samples(rng, *shape, settings["d"], settings["d"])
        solutions = [max_margin(one["x"], one["z"], best, norm, throw=False) for norm in NORMS.values()]
        if is_settled(one, *solutions):
            found.append(one | {"selected": best, "start": np.zeros((settings["d"],) * 2)})
    for holds in (True, False):
        found += local_samples(rng, holds, settings, shape)
    names = ("x", "z", "labels", "values", "selected", "start")
    return Problem(**settings, seed=seed, **{name: np.stack([one[name] for one in found]) for name in names})


def is_settled(one, frobenius, nuclear):
    """Whether the limit can be seen in a run of this length: nothing is close to a change of the support.

    All tokens are support vectors of the Frobenius solution, both solutions differ, and what is not in the nuclear one
    grows more slowly, at the second singular value of sum lambda phi.
    """
    multipliers = np.asarray(frobenius.multipliers)[:, 1:]
    features = np.einsum("nt,ntd,ne->de", nuclear.multipliers, one["x"][:, :1] - one["x"], one["z"])
    second = np.linalg.svd(features, compute_uv=False)[1]
    different = apart(frobenius.weights, nuclear.weights) > 0.03
    return multipliers.min() > 0.1 * multipliers.mean() and second < 0.75 and different


def local_samples(rng, holds, settings, shape):
    """Samples with another selection that is locally optimal, or is not, and a start in its direction."""
    found = []
    while len(found) < settings["local"]:
        one = samples(rng, *shape, settings["local_d"], settings["d"])
        for selected in map(np.array, itertools.product(range(shape[1]), repeat=shape[0])):
            other = max_margin(one["x"], one["z"], selected, throw=False)
            better = one["values"] > np.take_along_axis(one["values"], selected[:, None], axis=1)
            # Not so hard to separate that the run is too short to leave.
            fits = selected.any() and other.gap < 1e-9 and other.norm < 2
            # Better tokens, where not next to the selected ones, are well beyond those that are.
            far = not holds or np.min(np.asarray(other.margins)[better], initial=np.inf) > 1.5
            if fits and far and bool(locally_optimal(other, one["values"], selected)) == holds:
                found.append(one | {"selected": selected, "start": settings["margin"] * np.asarray(other.weights)})
                break
    return found


def apart(a, b):
    """1 - cosine of matrices in the last two axes, without its cancellation."""
    a, b = (np.asarray(m) / np.linalg.norm(m, axis=(-2, -1), keepdims=True) for m in (a, b))
    return np.sum((a - b) ** 2, axis=(-2, -1)) / 2


def recorded(steps):
    """Steps at which weights are looked at: from zero, |W| is the step times their length."""
    return np.unique(np.geomspace(20, steps, 14).round().astype(int))


def predict(problem, norms=None):
    """Directions, misalignment and last attention of each set of samples, and which local solutions hold."""
    found = {name: [] for name in ("misaligned", "rate", "deficit", "norm")}
    shares, direction = ({kind: [] for kind in NORMS} for _ in range(2))
    best, size = np.zeros(problem.n, int), problem.lr * recorded(problem.steps)
    for x, z, values in zip(problem.x, problem.z, problem.values[: problem.runs], strict=False):
        solutions = {norm: max_margin(x, z, best, norm) for norm in NORMS.values()}
        for kind, norm in (norms or NORMS).items():
            direction[kind].append(solutions[norm].weights)
            shares[kind].append(residual_attention(solutions[norm], values, best))
        fro, nuc = solutions.values()
        found["misaligned"].append(misalignment(size, fro, path_offset(fro, x, z, values, best)))
        found["rate"].append(relaxation_rate(fro, x, z, best))
        found["deficit"].append(margin_deficit(1.0, nuc, values, best))
        found["norm"].append([fro.norm, nuc.norm])
    others = zip(problem.x, problem.z, problem.values, problem.selected, strict=True)
    holds = [
        locally_optimal(max_margin(x, z, at), v, at) for x, z, v, at in itertools.islice(others, problem.runs, None)
    ]
    arrays = {name: np.asarray(value) for name, value in (found | {"holds": holds}).items()}
    parts = {"shares": shares, "direction": direction}
    each = {name: {kind: np.asarray(part[kind]) for kind in NORMS} for name, part in parts.items()}
    return arrays | each | {"order": -2.0, "size": size, "x": problem.x, "z": problem.z}


@functools.cache
def layer(kind, lr):
    """Normalised gradient descent of a layer on its own samples."""

    def start(key, hyper):
        if kind == "weights":
            return AttentionWeights(hyper["start"])
        d = hyper["start"].shape[0]
        keys = jax.random.split(key)
        return AttentionFactors(*(1e-3 * jax.random.normal(k, (d, d)) for k in keys))

    def batch(_, hyper):
        readout = jnp.eye(hyper["x"].shape[-1])[0]
        return hyper["x"], hyper["z"], readout, hyper["labels"]

    def record(model, hyper):
        s = jax.nn.softmax(scores(model, hyper["x"], hyper["z"]), axis=1)
        return {"weights": model.product(), "attention": s}

    return training(start, lambda m, b: logistic_loss(m, *b), lambda _: normalised_descent(lr), batch, record)


def simulate_networks(problem):
    """Weights and attention of both layers, (runs, times, ...); of the first, the local ones come last."""
    data = {name: getattr(problem, name) for name in ("x", "z", "labels", "start")}
    found = {}
    for kind, lr, steps in (
        ("weights", problem.lr, problem.steps),
        ("factors", problem.factor_lr, problem.factor_steps),
    ):
        runs = len(problem.x) if kind == "weights" else problem.runs
        seeds = problem.seed * runs + np.arange(runs)
        hyper = {name: value[:runs] for name, value in data.items()}
        trajectory = simulate(layer(kind, lr), grid(seeds)._replace(hyper=hyper), recorded(steps), batching="vmap")
        found[kind] = trajectory.records
    end = found["weights"]["attention"][problem.runs :, -1]
    chosen = problem.selected[problem.runs :, :, None]
    held = np.take_along_axis(end, chosen, axis=2)[..., 0].min(axis=1)
    found["weights"] = {name: value[: problem.runs] for name, value in found["weights"].items()}
    return found | {"held": held}


def misaligned(prediction, observation):
    """1 - cosine of trained weights to the predicted direction, and their norm, (runs, times)."""
    w = observation["weights"]["weights"]
    return apart(w, prediction["direction"]["weights"][:, None]), np.linalg.norm(w, axis=(2, 3))


def settled(prediction):
    """exp(-rate kappa), what is left of the start, (runs, times)."""
    kappa = prediction["size"] / prediction["norm"][:, :1]
    return np.exp(-prediction["rate"][:, None] * kappa)


def alignment(prediction, observation):
    """Misalignment times |W|^2 against the predicted one, relative, in units of what is left of the start."""
    angle, size = misaligned(prediction, observation)
    late = prediction["size"] > 0.3 * prediction["size"][-1]
    expected = (prediction["misaligned"] * prediction["size"] ** 2)[:, late]
    return gap(expected, (angle * size**2)[:, late], expected * (settled(prediction)[:, late] + 1e-3))


def exponent(prediction, observation):
    """Exponent of the misalignment over |W| against the predicted one, in its standard error over runs."""
    late = prediction["size"] > 0.3 * prediction["size"][-1]
    angle, _ = misaligned(prediction, observation)
    found, error = fitted_exponent(prediction["size"][late], angle.T[late], log_mean)
    return abs(found - prediction["order"]) / np.hypot(error, 0.01)


def last(prediction, observation, kind):
    """Weights at the last record and kappa = |W| / |W_max| in their norm."""
    w = observation[kind]["weights"][:, -1]
    norm = np.linalg.norm(w, axis=(1, 2)) if kind == "weights" else np.linalg.svd(w, compute_uv=False).sum(axis=1)
    return w, norm / prediction["norm"][:, list(NORMS).index(kind)]


def factored(prediction, observation):
    """1 - cosine of trained K Q^T to the predicted direction, in units of 1 / kappa."""
    w, kappa = last(prediction, observation, "factors")
    return float(np.max(apart(w, prediction["direction"]["factors"]) * kappa))


def nuclear_margin(prediction, w):
    """Least margin of weights (runs, d, e) of nuclear norm one, and that norm."""
    x, z = (prediction[name][: len(w)] for name in ("x", "z"))
    size = np.linalg.svd(w, compute_uv=False).sum(axis=1)
    margins = np.einsum("rntd,rde,rne->rnt", x[:, :, :1] - x[:, :, 1:], w, z)
    return margins.min(axis=(1, 2)) / size, size


def deficit(prediction, observation):
    """How far the nuclear margin of K Q^T is from that of the predicted direction, over the bound."""
    reached, size = nuclear_margin(prediction, observation["factors"]["weights"][:, -1])
    wanted, _ = nuclear_margin(prediction, prediction["direction"]["factors"])
    return gap(1, reached / wanted, prediction["deficit"] / size)


def forgotten(prediction, observation):
    """Shares of the last attention on wrong tokens against the predicted ones, of W and of K Q^T."""
    worst = []
    for kind in NORMS:
        s = observation[kind]["attention"][:, -1]
        wrong = np.where(np.arange(s.shape[2]) > 0, s, 0.0)
        share = wrong / wrong.sum(axis=(1, 2), keepdims=True)
        _, kappa = last(prediction, observation, kind)
        unit = settled(prediction)[:, -1] + 1e-3 if kind == "weights" else kappa**-0.5
        worst.append(gap(prediction["shares"][kind], share, unit[:, None, None]))
    return max(worst)


def local(prediction, observation):
    """Starts at other solutions that stay where they should leave, or leave where they should stay."""
    return int(np.sum((observation["held"] > 0.5) != prediction["holds"]))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    angle, size = misaligned(prediction, observation)
    for i in range(3):
        style.theory(left, prediction["size"], prediction["misaligned"][i], i=i, label=f"samples {i + 1}")
        style.networks(left, size[i], angle[i], i=i)
    left.set(xscale="log", yscale="log", xlabel="norm |W|", ylabel="1 − cosine to max margin")
    left.set_title("W: angle ∝ 1/|W|")
    left.legend(loc="lower left", fontsize=7.5)

    w = observation["factors"]["weights"]
    norm = np.linalg.svd(w, compute_uv=False).sum(axis=-1).mean(axis=0)
    both = ("nuclear", "factors"), ("Frobenius", "weights")
    for i, (name, kind) in enumerate(both):
        runs = apart(w, prediction["direction"][kind][:, None])
        style.networks(middle, norm, np.exp(np.log(runs).mean(axis=0)), i=3 + i, label=f"to {name} solution")
    between = apart(prediction["direction"]["weights"], prediction["direction"]["factors"])
    style.theory(middle, norm, np.full(len(norm), np.exp(np.log(between).mean())), i=4, label="between both")
    middle.set(xscale="log", yscale="log", xlabel="nuclear norm |KQᵀ|", ylabel="1 − cosine")
    middle.set_title("KQᵀ goes to the nuclear one")
    middle.legend(loc="lower left", fontsize=7)

    for i, kind in enumerate(NORMS):
        s = observation[kind]["attention"][:, -1, :, 1:]
        share = (s / s.sum(axis=(1, 2), keepdims=True)).ravel()
        label = "W" if kind == "weights" else "KQᵀ"
        style.networks(right, prediction["shares"][kind][..., 1:].ravel(), share, i=i, most=99, label=label)
    style.theory(right, [0, 1], [0, 1], i=2)
    right.set(xlabel="predicted share  ∝ λ / w", ylabel="share of wrong attention", xlim=(0, 1), ylim=(0, 1))
    right.set_title("What is forgotten last")
    right.legend(loc="upper left", fontsize=7.5)


def swapped(problem, prediction):
    """W goes to the nuclear solution, K Q^T to the Frobenius one."""
    return predict(problem, dict(zip(NORMS, reversed(NORMS.values()), strict=True)))


def one_norm(problem, prediction):
    """Factors change nothing: K Q^T goes where W goes."""
    return predict(problem, dict.fromkeys(NORMS, "frobenius"))


def first_step(problem, prediction):
    """The first gradient gives the direction."""
    found = []
    for run in range(problem.runs):
        x, values = problem.x[run], problem.values[run]
        slopes = np.asarray(attention_slope(np.zeros_like(values), values))
        pull = 1 / (1 + np.exp(values.mean(axis=1)))
        found.append(np.einsum("n,nt,ntd,ne->de", pull, slopes, x, problem.z[run]))
    return prediction | {"direction": dict.fromkeys(NORMS, np.stack(found))}


def logarithmic(problem, prediction):
    """1 - cosine itself falls as 1 / |W|."""
    size = prediction["size"]
    return prediction | {"misaligned": prediction["misaligned"] * size / size[-1], "order": -1.0}


def alike(problem, prediction):
    """All wrong tokens are forgotten alike."""
    each = np.zeros(problem.values[: problem.runs].shape)
    each[:, :, 1:] = 1 / each[0, :, 1:].size
    return prediction | {"shares": dict.fromkeys(NORMS, each)}


def global_only(problem, prediction):
    """Descent ends at the tokens of best score, from any start."""
    return prediction | {"holds": np.zeros_like(prediction["holds"])}


STUDY = Study(
    title="Attention as a support vector machine",
    question="Which direction do trained attention weights take, how fast, and what do they forget last?",
    source="Tarzanagh, Li, Thrampoulidis & Oymak 2023 (arXiv:2308.16898), theorems on gradient descent",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            n=2,
            tokens=3,
            d=8,
            runs=6,
            local=4,
            local_d=3,
            margin=20.0,
            lr=0.1,
            steps=1000,
            factor_lr=0.025,
            factor_steps=800,
        ),
        "paper": dict(
            n=2,
            tokens=4,
            d=24,
            runs=16,
            local=16,
            local_d=4,
            margin=20.0,
            lr=0.1,
            steps=1000,
            factor_lr=0.01,
            factor_steps=2000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Trained W turns to the Frobenius solution, at the predicted misalignment.",
            alignment,
            5,
            "Relative, in units of what is left of the start, exp(-rate kappa), and a thousandth for rounding.",
        ),
        Claim(
            "Its misalignment falls as 1 / |W|^2.",
            exponent,
            5,
            "Standard errors of the exponent over runs, beside a hundredth.",
        ),
        Claim(
            "Trained K Q^T turns to the nuclear solution.",
            factored,
            1,
            "The part of K that no token moves meets a growing Q: an angle of the order of |W|^{-1/2}.",
        ),
        Claim(
            "The nuclear margin of K Q^T is the largest one, to within the bound at its norm.",
            deficit,
            3,
            "The bound is for the best weights of this norm; descent lags behind them by the same order.",
        ),
        Claim(
            "The last attention on wrong tokens is shared as multipliers over loss weights.",
            forgotten,
            1,
            "What is left of the start for W; the angle of K Q^T, of the order of kappa^{-1/2}.",
        ),
        Claim(
            "Starts in other directions of largest margin stay where the tokens next to the selected ones score less.",
            local,
            0,
            "A count.",
        ),
    ),
    rivals=(
        Rival("W goes to the nuclear solution, K Q^T to the Frobenius one.", swapped),
        Rival("Factors change nothing: K Q^T goes where W goes.", one_norm),
        Rival("The first gradient gives the direction.", first_step),
        Rival("1 - cosine itself falls as 1 / |W|.", logarithmic),
        Rival("All wrong tokens are forgotten alike.", alike),
        Rival("Descent ends at the tokens of best score, from any start.", global_only),
    ),
    draw=draw,
    formulas=("induction.attention_svm.slope", "induction.attention_svm.offset", "induction.max_margin.pair"),
)
