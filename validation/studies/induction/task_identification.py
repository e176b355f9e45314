"""Few tasks are recognised, many are learned in context: a small transformer on sequences of classes and labels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import hits, losses, shown
from sims.tasks.in_context_maps import task_sequences, tokens
from sims.training import training
from theory.induction.task_identification import (
    copier_curve,
    copying_prediction,
    distinct_classes,
    identifier_curve,
    sampling_accuracy,
    table_prediction,
    unseen_task_accuracy,
)
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

# What is left to learn, in accuracy, when training stops.
LEFT = 0.05
# Which sequences are of a task that the network was trained on, and which are of a new one.
SEEN, UNSEEN = 0, 1


def problem(settings, seed):
    """A table of tasks for each run, and test sequences: of a task of its table, and of a new one."""
    rng = np.random.default_rng(seed)
    cases = [tasks for tasks in settings["tasks"] for _ in range(settings["runs"])]
    k, c, size = settings["classes"], settings["labels"], (settings["tests"], settings["context"])
    tables = rng.integers(0, c, (len(cases), max(settings["tasks"]), k))
    classes = rng.integers(0, k, (len(cases), 2, *size))
    own = np.stack([table[rng.integers(0, m, size[0])] for table, m in zip(tables, cases, strict=True)])
    maps = np.stack([own, rng.integers(0, c, own.shape)], axis=1)
    answers = np.take_along_axis(maps, classes, axis=-1)
    given = dict(cases=np.array(cases), tables=tables, items=classes, answers=answers)
    return Problem(**settings, seed=seed, **given)


def by_case(problem, values):
    """(runs, ...) to (numbers of tasks, runs of each, ...)."""
    return np.reshape(values, (len(problem.tasks), problem.runs, *np.shape(values)[1:]))


def judged(problem, log_p):
    """Of log-probabilities (runs, seen or not, tests, N, C): (numbers of tasks, runs, seen or not, ...).

    By position `accuracy`, `loss`, how `sure` it is of the right label; accuracy on classes `shown` before and `new`.
    """
    flat = lambda x: jnp.reshape(jnp.asarray(x), (-1, *np.shape(x)[3:]))  # noqa: E731
    shape = problem.items.shape
    right = np.asarray(hits(flat(log_p), flat(problem.answers))).reshape(shape)
    lost = np.asarray(losses(flat(log_p), flat(problem.answers))).reshape(shape)
    known = np.asarray(shown(flat(problem.items))).reshape(shape)
    shares = [np.sum(right * part, axis=(2, 3)) / np.sum(part, axis=(2, 3)) for part in (known, 1 - known)]
    sure = np.exp(-lost).mean(axis=2)
    found = dict(accuracy=right.mean(axis=2), loss=lost.mean(axis=2), shown=shares[0], new=shares[1], sure=sure)
    return {name: by_case(problem, value) for name, value in found.items()}


@functools.cache
def network(classes, labels, context, width, hidden, batch, lr, size):
    """Adam on fresh sequences of the tasks of a table; what is recorded are log-probabilities on the tests."""

    def untrained(key, _):
        drawn = transformer(key, classes + labels, 2 * context - 1, width=width, hidden=hidden, outputs=labels)
        return jax.tree.map(lambda x: x.astype(jnp.float32), drawn)

    def log_p(model, items, answers):
        return jax.nn.log_softmax(model(tokens(items, answers, classes))[:, ::2])

    def draw_batch(key, hyper):
        return task_sequences(key, hyper["table"], hyper["known"], batch, context)

    def record(model, hyper):
        return jnp.stack([log_p(model, hyper["items"][i], hyper["answers"][i]) for i in range(2)])

    return training(
        untrained,
        lambda model, batch: jnp.mean(losses(log_p(model, *batch), batch.labels)),
        lambda _: optax.adam(lr),
        draw_batch,
        record,
    )


def simulate_networks(problem):
    """Trained networks judged on the tests."""
    p = problem
    trained = network(p.classes, p.labels, p.context, p.width, p.hidden, p.batch, p.lr, p.tests)
    many = len(p.cases)
    hyper = dict(table=p.tables, known=p.cases, items=p.items, answers=p.answers)
    runs = Runs(p.seed * many + np.arange(many), hyper, (many,))
    end = simulate(trained, runs, [p.steps], batching="map", optimised=True).records[:, 0]
    return judged(problem, end)


def exact(problem, noise=0.0):
    """The identifier of each run's own table, on the tests."""
    cases = zip(problem.items, problem.answers, problem.tables, problem.cases, strict=True)
    guess = lambda k, y, table: logs(table_prediction(k, y, table, problem.labels, noise))  # noqa: E731
    found = [[guess(*kind, table[:m]) for kind in zip(k, y, strict=True)] for k, y, table, m in cases]
    return judged(problem, found)


def copying(problem):
    """The copier on the same tests."""
    cases = zip(problem.items, problem.answers, strict=True)
    guess = lambda k, y: logs(copying_prediction(k, y, problem.labels))  # noqa: E731
    return judged(problem, [[guess(*kind) for kind in zip(*case, strict=True)] for case in cases])


