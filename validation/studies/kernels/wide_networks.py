"""Wide networks: their kernels are random with the mean of infinite width, and the wider, the less they move."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.linearised import linearised
from sims.networks.mlp import gelu, mlp, squared_error
from sims.probes.ntk import empirical_ntk, trace_ntk
from sims.training import gradient_descent
from theory.kernels.finite_width import DRIFT_ORDER, FLUCTUATION_ORDER, LINEARISATION_ORDER, kernel_variances
from theory.kernels.infinite import kernels
from validation import style
from validation.metrics import rate, z_score
from validation.study import Claim, Problem, Rival, Study

ACTIVATIONS = {"relu": jax.nn.relu, "erf": jax.scipy.special.erf, "gelu": gelu}
# Those whose variance is worked out; the others have standard errors from the networks themselves.
SCATTER = ("relu", "erf")
DEEP = (("relu", "standard"), ("erf", "ntk"))
WEIGHT, BIAS = 1.8, 0.2


def problem(settings, seed):
    """Inputs of squared length d at random angles, targets of order one, and inputs to test on."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(settings["inputs"] + 4, 4))
    points *= 2 / np.linalg.norm(points, axis=1, keepdims=True)
    x, test = points[:-4], points[-4:]
    return Problem(**settings, seed=seed, x=x, test=test, y=np.sign(rng.normal(size=(len(x), 1))))


def predict(problem):
    """Kernels at infinite width, variances at one hidden layer, orders in the width."""
    first = WEIGHT * problem.x @ problem.x.T / problem.x.shape[1] + BIAS
    q = np.diag(first)
    network = {"weight_variance": WEIGHT, "bias_variance": BIAS}
    shallow = [kernels(problem.x, depth=1, activation=name, **network) for name in ACTIVATIONS]
    variances = [
        kernel_variances(q[:, None], q, first, width=problem.shallow_width, phi=name, weight_variance=WEIGHT)
        for name in SCATTER
    ]
    deep = {
        name: kernels(
            problem.x, depth=2, activation=name, parametrisation=kind, width=problem.deep_width, **network
        ).ntk
        for name, kind in DEEP
    }
    return {
        "nngp": stacked(kernel.nngp for kernel in shallow),
        "ntk": stacked(kernel.ntk for kernel in shallow),
        "nngp_variance": stacked(variance.nngp for variance in variances),
        "ntk_variance": stacked(variance.ntk for variance in variances),
        "deep": stacked(deep.values()),
        "deep_width": problem.deep_width,
        "limit": np.asarray(deep["erf"]),
        "fluctuation_order": FLUCTUATION_ORDER,
        "drift_order": DRIFT_ORDER,
        "linearisation_order": LINEARISATION_ORDER,
    }


def stacked(kernels):
    return np.stack([np.asarray(kernel) for kernel in kernels])


def simulate_networks(problem):
    """Empirical kernels of many random networks, and gradient descent beside the linearised network."""
    x, fan = jnp.asarray(problem.x), problem.x.shape[1]

    def drawn(runs, widths, activation, parametrisation="ntk", parts=("ntk",)):
        """The chosen kernels of `runs` networks."""

        def kernel(key):
            network = mlp(key, widths, WEIGHT, BIAS, activation, parametrisation=parametrisation)
            return [trace_ntk(network, x, trainable=readout(network) if part == "nngp" else FLOATS) for part in parts]

        keys = jax.random.split(jax.random.fold_in(jax.random.key(problem.seed), len(widths)), runs)
        return [np.asarray(found) for found in jax.jit(lambda keys: jax.lax.map(kernel, keys))(keys)]

    shallow = (fan, problem.shallow_width, 1)
    deep = (fan, problem.deep_width, problem.deep_width, 1)
    both = [drawn(problem.shallow_runs, shallow, f, parts=("nngp", "ntk")) for f in ACTIVATIONS.values()]
    trained = [train(problem, width) for width in problem.widths]
    return {
        "nngp": np.stack([nngp for nngp, _ in both], axis=1),
        "ntk": np.stack([ntk for _, ntk in both], axis=1),
        "deep": np.stack([drawn(problem.deep_runs, deep, ACTIVATIONS[name], kind)[0] for name, kind in DEEP], axis=1),
        "width": np.asarray(problem.widths),
        "start": [now["kernel"][:, 0] for now in trained],
        "drift": [relative(now["kernel"][:, -1] - now["kernel"][:, 0], now["kernel"][:, 0]) for now in trained],
        "departure": [np.sqrt(np.mean((now["network"] - now["tangent"])[:, -1] ** 2)) for now in trained],
    }


FLOATS = eqx.is_inexact_array


