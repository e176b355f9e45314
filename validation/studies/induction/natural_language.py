"""What sequences hold by chance, generated and in English, and where natural language sits between the two ways."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sims.tasks.english import documentation
from sims.tasks.item_label import ItemLabel, sequences, world
from theory.induction import data_statistics as chance
from theory.induction.associative_memory import power_law
from theory.induction.text_statistics import equivalent_bursty, observed_recurrence, shuffled_recurrence, zipf_fit
from validation import style
from validation.metrics import gap, z_score
from validation.studies.induction.race import PHASES, phase, raced
from validation.study import Claim, Problem, Rival, Study


def problem_of(settings, seed):
    """English text in pieces, dealt out to two halves; the words of the vocabulary are numbers."""
    problem = Problem(**settings, seed=seed)
    pieces = documentation().pieces(problem.piece)
    order = np.random.default_rng(seed).permutation(len(pieces))
    half = len(pieces) // 2
    problem.first, problem.second = pieces[order[:half]], pieces[order[half : 2 * half]]
    problem.vocabulary = int(pieces.max()) + 1
    return problem


def counts_of(problem, pieces):
    """How often each word occurs in each piece."""
    return np.stack([np.bincount(piece, minlength=problem.vocabulary) for piece in pieces])


def exponent_of(problem, pieces, others):
    """`ZipfFit` of some pieces, to the words that are most frequent in others and in their order."""
    ranked = np.argsort(-counts_of(problem, others).sum(axis=0), kind="stable")[: problem.ranks]
    return zipf_fit(counts_of(problem, pieces)[:, ranked])


def templates(problem):
    """(task, draws of a bursty context, copies of the target's class in it): cases of the generator."""
    task = ItemLabel(problem.labels, problem.context, problem.classes, burst=problem.burst, repeats=True)
    few = dataclasses.replace(task, template="few-shot")
    for exponent in problem.exponents:
        one = dict(exponent=exponent)
        yield dataclasses.replace(task, bursty=0.0, **one), problem.context, 0
        yield dataclasses.replace(task, bursty=0.5, **one), problem.context // problem.burst, problem.burst
        yield dataclasses.replace(few, bursty=0.5, **one), problem.context - 4, 3


def by_chance(problem, frequencies=None):
    """Expected measures of each case, (cases, 5).

    Probabilities that the target's class, and its label, is in the context; numbers of different classes, and labels;
    number of items of the target's class.
    """
    rows = []
    for task, draws, copies in templates(problem):
        p = power_law(task.exponent, task.classes) if frequencies is None else frequencies
        both, n, b = (p, chance.label_frequencies(p, task.labels)), task.context, task.bursty
        mixed = lambda one, other, b=b: b * one + (1 - b) * other  # noqa: E731
        kinds = [mixed(chance.distinct(q, float(draws)), chance.distinct(q, float(n))) for q in both]
        matches = mixed(chance.matches(p, n, copies), chance.matches(p, n, 0))
        rows.append([*(chance.recurrence(q, float(n), b) for q in both), *kinds, matches])
    return np.array(rows)


def predict(problem):
    windows = np.array(problem.windows, float)
    second = counts_of(problem, problem.second).sum(axis=0)
    first = counts_of(problem, problem.first).sum(axis=0)
    alone = np.asarray(chance.recurrence(first / first.sum(), windows))
    seen = np.asarray(observed_recurrence(problem.first, windows))
    bursty = equivalent_bursty(seen.mean(axis=0), alone)
    text = [chance.recurrence(first / first.sum(), n, b) for n, b in zip(windows, bursty, strict=True)]
    fit = exponent_of(problem, problem.first, problem.second)
    p = power_law(1.0, problem.classes)
    copier = chance.in_context_accuracy(p, problem.labels, problem.context, contextual=True)
    exponents, fractions, phases = diagram(problem)
    return {
        "generated": by_chance(problem),
        "curves": np.array(
            [chance.recurrence(power_law(a, problem.classes), curve(problem)) for a in problem.exponents]
        ),
        "tests": np.array([chance.in_weights_accuracy(problem.labels), copier]),
        "shuffled": np.asarray(shuffled_recurrence(second, windows)),
        "alone": alone,
        "bursty": np.asarray(bursty),
        "text": np.array(text),
        "text_error": seen.std(axis=0, ddof=1) / np.sqrt(len(seen)),
        "exponent": float(fit.exponent),
        "exponent_error": float(fit.standard_error),
        "diagram": (exponents, fractions, phases),
    }


def curve(problem):
    return np.arange(1.0, problem.context + 1)


def diagram(problem):
    """Phases of the race over exponent and the fraction of sequences with the target's class in the context."""
    exponents, fractions = np.linspace(0, 2, problem.resolution), np.linspace(0, 1, problem.resolution)
    points = [(problem.vocabulary, a, b) for b in fractions for a in exponents]
    end = raced(Problem(**problem.race), np.array([0.0, problem.race["time"]]), points)
    phases = phase(end.in_context[:, -1], end.in_weights[:, -1])
    return exponents, fractions, phases.reshape(len(fractions), -1)


@partial(jax.jit, static_argnames=("classes", "runs", "size"))
def generated(key, task, classes, runs, size):
    """Batches from one world each: measures of the data, and how often two ideal predictors are right, (runs, ...)."""

    def run(key):
        of_world, of_batch, of_guess = jax.random.split(key, 3)
        found = sequences(of_batch, task, world(of_world, task, 1, rows=classes), size)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), measured(of_guess, found, task.labels))

    return jax.lax.map(run, jax.random.split(key, runs))


