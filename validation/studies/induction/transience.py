"""Transience of in-context learning: a circuit is acquired, and withdrawn again as a memoriser takes over."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, simulate
from sims.networks.in_context_and_weights import (
    InContextAndWeights,
    Pool,
    Table,
    contexts,
    cross_entropy,
    labelled_pools,
    withdrawing_descent,
)
from sims.training import training
from theory.induction.acquisition import attended_label, in_context_loss, random_contexts
from theory.induction.transience import learning_flow, lifetime, resting_weight
from theory.wright_omega import wright_omega
from validation import style
from validation.metrics import fitted_exponent, gap, log_mean, z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Items and their labels."""
    s = Problem(**settings, seed=seed)
    s.seeds = seed * s.runs + np.arange(s.runs)
    s.drawn = labelled_pools(s.seeds, s.pool, s.dimension)
    return s


def marks(problem, items):
    """Steps that are recorded: all runs last as long, in units of the number of items."""
    return np.linspace(0, problem.time * items / problem.lr, problem.records).round().astype(int)


def decays(problem):
    return np.array([decay for _, decay in problem.cases])


def predict(problem, decay=None, items=None):
    """Curves of every case from the exact flow, and the lifetime between two weights in closed form."""
    found = {name: [] for name in ("t", "weight", "margin", "sharpness", "loss")}
    kinds = random_contexts(problem.context)
    for k, rate in problem.cases:
        t = problem.lr * marks(problem, k)
        flow = learning_flow(
            t, kinds, k if items is None else items, rate if decay is None else decay, (0.0, problem.beta, 0.0)
        )
        loss = in_context_loss((flow.weight, flow.sharpness), kinds)
        for name, value in zip(found, (t, flow.weight, flow.margin, flow.sharpness, loss), strict=True):
            found[name].append(np.asarray(value))
    falling = [case for case in problem.cases if case[1] > 0]
    lives = [float(lifetime(k, rate, problem.high, problem.low, 0.5)) for k, rate in falling]
    shared = dict(cases=problem.cases, high=problem.high, low=problem.low, context=problem.context)
    named = {name: np.array(curves) for name, curves in found.items()}
    return shared | named | {"lifetimes": np.array(lives), "dimension": problem.dimension}


@functools.cache
def both(batch, context, beta, lr):
    """Stochastic gradient descent of a circuit, whose weight decays, and of a logit for each item of the pool."""

    def start(_, hyper):
        return InContextAndWeights(jnp.zeros(()), jnp.asarray(beta), Table(jnp.zeros(hyper["items"].shape[0])))

    def pool(hyper):
        return Pool(hyper["items"], hyper["overlaps"])

    def fresh(key, hyper):
        which, rest = jax.random.split(key)
        asked = jax.random.randint(which, (batch,), 0, hyper["asked"])
        drawn = contexts(rest, pool(hyper), asked, hyper["labels"][asked], context, context)
        return drawn._replace(x=jax.nn.one_hot(asked, len(hyper["items"])))

    def record(model, hyper):
        phi = model.memoriser.logits * hyper["labels"]
        here = jnp.arange(len(phi)) < hyper["asked"]
        # Contexts of all items, with answers of their own, that nobody can have memorised.
        new = contexts(jax.random.key(0), pool(hyper), jnp.arange(len(phi)), hyper["labels"], context, context)
        return {
            "weight": model.weight,
            "sharpness": model.sharpness,
            "margin": jnp.sum(jnp.where(here, phi, 0.0)) / hyper["asked"],
            "loss": jnp.mean(jax.nn.softplus(-new.answers * model.in_context(new))),
        }

    def optimiser(hyper):
        return withdrawing_descent(lr, hyper["decay"])

    return training(start, cross_entropy, optimiser, fresh, record)


def simulate_networks(problem):
    """The same of trained networks: name -> (runs, cases, times)."""
    learner, runs = both(problem.batch, problem.context, problem.beta, problem.lr), len(problem.seeds)
    found = []
    for k, decay in problem.cases:
        hyper = problem.drawn | {"asked": np.full(runs, k), "decay": np.full(runs, decay)}
        found.append(simulate(learner, Runs(problem.seeds, hyper, (runs,)), marks(problem, k), batching="vmap").records)
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def curves(prediction, observation):
    """Weights and margins against the flow: standard errors over runs, and 2 / d of the largest value of a curve."""
    worst = []
    for name in ("weight", "margin"):
        expected = prediction[name]
        floor = 2 / prediction["dimension"] * np.max(expected, axis=1, keepdims=True)
        worst.append(z_score(expected, observation[name], floor=floor))
    return max(worst)


