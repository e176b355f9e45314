"""Training of linear attention from small weights: one abrupt drop or a staircase, both dated before training."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.linear_attention import LabelHeads, RankOneHeads, square_loss
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from sims.training import training
from theory.bayes_icl.linear_attention import Prompts, layer_risk, optimal_risk
from theory.bayes_icl.linear_attention_dynamics import (
    MergedHeads,
    SeparateHeads,
    abrupt_drop,
    growing_start,
    head_time,
    heads_flow,
    plateau_losses,
    white_half_time,
)
from validation import style
from validation.metrics import crossing_time, gap, z_score
from validation.study import Claim, Problem, Rival, Study

# Of the way of an entry of A.
HALF = 0.5


def problem(settings, seed):
    """Starts of all heads."""
    s = Problem(**settings, seed=seed)
    rng = np.random.default_rng(seed)
    d, s.law = len(s.variances), Prompts(np.array(s.variances), 1.0, 0.0)
    s.white = Prompts(np.full(d, np.mean(s.variances)), 1.0, 0.0)
    runs = (len(s.starts), s.runs)
    scale = np.array(s.starts)[:, None, None]
    s.merged = MergedHeads(
        scale * rng.normal(size=(*runs, s.heads)),
        scale[..., None, None] * rng.normal(size=(*runs, s.heads, d, d)),
    )
    # One head for each principal direction, all alike; and random ones.
    aligned = (np.full((s.runs, d), s.aligned), *(np.tile(s.aligned * np.eye(d), (s.runs, 1, 1)) for _ in range(2)))
    drawn = (s.random * rng.normal(size=shape) for shape in ((s.runs, d), (s.runs, d, d), (s.runs, d, d)))
    s.separate = {"aligned": SeparateHeads(*aligned), "random": SeparateHeads(*drawn)}
    s.merged_t = s.lr * marks(s.merged_time, s.lr, s.records)
    s.separate_t = s.separate_lr * marks(s.separate_time, s.separate_lr, s.records)
    return s


def marks(time, lr, records):
    """Steps that are recorded, crowded towards the start."""
    return np.unique((np.linspace(0, 1, records) ** 1.5 * time / lr).round().astype(int))


@functools.cache
def learner(kind, variances, context, batch, tests):
    """Plain descent on fresh prompts; what is kept is the layer A and the error on prompts that are always the same."""
    roots, d = np.sqrt(np.array(variances)), len(variances)

    def drawn(key, size):
        of_tasks, of_pairs = jax.random.split(key)
        tasks = gaussian_tasks(of_tasks, size, d).astype(jnp.float32)
        return prompts(of_pairs, tasks, context + 1, 0.0, jnp.array(roots, jnp.float32))

    def network(_, hyper):
        parts = (hyper[name].astype(jnp.float32) for name in kind._fields)
        return (LabelHeads if kind is MergedHeads else RankOneHeads)(*parts)

    def record(model, hyper):
        # What it says of unit vectors, one as the sum of pairs and one as the query, is A.
        unit = jnp.eye(d, dtype=jnp.float32)
        first, second = (x.ravel() for x in jnp.meshgrid(jnp.arange(d), jnp.arange(d), indexing="ij"))
        layer = model(unit[second][:, None], jnp.ones((d * d, 1), jnp.float32), unit[first]).reshape(d, d)
        return {"layer": layer, "loss": square_loss(model, drawn(jax.random.key(17), tests))}

    return training(
        network, square_loss, lambda hyper: optax.sgd(hyper["lr"]), lambda key, _: drawn(key, batch), record
    )


def trained(problem, heads, variances, steps, lr):
    """Records of one run for each start: name -> (runs, times, ...)."""
    program = learner(type(heads), tuple(variances), problem.context, problem.batch, problem.tests)
    runs = len(heads.values)
    hyper = {name: np.asarray(part, np.float32) for name, part in zip(heads._fields, heads, strict=True)}
    hyper["lr"] = np.full(runs, lr, np.float32)
    seeds = problem.seed * 1000 + np.arange(runs)
    return simulate(program, Runs(seeds, hyper, (runs,)), steps, batching="map", optimised=True).records


def starts(problem):
    """All merged starts in one row."""
    return MergedHeads(*(part.reshape(-1, *part.shape[2:]) for part in problem.merged))


def grown(problem, law):
    """p_0 of every merged start, (scales, runs)."""
    every = starts(problem)
    found = [float(growing_start((v, u), law)) for v, u in zip(*every, strict=True)]
    return np.reshape(found, problem.merged.values.shape[:2])


def risks(layers, law, context):
    """Risk of each layer of a path."""
    return np.asarray(jax.jit(jax.vmap(lambda a: layer_risk(a, law, context)))(jnp.asarray(layers)))


def half_time(t, losses, last=None):
    """When a loss has fallen half of its way to `last`."""
    last = losses[..., -1] if last is None else last
    return crossing_time(t, -losses, -(losses[..., 0] + last) / 2)


def predict(problem):
    """Moments of the drop for white inputs (closed form) and others (one path), stages, plateaus."""
    d, s, n = len(problem.variances), float(problem.white.inputs[0]), problem.context
    white_p0, p0 = grown(problem, problem.white), grown(problem, problem.law)
    # The risk of half of the way in p is 1/4 of the fall above its end; the moment is that of half of the fall.
    share = 1 - np.sqrt(0.5)
    white = np.asarray(white_half_time(white_p0, d, s, n)) + np.log(share / (1 - share)) / (4 * np.sqrt(d) * s**2)
    # One path for all: a start that is smaller is later by a constant.
    rate = 4 * np.linalg.norm(np.diag(problem.law.inputs) ** 2)
    t = np.linspace(0, problem.merged_time, 801)
    path = risks(abrupt_drop(t, p0.min(), problem.law, n), problem.law, n)
    last = half_time(t, path, float(optimal_risk(problem.law, n)))
    shares = np.cbrt(HALF)
    stages = np.asarray(head_time(shares, problem.aligned, problem.law.inputs, n))
    heights = np.asarray(plateau_losses(problem.law.inputs, n))
    between = np.exp((np.log(stages[1:]) + np.log(stages[:-1])) / 2)
    t = problem.separate_t
    random = [
        risks(heads_flow(t, SeparateHeads(*start), problem.law, n).layer, problem.law, n)
        for start in zip(*problem.separate["random"], strict=True)
    ]
    return {
        "drops": np.stack([white, last + np.log(p0.min() / p0) / rate]),
        "start": np.stack([white_p0, p0]),
        "path": (np.linspace(0, problem.merged_time, 801), path),
        "stages": stages,
        "heights": heights,
        "between": between,
        "left": remainder(problem, heights, between),
        # Errors are products of Gaussian variables: their squares scatter by some twice their mean.
        "test": 2 * heights[1:-1] / np.sqrt(problem.tests),
        "random": np.array(random),
        "crossings": crossings(t, np.array(random), heights),
        "step": (problem.lr * rate / 4, problem.separate_lr),
        "best": np.diag(1 / ((1 + 1 / n) * problem.law.inputs + problem.law.inputs.sum() / n)),
    }


def remainder(problem, heights, between):
    """By how much losses of aligned heads miss the plateaus at these times, from the closed form of each head."""
    # Shares of final strength from just above the largest start.
    shares = np.linspace(0, 1, 402)[1:-1]
    law = Prompts(*problem.law)
    ends = np.cbrt(1 / ((1 + 1 / problem.context) * law.inputs + law.inputs.sum() / problem.context))
    reached = []
    for a, end in enumerate(ends):
        above = shares[shares > 1.001 * problem.aligned / ends.min()]
        times = np.asarray(head_time(above[:, None], problem.aligned, law.inputs, problem.context))[:, a]
        reached.append(np.interp(between, times, above, left=problem.aligned / end))
    # A stage is gained but for the square of what its entry of A lacks.
    lacking = (1 - np.array(reached) ** 3) ** 2
    gains = heights[:-1] - heights[1:]
    return np.abs(heights[0] - gains @ (1 - lacking) - heights[1:-1])


def crossings(t, losses, heights):
    """When each run passes the middle between two plateaus, (runs, d)."""
    middle = (heights[1:] + heights[:-1]) / 2
    return crossing_time(t, -np.repeat(losses[:, None], len(middle), axis=1), -middle)


def simulate_networks(problem):
    """Losses and layers of trained heads."""
    shape = problem.merged.values.shape[:2]
    steps = marks(problem.merged_time, problem.lr, problem.records)
    losses = [
        trained(problem, starts(problem), law.inputs, steps, problem.lr)["loss"].reshape(*shape, -1)
        for law in (problem.white, problem.law)
    ]
    losses = np.stack(losses).astype(float)
    steps = marks(problem.separate_time, problem.separate_lr, problem.records)
    found = {
        kind: trained(problem, heads, problem.law.inputs, steps, problem.separate_lr)
        for kind, heads in problem.separate.items()
    }
    return {
        "losses": losses,
        "drops": half_time(problem.merged_t, losses),
        "aligned": np.asarray(found["aligned"]["layer"], float),
        "t": problem.separate_t,
        "staged": np.asarray(found["aligned"]["loss"], float),
        "random": np.asarray(found["random"]["loss"], float),
    }


def drop_times(prediction, observation):
    """ln of moments of the drop against predicted ones, over runs; a step shortens them by lr |C|."""
    ratio = np.log(observation["drops"] / prediction["drops"])
    return z_score(0.0, np.moveaxis(ratio, 2, 0), floor=prediction["step"][0])


def stage_times(prediction, observation):
    """ln of times at which entries of A have come half of their way, heads on principal directions."""
    diagonal = np.diagonal(observation["aligned"], axis1=2, axis2=3)
    level = HALF * np.diagonal(prediction["best"])
    reached = crossing_time(observation["t"], np.moveaxis(diagonal, 2, 1), level)
    return z_score(0.0, np.log(reached / prediction["stages"]), floor=prediction["step"][1] / prediction["stages"])


def staircase(prediction, observation):
    """Losses between two stages against the plateaus, in what is left there of all stages, beside the test's error."""
    heights = prediction["heights"]
    seen = [
        np.interp(prediction["between"], observation["t"], run / run[0] * heights[0]) for run in observation["staged"]
    ]
    return gap(heights[1:-1], np.mean(seen, axis=0), np.hypot(prediction["left"], prediction["test"]))


