"""Small random weights: neither balanced nor aligned, and yet each mode is a logistic, from a start of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.networks.deep_linear import DeepLinear, correlation_loss
from sims.probes.linear import mode_strengths
from sims.training import gradient_descent
from theory.deep_linear.modes import effective_start, mean_effective_start, mode_strength, separate_start
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Draws the modes' vectors, and the initial weights of every width and every network."""
    p = Problem(**settings, seed=seed)
    rng = np.random.default_rng([seed, 7])
    k = len(p.s)
    p.left, p.right = (np.linalg.qr(rng.normal(size=(n, k)))[0] for n in (p.n_out, p.n_in))
    # The same mean start u0 at every width, so that the width alone changes.
    p.sigma = [np.sqrt(2 * p.u0 / hidden) for hidden in p.widths]
    p.w1 = [sd * rng.normal(size=(p.networks, h, p.n_in)) for h, sd in zip(p.widths, p.sigma, strict=True)]
    p.w2 = [sd * rng.normal(size=(p.networks, p.n_out, h)) for h, sd in zip(p.widths, p.sigma, strict=True)]
    return p


def clock(problem):
    return np.arange(problem.records + 1) * problem.interval * problem.lr


def predict(problem):
    """Logistic modes from the effective start; what finite width makes of them; and the step error lr e(t)."""
    starts, separate = (
        np.stack(
            [
                jax.vmap(start, in_axes=(0, 0, None, None))(w1, w2, problem.left, problem.right)
                for w1, w2 in zip(problem.w1, problem.w2, strict=True)
            ]
        )
        for start in (effective_start, separate_start)
    )
    return {
        "u": modes(problem, starts),
        "overlap_error": modes(problem, separate) - modes(problem, starts),
        "widths": np.asarray(problem.widths),
        "t": clock(problem),
    }


def modes(problem, starts):
    """Strengths (..., t) of modes that start at `starts` (..., k), trained with steps of size lr."""
    t, s = clock(problem), np.asarray(problem.s)
    flat = np.asarray(starts).reshape(-1, len(s))
    return logistic(t, s, flat, problem.lr).reshape(*starts.shape, len(t))


@jax.jit
def logistic(t, s, u0, lr):
    """The logistic with its leading step error."""

    def one(s, u0):
        layer, error = descent_error(lambda a: a * (s - a**2), t, jnp.sqrt(u0))
        return mode_strength(t, s, u0) + 2 * lr * layer * error

    return jax.vmap(jax.vmap(one), in_axes=(None, 0))(s, u0)


def simulate_networks(problem):
    """Gradient descent on all weights from the drawn ones, white inputs."""
    syx = (problem.left * np.asarray(problem.s)) @ problem.right.T
    trained = gradient_descent(
        lambda _, hyper: DeepLinear((hyper["w1"], hyper["w2"])),
        lambda network: correlation_loss(network, jnp.eye(problem.n_in), jnp.asarray(syx)),
        problem.lr,
        lambda network, _: mode_strengths(network, jnp.asarray(problem.left), jnp.asarray(problem.right)),
    )
    record_at = every(problem.records * problem.interval, problem.interval)
    strengths = []
    for w1, w2 in zip(problem.w1, problem.w2, strict=True):
        runs = Runs(np.full(problem.networks, problem.seed), {"w1": w1, "w2": w2}, (problem.networks,))
        strengths.append(simulate(trained, runs, record_at).records.swapaxes(1, 2))
    return {"u": np.stack(strengths)}


def deviation(prediction, observation):
    """Mean over networks of the largest |u_network - u_theory| over time, by width and mode."""
    return np.abs(observation["u"] - prediction["u"]).max(axis=-1).mean(axis=1)


def overlap_gap(prediction, observation):
    """What remains once the overlaps are taken into account, in units of what they change, by width."""
    scale = np.abs(prediction["overlap_error"]).max(axis=(1, 2, 3))[:, None, None, None]
    return gap(prediction["u"] + prediction["overlap_error"], observation["u"], scale)


def width_rate(prediction, observation):
    return rate(prediction["widths"], deviation(prediction, observation)[:, 1:].mean(axis=1), -1.0)