def new_items(prediction, observation):
    """Loss on new items, likewise."""
    return z_score(prediction["loss"], observation["loss"], floor=2 / prediction["dimension"] * np.log(2))


def lives(prediction, observation):
    """Measured times in which the weight falls from `high` to `low`, (cases with decay, runs)."""
    found = []
    for i, (_, decay) in enumerate(prediction["cases"]):
        if decay > 0:
            t, rows = prediction["t"][i], observation["weight"][:, i]
            found.append([falls(t, w, prediction["low"]) - falls(t, w, prediction["high"]) for w in rows])
    return np.array(found)


def falls(t, w, level):
    """When a weight falls below a level after its peak; ten times the last record where it never does."""
    peak = int(np.argmax(w))
    return float(np.interp(-level, -w[peak:], t[peak:])) if w[-1] < level < w[peak] else 10 * t[-1]


def lag(prediction):
    """r = 1 / (a^2 K) of the cases with decay: how fast the memoriser is beside the weight."""
    return np.array([4 / k for k, decay in prediction["cases"] if decay > 0])


def closed_lifetimes(prediction, observation):
    """ln of lifetimes against the closed law, in the weight's largest lag, r / 4, beside finite dimension."""
    measured = np.log(np.maximum(lives(prediction, observation), 1e-9)).mean(axis=1)
    return gap(np.log(prediction["lifetimes"]), measured, np.hypot(lag(prediction) / 4, 2 / prediction["dimension"]))


def grows_with_items(prediction, observation):
    """Exponent of the lifetime in the number of items against the predicted one, beside what the lag makes of it."""
    falling = [case for case in prediction["cases"] if case[1] > 0]
    same = [i for i, (_, decay) in enumerate(falling) if decay == falling[0][1]]
    sizes = [falling[i][0] for i in same]
    measured, error = fitted_exponent(sizes, lives(prediction, observation)[same], log_mean)
    expected = np.polyfit(np.log(sizes), np.log(prediction["lifetimes"][same]), 1)[0]
    return abs(measured - expected) / np.hypot(error, np.ptp(lag(prediction)[same]) / 4 / np.log(sizes[-1] / sizes[0]))


