"""Noise of stochastic gradient descent: how far a perceptron travels, and for how long, until it fits its samples."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.tasks.noisy_boundary import Perceptron, boundary_samples, hinge
from sims.training import training
from theory.lazy_rich.sgd_noise import late_signal, least_signal, noise_exponents, noise_flow, noise_plateau
from validation import style
from validation.metrics import fitted_exponent, gap, log_mean, z_score
from validation.study import Claim, Rival, Study


def fresh_records(problem):
    """Steps of the runs on fresh samples that are looked at."""
    return np.unique(np.geomspace(1, problem.fresh_steps, 24).astype(int))


def predict(problem, *, quiet=False):
    """Signal and noise on fresh samples; exponents and bounds on training sets, for each density exponent."""
    found = {"order": problem.inputs**-0.5, "loads": problem.loads, "temperatures": np.asarray(problem.temperatures)}
    t = fresh_records(problem) * problem.fresh_lr / problem.inputs
    temperature = problem.fresh_lr
    for chi in problem.loads:
        course = noise_flow(t, 1e-3 if quiet else temperature, chi)
        laws = noise_exponents(chi)
        found[chi] = {
            "t": t,
            "signal": np.asarray(course.signal),
            "noise": np.asarray(course.noise),
            "plateau": np.asarray(noise_plateau(np.asarray(problem.temperatures), chi)),
            "least": np.asarray([least_signal(temp, load, chi) for temp, load in cases(problem, chi)]),
            "weights": float(laws.weights_in_samples),
            "time": float(laws.time_in_samples),
            "temperature": 0.0 if quiet else float(laws.weights_in_temperature),
        }
    return found


def cases(problem, chi):
    """(temperature, load): all loads at the middle temperature, then the other temperatures at the middle load."""
    middle, loads = problem.temperatures[len(problem.temperatures) // 2], problem.loads[chi]
    others = [temp for temp in problem.temperatures if temp != middle]
    return [(middle, load) for load in loads] + [(temp, loads[len(loads) // 2]) for temp in others]


@functools.cache
def perceptron(d, size, samples):
    """Stochastic gradient descent on `samples` samples, or on fresh ones (None); lr and chi are the run's."""

    def batch(key, hyper):
        if samples is None:
            return boundary_samples(key, size, d, hyper["chi"])
        at = jax.random.randint(key, (size,), 0, samples)
        return hyper["x"][at], hyper["y"][at]

    def record(model, hyper):
        w = model.weights / jnp.sqrt(d)
        seen = {"signal": w[0], "noise": jnp.linalg.norm(w[1:])}
        if samples is not None:
            seen["unfit"] = jnp.sum(hyper["y"] * model(hyper["x"]) < 1)
        return seen

    return training(
        lambda _, __: Perceptron(jnp.zeros(d)),
        lambda model, now: hinge(model(now[0]), now[1]),
        lambda hyper: optax.sgd(hyper["lr"]),
        batch,
        record,
    )


def simulate_networks(problem):
    """Signal and noise through training: on fresh samples, and until training sets are fitted."""
    seeds, d = problem.seed * problem.runs + np.arange(problem.runs), problem.inputs
    found = {}
    for chi in problem.loads:
        # One by one: a step must be small against the signal.
        runs = hyper(seeds, chi=chi, lr=problem.fresh_lr)
        fresh = simulate(perceptron(d, 1, None), runs, fresh_records(problem), batching="vmap", optimised=True).records
        data = training_sets(problem, chi, seeds)
        done = [fitted(problem, chi, *case, seeds, data) for case in cases(problem, chi)]
        found[chi] = {"fresh": fresh, "fitted": done}
    return found


def training_sets(problem, chi, seeds):
    """Inputs and labels for each run, as many as the largest load takes; smaller sets are their beginnings."""
    most = int(max(max(loads) for loads in problem.loads.values()) * problem.inputs)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(1), seed))(seeds)
    draw_all = jax.jit(jax.vmap(lambda key, chi: boundary_samples(key, most, problem.inputs, chi), in_axes=(0, None)))
    return draw_all(keys, chi)


def hyper(seeds, **values):
    """Runs that differ by their seed only."""
    return grid(seeds)._replace(hyper={name: np.full(len(seeds), value) for name, value in values.items()})


