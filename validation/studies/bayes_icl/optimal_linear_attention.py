"""A trained layer of linear attention: the weights that theory gives it, what they cost, at any length of context.

All entries of scores and values are trained; at the start those that neither match inputs nor read labels are zero, as
where convergence is proved (Zhang, Frei & Bartlett 2023, arXiv:2306.09927). From Gaussian starts in all entries some
runs, two of eight in a trial with clipped gradients, stay for thousands of steps far from A*.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.linear_attention import effective_weights, even_weights, label_layers, square_loss
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from sims.training import training
from theory.bayes_icl.linear_attention import Prompts, layer_risk, optimal_layer, optimal_risk
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Prompts to test on, of several lengths: the last pair is asked for."""
    s = Problem(**settings, seed=seed)
    s.roots = np.sqrt(np.array(s.variances))
    key = jax.random.fold_in(jax.random.key(1_000_003), seed)

    def tested(m):
        of_tasks, of_pairs = jax.random.split(jax.random.fold_in(key, m))
        tasks = gaussian_tasks(of_tasks, s.tests, len(s.roots))
        return jax.tree.map(np.asarray, prompts(of_pairs, tasks, m + 1, s.noise, s.roots))

    s.tested = {m: tested(m) for m in s.lengths}
    return s


@functools.cache
def learner(roots, noise, context, batch, start, steps, rate):
    """Adam on fresh prompts, its rate falling to zero along a cosine."""
    d = len(roots)

    def fresh(key, _):
        of_tasks, of_pairs = jax.random.split(key)
        tasks = gaussian_tasks(of_tasks, batch, d).astype(jnp.float32)
        return prompts(of_pairs, tasks, context + 1, noise, jnp.array(roots, jnp.float32))

    def network(key, _):
        return jax.tree.map(lambda x: x.astype(jnp.float32), label_layers(key, d, start))

    def record(model, _):
        (layer,) = model.layers
        even = jnp.concatenate([jnp.ravel(one) for one in even_weights(layer)])
        return {"weights": effective_weights(layer), "even": jnp.max(jnp.abs(even))}

    # No clipping: it discounts large errors, and ends at another layer than that of least square error.
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))
    return training(network, square_loss, lambda _: optimiser, fresh, record)


@functools.cache
def trained(roots, noise, context, batch, start, steps, rate, records, seeds):
    program = learner(roots, noise, context, batch, start, steps, rate)
    marks = np.unique(np.linspace(0, steps, records).round().astype(int))
    return simulate(program, Runs(np.array(seeds), {}, (len(seeds),)), marks, batching="map", optimised=True)


def law(problem):
    return Prompts(np.array(problem.variances), 1.0, problem.noise)


def predict(problem):
    """The best layer, its risk at every length, and the Bayes predictor on the prompts to be tested."""
    best = optimal_layer(law(problem), problem.context)
    risks = [layer_risk(best, law(problem), m) for m in problem.lengths]

    @jax.jit
    @jax.vmap
    def bayes(x, y):
        return linear_predictions(x, y, problem.noise).mean[-1]

    here = problem.tested[problem.context]
    return {
        "weights": np.asarray(best),
        "risks": np.array(risks),
        "own": np.array([optimal_risk(law(problem), m) for m in problem.lengths]),
        "bayes": np.asarray(bayes(here.x, here.y)),
        "lengths": np.array(problem.lengths),
        "context": problem.context,
        "root": problem.roots,
        "noise": problem.noise,
    }


def simulate_networks(problem):
    """Trained layers, their weights, and their errors on the prompts to be tested."""
    seeds = tuple(problem.seed * problem.runs + np.arange(problem.runs))
    settings = (problem.noise, problem.context, problem.batch, problem.start, problem.steps, problem.rate)
    found = trained(tuple(problem.roots), *settings, problem.records, seeds)
    answer = jax.jit(jax.vmap(lambda model, x, y: model(x[:, :-1], y[:, :-1], x[:, -1]), (0, None, None)))
    predicted = {m: np.asarray(answer(found.state.model, p.x, p.y), float) for m, p in problem.tested.items()}
    errors = {m: (predicted[m] - problem.tested[m].y[:, -1]) ** 2 for m in predicted}
    here = problem.tested[problem.context]
    return {
        "steps": found.steps,
        "path": np.asarray(found.records["weights"], float),
        "even": np.asarray(found.records["even"], float),
        "errors": np.stack([errors[m] for m in problem.lengths], axis=1),
        "predicted": predicted[problem.context],
        "truth": np.einsum("pd,pd->p", here.x[:, -1], here.w),
    }


def whitened(prediction, weights):
    """S^{1/2} (A - A*) S^{1/2}: how predictions differ, in every pair of directions."""
    root = prediction["root"]
    return root[:, None] * (weights - prediction["weights"]) * root


def weights(prediction, observation):
    """Mean over runs of every weight, in standard errors pooled over weights."""
    off = whitened(prediction, observation["path"][:, -1])
    pooled = np.sqrt(np.mean(off.var(axis=0, ddof=1)) / len(off))
    return float(np.max(np.abs(off.mean(axis=0))) / pooled)


def risk(prediction, observation):
    """Errors on new prompts of every length in standard errors over prompts, the worst run: none hides in a mean."""
    errors = observation["errors"]
    spread = errors.std(axis=2) / np.sqrt(errors.shape[2])
    return float(np.max(np.abs(errors.mean(axis=2) - prediction["risks"]) / spread))