def logs(probabilities):
    """ln p with a finite one for what is impossible: what a predictor is sure of counts as right or wrong alone."""
    return jnp.log(jnp.maximum(jnp.asarray(probabilities), 1e-30))


def table_scatter(problem):
    """Deviation of the identifier's accuracy from table to table, by position, for the fewest tasks."""
    rng, p = np.random.default_rng(problem.seed + 1), problem
    m, found = p.tasks[0], []
    for _ in range(p.scatter):
        table = rng.integers(0, p.labels, (m, p.classes))
        items = rng.integers(0, p.classes, (p.tests, p.context))
        answers = np.take_along_axis(table[rng.integers(0, m, p.tests)], items, axis=1)
        guess = logs(table_prediction(items, answers, table, p.labels))
        found.append(np.asarray(hits(guess, jnp.asarray(answers))).mean(axis=0))
    return np.std(found, axis=0, ddof=1)


def predict(problem):
    """Few tasks are identified, many are not: then labels are copied."""
    p = problem
    identifier, nearest, copier = exact(p), exact(p, noise=1e-3), copying(p)
    closed = identifier_curve(p.context, p.classes, p.labels, p.tasks[0])
    return {
        "few": {name: identifier[name][0, :, SEEN] for name in ("accuracy", "loss")},
        "worth": (copier["loss"] - identifier["loss"])[0, :, SEEN].sum(axis=-1),
        "closed": np.asarray(closed.accuracy),
        "scatter": np.hypot(table_scatter(p) / p.runs**0.5, LEFT),
        "strange": np.stack([which["shown"][0, :, UNSEEN] for which in (identifier, nearest)]),
        "many": {name: copier[name][-1] for name in ("accuracy", "loss")},
        "new": np.full((len(p.tasks), p.runs), 1 / p.labels),
        "new_error": np.sqrt((1 - 1 / p.labels) / p.labels / (p.tests * new_share(p).sum())),
        "copied": np.asarray(copier_curve(p.context, p.classes, p.labels).accuracy),
        "nearest": nearest["accuracy"][0, :, UNSEEN].mean(axis=0),
        "identifier": identifier,
        "copier": copier,
    }


def new_share(problem):
    """Chance that the class at each position has not been shown."""
    return (1 - 1 / problem.classes) ** np.arange(problem.context)


def few_accuracy(prediction, observation):
    """Accuracy by position on known tasks, when they are few."""
    return gap(prediction["few"]["accuracy"], observation["accuracy"][0, :, SEEN], LEFT)


def few_loss(prediction, observation):
    """Loss over all positions beyond the prediction, over what knowing the tasks is worth."""
    beyond = (observation["loss"][0, :, SEEN] - prediction["few"]["loss"]).sum(axis=-1)
    return float(np.max(np.abs(beyond) / prediction["worth"]))


def few_closed(prediction, observation):
    """Mean accuracy over runs against the mean over all tables, in deviations from table to table."""
    return gap(prediction["closed"], observation["accuracy"][0, :, SEEN].mean(axis=0), prediction["scatter"])


def strangers(prediction, observation):
    """Accuracy on shown classes of new tasks, few being known: from the middle of two identifiers, over half way."""
    low, high = prediction["strange"]
    return gap((low + high) / 2, observation["shown"][0, :, UNSEEN], (high - low) / 2)


def many_accuracy(prediction, observation):
    """Accuracy by position on tasks known or not, when many are known."""
    return gap(prediction["many"]["accuracy"], observation["accuracy"][-1], 2 * LEFT)


def many_loss(prediction, observation):
    """The same for losses, in nats."""
    return gap(prediction["many"]["loss"], observation["loss"][-1], 4 * LEFT)