def fitted(problem, chi, temperature, load, seeds, data):
    """What each run is when it first fits all samples, and the time at which it does: lr times steps over d."""
    d, lr = problem.inputs, temperature * problem.batch
    samples = int(load * d)
    runs = hyper(seeds, lr=lr)
    runs = runs._replace(hyper=runs.hyper | dict(zip("xy", (part[:, :samples] for part in data), strict=True)))
    # Ten times what the late growth takes on fresh samples to three times the least signal, a little more for few.
    reach = (3 + 12 / load) * float(least_signal(temperature, load, chi))
    steps = 10 * (reach / float(late_signal(1.0, temperature, chi))) ** (3 + chi) * d / lr
    at = np.unique(np.geomspace(10, steps, 120).astype(int))
    found = simulate(perceptron(d, problem.batch, samples), runs, at, batching="vmap", optimised=True).records
    done = np.asarray(found["unfit"]) == 0
    # A perceptron that never fits is a NaN, on which no claim holds.
    first = np.where(done.any(axis=1), done.argmax(axis=1), 0)
    rows = np.arange(len(seeds))
    never = np.where(done.any(axis=1), 0.0, np.nan)
    return {
        "signal": np.asarray(found["signal"])[rows, first] + never,
        "noise": np.asarray(found["noise"])[rows, first] + never,
        "time": at[first] * lr / d + never,
    }


def on_fresh_samples(prediction, observation):
    """z-score of ln a and ln r over runs, with 1/sqrt(d) per run and 1/d of bias."""
    worst = []
    for chi, found in each(prediction, observation):
        for name in ("signal", "noise"):
            runs = np.log(np.maximum(np.asarray(found["fresh"][name]), 1e-9))[:, 6:]
            expected = np.log(prediction[chi][name][6:])
            worst.append(z_score(expected, runs, floor=prediction["order"] ** 2))
    return max(worst)


def each(prediction, observation):
    return [(chi, observation[chi]) for chi in prediction["loads"]]


def exponent_in_samples(name, law):
    """Fitted against derived exponents in P, in units of their standard error and of corrections of order d / P."""

    def measure(prediction, observation):
        worst = []
        for chi, found in each(prediction, observation):
            loads = np.asarray(prediction["loads"][chi], float)
            runs = np.stack([one[name] for one in found["fitted"][: len(loads)]])
            exponent, error = fitted_exponent(loads, runs, log_mean)
            # A correction 1 + O(d / P) bends a power law by that much; time is the (3 + chi)th power of weights.
            bend = (3 + chi if name == "time" else 1) / loads[0]
            worst.append(abs(exponent - prediction[chi][law]) / np.hypot(error, bend))
        return max(worst)

    return measure


def by_temperature(found, prediction, chi, name):
    """(temperatures, runs) at the middle load, in the order of the temperatures."""
    loads, temperatures = prediction["loads"][chi], prediction["temperatures"]
    middle = found["fitted"][len(loads) // 2]
    others = found["fitted"][len(loads) :]
    at = len(temperatures) // 2
    return np.stack([one[name] for one in [*others[:at], middle, *others[at:]]])


def exponent_in_temperature(prediction, observation):
    """Fitted against derived exponents of weights and times in T; the margin is a correction of its size in noise."""
    worst = []
    for chi, found in each(prediction, observation):
        temperatures = prediction["temperatures"]
        for name in ("signal", "time"):
            exponent, error = fitted_exponent(temperatures, by_temperature(found, prediction, chi, name), log_mean)
            margin = 1 / prediction[chi]["plateau"][0]
            worst.append(abs(exponent - prediction[chi]["temperature"]) / np.hypot(error, margin))
    return max(worst)


def below_the_bound(prediction, observation):
    """Largest factor by which a run has fitted with less signal than the least."""
    ratios = [
        prediction[chi]["least"][i] / one["signal"]
        for chi, found in each(prediction, observation)
        for i, one in enumerate(found["fitted"])
    ]
    return float(np.max(ratios))


def settled_noise(prediction, observation):
    """Noise of runs that have just fitted the largest training set against the plateau on fresh samples."""
    worst = []
    for chi, found in each(prediction, observation):
        loads = prediction["loads"][chi]
        middle = len(prediction["temperatures"]) // 2
        runs = found["fitted"][len(loads) - 1]["noise"]
        error = np.std(runs, ddof=1) / np.sqrt(len(runs))
        plateau = prediction[chi]["plateau"][middle]
        # Samples are seen again and again: part of the noise is their memory, in a share of order (d / P)^{1/2}.
        worst.append(gap(plateau, np.mean(runs), np.hypot(error, plateau / np.sqrt(loads[-1]))))
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    for i, chi in enumerate(prediction["loads"]):
        course, found = prediction[chi], observation[chi]
        for name, kind in (("signal", "a"), ("noise", "r")):
            shown = np.asarray(found["fresh"][name]).mean(axis=0)
            style.theory(left, course["t"], course[name], i=2 * i + (kind == "r"), label=f"{kind}, χ = {chi:g}")
            style.networks(left, course["t"], shown, i=2 * i + (kind == "r"), most=10)
        loads = np.asarray(prediction["loads"][chi], float)
        for axes, name, law in ((middle, "signal", "weights"), (right, "time", "time")):
            runs = np.stack([one[name] for one in found["fitted"][: len(loads)]])
            values = [log_mean(one) for one in runs]
            exponent, error = fitted_exponent(loads, runs, log_mean)
            line = values[-1] * (loads / loads[-1]) ** course[law]
            style.theory(axes, loads, line, i=2 * i, label=f"χ = {chi:g}: exponent {course[law]:.3g}")
            style.networks(axes, loads, values, i=2 * i, label=f"measured {exponent:.2f} ± {error:.2f}")
    left.set(xscale="log", yscale="log", xlabel="time  lr · steps / d", ylabel="a = w₁ / √d,  r = |w⊥| / √d")
    left.set_title("Fresh samples")
    left.legend(loc="lower right", fontsize=7)
    for axes, title in ((middle, "Signal a when all fits"), (right, "Time until all fits")):
        axes.set(xscale="log", yscale="log", xlabel="load  P / d")
        axes.set_title(title)
        axes.set_xticks([10, 20, 50], ["10", "20", "50"])
        axes.minorticks_off()
        # Room for the legend above the points.
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.6)
        axes.legend(loc="upper left", fontsize=7)