def measured(key, found, labels):
    """The same measures of each sequence of a batch, by length of the context, and whether predictors are right."""

    def kinds(rows):
        """Numbers that did not occur earlier in their row."""
        earlier = jnp.tril(jnp.ones((rows.shape[1],) * 2, bool), -1)
        return jnp.sum(~jnp.any((rows[:, :, None] == rows[:, None, :]) & earlier, axis=2), axis=1)

    same_label = found.labels[:, :-1] == found.labels[:, -1:]
    recurs = [jnp.any(found.match, axis=1), jnp.any(same_label, axis=1)]
    distinct = [kinds(found.classes[:, :-1]), kinds(found.labels[:, :-1])]
    # Who looks up: the label of a match, of a random item if there is none; who knows: that of the class, or any.
    size, context = found.match.shape
    of_some, of_guess = jax.random.split(key)
    some = jax.random.randint(of_some, (size, 1), 0, context)
    guess = jax.random.randint(of_guess, (size,), 0, labels)
    looked_up = jnp.where(recurs[0][:, None], jnp.argmax(found.match, axis=1)[:, None], some)
    copied = jnp.take_along_axis(found.labels, looked_up, axis=1)[:, 0]
    known = jnp.where(found.novel, guess, found.classes[:, -1] % labels)
    return {
        "generated": jnp.stack([*recurs, *distinct, jnp.sum(found.match, axis=1)], axis=1).astype(float),
        "curves": jnp.cumsum(found.match, axis=1) > 0,
        "tests": jnp.stack([known, copied], axis=1) == found.answer[:, None],
    }


def simulate_sequences(problem):
    """The same of generated sequences, of English, and of its shuffled copies: (runs, ...)."""
    keys = iter(jax.random.split(jax.random.key(problem.seed), 64))

    def sampled(task):
        found = generated(next(keys), task, problem.classes, problem.runs, problem.size)
        return {name: np.asarray(part) for name, part in found.items()}

    cases = [sampled(task) for task, _, _ in templates(problem)]
    bursts = next(task for task, _, copies in templates(problem) if copies == problem.burst)
    three = dict(novel=1.0), dict(bursty=1.0, swap=1), dict(bursty=0.0, exponent=1.0)
    tests = [sampled(dataclasses.replace(bursts, **changed)) for changed in three]
    shuffle, words = np.random.default_rng(problem.seed + 1), problem.second.ravel()
    copies = np.stack([shuffle.permutation(words) for _ in range(problem.shuffles)])
    fit = exponent_of(problem, problem.second, problem.first)
    return {
        "generated": np.stack([case["generated"] for case in cases], axis=1),
        "curves": np.stack([case["curves"] for case in cases[::3]], axis=1),
        "tests": np.stack([case["tests"] for case in tests], axis=2),
        "shuffled": np.asarray(observed_recurrence(copies, np.array(problem.windows))),
        "text": np.asarray(observed_recurrence(problem.second, np.array(problem.windows))),
        "exponent": float(fit.exponent),
        "exponent_error": float(fit.standard_error),
    }