def random_stages(prediction, observation):
    """ln of times at which losses pass between plateaus, random heads, against the flow from the same start."""
    seen, expected = crossings(observation["t"], observation["random"], prediction["heights"]), prediction["crossings"]
    # Those that come after the start and well before the end, for the flow; a run that lacks one never agrees.
    chosen = (expected > 0) & (expected < 0.8 * observation["t"][-1])
    ratio = np.log(seen[chosen] / expected[chosen])
    return float(np.abs(ratio.mean()) / np.hypot(ratio.std(ddof=1) / np.sqrt(len(ratio)), 0.01))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    t, (fine, path) = problem.merged_t, prediction["path"]
    latest = prediction["start"][1].min()
    rate = prediction["step"][0] * 4 / problem.lr
    for i, start in enumerate(problem.starts):
        run = observation["losses"][1, i, 0]
        later = np.log(latest / prediction["start"][1, i, 0]) / rate
        style.theory(left, fine + later, path, i=i)
        style.networks(left, t, run, i=i, label=f"start {start:g}")
    left.set(xlim=(0, t[-1]), xlabel="time  lr · steps", ylabel="loss", title="Merged: one drop")
    left.legend()
    t, heights, stages = problem.separate_t, prediction["heights"], prediction["stages"]
    for m, height in enumerate(heights):
        style.rival(right, t[1:], np.full(len(t) - 1, height), label="plateaus" if m == 0 else None)
    for i, (run, flow) in enumerate(zip(observation["random"][:3], prediction["random"][:3], strict=True)):
        style.theory(right, t[1:], flow[1:], i=i + 1)
        style.networks(right, t[1:], run[1:], i=i + 1, most=40, label="random heads" if i == 0 else None)
    style.networks(right, t[1:], observation["staged"].mean(axis=0)[1:], i=0, most=40, label="aligned heads")
    for time in stages:
        right.axvline(time, color=style.colour(0), linewidth=0.8)
    right.set(xscale="log", xlim=(stages[0] / 6, t[-1]), xlabel="time  lr · steps", title="Separate: a staircase")
    right.legend(loc="upper right")


