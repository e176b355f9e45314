"""Two tasks for a perceptron with binary weights: fields that are passed on, gated or not, by messages or by training.

Message passing and field-space training lower different functions and end at different fields: the study measures
how different, and holds each to its own theory.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.binary_perceptron import Fields, Messages, gated, message_step, natural_step
from sims.tasks.continual import course, related_signs, teacher_tasks
from theory.lazy_rich.continual_binary import joint_overlaps, overlap, second_task_overlaps
from theory.lazy_rich.continual_fields import trained_overlaps
from theory.lazy_rich.continual_perceptron import gibbs_error, posterior_mean_error
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study, settings_as_problem

SOLVERS = {"messages": second_task_overlaps, "training": trained_overlaps}
WAYS = tuple(SOLVERS)


def predict(problem):
    """Overlaps (with teacher 1, with teacher 2, own) after both tasks, (gates, correlations, 3), and errors."""
    one, two = problem.alpha
    found = {"rho": np.array(problem.correlations), "order": 1 / problem.inputs}
    for way, solver in SOLVERS.items():
        found[way] = np.array([[solver(rho, one, two, gate)[:3] for rho, gate in cases] for cases in gates(problem)])
        found[f"{way} errors"] = errors(found[way])
    # Overlap with the teacher and own, after the first task.
    found["first"] = np.array([[overlap(one)] * 2, trained_overlaps(0.0, one, 0.0)[:3:2]])
    found["first errors"] = np.stack([np.asarray(posterior_mean_error(q, r)) for r, q in found["first"]])
    return found


def gates(problem):
    """(correlation, gate) of all runs: fields passed on as they are, then gated."""
    return [[(rho, 1.0) for rho in problem.correlations], [(rho, rho) for rho in problem.correlations]]


def errors(overlaps):
    """Posterior-mean errors on tasks 1 and 2 from (R_1, R_2, q) on the last axis."""
    first, second, own = np.moveaxis(overlaps, -1, 0)
    return np.stack([posterior_mean_error(own, first), posterior_mean_error(own, second)], axis=-1)


def recorded(learner, teachers, _):
    m = jnp.tanh(learner.field)
    return jnp.stack([*(teachers @ m), m @ m]) / m.size


def simulate_students(problem):
    """Both students on the same data, (seeds, ...): message passing, and natural gradients of the free energy."""
    samples = tuple(round(alpha * problem.inputs) for alpha in problem.alpha)
    nothing, silence = jnp.zeros(problem.inputs), jnp.zeros(max(samples))

    def draw(key, hyper):
        teacher_key, task_key = jax.random.split(jax.random.fold_in(key, problem.seed))
        w = related_signs(teacher_key, hyper["case"][0], problem.inputs)
        return teacher_tasks(task_key, w, samples, lambda _, outputs: jnp.sign(outputs)), w

    def begin(learner, hyper):
        field = gated(learner.field, hyper["case"][1])
        return Messages(field, field, silence) if isinstance(learner, Messages) else Fields(field, field)

    learners = {
        "messages": (Messages(nothing, nothing, silence), message_step, problem.damping, problem.iterations),
        "training": (Fields(nothing, nothing), natural_step, problem.lr, problem.steps),
    }
    cases = np.array(gates(problem)).reshape(-1, 2)
    found = {}
    for way, (learner, advance, rate, steps) in learners.items():
        simulation = course(
            draw,
            lambda _, learner=learner: learner,
            begin,
            lambda learner, task, _, advance=advance, rate=rate: advance(learner, *task, rate),
            steps,
            recorded,
        )
        runs = simulate(simulation, grid(problem.seeds, case=cases), [0, steps, 2 * steps]).on_grid()
        found[way] = runs[:, :, 2].reshape(problem.seeds, 2, -1, 3)
        found[f"{way} errors"] = errors(found[way])
        # The first task is the same whatever comes after it.
        found[f"{way} first"] = runs[:, 0, 1][:, [0, 2]]
    found["first"] = np.stack([found[f"{way} first"] for way in WAYS], axis=1)
    found["first errors"] = np.asarray(posterior_mean_error(found["first"][..., 1], found["first"][..., 0]))
    return found


def deviation(*names):
    """Largest z-score of the named quantities, with the order 1/N that the limit leaves out."""

    def measure(prediction, observation):
        return max(z_score(prediction[name], observation[name], floor=prediction["order"]) for name in names)

    return measure


def gain(prediction, observation):
    """How much lower the gate makes the error on the second task, and higher that on the first: paired over data."""
    predicted, found = (table["messages errors"] for table in (prediction, observation))
    return z_score(predicted[1] - predicted[0], found[:, 1] - found[:, 0], floor=prediction["order"])


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    rho, (one, two) = prediction["rho"], problem.alpha
    fine = np.linspace(rho.min(), rho.max(), 9)
    curves = {way: np.array([SOLVERS[way](r, one, two)[:3] for r in fine]) for way in WAYS}
    gated_curve = np.array([second_task_overlaps(r, one, two, r)[:3] for r in fine])
    for i, (name, curve) in enumerate((("as they are", curves["messages"]), ("gated", gated_curve))):
        style.theory(left, fine, errors(curve)[:, 1], i=i, label=f"fields {name}")
        style.networks(left, rho, observation["messages errors"][:, i, :, 1].mean(axis=0), i=i)
    joint = np.array([joint_overlaps(r, one, two)[1] for r in fine])
    style.rival(left, fine, np.asarray(posterior_mean_error(joint)), label="both data sets kept")
    left.set(xlabel="correlation of the teachers", ylabel="error on the second task")
    left.set_title("Message passing")
    left.legend(loc="lower left")

    for i, way in enumerate(WAYS):
        for k, (name, dashes) in enumerate((("with teacher 2", "-"), ("with itself", (0, (3, 1.5))))):
            style.theory(right, fine, curves[way][:, 1 + k], i=2 + i, label=f"{way}, {name}", linestyle=dashes)
            style.networks(right, rho, observation[way][:, 0, :, 1 + k].mean(axis=0), i=2 + i)
    low, high = right.get_ylim()
    right.set(xlabel="correlation of the teachers", ylabel="overlap", ylim=(low, high + 0.6 * (high - low)))
    right.set_title("After both tasks, fields as they are")
    right.legend(loc="upper left", fontsize=7.5)


def gibbs(problem, prediction):
    """The error of the student is arccos(q) / pi."""
    found = dict(prediction)
    for way in WAYS:
        found[f"{way} errors"] = np.asarray(gibbs_error(np.abs(prediction[way][..., :2])))
    return found


def matched(problem, prediction):
    """What the student believes to overlap does overlap: q = R."""
    found = dict(prediction)
    for way in WAYS:
        table = prediction[way].copy()
        table[..., 2] = table[..., 1]
        found[way] = table
    return found


def no_gate(problem, prediction):
    """A gate changes nothing."""
    found = dict(prediction)
    for name in (*WAYS, *(f"{way} errors" for way in WAYS)):
        found[name] = np.stack([prediction[name][0]] * 2)
    return found


def same(problem, prediction):
    """Field-space training ends where message passing does."""
    return prediction | {"training": prediction["messages"], "training errors": prediction["messages errors"]}


STUDY = Study(
    title="Continual learning with binary weights",
    question="What does a perceptron that keeps a field for each weight, but no data, know of two tasks in the end?",
    source="setting: Li, Huang, Zou & Huang 2022 (arXiv:2212.02846); derived in "
    "derivations/lazy_rich/continual_binary.py and continual_fields.py",
    regimes=("rich",),
    asks="how well",
    sizes={
        "smoke": dict(
            inputs=200,
            alpha=(0.8, 0.6),
            correlations=(-0.4, 0.3, 0.9),
            damping=0.3,
            iterations=40,
            lr=0.5,
            steps=40,
            seeds=12,
        ),
        "paper": dict(
            inputs=2000,
            alpha=(0.8, 0.6),
            correlations=(-0.8, -0.4, 0.0, 0.3, 0.6, 0.9, 1.0),
            damping=0.3,
            iterations=100,
            lr=0.5,
            steps=200,
            seeds=40,
        ),
    },
    problem=settings_as_problem,
    predict=predict,
    simulate=simulate_students,
    claims=(
        Claim(
            "Message passing ends at the predicted overlaps, with and without a gate.",
            deviation("messages"),
            5,
            "Standard errors over data sets, and the order 1/N.",
        ),
        Claim(
            "Field-space training ends at its own predicted overlaps, less certain than it ought to be.",
            deviation("training", "first"),
            5,
            "As for message passing.",
        ),
        Claim(
            "Errors on both tasks are those of the posterior mean.",
            deviation("messages errors", "training errors", "first errors"),
            5,
            "As for the overlaps.",
        ),
        Claim(
            "A gate on the fields buys a lower error on the second task with a higher one on the first.",
            gain,
            5,
            "Standard errors of differences on the same data.",
        ),
    ),
    rivals=(
        Rival("Students err as one sample of their posterior does, arccos(q) / pi.", gibbs),
        Rival("A student's certainty is its overlap with the teacher, q = R.", matched),
        Rival("A gate changes nothing.", no_gate),
        Rival("Field-space training ends where message passing does.", same),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.continual_binary.forget_gate",
        "lazy_rich.continual_perceptron.channel_signal",
        "lazy_rich.continual_perceptron.channel_noise",
        "lazy_rich.continual_fields.settled_margin",
        "lazy_rich.continual_fields.settled_field",
    ),
)