def of_data(prediction, observation):
    """Measures of generated sequences, in standard errors over batches; a ten-thousandth for what does not scatter."""
    return max(
        z_score(prediction[name], observation[name], floor=1e-4 * np.maximum(prediction[name], 1))
        for name in ("generated", "curves")
    )


def of_predictors(prediction, observation):
    return z_score(prediction["tests"], observation["tests"], floor=1e-4)


def of_shuffled_text(prediction, observation):
    return z_score(prediction["shuffled"], observation["shuffled"])


def of_text(prediction, observation):
    """Standard errors over pieces of both halves."""
    return z_score(prediction["text"], observation["text"], floor=prediction["text_error"])


def of_exponent(prediction, observation):
    error = np.hypot(prediction["exponent_error"], observation["exponent_error"])
    return gap(prediction["exponent"], observation["exponent"], error)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    shown = np.unique(np.geomspace(1, problem.context, 7).round().astype(int)) - 1
    for i, exponent in enumerate(problem.exponents):
        style.theory(left, curve(problem), prediction["curves"][i], i=i, label=f"$\\alpha$ = {exponent:g}")
        runs = observation["curves"][:, i, shown]
        style.networks(left, shown + 1, runs.mean(axis=0), i=i, error=runs.std(axis=0) / len(runs) ** 0.5)
    left.set(xscale="log", xlabel="context N", ylabel="target's class is in it", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    left.set_xticks(ticks := 2 ** np.arange(1 + int(np.log2(problem.context))), [f"{n}" for n in ticks])
    left.minorticks_off()
    left.set_title("Generated, no bursts")
    left.legend(loc="upper left", fontsize=7)
    sides = ("text", "first half $\\to$ second half"), ("shuffled", "shuffled, exact")
    for i, (name, label) in enumerate(sides):
        style.theory(middle, problem.windows, prediction[name], i=i + 3, label=label)
        runs = observation[name]
        style.networks(middle, problem.windows, runs.mean(axis=0), i=i + 3, error=runs.std(axis=0) / len(runs) ** 0.5)
    middle.set(xscale="log", xlabel="N words back", ylabel="word recurs", ylim=(0, 0.8))
    middle.set_xticks(problem.windows, [f"{n}" for n in problem.windows])
    middle.minorticks_off()
    middle.set_title("English")
    middle.legend(loc="upper left", fontsize=7)
    exponents, fractions, phases = prediction["diagram"]
    style.regions(right, exponents, fractions, phases, PHASES)
    at = problem.windows.index(problem.race["context"])
    for name, marker, label in (("text", "o", "English"), ("shuffled", "^", "shuffled")):
        x, y = observation["exponent"], observation[name][:, at].mean()
        right.plot([x], [y], marker, color=style.INK, markersize=5)
        right.annotate(label, (x, y), xytext=(6, 3), textcoords="offset points", fontsize=7)
    right.set(xlabel="exponent $\\alpha$", ylabel=f"recurs within {problem.race['context']}")
    right.set_title("Looked up or known?")


def no_chance(problem, prediction):
    """What a template does not put into a context is not in it."""
    rows = []
    for task, draws, copies in templates(problem):
        b = task.bursty
        count = b * draws + (1 - b) * task.context
        rows.append([b, b, count, min(count, problem.labels), b * copies])
    return prediction | {"generated": np.array(rows)}


def any_frequencies(problem, prediction):
    """How often classes occur makes no difference: only how many there are."""
    p = power_law(0.0, problem.classes)
    curves = np.array([chance.recurrence(p, curve(problem))] * len(problem.exponents))
    return prediction | {"generated": by_chance(problem, p), "curves": curves}


def linear(problem, prediction):
    """A class recurs in N places N times as often as in one."""
    curves = np.minimum(1, prediction["curves"][:, :1] * curve(problem))
    return prediction | {"curves": curves}


def labels_as_classes(problem, prediction):
    """Labels recur where their classes do."""
    found = prediction["generated"].copy()
    found[:, 1], found[:, 3] = found[:, 0], found[:, 2]
    return prediction | {"generated": found}


def weights_alone(problem, prediction):
    """On independent sequences looking up is no better than chance among all labels."""
    tests = prediction["tests"].copy()
    tests[1, 2] = 1 / problem.labels
    return prediction | {"tests": tests}


def no_bursts(problem, prediction):
    """English words are independent draws."""
    return prediction | {"text": prediction["alone"]}


def same_bursts(problem, prediction):
    """One fraction of bursty sequences describes English at any distance."""
    b = prediction["bursty"][-1]
    return prediction | {"text": b + (1 - b) * prediction["alone"]}


def power_law_words(problem, prediction):
    """The frequencies of English words are the fitted power law."""
    p = power_law(prediction["exponent"], problem.vocabulary)
    return prediction | {"shuffled": np.asarray(chance.recurrence(p, np.array(problem.windows, float)))}


def exactly_one(problem, prediction):
    """Zipf's exponent is one."""
    return prediction | {"exponent": 1.0}


STUDY = Study(
    title="Natural language between looking up and knowing",
    question="How often do classes, labels and English words recur by chance and in bursts, and where does that put "
    "natural language?",
    source="Chan et al. 2022 (arXiv:2205.05055), Reddy 2024 (arXiv:2312.03002); the statistics are derived here",
    problem=problem_of,
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            labels=32,
            classes=256,
            context=16,
            burst=4,
            exponents=(0.0, 1.0, 2.0),
            runs=24,
            size=64,
            piece=500,
            ranks=1500,
            windows=(4, 8, 16, 32, 64),
            shuffles=16,
            race=dict(context=8, labels=32, groups=16, memory_rate=4.0, time=500.0),
            resolution=6,
        ),
        "paper": dict(
            labels=32,
            classes=1600,
            context=32,
            burst=4,
            exponents=(0.0, 1.0, 2.0),
            runs=64,
            size=1024,
            piece=500,
            ranks=1500,
            windows=(4, 8, 16, 32, 64, 128),
            shuffles=64,
            race=dict(context=8, labels=32, groups=96, memory_rate=4.0, time=4000.0),
            resolution=32,
        ),
    },
    predict=predict,
    simulate=simulate_sequences,
    claims=(
        Claim(
            "Classes and labels recur, and differ, as often as the exact statistics say, for all templates.",
            of_data,
            5,
            "Standard errors over batches.",
        ),
        Claim(
            "Who only knows, and who only looks up, are as right on the three tests as predicted.",
            of_predictors,
            5,
            "Standard errors over batches, beside a ten-thousandth for what is always right or wrong.",
        ),
        Claim(
            "In shuffled English words recur as often as in all orders of the text.",
            of_shuffled_text,
            5,
            "Standard errors over shuffles.",
        ),
        Claim(
            "The bursty fraction of one half of a text says how often words recur in the other.",
            of_text,
            5,
            "Standard errors over pieces of both halves.",
        ),
        Claim(
            "Both halves have the same Zipf exponent, each with the ranks of the other.",
            of_exponent,
            5,
            "Standard errors over pieces of both halves.",
        ),
    ),
    rivals=(
        Rival("What a template does not put into a context is not in it.", no_chance),
        Rival("How often classes occur makes no difference: only how many there are.", any_frequencies),
        Rival("A class recurs in N places N times as often as in one.", linear),
        Rival("Labels recur where their classes do.", labels_as_classes),
        Rival("On independent sequences looking up is no better than chance.", weights_alone),
        Rival("English words are independent draws.", no_bursts),
        Rival("One fraction of bursty sequences describes English at any distance.", same_bursts),
        Rival("The frequencies of English words are the fitted power law.", power_law_words),
        Rival("Zipf's exponent is one.", exactly_one),
    ),
    draw=draw,
    formulas=(
        "induction.data_statistics.recurrence",
        "induction.data_statistics.in_context",
        "induction.text_statistics.exponent",
        "induction.text_statistics.shuffled",
        "induction.text_statistics.bursty",
    ),
)