def twice(problem, prediction):
    """The slope of half of the square error: all takes twice as long."""
    later = {name: 2 * prediction[name] for name in ("drops", "stages", "crossings")}
    return prediction | later


def any_start(problem, prediction):
    """The drop comes when it comes, whatever the start."""
    drops = prediction["drops"]
    return prediction | {"drops": np.broadcast_to(np.exp(np.log(drops).mean(axis=(1, 2), keepdims=True)), drops.shape)}


def one_direction(problem, prediction):
    """Merged heads learn the strongest direction first, at the rate of it alone."""
    strongest = np.stack([problem.white.inputs, problem.law.inputs]).max(axis=1) ** 2
    whole = np.array([np.linalg.norm(law.inputs**2) for law in (problem.white, problem.law)])
    return prediction | {"drops": prediction["drops"] * (whole / strongest)[:, None, None]}


def exponential_stages(problem, prediction):
    """Separate heads leave their saddle exponentially: each wait is ln(1 / start) over its rate."""
    rate = 2 * problem.law.inputs**2
    return prediction | {"stages": np.log(1 / problem.aligned) / (rate * problem.aligned)}


def no_shrinkage(problem, prediction):
    """Each stage inverts a direction of the covariance, as in endless contexts."""
    return prediction | {"heights": np.asarray(plateau_losses(problem.law.inputs, 1e9))}


