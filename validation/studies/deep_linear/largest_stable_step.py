"""The largest stable step: how sharp the minima of deep linear networks are, and when gradient descent leaves them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.deep_linear import aligned, squared_error
from sims.probes.linear import mode_strengths
from sims.probes.sharpness import hessian_spectrum, sharpness
from sims.training import training
from theory.deep_linear.curvature import largest_stable_step, minimum_sharpness, minimum_spectrum
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """A teacher, whitened data, and steps at given multiples of the edge that is on trial."""
    rng = np.random.default_rng(seed)
    n_in, n_out = settings["n_in"], settings["n_out"]
    left = np.linalg.qr(rng.normal(size=(n_out, n_out)))[0]
    right = np.linalg.qr(rng.normal(size=(n_in, n_in)))[0]
    # Rows of orthonormal vectors times sqrt(P): the inputs are exactly white.
    x = np.sqrt(settings["samples"]) * np.linalg.qr(rng.normal(size=(settings["samples"], n_in)))[0].T
    depth, top, factor = np.meshgrid(settings["depth"], settings["top"], settings["factor"], indexing="ij")
    lr = factor * np.asarray(largest_stable_step(top, depth))
    drawn = dict(seed=seed, left=left, right=right, x=x, lr=lr)
    vectors = {name: np.asarray(settings[name], float) for name in ("relative", "top")}
    return Problem(**(settings | vectors | drawn))


def predict(problem):
    """Sharpness, growth of the top mode's error per step, and one network's whole Hessian spectrum."""
    depth, top = np.asarray(problem.depth)[:, None], problem.top
    curvature = np.asarray(minimum_sharpness(top, depth))
    spectrum = minimum_spectrum(top[0] * problem.relative, problem.depth[1], problem.n_out, problem.n_in)
    return {
        "depth": np.asarray(problem.depth),
        "lr": problem.lr,
        "sharpness": curvature,
        "growth": growth(problem.lr, curvature),
        "spectrum": np.sort(np.asarray(spectrum).ravel()),
        "unit": problem.noise,
    }


def growth(lr, curvature):
    """ln|1 - lr h|: growth per step of the error along a direction of curvature h."""
    return np.log(np.abs(1 - lr * curvature[..., None]))


def simulate_networks(problem):
    """Gradient descent on all weights, started beside the balanced minimum, at steps on both sides of the edge."""
    modes = len(problem.relative)
    left, right = jnp.asarray(problem.left[:, :modes]), jnp.asarray(problem.right[:, :modes])
    x, key = jnp.asarray(problem.x), jax.random.key(problem.seed)

    def data(_, hyper):
        return x, (left * (hyper["top"] * problem.relative)) @ (right.T @ x)

    def loss(network, batch):
        return squared_error(network, *batch)

    errors, sharp = [], []
    for depth, lr in zip(problem.depth, problem.lr, strict=True):
        trained = training(
            lambda key, hyper, depth=depth: beside_minimum(key, hyper["top"], depth, left, right, problem),
            loss,
            lambda hyper: optax.sgd(hyper["lr"]),
            data,
            lambda network, _: mode_strengths(network, left, right)[0],
        )
        top = np.repeat(problem.top, lr.shape[1])
        runs = Runs(np.full(lr.size, problem.seed), {"lr": lr.ravel(), "top": top}, lr.shape)
        # The early steps tell the growth; by the last one the networks below the edge are back at a minimum.
        found = simulate(trained, runs, np.append(every(problem.steps, 1), problem.settled))
        errors.append((found.records[:, :-1] - top[:, None]).reshape(*lr.shape, -1))
        # The sharpness of that minimum, by Lanczos.
        measured = jax.jit(
            jax.vmap(lambda net, top: sharpness(lambda net: loss(net, data(None, {"top": top})), net, key))
        )(found.state.model, jnp.asarray(top))
        sharp.append(np.asarray(measured).reshape(lr.shape)[:, 0])
        if len(errors) == 2:
            network, batch = jax.tree.map(lambda w: w[0], found.state.model), data(None, {"top": problem.top[0]})
            spectrum = jax.jit(lambda net, batch: hessian_spectrum(lambda net: loss(net, batch), net))(network, batch)
    return {"error": np.stack(errors), "sharpness": np.stack(sharp), "spectrum": np.asarray(spectrum)}


def beside_minimum(key, top, depth, left, right, problem):
    """The balanced minimum of the teacher, and noise on every weight."""
    minimum_key, noise_key = jax.random.split(key)
    layers = jnp.tile((top * problem.relative) ** (1 / depth), (depth, 1))
    network = aligned(minimum_key, left, right, layers, problem.hidden)
    keys = jax.random.split(noise_key, depth)
    return type(network)(
        tuple(w + problem.noise * jax.random.normal(k, w.shape) for k, w in zip(keys, network.weights, strict=True))
    )


def measured_growth(observation):
    """Growth of the top mode's error per step: the slope of its logarithm, once other directions have settled."""
    size = np.log(np.abs(observation["error"]))
    steps = np.arange(size.shape[-1])
    late = steps >= len(steps) // 4
    return np.polyfit(steps[late], size[..., late].reshape(-1, late.sum()).T, 1)[0].reshape(size.shape[:-1])


def measured_edge(observation, prediction):
    """The step at which the top mode would neither shrink nor grow, from its alternating growth at the steps taken.

    Beyond lr h = 1 the error is multiplied by 1 - lr h < 0 at each step, so that h = (1 + e^growth) / lr.
    """
    return np.mean(2 * prediction["lr"] / (1 + np.exp(measured_growth(observation))), axis=-1)