def at_rest(prediction, observation):
    """Weights long after the peak against the resting weight of the very margins, beside lag and dimension."""
    worst, kinds = [], random_contexts(prediction["context"])
    for i, (k, decay) in enumerate(prediction["cases"]):
        if decay == 0:
            continue
        late = slice(len(prediction["t"][i]) // 3, None)
        w, phi, beta = (observation[name][:, i, late] for name in ("weight", "margin", "sharpness"))
        attended = np.asarray(attended_label(beta, kinds)) @ np.asarray(kinds.probable)
        rest = np.asarray(resting_weight(phi[..., None], decay, attended))
        u = rest / 2
        behind = 4 / k * u / (1 + u) ** 2
        worst.append(gap(behind, (w / rest - 1).mean(axis=0), np.hypot(behind.mean() / 2, 2 / prediction["dimension"])))
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    shown = [problem.unit, problem.stays]
    for j, (axes, name) in enumerate(((left, "weight"), (middle, "loss"))):
        for i, case in enumerate(shown):
            t, runs = prediction["t"][case], observation[name][:, case]
            label = f"decay λ = {problem.cases[case][1]:g}" if j == 0 else None
            style.theory(axes, t, prediction[name][case], i=i, label=label)
            style.networks(axes, t, runs.mean(axis=0), i=i, most=14)
    gone = exponential(problem, prediction)["weight"][problem.unit]
    style.rival(left, prediction["t"][problem.unit], gone, label="exponential forgetting")
    left.set(xlabel="time  lr · steps", ylabel="weight w", ylim=(0, 1.6 * prediction["weight"][problem.stays].max()))
    left.set_title(f"K = {problem.cases[problem.unit][0]} items")
    left.legend(loc="upper left", fontsize=7.5)
    middle.set(xlabel="time", ylabel="loss (nats)", ylim=(0, 0.95), title="New items: acquired, lost")
    known = [
        (t, np.logaddexp(0, -np.asarray(phi))) for t, phi in zip(prediction["t"], prediction["margin"], strict=True)
    ]
    style.theory(middle, *known[problem.unit], i=2, label="items known, no copy")
    measured = np.logaddexp(0, -observation["margin"][:, problem.unit]).mean(axis=0)
    style.networks(middle, prediction["t"][problem.unit], measured, i=2, most=14)
    middle.legend(loc="upper right", fontsize=7.5)
    falling = [case for case in problem.cases if case[1] > 0]
    scale = np.array([k / decay for k, decay in falling])
    order = np.argsort(scale)
    style.theory(right, scale[order], prediction["lifetimes"][order], i=0)
    for i, ((k, decay), x, runs) in enumerate(zip(falling, scale, lives(prediction, observation), strict=True)):
        style.networks(right, [x], [runs.mean()], i=i, error=[runs.std()], label=f"K = {k}, λ = {decay:g}")
    right.set(xscale="log", yscale="log", xlabel="K / λ", ylabel="lifetime", title="Lifetime of the circuit")
    right.set_ylim(None, 4 * prediction["lifetimes"].max())
    right.set_xticks(np.unique(scale), [f"{x:g}" for x in np.unique(scale)])
    right.set_yticks(prediction["lifetimes"], [f"{x:.0f}" for x in prediction["lifetimes"]])
    right.minorticks_off()
    right.legend(loc="upper left", fontsize=7.5)


def idle_decay(problem, prediction):
    """The decay of the weight does not matter."""
    return predict(problem, decay=0.0) | {"lifetimes": prediction["lifetimes"]}


def exponential(problem, prediction):
    """From its peak on, the circuit is forgotten at the rate of the decay."""
    weights = prediction["weight"].copy()
    for w, t, decay in zip(weights, prediction["t"], decays(problem), strict=True):
        peak = int(np.argmax(w))
        w[peak:] = w[peak] * np.exp(-decay * (t[peak:] - t[peak]))
    lost = np.log(problem.high / problem.low) / decays(problem)[decays(problem) > 0]
    return prediction | {"weight": weights, "lifetimes": lost}


def no_memoriser(problem, prediction):
    """What is memorised makes no difference: the weight stays at its first resting place."""
    return predict(problem, items=1e12) | {"margin": prediction["margin"], "lifetimes": prediction["lifetimes"]}


def unhindered(problem, prediction):
    """The memoriser learns as fast as it would alone: phi + e^phi = 1 + t / K."""
    items = np.array([k for k, _ in problem.cases])[:, None]
    return prediction | {"margin": np.log(np.asarray(wright_omega(1 + prediction["t"] / items)))}


STUDY = Study(
    title="Transience of in-context learning",
    question="Why can in-context learning be acquired and lost again, what sets its lifetime, and what keeps it?",
    source="Nguyen & Reddy 2024 (arXiv:2412.00104); Singh et al. 2023 (arXiv:2311.08360)",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            # (items to memorise, decay of the weight); the last stays.
            cases=((8, 0.01), (16, 0.01), (32, 0.01), (16, 0.02), (16, 0.0)),
            unit=1,
            stays=4,
            context=8,
            beta=1.0,
            high=1.6,
            low=1.0,
            lr=1.0,
            batch=24,
            time=80.0,
            records=41,
            dimension=64,
            pool=64,
            runs=3,
        ),
        "paper": dict(
            cases=((64, 0.003), (128, 0.003), (256, 0.003), (128, 0.006), (128, 0.0)),
            unit=1,
            stays=4,
            context=32,
            beta=1.0,
            high=1.6,
            low=1.0,
            lr=0.5,
            batch=128,
            time=300.0,
            records=161,
            dimension=256,
            pool=256,
            runs=8,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The circuit's weight rises and falls, and the margins of the memoriser grow, as the flow says.",
            curves,
            5,
            "Standard errors over runs, beside 2 / d of a curve's largest value: items are not quite orthonormal.",
        ),
        Claim(
            "The loss on new items falls, and with decay it rises again.",
            new_items,
            5,
            "Standard errors over runs, beside 2 / d of ln 2.",
        ),
        Claim(
            "Lifetimes are those of the closed law.",
            closed_lifetimes,
            1,
            "The weight lags behind its resting place by at most r / 4, r = 1 / (a^2 K), beside 2 / d.",
        ),
        Claim(
            "They grow with the number of items as the law says.",
            grows_with_items,
            5,
            "Standard error over runs, beside what the lags make of a slope.",
        ),
        Claim(
            "Long after its peak the weight rests where drive and decay balance, behind by the memoriser's own pace.",
            at_rest,
            2,
            "Half the mean lag, for its next order, beside 2 / d.",
        ),
    ),
    rivals=(
        Rival("The decay of the weight does not matter.", idle_decay),
        Rival("The circuit is forgotten at the rate of the decay.", exponential),
        Rival("What is memorised makes no difference to the circuit.", no_memoriser),
        Rival("The memoriser learns as fast as it would alone.", unhindered),
    ),
    draw=draw,
    formulas=(
        "induction.transience.resting",
        "induction.transience.upper",
        "induction.transience.withdrawn",
        "induction.transience.lived",
    ),
)
