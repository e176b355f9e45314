"""Binary weights: a field's overlap, the free entropy, gates and prices of fields, from sums over w = +-1."""

import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.special import log_ndtr

from derivations.formula import Formula, Interval

alpha, q, qhat = sp.symbols("alpha q qhat", positive=True)
theta, other, rho, z, h = sp.symbols("theta theta' rho z h", real=True)
FIELD = Interval(-3, 3)
INSIDE = Interval(-0.95, 0.95)


def density(x):
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


def Phi(x):
    return sp.erfc(-x / sp.sqrt(2)) / 2


def weight(w, field):
    """Probability of w = +-1 with a field."""
    return sp.exp(w * field) / (2 * sp.cosh(field))


def _exponential(expression):
    return sp.simplify(sp.expand(sp.simplify(expression.rewrite(sp.exp))))


# Integrals over z end at 13, where the density is below 1e-37.
_normal = density(z)
_field = qhat + sp.sqrt(qhat) * z


def _nishimori():
    """E tanh h = E tanh^2 h: the density of h times tanh h - tanh^2 h is odd in h."""
    of_h = sp.exp(-((h - qhat) ** 2) / (2 * qhat)) * (sp.tanh(h) - sp.tanh(h) ** 2)
    return _exponential(sp.expand_power_exp(sp.expand(of_h + of_h.subs(h, -h), power_exp=True)))


field_overlap = Formula(
    title="Overlap of a weight's mean with the teacher, given its field",
    backs="theory.lazy_rich.continual_binary.field_overlap",
    symbol=q,
    arguments=(qhat,),
    domain={qhat: Interval(0.05, 8, log=True)},
    expression=sp.Integral(_normal * sp.tanh(_field), (z, -13, 13)),
    proofs={
        "the overlap with itself is the same": _nishimori,
        "the field of a measurement w + noise / sqrt(qhat)": lambda: sp.expand(
            # ln of the likelihood ratio of w = 1 and w = -1, halved, at y = 1 + z / sqrt(qhat).
            (-(qhat * (1 + z / sp.sqrt(qhat) - 1) ** 2) + qhat * (1 + z / sp.sqrt(qhat) + 1) ** 2) / 4 - _field
        ),
    },
    source="Gyorgyi 1990",
)

_u = sp.sqrt(q / (1 - q)) * z
_up, _down = sp.erfc(-_u / sp.sqrt(2)) / 2, sp.erfc(_u / sp.sqrt(2)) / 2
_psi = sp.Integral(2 * _normal * sum(p * sp.log(p) for p in (1 - _down, _down)), (z, 0, 13))


sign_log_likelihood = Formula(
    title="Mean log-probability of a label given the earlier ones",
    backs="theory.lazy_rich.continual_binary.sign_log_likelihood",
    symbol=sp.Function("Psi")(q),
    arguments=(q,),
    domain={q: Interval(0.02, 0.9)},
    expression=_psi,
    proofs={
        "at small q the slope is qhat / (2 alpha) = 1 / pi": lambda: sp.simplify(
            sp.diff(Phi(theta) * sp.log(Phi(theta)), theta, 2).subs(theta, 0) - 1 / sp.pi
        ),
        "without knowledge -ln 2": 2 * Phi(sp.Integer(0)) * sp.log(Phi(sp.Integer(0))) + sp.log(2),
    },
    source="Gyorgyi & Tishby 1990",
)

_psi_of, _precision = sp.Function("Psi")(q), sp.Function("qhat")(q)


def _stationary():
    """dF/dq = (E tanh h - q) qhat' / 2, once 2 alpha Psi' = qhat: it is stationary where q = E tanh h."""
    # d/dqhat E ln cosh(qhat + sqrt(qhat) z) = E tanh h + (1/2) E (1 - tanh^2 h), by partial integration in z.
    end = density(z) * sp.tanh(_field) / (2 * sp.sqrt(qhat))
    slope = sp.diff(density(z) * sp.log(sp.cosh(_field)), qhat)
    mean = density(z) * (sp.tanh(_field) + (1 - sp.tanh(_field) ** 2) / 2)
    by_parts = _exponential(slope - mean + sp.diff(end, z))
    overlap = sp.Symbol("m")
    entropic = (overlap + (1 - overlap) / 2) * sp.diff(_precision, q)
    total = entropic + sp.diff(alpha * _psi_of - _precision * (1 + q) / 2, q)
    total = total.subs(sp.diff(_psi_of, q), _precision / (2 * alpha))
    return sp.Matrix([by_parts, sp.expand(total - (overlap - q) * sp.diff(_precision, q) / 2)])


