"""In-context learning against memorisation: when a circuit that reads contexts is acquired, and when never."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.in_context_and_weights import (
    InContextAndWeights,
    Pool,
    contexts,
    cross_entropy,
    labelled_pools,
)
from sims.networks.mlp import mlp
from sims.training import training
from theory.induction.acquisition import (
    acquisition_flow,
    acquisition_time,
    critical_diversity,
    in_context_accuracy,
    random_contexts,
    required_error,
)
from validation import style
from validation.metrics import fitted_exponent, gap, log_mean, slope, z_score
from validation.study import Claim, Problem, Rival, Study

# Margins of a memoriser are summed up by this many quantiles.
QUANTILES = 8


def problem(settings, seed):
    """Items and their labels, and what a memoriser does on them when it is alone."""
    s = Problem(**settings, seed=seed)
    seeds = seed * s.runs + np.arange(s.runs)
    s.seeds, s.drawn = seeds, labelled_pools(seeds, s.pool, s.dimension)
    s.t = s.race_lr * marks(s, s.race_time, s.race_lr)
    alone = [trained(s, s.race_time, s.race_lr, asked=k, shown=0.0, size=s.most, beta=0.0) for k in s.items]
    s.alone = {name: np.stack([run[name] for run in alone], axis=1) for name in ("margins", "error")}
    s.spent = integral(s.alone["error"], s.t)
    return s


def marks(problem, time, lr):
    """Steps that are recorded, always as many."""
    return np.unique(np.linspace(0, time / lr, problem.records).round().astype(int))


def trained(problem, time, lr, *, asked, size, beta, shown=1.0, memory=1.0):
    """Records of runs on `asked` items with contexts of `size`: name -> (runs, times)."""
    same = dict(asked=asked, size=size, beta=beta, shown=shown, memory=memory, lr=lr)
    runs = len(problem.seeds)
    hyper = problem.drawn | {name: np.full(runs, value) for name, value in same.items()}
    learner = both(problem.batch, problem.width, problem.memoriser_variance, problem.most)
    return simulate(learner, Runs(problem.seeds, hyper, (runs,)), marks(problem, time, lr), batching="vmap").records


@functools.cache
def both(batch, width, variance, most):
    """Stochastic gradient descent of circuit and memoriser; either can be left without anything to learn from."""

    def start(key, hyper):
        memoriser = mlp(key, (hyper["items"].shape[1], width, 1), variance, parametrisation="standard")
        return InContextAndWeights(jnp.zeros(()), hyper["beta"], memoriser)

    def pool(hyper):
        return Pool(hyper["items"], hyper["overlaps"])

    def fresh(key, hyper):
        which, rest = jax.random.split(key)
        asked = jax.random.randint(which, (batch,), 0, hyper["asked"])
        drawn = contexts(rest, pool(hyper), asked, hyper["labels"][asked], hyper["size"], most)
        return drawn._replace(x=hyper["memory"] * drawn.x, labels=hyper["shown"] * drawn.labels)

    def record(model, hyper):
        asked, phi = hyper["asked"], model.memory(hyper["items"]) * hyper["labels"]
        here = jnp.arange(len(phi)) < asked
        places = ((jnp.arange(QUANTILES) + 0.5) / QUANTILES * asked).astype(int)
        # Contexts of all items, with answers of their own, that nobody can have memorised.
        everyone = jnp.arange(len(phi))
        new = contexts(jax.random.key(0), pool(hyper), everyone, hyper["labels"], hyper["size"], most)
        return {
            "beta": model.sharpness,
            "margins": jnp.sort(jnp.where(here, phi, jnp.inf))[places],
            "error": jnp.sum(jnp.where(here, jax.nn.sigmoid(-phi), 0.0)) / asked,
            "accuracy": jnp.mean((1 + jnp.sign(new.answers * model.in_context(new))) / 2),
        }

    return training(start, cross_entropy, lambda hyper: optax.sgd(hyper["lr"]), fresh, record)


def integral(rate, t):
    """int rate dt on the last axis."""
    steps = (rate[..., 1:] + rate[..., :-1]) / 2 * np.diff(t)
    return np.concatenate([np.zeros((*steps.shape[:-1], 1)), np.cumsum(steps, axis=-1)], axis=-1)


def acquired(t, beta, size):
    """When e^beta reaches 2 sqrt(N), twice the size of the other labels' sum; infinity where it never does."""
    level = np.log(4 * size) / 2
    return np.interp(level, beta, t) if beta[-1] > level else np.inf


