"""Output scale and temperature: where noisy steps leave a network lazy, make it learn features, or blow it up.

Networks alpha (g - g_0) learn odd against even digits by the hinge loss over alpha^2, so that outputs learn at a speed
that does not depend on alpha, until no sample is within the margin: there the gradient is zero and training ends.
What is known in advance:

- Lazy: with u = alpha (w - w_0) the tangent network has no alpha left. Weights move by 1/alpha at every temperature,
  and at low T = lr / B as far as the noiseless flow in the kernel of the start takes them, number by number.
- Noisy: far above the margin the hinge has no scale of its own, and lazy weights are proportional to the step. What
  counts is T = lr / B as long as no batch holds two samples that pull.
- Rich: without the margin only lr / alpha is left in the equations, lazy or not. Weights depend on T / alpha, and so
  does the end of training: T_max is proportional to alpha.

How weights grow with the samples is measured, of the theory only its sign. A given weight change takes less noise the
more samples there are; but noiseless weights grow as well, and where noise begins to tell hardly moves on this task.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.centred import centred
from sims.networks.mlp import mlp
from sims.probes.ntk import empirical_ntk
from sims.tasks.digits import digits
from sims.tasks.noisy_boundary import hinge
from sims.training import training
from theory.lazy_rich.output_scale import KERNEL_ORDER, WEIGHT_ORDER
from theory.lazy_rich.sgd_noise import noise_exponents
from validation import style
from validation.metrics import disorder, fitted_exponent, gap, log_mean
from validation.study import Claim, Problem, Rival, Study

# Cells with T / alpha up to here are lazy: there the hidden representation moves by a few per cent.
LAZY = 1 / 16
# Of the diagram, and others at one temperature.
BATCHES = dict(batch=4, batches=(1, 2), corner=16.0)


def problem(settings, seed):
    """Tangent kernels of the networks at their start, on the smallest training set, and the size of their weights."""
    drawn = Problem(**settings, seed=seed, draws=seed * settings["runs"] + np.arange(settings["runs"]))
    data = samples(seed, drawn.samples[0])
    starts = [start_of(drawn.width, draw) for draw in drawn.draws]
    drawn.kernels = np.stack([empirical_ntk(network, data.x, strategy="jacobian")[:, 0, :, 0] for network in starts])
    drawn.sizes, drawn.y = np.array([float(size(network)) for network in starts]), np.asarray(data.y)
    return drawn


@functools.cache
def samples(seed, count):
    """Odd against even: `count` digits to learn, in rows of mean square one, and the test set."""
    images = digits(seed=seed)
    x, test_x = images.x.T[:count], images.test_x.T
    unit = np.sqrt(np.mean(images.x**2))
    y, test_y = (1.0 - 2.0 * (labels % 2) for labels in (images.labels[:count], images.test_labels))
    return Problem(x=jnp.asarray(x / unit), y=jnp.asarray(y), test_x=jnp.asarray(test_x / unit), test_y=test_y)


def start_of(width, draw):
    return mlp(jax.random.fold_in(jax.random.key(0), draw), (64, width, 1))


def size(network):
    return jnp.sqrt(sum(jnp.sum(w**2) for w in jax.tree.leaves(network)))


def predict(problem):
    """How far the noiseless flow takes lazy weights; powers of alpha and T in each regime."""
    laws = noise_exponents(jnp.array([0.0, 1.0, 4.0]))
    travelled = jax.jit(jax.vmap(kernel_flow, in_axes=(0, None, None, None)), static_argnums=3)
    dt = problem.reach / problem.flow_steps
    return {
        "scales": np.asarray(problem.scales),
        "temperatures": np.asarray(problem.temperatures),
        "batches": np.array([*problem.batches, problem.batch]),
        "flow": np.asarray(travelled(problem.kernels, problem.y, dt, problem.flow_steps)) / problem.sizes,
        "orders": {"weights": WEIGHT_ORDER, "features": KERNEL_ORDER},
        "noisy": float(laws.weights_in_temperature[0]),
        # Of whatever density near the boundary, the sign is the same.
        "in_samples": float(jnp.sign(jnp.min(laws.weights_in_samples))),
        "in_batch": 0.0,
        "on_diagonal": 0.0,
        "ceiling": 1.0,
    }


def kernel_flow(kernel, y, dt, steps):
    """alpha |w - w_0| once all is fitted: w - w_0 = sum c_i grad g(x_i) / alpha, dc_i/dt = y_i 1(y_i f_i < 1) / P."""

    def step(_, c):
        return c + dt * y * (y * (kernel @ c) < 1) / len(y)

    c = jax.lax.fori_loop(0, steps, step, jnp.zeros(len(y)))
    return jnp.sqrt(c @ kernel @ c)


@functools.cache
def network(width, seed, most, batch):
    """Stochastic gradient descent on digits; a run's cell is its output scale, temperature and number of samples."""
    data = samples(seed, most)

    def draw(key, hyper):
        scale, _, count = hyper["cell"]
        at = jax.random.randint(key, (batch,), 0, count.astype(int))
        return data.x[at], data.y[at], scale

    def loss(model, now):
        x, y, scale = now
        return hinge(scale * model(x)[:, 0], y) / scale**2

    def record(model, hyper):
        scale, _, count = hyper["cell"]
        hidden = [jax.nn.relu(m.layer(0, data.x)) for m in (model.network, model.start)]
        # Some networks blow up: no function that refuses what is not finite can be used here.
        after, before = (h @ h.T for h in hidden)
        # Outputs that are not numbers are no fit.
        unfit = ~(data.y * scale * model(data.x)[:, 0] >= 1)
        return {
            "weights": jnp.sqrt(model.moved()) / size(model.start),
            "features": jnp.linalg.norm(after - before) / jnp.linalg.norm(before),
            "unfit": jnp.sum(unfit & (jnp.arange(most) < count)) / count,
            "error": jnp.mean(~(data.test_y * model(data.test_x)[:, 0] > 0)),
        }

    return training(
        lambda _, hyper: centred(start_of(width, hyper["draw"])),
        loss,
        lambda hyper: optax.sgd(batch * hyper["cell"][1]),
        draw,
        record,
    )