def readout(network):
    """Which parameters are those of the last layer: their part of the tangent kernel is the empirical NNGP kernel."""
    nothing = jax.tree.map(lambda _: False, network)
    return eqx.tree_at(lambda now: (now.weights[-1], now.biases[-1]), nothing, (True, True))


def train(problem, width):
    """Networks with two hidden layers of erf, and their tangents at the start, on the same data from the same start."""
    x, y, test = (jnp.asarray(a) for a in (problem.x, problem.y, problem.test))

    def start(key, _):
        network = mlp(key, (x.shape[1], width, width, 1), WEIGHT, BIAS, ACTIVATIONS["erf"])
        return network, linearised(network)

    def record(pair, _):
        network, tangent = pair
        kernel = empirical_ntk(network, x, strategy="structured")[:, 0, :, 0]
        return {"kernel": kernel, "network": network(test), "tangent": tangent(test)}

    def loss(pair):
        # Every network has the same way to go, whatever its outputs are at the start.
        target = y + jax.lax.stop_gradient(pair[1].start(x))
        return sum(squared_error(f, x, target) for f in pair)

    descent = gradient_descent(start, loss, problem.lr, record)
    seeds = problem.runs * problem.seed + np.arange(problem.runs)
    return simulate(descent, grid(seeds=seeds), [0, problem.steps]).records


def relative(difference, whole):
    """Root mean square over networks of |difference| / |whole|, in Frobenius norms."""
    size = [np.linalg.norm(k, axis=(1, 2)) for k in (difference, whole)]
    return np.sqrt(np.mean((size[0] / size[1]) ** 2))


def fluctuation(prediction, observation):
    """How far the kernels of single networks are from the limit, for each width."""
    limit = prediction["limit"]
    return [relative(start - limit, np.broadcast_to(limit, start.shape)) for start in observation["start"]]


def missed_mean(prediction, observation):
    """Largest deviation of a mean kernel from the theory, in standard errors: exact ones where there are."""
    missed = []
    for part in ("nngp", "ntk"):
        samples = observation[part]
        variance = samples.var(axis=0, ddof=1)
        variance[: len(SCATTER)] = prediction[f"{part}_variance"]
        deviation = np.abs(samples.mean(axis=0) - prediction[part])
        missed.append(np.max(deviation / np.sqrt(variance / len(samples))))
    return max(missed)


def missed_variance(prediction, observation):
    """Largest deviation of the variance between networks from the theory, in standard errors."""
    missed = []
    for part in ("nngp", "ntk"):
        samples = observation[part][:, : len(SCATTER)]
        missed.append(z_score(prediction[f"{part}_variance"], (samples - samples.mean(axis=0)) ** 2))
    return max(missed)


def missed_deep(prediction, observation):
    """The same for means of deep networks: two hidden layers have a bias of order 1/width."""
    runs, width = len(observation["deep"]), prediction["deep_width"]
    samples, predicted = observation["deep"], prediction["deep"]
    error = np.hypot(samples.std(axis=0, ddof=1) / np.sqrt(runs), np.abs(predicted) / width)
    return np.max(np.abs(samples.mean(axis=0) - predicted) / error)


def draw(figure, problem, prediction, observation):
    scatter, decay = figure.subplots(1, 2, width_ratios=(1.2, 1))
    pairs = np.triu_indices(len(problem.x))
    for i, name in enumerate(ACTIVATIONS):
        exact = prediction["ntk"][i][pairs]
        order = np.argsort(exact)
        style.theory(scatter, exact[order], exact[order], i=i)
        mean = observation["ntk"][:, i].mean(axis=0)[pairs][order]
        error = observation["ntk"][:, i].std(axis=0)[pairs][order]
        style.networks(scatter, exact[order], mean, i=i, error=error, label=name)
    scatter.set(
        xlabel="infinite width  Θ(x, x')",
        ylabel=f"width {problem.shallow_width}: mean ± spread",
        title="One hidden layer",
    )
    scatter.legend(loc="upper left")
    width = observation["width"]
    curves = (
        ("kernel: single network − limit", fluctuation(prediction, observation), prediction["fluctuation_order"]),
        ("kernel: after − before training", observation["drift"], prediction["drift_order"]),
        ("output: network − linearised", observation["departure"], prediction["linearisation_order"]),
    )
    for i, (label, values, order) in enumerate(curves):
        middle = np.exp(np.mean(np.log(values) - order * np.log(width)))
        style.theory(decay, width, middle * width.astype(float) ** order, i=3 + i, label=f"order {order:g}")
        style.networks(decay, width, values, i=3 + i, label=label)
    decay.set(xscale="log", yscale="log", xlabel="width n", ylabel="relative size", title="What is left at width n")
    decay.set_xticks(width, [str(n) for n in width])
    decay.set_xticks([], minor=True)
    decay.set_ylim(bottom=0.02 * np.min(observation["departure"]))
    decay.legend(loc="lower left", fontsize=7)