def spent(problem, run, item, time):
    """The error that the memoriser alone has accumulated by then; by the end, if that is never."""
    return np.interp(time, problem.t, problem.spent[run, item])


def flowed(problem, t, size, beta, margins):
    """Sharpness, and accuracy at the end, from the exact flow; contexts of any size in one compiled program."""
    found = random_contexts(size)
    missing = (0, problem.most - size)
    found = found._replace(sums=np.pad(found.sums, missing), probable=np.pad(found.probable, missing))
    margins = np.broadcast_to(margins, (len(t), QUANTILES))
    flow = acquisition_flow(t, found, margins, (0.0, beta))
    return np.asarray(flow.sharpness), flow, found


def horizon(problem, size, beta):
    """How long one case runs, well past its acquisition, and its recorded times."""
    time = problem.longer * (size + float(acquisition_time(size, beta)))
    return time, problem.lr * marks(problem, time, problem.lr)


def predict(problem):
    """Times without a memoriser, and error spent at acquisition beside one, each from the exact flow."""
    times, accuracy = [], []
    for size, beta in problem.cases:
        _, t = horizon(problem, size, beta)
        sharpness, flow, found = flowed(problem, t, size, beta, 0.0)
        times.append(acquired(t, sharpness, size))
        accuracy.append(in_context_accuracy((flow.weight[-1], flow.sharpness[-1]), found))
    beside = raced(problem, lambda run, item, n: raced_time(problem, n, problem.alone["margins"][run, item]))
    shared = dict(step=problem.lr, dimension=problem.dimension, items=problem.items, cases=problem.cases)
    law, needed = memorisation(problem), np.array([free_error(problem, n) for n in problem.raced])
    critical = np.asarray(critical_diversity(needed, *law))
    return shared | {
        "times": np.array(times),
        "accuracy": np.array(accuracy),
        "spent": beside,
        "needed": needed,
        "law": law,
        "critical": critical,
    }


def raced(problem, time):
    """Error that the memoriser alone has spent by `time(run, item, n)`, (runs, sizes of context, items)."""
    shape = (len(problem.seeds), len(problem.raced), len(problem.items))
    found = [spent(problem, run, item, time(run, item, n)) for run, n, item in np.ndindex(shape)]
    return np.reshape(found, shape)


def raced_time(problem, n, margins):
    """When the circuit is acquired beside a memoriser of these margins."""
    size = problem.raced[n]
    return acquired(problem.t, flowed(problem, problem.t, size, problem.race_beta, margins)[0], size)


def free_error(problem, size):
    """Error of an untrained memoriser, 1/2, up to the acquisition of a circuit."""
    t = np.linspace(0, horizon(problem, size, problem.race_beta)[0], problem.records)
    return acquired(t, flowed(problem, t, size, problem.race_beta, 0.0)[0], size) / 2


def memorisation(problem):
    """A and nu of the error that a memoriser alone spends on K items, A K^nu."""
    totals = [log_mean(run) for run in problem.spent[..., -1].T]
    nu = slope(problem.items, totals)
    return log_mean(np.array(totals) / np.array(problem.items) ** nu), nu


def simulate_networks(problem):
    """The same of trained circuits, without a memoriser and beside one."""
    times, accuracy = [], []
    for size, beta in problem.cases:
        time, t = horizon(problem, size, beta)
        seen = trained(problem, time, problem.lr, asked=problem.pool, size=size, beta=beta, memory=0.0)
        times.append([acquired(t, b, size) for b in seen["beta"]])
        accuracy.append(seen["accuracy"][:, -1])
    beside, last = {}, {}
    for n, size in enumerate(problem.raced):
        for item, asked in enumerate(problem.items):
            seen = trained(problem, problem.race_time, problem.race_lr, asked=asked, size=size, beta=problem.race_beta)
            for run, beta in enumerate(seen["beta"]):
                beside[run, item, n] = acquired(problem.t, beta, size)
                # Above zero where the circuit was acquired.
                last[run, n, item] = beta[-1] - np.log(4 * size) / 2
    used = raced(problem, lambda *key: beside[key])
    final = np.reshape([last[key] for key in np.ndindex(used.shape)], used.shape)
    return {"times": np.array(times), "accuracy": np.array(accuracy), "spent": used, "final": final}


