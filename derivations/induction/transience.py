"""Withdrawal of a circuit under weight decay: where its weight rests, bounds of it, and the law by which it fades."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

w, phi1, phi2 = sp.symbols("w phi_1 phi_2", real=True)
decay, a, t, k, u, u0 = sp.symbols("lambda a t K u u_0", positive=True)
SOURCE = "derived here, for the model of Nguyen & Reddy 2024 (arXiv:2412.00104)"
MARGINS = (phi1, phi2)
DOMAIN = {
    phi1: Interval(-4, 12),
    phi2: Interval(-4, 12),
    decay: Interval(1e-4, 0.3, log=True),
    a: Interval(0.3, 1),
    w: Interval(0, 8),
}


def sigmoid(z):
    return 1 / (1 + sp.exp(-z))


def softplus(z):
    return sp.log(1 + sp.exp(z))


def mean(function):
    return sum(function(phi) for phi in MARGINS) / len(MARGINS)


LOSS = mean(lambda phi: softplus(-phi - a * w)) + decay * w**2 / 2
DRIVE = mean(lambda phi: a * sigmoid(-phi - a * w))


def _two(phi1, phi2, *rest):
    return (np.array([phi1, phi2]), *rest)


resting = Formula(
    title="Weight at which drive and decay are equal",
    backs="theory.induction.transience.resting_weight",
    symbol=w,
    arguments=(phi1, phi2, decay, a),
    domain=DOMAIN,
    # In logarithms, whose root is found from far off.
    law=sp.log(DRIVE) - sp.log(decay * w),
    proofs={
        "the loss with its decay is stationary": lambda: sp.simplify(
            (sp.diff(LOSS, w) + DRIVE - decay * w).rewrite(sp.exp)
        ),
        "it is a minimum": lambda: sp.simplify(
            sp.diff(LOSS, w, 2) - decay - mean(lambda f: a**2 * sigmoid(f + a * w) * sigmoid(-f - a * w))
        ),
    },
    call=_two,
    source=SOURCE,
)


def _above():
    """e^{-z} exceeds sigma(-z), by a factor that tends to one."""
    excess = sp.exp(-phi1 - u) - sigmoid(-phi1 - u)
    wanted = sp.exp(-phi1 - u) * sigmoid(-phi1 - u)
    return sp.Matrix([sp.simplify(excess - wanted), sp.limit(sp.exp(-w) / sigmoid(-w), w, sp.oo) - 1])


def _below():
    """sigma(-phi - u) exceeds e^{-u} sigma(-phi) for u > 0."""
    excess = sigmoid(-phi1 - u) - sp.exp(-u) * sigmoid(-phi1)
    return sp.simplify(excess - sigmoid(-phi1) * sigmoid(-phi1 - u) * (1 - sp.exp(-u)))


def _bound(known):
    """u e^u = a^2 known / lambda, in logarithms, for u = a w."""
    return a * w + sp.log(a * w) - sp.log(mean(known)) + sp.log(decay) - 2 * sp.log(a)


def _balance():
    """Both bounds solve the balance with c e^{-a w} in place of the exact error."""
    level = sp.Symbol("c", positive=True)
    law = _bound(lambda _: level)
    return sp.simplify(sp.exp(law) - decay * w / (a * level * sp.exp(-a * w)))


upper = Formula(
    title="Upper bound of the resting weight",
    backs="theory.induction.transience.weight_bounds",
    symbol=w,
    arguments=(phi1, phi2, decay, a),
    domain=DOMAIN,
    law=_bound(lambda phi: sp.exp(-phi)),
    proofs={"e^{-z} for sigma(-z)": _above, "balance": _balance},
    call=_two,
    read=lambda found: found.high,
    source=SOURCE,
)

lower = Formula(
    title="Lower bound of the resting weight",
    backs="theory.induction.transience.weight_bounds",
    symbol=w,
    arguments=(phi1, phi2, decay, a),
    domain=DOMAIN,
    law=_bound(lambda phi: sigmoid(-phi)),
    proofs={"e^{-u} sigma(-phi) for sigma(-phi - u)": _below},
    call=_two,
    read=lambda found: found.low,
    source=SOURCE,
)

rate = Formula(
    title="Rate at which the weight returns to rest",
    backs="theory.induction.transience.withdrawal_rate",
    symbol=sp.Symbol("rho"),
    arguments=(phi1, phi2, w, decay, a),
    domain=DOMAIN,
    expression=decay + mean(lambda f: a**2 * sigmoid(f + a * w) * sigmoid(-f - a * w)),
    proofs={
        "slope of the force": lambda: sp.simplify(
            decay + mean(lambda f: a**2 * sigmoid(f + a * w) * sigmoid(-f - a * w)) + sp.diff(DRIVE - decay * w, w)
        ),
    },
    call=lambda phi1, phi2, w, *rest: (np.array([phi1, phi2]), w, *rest),
    source=SOURCE,
)

_fading = 1 / u - sp.log(u) - (1 / u0 - sp.log(u0)) - decay * t / (a**2 * k)


def _one_of_many():
    """A logit for each of two items, asked for equally often: each follows one half of its own error."""
    logits = sp.symbols("theta_1 theta_2", real=True)
    total = sum(softplus(-theta - u) for theta in logits) / 2
    return sp.simplify((-sp.diff(total, logits[0]) - sigmoid(-logits[0] - u) / 2).rewrite(sp.exp))


def _fades():
    """Along the law the margin that keeps the weight at rest grows by the error that the circuit leaves.

    At rest a e^{-phi - u} = lambda u / a, so phi = ln a^2 - ln lambda - ln u - u and the error is lambda u / a^2.
    """
    speed = -sp.diff(_fading, t) / sp.diff(_fading, u)
    margin = 2 * sp.log(a) - sp.log(decay) - sp.log(u) - u
    return sp.simplify(sp.diff(margin, u) * speed - sp.exp(-margin - u) / k)


_weight, _first = sp.symbols("w w_0", positive=True)

withdrawn = Formula(
    title="Weight beside a memoriser of independent items",
    backs="theory.induction.transience.withdrawn_weight",
    symbol=_weight,
    arguments=(t, k, decay, _first, a),
    domain={
        t: Interval(1, 1e5, log=True),
        k: Interval(2, 1e4, log=True),
        decay: DOMAIN[decay],
        _first: Interval(0.2, 10),
        a: DOMAIN[a],
    },
    law=_fading.subs({u: a * _weight, u0: a * _first}),
    proofs={
        "one item of many": _one_of_many,
        "the margin grows by what is left": _fades,
        "start": _fading.subs({t: 0, u: u0}),
    },
    source=SOURCE,
)

lived = Formula(
    title="Lifetime of a circuit",
    backs="theory.induction.transience.lifetime",
    symbol=t,
    arguments=(k, decay, _first, u, a),
    domain=withdrawn.domain | {u: Interval(0.01, 0.95)},
    # `u` is the share of the weight that is left.
    expression=a**2 * k / decay * ((1 / u - 1) / (a * _first) - sp.log(u)),
    proofs={
        "it solves the law": lambda: sp.simplify(
            _fading.subs({u: a * _first * u, u0: a * _first}, simultaneous=True)
            .subs(t, a**2 * k / decay * ((1 / u - 1) / (a * _first) - sp.log(u)))
            .expand(force=True)
        ),
    },
    call=lambda k, decay, first, share, a: (k, decay, first, share * first, a),
    source=SOURCE,
)


def _product():
    """At rest lambda w = sigma(-phi - w): both losses times it, far out on the line w = phi."""
    return sp.limit(softplus(-w) ** 2 / sigmoid(-2 * w), w, sp.oo) - 1


known = Formula(
    title="Loss on known items without a copy",
    backs="theory.induction.transience.in_weights_loss",
    symbol=sp.Symbol("L_w"),
    arguments=MARGINS,
    domain=DOMAIN,
    expression=mean(lambda phi: softplus(-phi)),
    proofs={"its product with the loss on new items is lambda w": _product},
    call=_two,
    source=SOURCE,
)

new = Formula(
    title="Loss on new items",
    backs="theory.induction.transience.in_context_loss",
    symbol=sp.Symbol("L_c"),
    arguments=(w, a),
    domain=DOMAIN,
    expression=softplus(-a * w),
    proofs={"chance without a circuit": softplus(-a * w).subs(w, 0) - sp.log(2)},
    source=SOURCE,
)