_log_cosh = sp.Integral(_normal * sp.log(sp.cosh(_field)), (z, -13, 13))
_square = sp.Integral(_normal * density(_u) ** 2 * (1 / (1 - _down) + 1 / _down), (z, 0, 13))
# alpha is drawn through the precision: qhat = (2 alpha / (1 - q)) int Dz phi(u)^2 / Phi(u).
_load = qhat * (1 - q) / (2 * _square)


def _load_of(qhat, q):
    """The same in numbers."""

    def integrand(x):
        u = np.sqrt(q / (1 - q)) * x
        return np.exp(-(x**2) / 2 - u**2 - log_ndtr(u)) / (2 * np.pi) ** 1.5

    return qhat * (1 - q) / (2 * quad(integrand, -12, 12, epsabs=1e-14, epsrel=1e-13)[0])


free_entropy = Formula(
    title="Free entropy of binary weights",
    backs="theory.lazy_rich.continual_binary.free_entropy",
    symbol=sp.Symbol("F"),
    arguments=(qhat, q),
    domain={qhat: Interval(0.3, 5, log=True), q: Interval(0.2, 0.9)},
    expression=_log_cosh - qhat * (1 + q) / 2 + _load * _psi,
    proofs={"stationary where q = E tanh h": _stationary},
    call=lambda qhat, q: (q, _load_of(qhat, q)),
    source="Gyorgyi 1990",
)

_gated = sp.atanh(rho * sp.tanh(theta))
_pairs = [(w, v) for w in (1, -1) for v in (1, -1)]


def _passed_on():
    """Mean of w^2 over the four states of (w^1, w^2), w^1 with its field."""
    mean = sum(v * weight(w, theta) * (1 + rho * w * v) / 2 for w, v in _pairs)
    return _exponential(sp.tanh(_gated) - mean)


forget_gate = Formula(
    title="Field of a related weight",
    backs="theory.lazy_rich.continual_binary.forget_gate",
    symbol=sp.Symbol("theta'"),
    arguments=(theta, rho),
    domain={theta: Interval(0.1, 4), rho: Interval(0.1, 0.95)},
    expression=_gated,
    proofs={"mean over both weights": _passed_on, "odd": _gated + _gated.subs(theta, -theta)},
    source="derived here",
)

_related = (sp.tanh(theta) + rho * sp.tanh(other)) / (1 + rho * sp.tanh(theta) * sp.tanh(other))


def _both_fields():
    """Mean of w over the four states of two related weights, each with its field."""
    shares = {pair: sp.exp(pair[0] * theta + pair[1] * other) * (1 + rho * pair[0] * pair[1]) for pair in _pairs}
    mean = sum(w * share for (w, _), share in shares.items()) / sum(shares.values())
    return _exponential(_related - mean)


related_mean = Formula(
    title="Mean of a weight given two fields",
    backs="theory.lazy_rich.continual_binary.related_mean",
    symbol=sp.Symbol("m"),
    arguments=(theta, other, rho),
    domain={theta: FIELD, other: FIELD, rho: INSIDE},
    # Away from a sign change.
    expression=_related + 2,
    proofs={"mean over both weights": _both_fields},
    read=lambda mean: mean + 2,
    source="derived here",
)

_divergence = (theta - other) * sp.tanh(theta) - sp.log(sp.cosh(theta)) + sp.log(sp.cosh(other))
_sum = sum(weight(w, theta) * (w * (theta - other) - sp.log(sp.cosh(theta) / sp.cosh(other))) for w in (1, -1))

field_divergence = Formula(
    title="Divergence of one weight's field from its prior",
    backs="theory.lazy_rich.continual_binary.field_divergence",
    symbol=sp.Symbol("KL"),
    arguments=(theta, other),
    domain={theta: FIELD, other: FIELD},
    # Near theta = theta' it is a small difference of large terms.
    expression=_divergence + 1,
    proofs={
        "sum over w of p ln(p / p')": lambda: _exponential(sp.expand_log(_sum - _divergence, force=True)),
        "gradient": lambda: sp.simplify(sp.diff(_divergence, theta) - (theta - other) * (1 - sp.tanh(theta) ** 2)),
    },
    call=lambda theta, other: (np.array([theta]), np.array([other])),
    read=lambda divergence: divergence + 1,
    source="derived here",
)

_elastic = (theta - other) ** 2 * (1 - sp.tanh(other) ** 2) / 2

elastic_divergence = Formula(
    title="The same to second order: an elastic pull",
    backs="theory.lazy_rich.continual_binary.elastic_divergence",
    symbol=sp.Symbol("KL"),
    arguments=(theta, other),
    domain=field_divergence.domain,
    expression=_elastic + 1,
    proofs={
        f"order {k}": lambda k=k: sp.simplify(sp.diff(_divergence - _elastic, theta, k).subs(theta, other))
        for k in range(3)
    },
    call=field_divergence.call,
    read=field_divergence.read,
    source="derived here",
)