def timing(prediction, observation):
    """ln of times of acquisition against the flow: standard errors, one step, finite dimension."""
    expected = prediction["times"]
    floor = np.hypot(prediction["step"] / expected, 2 / prediction["dimension"])
    return z_score(np.log(expected), np.log(observation["times"]), axis=1, floor=floor)


def growth(prediction, observation):
    """Exponent of the time in the size of contexts, against the flow's, in its standard error and finite dimension."""
    same = [i for i, (_, beta) in enumerate(prediction["cases"]) if beta == prediction["cases"][0][1]]
    sizes = [prediction["cases"][i][0] for i in same]
    measured, error = fitted_exponent(sizes, observation["times"][same], log_mean)
    floor = 2 / prediction["dimension"] / np.log(sizes[-1] / sizes[0])
    return abs(measured - slope(sizes, prediction["times"][same])) / np.hypot(error, floor)


def certainty(prediction, observation):
    """Accuracy on new items at the end, against the flow's, in fifths of the way from chance."""
    return gap(prediction["accuracy"], observation["accuracy"].mean(axis=1), 0.1)


def clock(prediction, observation):
    """ln of the error spent at acquisition, run by run: standard errors over runs beside finite dimension."""
    return z_score(0.0, np.log(observation["spent"] / prediction["spent"]), floor=2 / prediction["dimension"])


def critical_items(prediction, observation):
    """Geometric mean over runs of the K at which the last sharpness crosses 2 sqrt(N), for each size of context."""
    items = np.log(prediction["items"])
    rising = np.maximum.accumulate(observation["final"], axis=2)
    return np.exp(np.mean([[np.interp(0.0, row, items) for row in rows] for rows in rising], axis=0))


def diversity(prediction, observation):
    """ln of critical numbers of items, in half steps of the grid of K."""
    step = np.mean(np.diff(np.log(prediction["items"]))) / 2
    return gap(np.log(prediction["critical"]), np.log(critical_items(prediction, observation)), step)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    cases, times = np.array(problem.cases), prediction["times"]
    quiet = no_noise(problem, prediction)["times"]
    grown, sharper = cases[:, 1] == cases[0, 1], cases[:, 0] == cases[-1, 0]
    for axes, chosen, x in ((left, grown, cases[:, 0]), (middle, sharper, np.exp(cases[:, 1]))):
        order = np.flatnonzero(chosen)[np.argsort(x[chosen])]
        style.theory(axes, x[order], times[order], i=0, label="flow")
        runs = observation["times"][order]
        style.networks(axes, x[order], runs.mean(axis=1), i=0, error=runs.std(axis=1), label="circuits")
        style.rival(axes, x[order], quiet[order], label="no label noise")
        axes.set(xscale="log", yscale="log", ylabel="time  lr · steps")
        axes.set_xticks(x[order], [f"{value:.2g}" for value in x[order]])
        axes.set_yticks(times[order], [f"{value:.0f}" for value in times[order]])
        axes.minorticks_off()
    left.set(xlabel="labelled items N", title="Without a memoriser")
    middle.set(xlabel="initial sharpness $e^β$", title=f"N = {cases[-1, 0]:.0f}")
    left.legend(loc="upper left", fontsize=7.5)
    items, (amplitude, nu) = np.array(problem.items), prediction["law"]
    style.theory(right, items, amplitude * items**nu, i=2, label=f"memoriser alone, $K^{{{nu:.2f}}}$")
    style.networks(right, items, np.exp(np.log(problem.spent[..., -1]).mean(axis=0)), i=2)
    for n, size in enumerate(problem.raced):
        needed, gained = prediction["needed"][n], observation["final"][:, n] > 0
        style.theory(right, items, np.full(len(items), needed), i=n, label=f"needed, N = {size}")
        k = np.broadcast_to(items, gained.shape)[gained]
        style.networks(right, k, observation["spent"][:, n][gained], i=n, marker="x", linestyle="none")
    right.set(xscale="log", yscale="log", xlabel="items K to memorise", ylabel="accumulated error", title="A race")
    right.set_ylim(None, 4 * amplitude * items[-1] ** nu)
    right.set_xticks(items, [str(k) for k in items])
    right.set_yticks(prediction["needed"], [f"{value:.0f}" for value in prediction["needed"]])
    right.minorticks_off()
    right.legend(loc="upper left", fontsize=7)