def chance(prediction, observation):
    """Accuracy on classes of unknown tasks that have not been shown, in binomial standard errors."""
    return gap(prediction["new"], observation["new"][..., UNSEEN], prediction["new_error"])


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    at, names = np.arange(1, problem.context + 1), ("a task it knows", "a new task")
    for panel, case in ((left, 0), (middle, -1)):
        for i, name in enumerate(names):
            style.networks(panel, at, observation["accuracy"][case, :, i].mean(axis=0), i=i, label=name)
        panel.set(xlabel="position", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    style.theory(left, at, prediction["closed"], i=0)
    style.theory(left, at, unseen(problem), i=1)
    style.theory(left, at, prediction["nearest"], i=1, linestyle=":")
    style.rival(left, at, prediction["copied"], label="copying")
    left.set(ylabel="accuracy")
    left.set_title(f"{problem.tasks[0]} tasks: identified")
    style.theory(middle, at, prediction["copied"], i=2, label="copying")
    middle.set_title(f"{problem.tasks[-1]} tasks: copied")

    many = 2 ** np.arange(0, 1 + int(np.log2(4 * problem.tasks[-1])))
    style.theory(right, many, [new_accuracy(problem, int(m)) for m in many], i=0, label="identifying")
    style.theory(right, many, np.full(len(many), 1 / problem.labels), i=2, label="copying")
    tasks = np.repeat(problem.tasks, problem.runs)
    style.networks(right, tasks, observation["new"][..., SEEN].ravel(), i=0, label="a task it knows")
    right.set(xscale="log", xlabel="number of tasks", ylim=(0, 1.45), yticks=[0, 0.5, 1])
    right.set_title("On classes not yet shown")
    for panel in (left, middle, right):
        panel.legend(loc="upper left", fontsize=7)


def unseen(problem):
    """The identifier on an unknown task, where what agrees with no task is a guess."""
    p = problem
    return np.asarray(unseen_task_accuracy(p.context, p.classes, p.labels, p.tasks[0]))


def new_accuracy(problem, tasks):
    """Accuracy of the identifier on all classes that have not been shown, of a known task."""
    share = new_share(problem)
    curve = np.asarray(identifier_curve(problem.context, problem.classes, problem.labels, tasks).accuracy)
    return (curve - (1 - share)).sum() / share.sum()


def always_copied(problem, prediction):
    """However few tasks there are, labels are copied."""
    few = {name: prediction["copier"][name][0, :, SEEN] for name in ("accuracy", "loss")}
    return prediction | {"few": few, "closed": prediction["copied"]}


def always_identified(problem, prediction):
    """However many tasks there are, they are identified."""
    return prediction | {"many": {name: prediction["identifier"][name][-1] for name in ("accuracy", "loss")}}


def drawn_from_posterior(problem, prediction):
    """Labels are those of a task that is drawn from the posterior."""
    p, d = problem, np.arange(problem.classes + 1.0)
    sure = np.asarray(distinct_classes(p.context, p.classes)) @ (
        d / p.classes + (1 - d / p.classes) * np.asarray(sampling_accuracy(d, p.labels, p.tasks[0]))
    )
    few = prediction["few"] | {"accuracy": prediction["identifier"]["sure"][0, :, SEEN]}
    return prediction | {"few": few, "closed": sure}


def strangers_copied(problem, prediction):
    """Who identifies tasks copies where none of them agrees."""
    low, high = prediction["strange"]
    half = (high - low) / 2
    return prediction | {"strange": np.stack([1 - half, 1 + half])}


def transferred(problem, prediction):
    """What is known of tasks helps with new ones."""
    return prediction | {"new": prediction["identifier"]["new"][..., SEEN]}


STUDY = Study(
    title="Identifying a task or learning it in context",
    question="When does a network that is trained on many tasks learn a new one from its context, rather than "
    "recognise one that it knows?",
    source="Kirsch, Harrison, Sohl-Dickstein & Metz 2022 (arXiv:2212.04458); the predictors are derived here",
    regimes=("attention", "bayes"),
    asks="what",
    sizes={
        "smoke": dict(
            classes=6,
            labels=4,
            context=8,
            tasks=(4, 128),
            runs=2,
            width=32,
            hidden=64,
            batch=64,
            lr=0.003,
            steps=550,
            tests=1000,
            scatter=24,
        ),
        "paper": dict(
            classes=10,
            labels=10,
            context=30,
            tasks=(16, 4096),
            runs=4,
            width=256,
            hidden=1024,
            batch=256,
            lr=0.0003,
            steps=20_000,
            tests=500,
            scatter=64,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Few tasks are identified: position by position a network is as often right as exact Bayes on its table.",
            few_accuracy,
            1,
            "A twentieth: what is left to learn when training stops.",
        ),
        Claim(
            "Its loss comes down to that of exact Bayes.",
            few_loss,
            0.15,
            "A share of what knowing the tasks is worth over copying, left when training stops.",
        ),
        Claim(
            "Its mean accuracy is that of the closed form for random tables.",
            few_closed,
            5,
            "Deviation of means over runs from table to table, beside a twentieth left to learn.",
        ),
        Claim(
            "On a new task it is as wrong as an identifier, which guesses there or goes by the nearest of its tasks.",
            strangers,
            1,
            "Half the distance of the two conventions for labels that no task agrees with.",
        ),
        Claim(
            "Many tasks are learned in context: known or new, a network is as often right as copying makes it.",
            many_accuracy,
            1,
            "A tenth: what is left to learn, and what it has begun to know of its tasks.",
        ),
        Claim("So are its losses.", many_loss, 1, "A fifth of a nat, for the same reasons."),
        Claim(
            "On classes of a new task that have not been shown no network is better than chance.",
            chance,
            5,
            "Binomial standard errors.",
        ),
    ),
    rivals=(
        Rival("However few tasks there are, labels are copied.", always_copied),
        Rival("However many tasks there are, they are identified.", always_identified),
        Rival("Labels are those of a task that is drawn from the posterior.", drawn_from_posterior),
        Rival("Who identifies tasks copies where none of them agrees.", strangers_copied),
        Rival("What is known of tasks helps with new ones.", transferred),
    ),
    draw=draw,
    formulas=(
        "induction.task_identification.voting",
        "induction.task_identification.sampling",
        "induction.task_identification.copier",
        "induction.task_identification.unseen",
    ),
)
