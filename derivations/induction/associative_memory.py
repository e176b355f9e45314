"""A linear associative memory: one key at a time from an explicit softmax, the power law, the gradient lemma."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, p, k, a, q, alpha, c, y, lr = sp.symbols("t p K a q alpha c y eta", positive=True)
m = sp.Symbol("m", real=True)
LAW = sp.exp(m) - 1 + (k - 1) * m
SIZES = {t: Interval(1e-6, 1e12, log=True), p: Interval(1e-6, 1, log=True), k: Interval(1.5, 1000, log=True)}
HERE = "derived here"


def _explicit_key():
    """Gradient descent on -p ln softmax of three logits moves the margin at p K / (e^m + K - 1)."""
    z = sp.symbols("z_1:4", real=True)
    loss = -p * (z[0] - sp.log(sum(sp.exp(f) for f in z)))
    rates = [-sp.diff(loss, f) for f in z]
    equal = {z[0]: z[2] + m, z[1]: z[2]}
    speed = p * k / (sp.exp(m) + k - 1)
    stays = rates[1] - rates[2]
    return sp.Matrix([sp.simplify(f.subs(equal)) for f in (rates[0] - rates[1] - speed.subs(k, 3), stays)])


margin = Formula(
    title="Margin of a key under gradient flow",
    backs="theory.induction.associative_memory.flow_margin",
    symbol=m,
    arguments=(t, p, k),
    domain=SIZES,
    law=LAW - k * p * t,
    proofs={
        "an explicit key of three values": _explicit_key,
        "the law is the flow's": lambda: sp.simplify(k * p / sp.diff(LAW, m) - p * k / (sp.exp(m) + k - 1)),
        "it starts at zero": LAW.subs(m, 0),
    },
    source=HERE,
)

loss = Formula(
    title="Loss of a key",
    backs="theory.induction.associative_memory.margin_recall",
    symbol=sp.Symbol("ell"),
    arguments=(m, k),
    domain={m: Interval(0, 60), k: SIZES[k]},
    expression=sp.log(1 + (k - 1) * sp.exp(-m)),
    proofs={
        "-ln of the softmax of K = 3": lambda: sp.simplify(
            (sp.log(1 + (k - 1) * sp.exp(-m))).subs(k, 3) - sp.log((sp.exp(m) + 2) / sp.exp(m))
        )
    },
    read=lambda found: found.loss,
    source="a definition",
)

_right = sp.log((k - 1) * q / (1 - q))

recall_time = Formula(
    title="Time at which a key is known",
    backs="theory.induction.associative_memory.recall_time",
    symbol=sp.Symbol("t_q"),
    arguments=(p, k, q),
    # Any q is above chance.
    domain={p: SIZES[p], k: Interval(5, 1000, log=True), q: Interval(0.25, 0.999)},
    expression=LAW.subs(m, _right) / (k * p),
    proofs={
        "the margin there has this probability": lambda: sp.simplify(1 / (1 + (k - 1) * sp.exp(-_right)) - q),
        "half": lambda: sp.simplify(LAW.subs(m, _right).subs(q, sp.Rational(1, 2)) - (k - 2 + (k - 1) * sp.log(k - 1))),
    },
    source=HERE,
)

# The keys as a continuum, k = (K c t / y)^{1/alpha}, y their exposure K p_k t; `a` stands for K - 1.
BETA = 1 - 1 / alpha
_where = (k * c * t / y) ** (1 / alpha)
_density = (k * c * t) ** (1 / alpha) / (alpha * k * t)
_exposure = sp.exp(m) - 1 + a * m
_cost = sp.log(1 + a * sp.exp(-m))


def _continuum():
    """p_k dk as a measure of exposure is `_density` y^{-1/alpha} dy."""
    measure = -(y / (k * t)) * sp.diff(_where, y)
    return sp.simplify(sp.log(sp.expand_log(measure / (_density * y ** (-1 / alpha)), force=True)))


def _by_parts():
    """int y^{beta - 1} cost dy = int y^beta a / (e^m + a) dm / beta: both ends vanish."""
    whole = sp.diff(_exposure**BETA * _cost, m)
    parts = BETA * _exposure ** (BETA - 1) * sp.diff(_exposure, m) * _cost - _exposure**BETA * a / (sp.exp(m) + a)
    ends = [sp.limit((_exposure**BETA * _cost).subs({a: 3, alpha: 2}), m, end) for end in (0, sp.oo)]
    return sp.Matrix([sp.simplify((whole - parts) / _exposure**BETA), *ends])


exponent = Formula(
    title="Exponent of the loss on a power law",
    backs="theory.induction.associative_memory.loss_exponent",
    symbol=sp.Symbol("beta"),
    arguments=(alpha,),
    domain={alpha: Interval(1.1, 10)},
    expression=BETA,
    proofs={
        "measure of the keys": _continuum,
        "power of t": lambda: sp.simplify(t * sp.diff(sp.log(_density), t) + BETA),
    },
    source=HERE,
)

_K = 64
_c = 1 / (sp.zeta(alpha) - sp.zeta(alpha, _K + 1))
_integrand = (sp.exp(m) - 1 + (_K - 1) * m) ** BETA * (_K - 1) / (sp.exp(m) + _K - 1)
_leading = (_c / _K ** (alpha - 1)) ** (1 / alpha) / (alpha - 1) * t ** (-BETA)
_ends = sp.Rational(_K - 1, 2 * _K) / t + sp.log(_K) * _c * sp.zeta(alpha, _K + 1)

power_law_loss = Formula(
    title="Loss on a power law, with the corrections of its ends",
    backs="theory.induction.associative_memory.power_law_loss",
    symbol=sp.Symbol("L"),
    arguments=(t, alpha),
    # Where the terms do not cancel.
    domain={t: Interval(20, 200), alpha: Interval(1.6, 2.5)},
    # Cut into pieces: quadrature at 40 digits wants the fast rise at zero apart from the long tail.
    expression=_leading * sum(sp.Integral(_integrand, (m, *ends)) for ends in ((0, 8), (8, 320))) - _ends,
    proofs={
        "by parts": _by_parts,
        "prefactors": lambda: sp.simplify(
            sp.expand_log(sp.log(_density / BETA / ((c / k ** (alpha - 1)) ** (1 / alpha) / (alpha - 1) * t**-BETA)))
        ),
        # The sum over keys exceeds the integral from zero by minus half of the first term.
        "a known key costs (K - 1) / (K t)": lambda: sp.limit((_exposure * _cost).subs(a, 3), m, sp.oo) - 3,
    },
    call=lambda t, alpha: (t, alpha, _K),
    read=lambda found: found.loss,
    source=HERE,
)

U = sp.symbols("u_1 u_2", real=True)
MEANS = sp.symbols("mu_1 mu_2", real=True)


def _explicit_step():
    """Two answers whose input is mu_k + s or mu_k - s with equal chance; logits u_j w x."""
    w, s = sp.symbols("w s", real=True)
    total, shares = 0, (q, 1 - q)
    for answer in range(2):
        for x in (MEANS[answer] + s, MEANS[answer] - s):
            logits = [u * w * x for u in U]
            total -= shares[answer] / 2 * (logits[answer] - sp.log(sum(sp.exp(f) for f in logits)))
    return sp.simplify(-lr * sp.diff(total, w).subs(w, 0) - _step)


_mean = q * MEANS[0] + (1 - q) * MEANS[1]
_step = lr * (U[0] * (q * MEANS[0] - _mean / 2) + U[1] * ((1 - q) * MEANS[1] - _mean / 2))

first_step = Formula(
    title="Gradient lemma",
    backs="theory.induction.associative_memory.first_step",
    symbol=sp.Symbol("W"),
    arguments=(*U, *MEANS, q, lr),
    domain={**dict.fromkeys((*U, *MEANS), Interval(-2, 2)), q: Interval(0.1, 0.9), lr: Interval(0.1, 1)},
    # Away from a cancellation.
    expression=_step + 10,
    proofs={"an explicit loss": _explicit_step},
    call=lambda u1, u2, m1, m2, q, lr: (np.array([[u1], [u2]]), np.array([[m1], [m2]]), np.array([q, 1 - q]), lr),
    read=lambda w: w[0, 0] + 10,
    source="Bietti et al. 2023 (arXiv:2306.00802), the lemma on one gradient step",
)

n, length = sp.symbols("n ell", positive=True)


def _three_tokens():
    """Each of three tokens occurs b times, the answer n more: the lemma's weights on one token."""
    b = sp.Symbol("b", positive=True)
    means = (b * sp.ones(3, 3) + n * sp.eye(3)) / length
    centre = sp.ones(3, 3) * means / 3
    w = lr / 3 * (means - centre).T
    # Rows of the means are answers, so that W = sum_k u_k (mu_k - mu)^T is the transpose of what is above transposed.
    logits = w.T
    return sp.simplify(logits[0, 0] - logits[1, 0] - (lr / k * n / length).subs(k, 3))


attended = Formula(
    title="Margin after one step of uniform attention",
    backs="theory.induction.associative_memory.attended_margin",
    symbol=sp.Symbol("m"),
    arguments=(lr, k, length, n),
    domain={lr: Interval(0.1, 1), k: SIZES[k], length: Interval(1, 300), n: Interval(0.1, 10)},
    expression=lr / k * n / length,
    proofs={"three tokens": _three_tokens},
    source="Bietti et al. 2023 (arXiv:2306.00802)",
)