def instead(change):
    """A rival that believes otherwise in what `change(problem, prediction)` gives."""

    def believed(problem, prediction):
        return prediction | change(problem, prediction)

    return believed


def without_slopes(problem, prediction):
    return {"ntk": prediction["nngp"]}


def halved_variance(problem, prediction):
    """The kernels of weights with variance 1/2 of what it is."""
    half = [
        kernels(problem.x, depth=1, activation=name, weight_variance=WEIGHT / 2, bias_variance=BIAS)
        for name in ACTIVATIONS
    ]
    return {"nngp": stacked(k.nngp for k in half), "ntk": stacked(k.ntk for k in half)}


def swapped_angle(problem, prediction):
    """theta in place of pi - theta in the derivative dual of ReLU, the first of the activations."""
    first = WEIGHT * problem.x @ problem.x.T / problem.x.shape[1] + BIAS
    size = np.sqrt(np.diag(first))
    angle = np.arccos(np.clip(first / np.outer(size, size), -1, 1))
    ntk = prediction["ntk"].copy()
    ntk[0] += WEIGHT * first * (2 * angle - np.pi) / (2 * np.pi)
    return {"ntk": ntk}


STUDY = Study(
    title="Wide networks and their kernels",
    question="What do random wide networks have in common, and how wide is wide enough for training to be linear?",
    source="Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572); Lee et al. 2019 (arXiv:1902.06720), theorem 2.1",
    regimes=("lazy",),
    asks="what",
    sizes={
        "smoke": dict(
            inputs=5,
            shallow_width=32,
            shallow_runs=400,
            deep_width=128,
            deep_runs=40,
            widths=(64, 160, 400),
            runs=12,
            lr=0.5,
            steps=20,
        ),
        "paper": dict(
            inputs=5,
            shallow_width=128,
            shallow_runs=20_000,
            deep_width=2048,
            deep_runs=200,
            widths=(128, 512, 2048),
            runs=32,
            lr=0.5,
            steps=20,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The mean NNGP and tangent kernels of networks with one hidden layer are those of infinite width.",
            missed_mean,
            5,
            "In standard errors, for ReLU and erf from the exact variance; the means are exact at any width.",
        ),
        Claim(
            "The kernels of single networks scatter around it with the predicted variance.",
            missed_variance,
            5,
            "In standard errors of a mean of squares.",
        ),
        Claim(
            "Deep networks have the tangent kernel of infinite width on average, in both parametrisations.",
            missed_deep,
            5,
            "In standard errors, to which one part in the width is added: the bias of two hidden layers.",
        ),
        Claim(
            "The kernel of a single network differs from the limit by the order n^{-1/2}.",
            lambda p, o: rate(o["width"], fluctuation(p, o), p["fluctuation_order"]),
            0.25,
            "A root mean square over 24 networks is known to 1/√48; two of them, a factor 6 apart in width: ±0.11.",
        ),
        Claim(
            "In training the tangent kernel moves by the order 1/n.",
            lambda p, o: rate(o["width"], o["drift"], p["drift_order"]),
            0.25,
            "As above, and the next order in 1/n at the smallest width.",
        ),
        Claim(
            "The trained network departs from the linearised one by the order 1/n.",
            lambda p, o: rate(o["width"], o["departure"], p["linearisation_order"]),
            0.4,
            "As above; a root mean square of few outputs scatters more than that of a kernel.",
        ),
    ),
    rivals=(
        Rival("Only the readout learns: the tangent kernel is the NNGP kernel.", instead(without_slopes)),
        Rival("Half the weight variance: a factor of two dropped.", instead(halved_variance)),
        Rival("The angle of ReLU's derivative dual on the wrong side.", instead(swapped_angle)),
        Rival(
            "Readout weights all of the same size: E a^4 = 1 instead of 3.",
            instead(lambda problem, p: {"ntk_variance": p["ntk_variance"] / 3}),
        ),
        Rival(
            "The kernel moves as much as it fluctuates: n^{-1/2}.",
            instead(lambda problem, p: {"drift_order": FLUCTUATION_ORDER}),
        ),
        Rival(
            "Any width learns features: the kernel's movement does not depend on it.",
            instead(lambda problem, p: {"drift_order": 0.0, "linearisation_order": 0.0}),
        ),
    ),
    draw=draw,
    formulas=("kernels.finite_width.relu", "kernels.finite_width.relu_ntk"),
)