def whole_spectrum(prediction, observation):
    """Largest deviation of the sorted Hessian eigenvalues, zeros included, from the pairs."""
    found, pairs = observation["spectrum"], prediction["spectrum"]
    padded = np.sort(np.concatenate([np.zeros(len(found) - len(pairs)), pairs]))
    return gap(padded, found, prediction["unit"] * pairs[-1])


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    for i, depth in enumerate(prediction["depth"]):
        for j in range(len(problem.factor)):
            size = np.abs(observation["error"][i, -1, j])
            steps = np.arange(len(size))
            start = np.exp(np.mean(np.log(size[5:15]) - prediction["growth"][i, -1, j] * steps[5:15]))
            style.theory(left, steps, start * np.exp(prediction["growth"][i, -1, j] * steps), i=i)
            label = f"depth {depth}" if j == 0 else None
            style.networks(left, steps, size, i=i, label=label, most=14)
    left.set(yscale="log", xlabel="steps of gradient descent", ylabel="|error of the top mode|")
    left.set_title(f"{problem.factor[0]:g} and {problem.factor[-1]:g} times the edge")
    left.legend(loc="lower left")
    depth = np.geomspace(prediction["depth"][0], prediction["depth"][-1])
    for j, top in enumerate(problem.top):
        style.theory(right, depth, largest_stable_step(top, depth), i=j + 4)
        style.networks(
            right, prediction["depth"], measured_edge(observation, prediction)[:, j], i=j + 4, label=f"s = {top:g}"
        )
    style.rival(right, depth, 2 + 0 * depth, label="one layer")
    right.set(xscale="log", yscale="log", xlabel="depth N", ylabel="largest stable step")
    right.set_title("The edge against depth")
    right.set_xticks(prediction["depth"], [str(n) for n in prediction["depth"]], minor=False)
    right.tick_params(axis="x", which="minor", labelbottom=False)
    right.legend(loc="lower left")


def instead(curvature):
    """A rival that believes in another sharpness h(s, N) of the minimum."""

    def believed(problem, prediction):
        depth, top = np.asarray(problem.depth)[:, None], problem.top
        sharp = curvature(top, depth) + 0 * top * depth
        return prediction | {"sharpness": sharp, "growth": growth(prediction["lr"], sharp)}

    return believed


STUDY = Study(
    title="Largest stable step",
    question="How large a step can gradient descent take in a deep linear network before it leaves a minimum?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), on step sizes and depth; Mulayoff & Michaeli 2020",
    regimes=("linear",),
    asks="how trained",
    sizes={
        "smoke": dict(
            depth=(2, 3, 5),
            top=(1.0, 2.0),
            relative=(1.0, 0.6, 0.3),
            factor=(0.98, 1.02),
            n_in=4,
            n_out=3,
            hidden=5,
            samples=16,
            noise=1e-4,
            steps=60,
            settled=400,
        ),
        "paper": dict(
            depth=(2, 3, 5, 10, 20),
            top=(1.0, 2.0),
            relative=(1.0, 0.8, 0.6, 0.4, 0.2),
            factor=(0.98, 1.02),
            n_in=16,
            n_out=10,
            hidden=20,
            samples=200,
            noise=1e-4,
            steps=60,
            settled=400,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Just below the edge 2/(N s^(2-2/N)) the top mode's error shrinks, just above it grows.",
            lambda p, o: float(np.sum(np.sign(measured_growth(o)) != np.sign(p["growth"]))),
            0,
            "A sign has no error: the steps lie 2 % from the edge, which noise of 1e-4 on the weights cannot move.",
        ),
        Claim(
            "It shrinks or grows by |1 - lr N s^(2-2/N)| per step.",
            lambda p, o: gap(p["growth"], measured_growth(o), p["unit"]),
            0.5,
            "In units of the noise e on the weights: the balanced minimum is the flattest one, so that its curvature "
            "has no first order in e.",
        ),
        Claim(
            "The Hessian's largest eigenvalue where the networks settle is N s^(2-2/N).",
            lambda p, o: gap(1, o["sharpness"] / p["sharpness"], p["unit"]),
            0.5,
            "In units of the noise e, of which the curvature of the flattest minimum has no first order; after 400 "
            "steps the top mode's own error, 0.96^400, is gone.",
        ),
        Claim(
            "All Hessian eigenvalues, the zero ones included, are the pairs' sums.",
            whole_spectrum,
            5,
            "In units of e times the largest: the other eigenvalues move at first order, by a few e.",
        ),
        Claim(
            "The measured edge falls as 1/N with the depth.",
            lambda p, o: rate(p["depth"], measured_edge(o, p)[:, 0], -1.0),
            0.001,
            "Each edge is known to about the noise, 1e-4 of itself, over a range of ln(5/2) or more.",
        ),
    ),
    rivals=(
        Rival(
            "The edge does not depend on depth: it is set by the data, as for one layer.",
            instead(lambda s, depth: 1.0),
        ),
        Rival(
            "Gradient descent becomes unstable at 1/sharpness.",
            instead(lambda s, depth: 2 * depth * s ** (2 - 2 / depth)),
        ),
        Rival(
            "The sharpness is N s^(2/N): only one layer's strength counts.",
            instead(lambda s, depth: depth * s ** (2 / depth)),
        ),
        Rival(
            "The sharpness is s^(2-2/N), without the factor N.",
            instead(lambda s, depth: s ** (2 - 2 / depth)),
        ),
    ),
    draw=draw,
    formulas=("deep_linear.curvature.largest", "deep_linear.curvature.edge", "deep_linear.curvature.pair"),
)