STUDY = Study(
    title="How linear attention learns: a drop or a staircase",
    question="When does linear attention learn regression in context: at once, or in stages, and at what losses?",
    source="Zhang, Singh, Latham & Saxe 2025 (arXiv:2501.16265)",
    regimes=("attention", "linear"),
    asks="when",
    sizes={
        "smoke": dict(
            variances=(0.4, 0.3, 0.2, 0.1),
            context=31,
            starts=(0.1, 0.01),
            heads=2,
            runs=3,
            merged_time=40.0,
            lr=0.05,
            aligned=0.2,
            random=0.4,
            separate_time=500.0,
            separate_lr=0.25,
            batch=128,
            tests=2048,
            records=61,
        ),
        "paper": dict(
            variances=(0.4, 0.3, 0.2, 0.1),
            context=31,
            starts=(0.1, 0.01, 0.001),
            heads=8,
            runs=8,
            merged_time=60.0,
            lr=0.01,
            aligned=0.1,
            random=0.2,
            separate_time=1000.0,
            separate_lr=0.02,
            batch=2048,
            tests=16_384,
            records=201,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Merged heads drop once, at the moment that their start says, for white inputs and others.",
            drop_times,
            5,
            "Standard errors over runs, beside the finite step.",
        ),
        Claim(
            "Separate heads on principal directions come one after the other, at the times of their closed form.",
            stage_times,
            5,
            "Standard errors over runs, beside one step.",
        ),
        Claim(
            "In between the loss stands on plateaus, that of m principal components.",
            staircase,
            2,
            "Of order one: what heads on their way leave of the stages half-way, beside the error of the test.",
        ),
        Claim(
            "Random separate heads pass the same plateaus when the flow from their start does.",
            random_stages,
            5,
            "Standard errors over runs and stages, beside one per cent of finite step.",
        ),
    ),
    rivals=(
        Rival("The loss is half of the square error.", twice),
        Rival("The moment of the drop does not depend on the start.", any_start),
        Rival("Merged heads learn the strongest direction first.", one_direction),
        Rival("Separate heads leave their saddles exponentially.", exponential_stages),
        Rival("Stages invert the covariance.", no_shrinkage),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.linear_attention_dynamics.drop",
        "bayes_icl.linear_attention_dynamics.half",
        "bayes_icl.linear_attention_dynamics.grows",
        "bayes_icl.linear_attention_dynamics.plateau",
        "bayes_icl.linear_attention_dynamics.head",
    ),
)
