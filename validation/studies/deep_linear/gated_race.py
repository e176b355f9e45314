"""The race of gated pathways: what many pathways share is learned first, and serves pairs that were never trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import every, grid, simulate
from sims.networks.gated import aligned_pathways, aligned_routing, contexts_loss, orthogonal_routing, ring, routing_loss
from sims.tasks.hierarchy import LIVING_THINGS
from sims.training import gradient_descent, training
from theory.deep_linear.gated import pathway_strengths, pathway_time, routing_rates
from theory.deep_linear.gated_race import race_strengths
from theory.flow import descent_error
from validation import style
from validation.metrics import gap, rate
from validation.study import Claim, Rival, Study

TABLE = LIVING_THINGS.values
ITEMS = len(LIVING_THINGS.items)
LEFT, SINGULAR, RIGHT = np.linalg.svd(TABLE, full_matrices=False)


def predict(problem):
    p = problem
    routes = routing(p, lambda m: np.asarray(routing_rates(m, m // 2)))
    race = pathways(p, np.array([1.0, 1 / p.contexts]))
    return {"t": times(p)} | routes | race | {"untrained_pair": routes["pair"], "untrained_error": 0.0}


def routing(problem, rates_of):
    """Layers and pairs of the routing network from the rates of its layers, and their leading step errors.

    Axes: numbers of domains, step sizes, times, (layers,) modes; half times: numbers of domains, modes.
    """
    p = problem
    found = []
    for domains in p.domains:
        # The networks' loss is the mean over the M K trained pairs, M/K times the theory's, and over the items.
        clock = domains / (domains // 2) / ITEMS
        curves = [routed(t, SINGULAR, p.b0, clock * rates_of(domains)) for t in times(p)]
        half = [pathway_time(0.5, s, jnp.full(3, p.b0), clock * rates_of(domains)) for s in SINGULAR]
        found.append([np.array(x) for x in zip(*curves, strict=True)] + [np.array(half)])
    names = ("layers", "layers_error", "pair", "pair_error", "lateness", "half_time")
    return {name: np.array(x) for name, x in zip(names, zip(*found, strict=True), strict=True)}


@jax.jit
def routed(t, s, b0, rates):
    """Layer and pair strengths of every mode, their leading errors and how late steps make them, per unit of step."""

    def mode(s):
        def field(b):
            return rates * jnp.prod(b) / b * (s - jnp.prod(b))

        start = jnp.full(3, b0)
        b, e = pathway_strengths(t, s, start, rates), descent_error(field, t, start)[1]
        u = jnp.prod(b, axis=1)
        u_error = u * jnp.sum(e / b, axis=1)
        return b, e, u, u_error, -u_error / (u * jnp.sum(jax.vmap(field)(b) / b, axis=1))

    return jax.vmap(mode, out_axes=-1)(s)


def pathways(problem, rates):
    """Strengths of the shared pathway and of a context's own, and their leading step errors; axes as above."""
    p = problem
    found = [raced(t, SINGULAR, p.race_start, rates / ITEMS) for t in times(p)]
    return {name: np.array(x) for name, x in zip(("race", "race_error"), zip(*found, strict=True), strict=True)}


@jax.jit
def raced(t, s, u0, rates):
    def mode(s):
        def field(a):
            return rates * a * (s - jnp.sum(a**2))

        a, e = descent_error(field, t, jnp.full(2, jnp.sqrt(u0)))
        return race_strengths(t, s, jnp.full(2, u0), rates), 2 * a * e

    return jax.vmap(mode, out_axes=-1)(s)


def times(problem):
    return np.array(problem.lr)[:, None] * every(problem.steps, problem.interval)