def trained(problem, cells, batch):
    """What networks are when they are trained, at each (scale, temperature, samples): (cells, runs) of each record.

    `crowding` is the share of unfit samples on the way, on average over the logarithm of time.
    """
    runs = grid(problem.draws, cell=np.asarray(cells, float))
    runs = runs._replace(hyper=runs.hyper | {"draw": runs.seeds})
    coldest, most = min(temperature for _, temperature, _ in cells), max(count for _, _, count in cells)
    # A sample is seen as often at every temperature, unless steps are so small that outputs need longer.
    steps = int(max(problem.passes * most / batch, problem.reach / (coldest * batch)))
    at = steps // 2 ** np.arange(5, -1, -1)
    descent = network(problem.width, problem.seed, problem.samples[-1], batch)
    found = simulate(descent, runs, at, batching="vmap").on_grid()
    crowding = np.mean(found["unfit"], axis=-1).T
    return {name: np.asarray(value)[..., -1].T for name, value in found.items()} | {"crowding": crowding}


def simulate_networks(problem):
    """The diagram, (scales, temperatures, runs); and in its lazy and noisy corner other batches and more samples."""
    few, *more = problem.samples
    rows = [trained(problem, [(s, temp, few) for s in problem.scales], problem.batch) for temp in problem.temperatures]
    diagram = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    corner = (problem.scales[-1], problem.corner)
    batches = [trained(problem, [(*corner, few)], batch) for batch in problem.batches]
    sets = trained(problem, [(*corner, count) for count in more], problem.batch)["weights"]
    known = diagram["weights"][-1, problem.temperatures.index(problem.corner)]
    return diagram | {
        "batches": np.stack([*(one["weights"][0] for one in batches), known]),
        "batch_crowding": problem.batch * float(np.mean(batches[0]["crowding"])),
        "sets": np.stack([known, *sets]),
    }


def crossover(prediction, observation):
    """T_c, at which the noisy law, as measured at the largest scale and highest lazy T, meets the noiseless flow."""
    alpha, temperatures = prediction["scales"][-1], prediction["temperatures"]
    hottest = np.flatnonzero(temperatures <= LAZY * alpha)[-1]
    reached = alpha * log_mean(observation["weights"][-1, hottest]) / temperatures[hottest]
    return log_mean(prediction["flow"]) / reached


def lazy_orders(prediction, observation):
    """Largest deviation of an exponent in alpha from that of lazy networks, over its error and the next order."""
    worst = []
    for i, temperature in enumerate(prediction["temperatures"]):
        lazy = np.flatnonzero(prediction["scales"] >= max(temperature, 1) / LAZY)
        if len(lazy) < 3:
            continue
        # What the features have moved is the relative size of what the tangent network leaves out.
        left_out = log_mean(observation["features"][lazy[0], i])
        for name, order in prediction["orders"].items():
            found, error = fitted_exponent(prediction["scales"][lazy], observation[name][lazy, i], log_mean)
            worst.append(abs(found - order) / np.hypot(error, left_out))
    return max(worst)