def same_for_all(problem, prediction):
    """The exponent does not depend on how many samples lie near the boundary."""
    laws = noise_exponents(1.0)
    flat = {"weights": float(laws.weights_in_samples), "time": float(laws.time_in_samples)}
    return prediction | {chi: prediction[chi] | flat for chi in problem.loads}


def no_noise(problem, prediction):
    """Noise of the steps plays no part."""
    return predict(problem, quiet=True)


def random_walk(problem, prediction):
    """Weights walk at random: their size grows as the root of time, and with the root of T."""
    return prediction | {chi: prediction[chi] | {"temperature": 0.5} for chi in problem.loads}


STUDY = Study(
    title="Noise of stochastic gradient descent as a temperature",
    question="How far do noisy steps carry a perceptron before it fits, and how does that grow with the samples?",
    source="Sclocchi, Geiger & Wyart 2023 (arXiv:2301.13703)",
    regimes=("lazy",),
    asks="how trained",
    sizes={
        "smoke": dict(
            inputs=32,
            batch=16,
            fresh_lr=16.0,
            fresh_steps=5000,
            # Loads P / d by the exponent of the density of distances.
            loads={0.0: (8, 13, 20), 1.0: (13, 26, 52)},
            temperatures=(32.0, 64.0, 128.0),
            runs=8,
        ),
        "paper": dict(
            inputs=128,
            batch=16,
            fresh_lr=16.0,
            fresh_steps=200_000,
            loads={0.0: (8, 16, 32, 64), 1.0: (16, 32, 64, 128)},
            temperatures=(32.0, 64.0, 128.0),
            runs=16,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "On fresh samples signal and noise follow their closed flow.",
            on_fresh_samples,
            5,
            "Standard errors over runs, beside 1/d.",
        ),
        Claim(
            "The signal at which all samples are fitted grows as P^{1/(1+chi)}.",
            exponent_in_samples("signal", "weights"),
            2,
            "Standard error of the fitted exponent beside d/P at the smallest P, the order of the first correction.",
        ),
        Claim(
            "The time until then grows as P^{(3+chi)/(1+chi)}.",
            exponent_in_samples("time", "time"),
            2,
            "As for the signal, of which time is the (3 + chi)th power.",
        ),
        Claim(
            "Both are proportional to the temperature.",
            exponent_in_temperature,
            4,
            "Standard error of the fitted exponent, beside the margin over the noise at the lowest T.",
        ),
        Claim(
            "No run fits with less signal than separability asks for.",
            below_the_bound,
            1,
            "A bound.",
        ),
        Claim(
            "The noise is then what it is on fresh samples.",
            settled_noise,
            2,
            "Standard error over runs, beside the share (d/P)^{1/2} of noise that remembers the samples.",
        ),
    ),
    rivals=(
        Rival("Exponents do not depend on how many samples lie near the boundary.", same_for_all),
        Rival("The noise of the steps plays no part.", no_noise),
        Rival("Weights walk at random, by the root of T.", random_walk),
    ),
    draw=draw,
    formulas=("lazy_rich.sgd_noise.plateau", "lazy_rich.sgd_noise.late", "lazy_rich.sgd_noise.separable"),
)