def simulate_networks(problem):
    """Routing networks of several numbers of domains; shared and own pathways; routing from random weights."""
    p = problem
    inputs, table, left, right = jnp.eye(ITEMS), jnp.asarray(TABLE), jnp.asarray(LEFT), jnp.asarray(RIGHT.T)
    one = [p.seed]
    record_at = every(p.steps, p.interval)
    parallel = gradient_descent(
        lambda key, _: aligned_pathways(key, left, right, jnp.full((2, ITEMS), p.race_start), p.contexts, p.hidden, 2),
        lambda model: contexts_loss(model, inputs, table),
        "lr",
        own_and_shared,
    )
    m = p.random_domains
    random = gradient_descent(
        lambda key, _: orthogonal_routing(key, ITEMS, p.hidden, len(table), m, p.random_scale),
        lambda model: routing_loss(model, inputs, table, ring(m, m - 1)),
        p.lr[0],
        lambda model, _: jnp.sqrt(jnp.sum((model.maps() - table) ** 2, (-1, -2)) / jnp.sum(table**2)),
    )
    errors = simulate(random, grid(p.runs * p.seed + np.arange(p.runs)), [0, p.random_steps]).records[:, -1]
    # All numbers of domains in one program: of the largest number some stay idle.
    most = max(p.domains)
    trained = [np.asarray(ring(m, m // 2, of=most)) for m in p.domains]
    routes = training(
        lambda key, _: aligned_routing(key, left, right, jnp.full((3, ITEMS), p.b0), most, p.hidden),
        lambda model, trained: routing_loss(model, inputs, table, trained),
        lambda hyper: optax.sgd(hyper["lr"]),
        lambda _, hyper: hyper["trained"],
        layers_and_pairs,
    )
    layers, pairs = simulate(routes, grid(one, trained=trained, lr=p.lr), record_at).on_grid()
    return {
        "lr": np.array(p.lr),
        "layers": layers[0],
        "trained_pairs": [x[..., mask > 0, :] for x, mask in zip(pairs[0], trained, strict=True)],
        "untrained_pairs": [
            x[..., :m, :m, :][..., mask[:m, :m] == 0, :]
            for x, mask, m in zip(pairs[0], trained, p.domains, strict=True)
        ],
        "race": simulate(parallel, grid(one, lr=p.lr), record_at).records,
        "random_scale": p.random_scale,
        "random_error": errors[:, np.asarray(ring(m, m - 1)) == 0],
    }


def layers_and_pairs(model, _):
    """Strengths of the modes in the three layers of the first domain, and in every pair of domains."""
    entered = model.into[0] @ RIGHT.T
    through = model.shared @ entered
    into, both, out = (jnp.linalg.norm(x, axis=0) for x in (entered, through, model.out[0].T @ LEFT))
    return jnp.stack([into, both / into, out]), jnp.einsum("ok,mnoi,ki->mnk", LEFT, model.maps(), RIGHT)


def own_and_shared(model, _):
    """Strengths of the modes in the shared pathway and in the first context's own."""
    shared, own = model.products()
    return jnp.stack([jnp.einsum("ok,oi,ki->k", LEFT, w, RIGHT) for w in (shared, own[0])])


def against_steps(prediction, observation, name):
    """Largest deviation from the theory and the leading step error, in units of that error; smallest step."""
    error = observation["lr"][-1] * prediction[f"{name}_error"][..., -1, :, :, :]
    unit = np.abs(error).max(axis=(-1, -2, -3), keepdims=True)
    return gap(prediction[name][..., -1, :, :, :] + error, observation[name][..., -1, :, :, :], unit)


def deviations(prediction, observation):
    """Largest deviation of a layer at each step size, over the times that all step sizes share."""
    deviation = np.abs(observation["layers"] - prediction["layers"])
    every_nth = np.rint(observation["lr"][0] / observation["lr"]).astype(int)
    shared = (deviation.shape[2] - 1) // every_nth[-1] + 1
    return np.array([deviation[:, i, ::nth][:, :shared].max() for i, nth in enumerate(every_nth)])


def zero_shot(prediction, observation):
    """Largest deviation of a pair that was never trained, with the leading step error and in units of it."""
    worst = 0.0
    for i, pairs in enumerate(observation["untrained_pairs"]):
        error = observation["lr"][-1] * prediction["pair_error"][i, -1]
        expected = (prediction["untrained_pair"][i, -1] + error)[:, None]
        worst = np.maximum(worst, gap(expected, pairs[-1], np.abs(error).max()))
    return worst


def half_times(prediction, observation):
    """(numbers of domains, modes): when the trained pairs are half learned; smallest step."""
    t, found = prediction["t"][-1], []
    for pairs in observation["trained_pairs"]:
        u = pairs[-1].mean(axis=1)
        # Close to straight lines at the crossing.
        growth = np.log(u) - np.log(np.maximum(SINGULAR - u, 1e-12))
        found.append([np.interp(0.0, mode, t) for mode in growth.T])
    return np.array(found)


def lateness(prediction, observation):
    """Largest deviation of a half time from the quadrature and the delay by steps, in units of the delay."""
    t, half = prediction["t"][-1], prediction["half_time"]
    delays = observation["lr"][-1] * prediction["lateness"][:, -1]
    delay = [[np.interp(h, t, d) for h, d in zip(*pair, strict=True)] for pair in zip(half, delays.mT, strict=True)]
    return gap(half + delay, half_times(prediction, observation), np.abs(delay))


def draw(figure, problem, prediction, observation):
    routes, learned, race = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1))
    t, mode = prediction["t"][-1], 0
    biggest, first = len(problem.domains) - 1, t < 40
    for i, layer in enumerate(("into, out of", "shared")):
        style.theory(routes, t[first], prediction["layers"][biggest, -1, first, i, mode], i=i, label=layer)
        style.networks(routes, t[first], observation["layers"][biggest, -1, first, i, mode], i=i)
    style.theory(routes, t[first], prediction["pair"][biggest, -1, first, mode], i=3)
    for i, kind in enumerate(("trained", "untrained")):
        pairs = observation[f"{kind}_pairs"][biggest][-1]
        style.networks(routes, t[first], pairs[first, 0, mode], i=3 + i, label=f"{kind} pair", most=24 - 10 * i)
    routes.set(xlabel="time  t = lr · steps", ylabel="strength", title=f"Routing, {problem.domains[biggest]} domains")
    routes.set(ylim=(-0.1, 1.7 * prediction["layers"][biggest, -1, :, 1, mode].max()))
    routes.legend(ncols=2, loc="upper left", columnspacing=1, handlelength=1.2)
    domains, times_seen = np.array(problem.domains), half_times(prediction, observation)
    for i in (0, len(SINGULAR) - 1):
        style.theory(learned, domains, prediction["half_time"][:, i], i=5 + i % 2, label=f"s = {SINGULAR[i]:.3g}")
        style.networks(learned, domains, times_seen[:, i], i=5 + i % 2)
        alone = prediction["half_time"][0, i] * domains / domains[0]
        style.rival(learned, domains, alone, label="not shared" if i else None)
    learned.set(xlabel="domains M", ylabel="half time", title="When pairs are learned", xscale="log", xticks=domains)
    learned.set_xticklabels([str(m) for m in domains])
    learned.minorticks_off()
    learned.set_ylim(0, 1.5 * learned.get_ylim()[1])
    learned.legend(loc="upper left")
    early = t < 20
    for i, name in enumerate(("shared", "own")):
        style.theory(race, t[early], prediction["race"][-1, early, i, mode], i=1 + 6 * i, label=name)
        style.networks(race, t[early], observation["race"][-1, early, i, mode], i=1 + 6 * i)
    race.set(xlabel="time  t = lr · steps", ylabel="pathway strength", title=f"Race, {problem.contexts} contexts")
    race.set(ylim=(-0.1, 1.3 * SINGULAR[mode]))
    race.legend(loc="upper left", ncols=2)


def instead(rates_of):
    """A rival that believes in other rates of the routing network's layers."""

    def prediction_of(problem, prediction):
        believed = routing(problem, rates_of)
        return prediction | believed | {"untrained_pair": believed["pair"]}

    return prediction_of


STUDY = Study(
    title="The race of gated pathways",
    question="Why does a network that could memorise every route learn one shared code, and then route inputs to "
    "outputs that it never saw together?",
    source="Saxe, Sodhani & Lewallen 2022 (arXiv:2207.10430)",
    regimes=("linear", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            domains=(2, 4, 8),
            b0=0.3,
            hidden=16,
            lr=(0.2, 0.1, 0.05),
            steps=2000,
            interval=10,
            contexts=4,
            race_start=1e-2,
            random_domains=4,
            random_scale=0.1,
            random_steps=2500,
            runs=4,
        ),
        "paper": dict(
            domains=(2, 7, 16),
            b0=0.08,
            hidden=64,
            lr=(0.08, 0.04, 0.02),
            steps=40000,
            interval=20,
            contexts=7,
            race_start=1e-3,
            random_domains=7,
            random_scale=0.1,
            random_steps=20000,
            runs=16,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Every layer of the routing networks departs from its equation only by the step error.",
            lambda p, o: against_steps(p, o, "layers"),
            0.1,
            "The next order is about lr times the sharpness s^2 sum c/b^2 = 1.8: 0.09 of the leading one, which is "
            "added.",
        ),
        Claim(
            "That departure vanishes in proportion to the learning rate.",
            lambda p, o: rate(o["lr"], deviations(p, o), 1.0),
            0.1,
            "First order, with the curvature of the next over the three step sizes.",
        ),
        Claim(
            "Pairs of domains that were never trained together are learned exactly as the trained ones.",
            zero_shot,
            0.1,
            "As for the layers.",
        ),
        Claim(
            "The time that a pair takes grows with the number of domains as the quadrature says.",
            lateness,
            0.2,
            "The next order of the delay, as above, and as much again from interpolation between records.",
        ),
        Claim(
            "A pathway shared by all contexts outruns each context's own, and takes the predicted share.",
            lambda p, o: against_steps(p, o, "race"),
            0.1,
            "The next order is lr 2 s/P = 0.07 of the leading one, which is added.",
        ),
        Claim(
            "From small random weights, too, pairs never trained together end right.",
            lambda p, o: gap(p["untrained_error"], o["random_error"], o["random_scale"]),
            1.0,
            "Only what a start of scale g leaves outside the modes can differ between domains: at most of order g, "
            "and less where all three layers must err together.",
        ),
    ),
    rivals=(
        Rival(
            "Nothing is gained by sharing: every layer learns at the rate K/M^2 of the outer ones.",
            instead(lambda m: np.full(3, (m // 2) / m**2)),
        ),
        Rival(
            "The number of domains does not matter: routing is one three-layer network.",
            instead(lambda m: np.full(3, (m // 2) / m)),
        ),
        Rival(
            "Routes are memorised: pairs that were never trained together know nothing.",
            lambda problem, prediction: (
                prediction | {"untrained_pair": np.full_like(prediction["pair"], problem.b0**3), "untrained_error": 1.0}
            ),
        ),
        Rival(
            "Parallel pathways share a mode evenly, however many contexts they serve.",
            lambda problem, prediction: prediction | pathways(problem, np.array([1.0, 1.0])),
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.gated.rates",
        "deep_linear.gated.strengths",
        "deep_linear.gated.learning_time",
        "deep_linear.gated_race.two_layers",
    ),
)