def no_noise(problem, prediction):
    """Labels of other items are no noise: only the copy's signal counts."""
    beta = np.array([beta for _, beta in problem.cases])
    slower = np.asarray(required_error(beta, 0.5) / required_error(beta, 0.0))
    return prediction | {"times": prediction["times"] / slower}


def whatever_size(problem, prediction):
    """It does not matter how many items a context holds."""
    middle = np.asarray(acquisition_time(problem.cases[1][0], np.array([beta for _, beta in problem.cases])))
    return prediction | {"times": prediction["times"][1] * middle / middle[1]}


def leading_order(problem, prediction):
    """N T / c_1 is the time at any N."""
    return prediction | {"times": np.array([float(acquisition_time(*case)) for case in problem.cases])}


def undisturbed(problem, prediction):
    """A memoriser beside it makes no difference to the circuit."""
    times = [raced_time(problem, n, 0.0) for n in range(len(problem.raced))]
    return prediction | {"spent": raced(problem, lambda run, item, n: times[n])}


def fixed_diversity(problem, prediction):
    """The critical number of items is the memoriser's own affair, whatever the contexts."""
    return prediction | {"critical": np.full(len(problem.raced), log_mean(prediction["critical"]))}


STUDY = Study(
    title="In-context learning against memorisation",
    question="When does a network learn to use its context, and from how many items on rather than memorise them?",
    source="Nguyen & Reddy 2024 (arXiv:2412.00104)",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            # (labelled items, initial sharpness): sizes first, then other sharpnesses.
            cases=((8, 0.0), (14, 0.0), (24, 0.0), (8, -2.0), (8, 1.0)),
            longer=1.5,
            lr=0.5,
            raced=(6, 24),
            race_beta=0.5,
            items=(25, 42, 70, 117, 196),
            race_time=80.0,
            race_lr=0.4,
            memoriser_variance=24.0,
            width=32,
            dimension=64,
            pool=256,
            batch=24,
            most=24,
            records=41,
            runs=3,
        ),
        "paper": dict(
            cases=((25, 0.0), (50, 0.0), (100, 0.0), (25, -2.0), (25, 1.0)),
            longer=1.7,
            lr=0.1,
            raced=(50, 100),
            race_beta=0.5,
            items=(128, 256, 512, 1024, 2048),
            race_time=400.0,
            race_lr=0.02,
            memoriser_variance=8.0,
            width=512,
            dimension=63,
            pool=2048,
            batch=128,
            most=100,
            records=129,
            runs=8,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Circuits are acquired when the flow says, whatever the size of contexts and the initial sharpness.",
            timing,
            5,
            "Standard errors of ln t over runs, beside one step and 2 / d, since e^{beta x.x} is off by beta^2 / d.",
        ),
        Claim(
            "The time grows with the size of contexts by the flow's exponent.",
            growth,
            5,
            "Standard error over runs, beside what 2 / d makes of a slope.",
        ),
        Claim(
            "They then label new items right.",
            certainty,
            1,
            "A fifth of the way from chance: items are not quite orthogonal.",
        ),
        Claim(
            "Beside a memoriser, a circuit is acquired when the memoriser alone would have spent the predicted error.",
            clock,
            5,
            "Standard errors over runs, beside 2 / d as above.",
        ),
        Claim(
            "From as many items on as the law of memorisation says, contexts are used.",
            diversity,
            1,
            "Half a step of the grid of items.",
        ),
    ),
    rivals=(
        Rival("Labels of other items are no noise.", no_noise),
        Rival("It does not matter how many items a context holds.", whatever_size),
        Rival("The leading order in 1/N is exact.", leading_order),
        Rival("A memoriser makes no difference to the circuit.", undisturbed),
        Rival("The critical number of items is the memoriser's own affair.", fixed_diversity),
    ),
    draw=draw,
    formulas=(
        "induction.acquisition.required",
        "induction.acquisition.acquisition",
        "induction.acquisition.diversity",
        "induction.acquisition.weight_ascent",
        "induction.acquisition.sharpness_ascent",
    ),
)