def noiseless_weights(prediction, observation):
    """Weights of the laziest and coldest networks, one by one, against the flow, in units of T / T_c of them."""
    cold = prediction["temperatures"][0] / crossover(prediction, observation)
    measured = prediction["scales"][-1] * observation["weights"][-1, 0]
    return gap(prediction["flow"], measured, cold * prediction["flow"])


def noisy_order(prediction, observation):
    """Deviation of the laziest networks' exponent in T, over its error and the margin's share T_c / T."""
    temperatures = prediction["temperatures"]
    hot = np.flatnonzero((temperatures > 1) & (temperatures <= LAZY * prediction["scales"][-1]))
    found, error = fitted_exponent(temperatures[hot], observation["weights"][-1, hot], log_mean)
    margin = crossover(prediction, observation) / temperatures[hot[0]]
    return abs(found - prediction["noisy"]) / np.hypot(error, margin)


def same_for_batches(prediction, observation):
    """Exponent in the batch at one T, over its error and how often the largest batch holds two unfit samples."""
    found, error = fitted_exponent(prediction["batches"], observation["batches"], log_mean)
    return abs(found - prediction["in_batch"]) / np.hypot(error, observation["batch_crowding"])


def diagonals(prediction, observation):
    """Exponent along T / alpha = 1, where networks are rich, over its error and the margin's share."""
    temperatures = prediction["temperatures"]
    pairs = [(i, j) for i, s in enumerate(prediction["scales"]) for j in np.flatnonzero(temperatures == s) if s > 1]
    runs = np.stack([observation["weights"][pair] for pair in pairs])
    along = prediction["scales"][[i for i, _ in pairs]]
    found, error = fitted_exponent(along, runs, log_mean)
    return abs(found - prediction["on_diagonal"]) / np.hypot(error, crossover(prediction, observation) / along[0])


def ceilings(prediction, observation):
    """(scales, T_max) where the diagram has it: the lowest T from which on most runs do not come to fit."""
    end = np.array([np.max(np.flatnonzero(row), initial=-1) + 1 for row in trainable(observation)])
    seen = end < len(prediction["temperatures"])
    return prediction["scales"][seen], prediction["temperatures"][end[seen]]


def trainable(observation):
    """Whether most runs of a cell come to fit all samples."""
    return np.mean(observation["unfit"] == 0, axis=-1) > 0.5


def ceiling_order(prediction, observation):
    """By how many steps of the diagram in T the ceiling is off, from the least to the largest scale that has one."""
    scales, highest = ceilings(prediction, observation)
    step = -np.subtract(*np.log(prediction["temperatures"][:2]))
    return abs(np.log(highest[-1] / highest[0]) - prediction["ceiling"] * np.log(scales[-1] / scales[0])) / step


def more_samples(prediction, observation):
    """Pairs of training sets that are out of order."""
    return disorder(prediction["in_samples"] * np.array([log_mean(runs) for runs in observation["sets"]]))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    scales, temperatures = prediction["scales"], prediction["temperatures"]
    start, flow = crossover(prediction, observation), log_mean(prediction["flow"])
    fitted = trainable(observation)
    weights = np.where(fitted, np.exp(np.mean(np.log(observation["weights"]), axis=-1)), np.nan)
    for i, j in enumerate(range(0, len(scales), 2)):
        style.networks(left, temperatures, scales[j] * weights[j], i=i, label=f"α = {scales[j]:g}")
    style.theory(left, temperatures[[0, -1]], [flow, flow], i=4, label="noiseless flow")
    hot = temperatures[temperatures >= start / 2]
    style.theory(left, hot, flow * hot / start, i=5, label="∝ T")
    left.set(xscale="log", yscale="log", xlabel="temperature T = lr / B", title="α |w − w₀| / |w₀|")
    left.legend(loc="upper left", fontsize=7)
    error = np.where(fitted, np.mean(observation["error"], axis=-1), np.nan)
    ends, highest = ceilings(prediction, observation)
    ceiling = np.exp(np.mean(np.log(highest / ends))) / np.sqrt(temperatures[1] / temperatures[0])
    for axes, values, title in ((middle, np.log10(weights), "log₁₀ weight change"), (right, error, "Test error")):
        picture = axes.pcolormesh(scales, temperatures, values.T, cmap="viridis")
        figure.colorbar(picture, ax=axes, pad=0.02)
        style.theory(axes, scales[[0, -1]], [start, start], i=6, label="T_c")
        style.theory(axes, scales, ceiling * scales, i=1, label="T_max ∝ α")
        limits = (temperatures[0] / 2, temperatures[-1] * 2)
        axes.set(xscale="log", yscale="log", xlabel="output scale α", ylabel="T", title=title, ylim=limits)
    middle.legend(loc="lower right", fontsize=7, labelcolor="white")