def draw(figure, problem, prediction, observation):
    curves, errors = figure.subplots(1, 2, width_ratios=(1.6, 1))
    t = prediction["t"]
    for i, s in enumerate(problem.s):
        style.theory(curves, t, prediction["u"][0, 0, i], i=i, label=f"s = {s:g}")
        style.networks(curves, t, observation["u"][0, 0, i], i=i)
    for i, u in enumerate(modes(problem, all_alike(problem, 0)[:1])[0]):
        style.rival(curves, t, u, label="from the mean start" if i == 0 else None)
    curves.set(
        xlabel="time  t = lr · steps", ylabel="mode strength u", title=f"One network of width {problem.widths[0]}"
    )
    curves.set_ylim(top=1.32 * max(problem.s))
    curves.legend(loc="upper right", ncols=2)
    measured = deviation(prediction, observation)[:, 1:].mean(axis=1)
    overlaps = np.abs(prediction["overlap_error"]).max(axis=-1).mean(axis=1)[:, 1:].mean(axis=1)
    style.theory(errors, problem.widths, overlaps, i=4, label="effect of overlaps")
    style.networks(errors, problem.widths, measured, i=4, label="networks")
    errors.set(xscale="log", yscale="log", xlabel="hidden width", ylabel="mean of max |Δu|", title="Weaker modes")
    errors.set_xticks(problem.widths, labels=map(str, problem.widths))
    errors.minorticks_off()
    errors.legend()


def mean_start(problem, width):
    return mean_effective_start(problem.widths[width], problem.sigma[width], problem.sigma[width])


def instead(start):
    """A rival that believes in another start, start(problem, width) of shape (networks, k)."""

    def believed(problem, prediction):
        starts = np.stack([start(problem, i) for i in range(len(problem.widths))])
        return prediction | {"u": modes(problem, np.maximum(starts, 1e-12))}

    return believed


def all_alike(problem, width):
    return np.full((problem.networks, len(problem.s)), float(mean_start(problem, width)))


def initial_product(problem, width):
    return np.abs(np.einsum("ok,noh,nhi,ik->nk", problem.left, problem.w2[width], problem.w1[width], problem.right))


def product_of_lengths(problem, width):
    """|W1 v_i| |W2^T u_i|: the strength that the two layers would have if they were aligned."""
    first = np.linalg.norm(problem.w1[width] @ problem.right, axis=1)
    return first * np.linalg.norm(np.swapaxes(problem.w2[width], 1, 2) @ problem.left, axis=1)


STUDY = Study(
    title="Small random start",
    question="The theory starts from aligned, balanced weights. Do small random ones learn in the same way?",
    source="Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section on random initial conditions",
    regimes=("linear",),
    asks="when",
    sizes={
        "smoke": dict(
            s=(4.0, 2.5, 1.2),
            n_in=10,
            n_out=6,
            u0=1e-6,
            widths=(16, 64, 256),
            networks=48,
            lr=0.003,
            interval=50,
            records=60,
        ),
        "paper": dict(
            s=(4.0, 2.5, 1.2),
            n_in=32,
            n_out=32,
            u0=1e-8,
            widths=(32, 128, 512),
            networks=64,
            lr=0.001,
            interval=100,
            records=110,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "From small random weights each mode is the logistic that starts at |W1 v + W2ᵀ u|² / 4, up to what the "
            "modes' overlaps in the hidden layer take away.",
            overlap_gap,
            0.25,
            "The overlaps' own effect is the unit; a mode that is not quite learned when the next one rises, and "
            "the second order of the step error, are left over.",
        ),
        Claim(
            "The deviation from that logistic falls as one over the width.",
            width_rate,
            0.35,
            "Five standard errors: squared cosines of random directions scatter by their mean, so the mean over some "
            "fifty networks by 14 %, and the slope over a factor of 16 in width by 0.07.",
        ),
    ),
    rivals=(
        Rival("Every mode starts from the mean, hidden σ² / 2.", instead(all_alike)),
        Rival("A mode starts from the strength that the initial map has, u · W2 W1 v.", instead(initial_product)),
        Rival("A mode starts from the product of its layers' lengths, |W1 v| |W2ᵀ u|.", instead(product_of_lengths)),
    ),
    draw=draw,
    formulas=("deep_linear.modes.two_layer", "deep_linear.modes.effective_start", "deep_linear.modes.separate_start"),
)