def pythagoras(prediction, observation):
    """E (f - w.x)^2 - E (f - f_B)^2 - E (f_B - w.x)^2, in standard errors over prompts, the worst run."""
    f, bayes, truth = observation["predicted"], prediction["bayes"], observation["truth"]
    gap = (f - truth) ** 2 - (f - bayes) ** 2 - (bayes - truth) ** 2
    return z_score(0.0, gap, axis=1)


def distance(prediction, observation):
    """E (f - f_B)^2 is the layer's predicted risk less the Bayes risk, in standard errors over prompts."""
    f, bayes, truth = observation["predicted"].mean(axis=0), prediction["bayes"], observation["truth"]
    at = list(prediction["lengths"]).index(prediction["context"])
    # Noise of the query's label is in the risk, and in none of the differences.
    noiseless = prediction["risks"][at] - prediction["noise"]
    gap = (f - bayes) ** 2 + (bayes - truth) ** 2 - noiseless
    return z_score(0.0, gap)


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    steps, path = observation["steps"], observation["path"].mean(axis=0)
    for i, variance in enumerate(problem.variances):
        style.networks(left, steps, path[:, i, i], i=i, label=f"variance {variance:g}")
        style.theory(left, steps, np.full(len(steps), prediction["weights"][i, i]), i=i)
    left.set(xlabel="steps", ylabel="diagonal of A", title="Weights")
    left.legend(loc="lower right")
    lengths, errors = prediction["lengths"], observation["errors"].mean(axis=0)
    spread = errors.std(axis=1) / np.sqrt(errors.shape[1])
    style.theory(right, lengths, prediction["risks"], label=f"made for {problem.context}")
    style.networks(right, lengths, errors.mean(axis=1), error=spread, label="trained")
    style.rival(right, lengths, prediction["own"], label="best of each length")
    truth, bayes = observation["truth"], prediction["bayes"]
    floor = np.mean((bayes - truth) ** 2) + problem.noise
    right.plot([problem.context], [floor], "D", color=style.colour(1), markersize=5, label="Bayes")
    right.set(xscale="log", xlabel="pairs in the context", ylabel="mean square error", title="Risk")
    right.set_xticks(lengths, [str(m) for m in lengths])
    right.minorticks_off()
    right.legend()


def believing(change):
    """A rival's best layer, and its risks, from prompts that are not the true ones or another length."""

    def rival(problem, prediction):
        prompts, context = change(law(problem), problem.context)
        layer = optimal_layer(prompts, context)
        risks = np.array([layer_risk(layer, law(problem), m) for m in problem.lengths])
        return prediction | {"weights": np.asarray(layer), "risks": risks}

    return rival


def each_length(problem, prediction):
    """Risks as if the layer were made for the length that it is tested on."""
    return prediction | {"risks": prediction["own"]}


def bayes_optimal(problem, prediction):
    """The layer computes the posterior mean: all of its risk is that of Bayes."""
    at, here = problem.lengths.index(problem.context), problem.tested[problem.context]
    risks = prediction["risks"].copy()
    risks[at] = np.mean((prediction["bayes"] - here.y[:, -1]) ** 2)
    return prediction | {"risks": risks}


def wide_noise(problem, prediction):
    """A Bayes predictor that has the noise for its standard deviation."""
    here = problem.tested[problem.context]
    wrong = jax.jit(jax.vmap(lambda x, y: linear_predictions(x, y, problem.noise**0.5).mean[-1]))(here.x, here.y)
    return prediction | {"bayes": np.asarray(wrong)}


STUDY = Study(
    title="The optimal layer of linear attention",
    question="To which weights does training bring a layer of linear attention, and how far from Bayes does it stay?",
    source="Ahn et al. 2023 (arXiv:2306.00297); Mahankali et al. 2023 (arXiv:2307.03576)",
    regimes=("bayes", "attention"),
    asks="what",
    sizes={
        "smoke": dict(
            variances=(1.6, 1.2, 0.8, 0.4),
            noise=0.1,
            context=10,
            lengths=(3, 5, 10, 20, 40),
            batch=128,
            start=0.1,
            steps=2000,
            rate=0.01,
            records=21,
            runs=4,
            tests=8192,
        ),
        "paper": dict(
            variances=(1.6, 1.2, 0.8, 0.4),
            noise=0.1,
            context=10,
            lengths=(3, 5, 10, 20, 40, 80),
            batch=1024,
            start=0.1,
            steps=10_000,
            rate=0.01,
            records=41,
            runs=16,
            tests=65_536,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Training ends at the best layer.",
            weights,
            5,
            "Standard errors over runs, pooled over weights.",
        ),
        Claim("Every run costs what theory says, at any length.", risk, 5, "Standard errors over prompts."),
        Claim(
            "What it misses of Bayes adds to what Bayes misses of the truth.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
        Claim("So it stays as far from Bayes as its risk says.", distance, 5, "Standard errors over prompts."),
    ),
    rivals=(
        Rival("The layer inverts the covariance, as for endless contexts.", believing(lambda law, n: (law, 1e12))),
        Rival("The query counts as a pair of the context.", believing(lambda law, n: (law, n + 1))),
        Rival("Whatever the length, it is the best layer.", each_length),
        Rival("It is the Bayes predictor.", bayes_optimal),
        Rival("Bayes takes noise for a standard deviation.", wide_noise),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.linear_attention.layer",
        "bayes_icl.linear_attention.least",
        "bayes_icl.linear_attention.tested",
    ),
)