def step_alone(problem, prediction):
    """Weights are proportional to the step, whatever the batch."""
    return prediction | {"in_batch": 1.0}


def noise_plays_no_part(problem, prediction):
    """Weights are what the noiseless flow makes them, at every temperature."""
    return prediction | {"noisy": 0.0}


def random_walk(problem, prediction):
    """Weights walk at random: in proportion to the root of T."""
    return prediction | {"noisy": 0.5}


def scale_alone(problem, prediction):
    """Output scale alone says how rich training is, up to one highest temperature."""
    return prediction | {"on_diagonal": float(WEIGHT_ORDER), "ceiling": 0.0}


def no_scale(problem, prediction):
    """Output scale changes nothing."""
    return prediction | {"orders": dict.fromkeys(prediction["orders"], 0)}


def averaged(problem, prediction):
    """The more samples there are, the more their noise averages out."""
    return prediction | {"in_samples": -1.0}


STUDY = Study(
    title="Phases of stochastic gradient descent: output scale and temperature",
    question="When do noisy steps make a lazy network learn features, and when do they end its training?",
    source="Sclocchi, Geiger & Wyart 2023 (arXiv:2301.13703), with digits for images",
    regimes=("lazy", "rich"),
    asks="how trained",
    sizes={
        "smoke": dict(
            BATCHES,
            width=24,
            runs=4,
            samples=(64, 128, 256),
            scales=tuple(4.0**k for k in range(6)),
            temperatures=tuple(4.0**k for k in range(-3, 5)),
            # Steps times batch over samples, and steps times lr, that a run gets at the least.
            passes=50,
            reach=250.0,
            flow_steps=5000,
        ),
        "paper": dict(
            BATCHES,
            width=512,
            runs=8,
            samples=(256, 512, 1024),
            scales=tuple(2.0**k for k in range(13)),
            temperatures=tuple(2.0**k for k in range(-7, 9)),
            passes=1000,
            reach=4000.0,
            flow_steps=80_000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Lazy weights and features move by 1/alpha, at every temperature.",
            lazy_orders,
            3,
            "Standard error of fitted exponents, beside the features' movement, the size of the next order.",
        ),
        Claim(
            "Cold and lazy, each network's weights move as far as the noiseless flow in the kernel of its start says.",
            noiseless_weights,
            3,
            "In units of T / T_c, the relative size of the noise's part.",
        ),
        Claim(
            "Lazy weights are proportional to T above T_c.",
            noisy_order,
            3,
            "Standard error of the fitted exponent, beside T_c / T at the lowest T, the share of the margin.",
        ),
        Claim(
            "It is T = lr / B that counts: at one T they are the same for all small batches.",
            same_for_batches,
            3,
            "Standard error of the fitted exponent, beside how often a batch holds two unfit samples.",
        ),
        Claim(
            "Rich weights depend on T / alpha.",
            diagonals,
            3,
            "Standard error of the fitted exponent, beside T_c / T at the lowest T, the share of the margin.",
        ),
        Claim(
            "T_max, above which networks do not come to fit, is proportional to alpha.",
            ceiling_order,
            1,
            "One step of the diagram.",
        ),
        Claim(
            "The more samples, the farther noise takes the weights, and the less of it a given change takes.",
            more_samples,
            0,
            "An order.",
        ),
    ),
    rivals=(
        Rival("Weights are proportional to the step, whatever the batch.", step_alone),
        Rival("The noise plays no part.", noise_plays_no_part),
        Rival("Weights walk at random, by the root of T.", random_walk),
        Rival("Output scale alone says how rich training is, up to one highest temperature.", scale_alone),
        Rival("Output scale changes nothing.", no_scale),
        Rival("Noise averages out over samples.", averaged),
    ),
    draw=draw,
    formulas=("lazy_rich.output_scale.weight_change", "lazy_rich.sgd_noise.plateau", "lazy_rich.sgd_noise.separable"),
)
