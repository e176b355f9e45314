"""In-context acquisition: the loss from all strings of labels, its limit of many labels, and a particle's fall."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

w, beta, s, phi1, phi2 = sp.symbols("w beta s phi_1 phi_2", real=True)
m, c, tau, c1, c2, n = sp.symbols("M c tau c_1 c_2 N", positive=True)
amplitude, exponent, h = sp.symbols("A nu h", positive=True)
SOURCE = "Nguyen & Reddy 2024 (arXiv:2412.00104), the phenomenological model"

E = sp.exp(beta)
READ = (E + s) / (m + c * E)
OTHERS = 3


def sigmoid(z):
    return 1 / (1 + sp.exp(-z))


def softplus(z):
    return sp.log(1 + sp.exp(z))


def strings(others):
    """All labels of the other items, one string of signs a row."""
    return list(itertools.product((-1, 1), repeat=others))


def read_label(labels, copies):
    """Attention written out: the copy, the other items, and the item itself, which has no label."""
    scores = [beta] + [0] * len(labels) + [beta] * (copies - 1)
    values = [1, *labels] + [0] * (copies - 1)
    total = sum(sp.exp(z) for z in scores)
    return sum(sp.exp(z) * value for z, value in zip(scores, values, strict=True)) / total


def _is_attention():
    """The stated read-out is that of a softmax, seen by itself or not, for every string."""
    return sp.Matrix(
        [
            sp.simplify(read_label(labels, k) - READ.subs({m: OTHERS, c: k, s: sum(labels)}))
            for labels in strings(OTHERS)
            for k in (1, 2)
        ]
    )


def mean_over_strings(function):
    """Mean of function(s) over all strings of three labels, by the binomial law of their sum."""
    weights = {k: sp.binomial(OTHERS, k) / sp.Integer(2) ** OTHERS for k in range(OTHERS + 1)}
    return sum(p * function(2 * k - OTHERS) for k, p in weights.items())


def _binomial_law():
    f = sp.Function("f")
    enumerated = sum(f(sum(labels)) for labels in strings(OTHERS)) / len(strings(OTHERS))
    return sp.expand(mean_over_strings(f) - enumerated)


def _read(value):
    return READ.subs({m: OTHERS, s: value})


def _loss(value):
    return sum(softplus(-phi - w * _read(value)) for phi in (phi1, phi2)) / 2


LOSS = mean_over_strings(_loss)
WEIGHT = mean_over_strings(lambda k: sum(sigmoid(-f - w * _read(k)) for f in (phi1, phi2)) / 2 * _read(k))
SHARPNESS = mean_over_strings(
    lambda k: (
        sum(sigmoid(-f - w * _read(k)) for f in (phi1, phi2))
        / 2
        * (w * E * (m - c * s) / (m + c * E) ** 2).subs({m: OTHERS, s: k})
    )
)
ARGUMENTS = (w, beta, phi1, phi2, c)
DOMAIN = {
    w: Interval(-3, 8),
    beta: Interval(-3, 5),
    phi1: Interval(-2, 4),
    phi2: Interval(-2, 4),
    c: Interval(1, 3),
}


def random_labels(others):
    """The contexts that the theory is given: sums of fair signs."""
    counts = np.array([sp.binomial(others, k) for k in range(others + 1)], float)
    return float(others), 2.0 * np.arange(others + 1) - others, counts / 2**others


def _call(w, beta, phi1, phi2, c):
    return (w, beta), random_labels(OTHERS), np.array([phi1, phi2]), c


def _is_slope(parameter, direction):
    """The stated direction is minus the slope of the loss, sum by sum and item by item."""

    def residual():
        one = sp.diff(-softplus(-phi1 - w * READ), parameter)
        return sp.simplify((one - direction(phi1)).rewrite(sp.exp))

    return residual


attention = Formula(
    title="Label that the attention reads",
    backs="theory.induction.acquisition.attended_label",
    symbol=sp.Symbol("a"),
    arguments=(beta, c),
    domain={beta: Interval(-3, 30), c: DOMAIN[c]},
    expression=_read(OTHERS),
    proofs={"softmax over all tokens": _is_attention},
    call=lambda beta, c: (beta, random_labels(OTHERS), c),
    read=lambda found: found[-1],
    source=SOURCE,
)

loss = Formula(
    title="Loss of circuit and memoriser, three other labels",
    backs="theory.induction.acquisition.in_context_loss",
    symbol=sp.Symbol("L"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=LOSS,
    proofs={
        "all strings of labels": _binomial_law,
        "chance without either": LOSS.subs({w: 0, phi1: 0, phi2: 0}) - sp.log(2),
    },
    call=_call,
    source=SOURCE,
)

weight_ascent = Formula(
    title="Direction of the circuit's weight",
    backs="theory.induction.acquisition.ascent",
    symbol=sp.Symbol("g_w"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    # Away from its zero.
    expression=WEIGHT + 2,
    proofs={"-dL/dw": _is_slope(w, lambda f: sigmoid(-f - w * READ) * READ)},
    call=_call,
    read=lambda found: found.weight + 2,
    source=SOURCE,
)

sharpness_ascent = Formula(
    title="Direction of the attention's sharpness",
    backs="theory.induction.acquisition.ascent",
    symbol=sp.Symbol("g_beta"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=SHARPNESS + 2,
    proofs={"-dL/dbeta": _is_slope(beta, lambda f: sigmoid(-f - w * READ) * w * E * (m - c * s) / (m + c * E) ** 2)},
    call=_call,
    read=lambda found: found.sharpness + 2,
    source=SOURCE,
)


def sum_moments(order):
    """E s^k of a sum of M fair signs, k = 0 .. order, from its generating function cosh(x)^M."""
    x = sp.Symbol("x")
    series = sp.series(sp.cosh(x) ** m, x, 0, order + 1).removeO()
    return [sp.expand(series.coeff(x, k) * sp.factorial(k)) for k in range(order + 1)]


def _mean_over_sums(polynomial):
    """E of a polynomial of s."""
    moments = sum_moments(4)
    return sum(k * moments[power] for (power,), k in sp.Poly(sp.expand(polynomial), s).terms())


def _leading(polynomial):
    """N times the mean of a polynomial of s over (M + c e^beta)^4, at many labels."""
    return sp.limit((m + 1) * _mean_over_sums(polynomial) / (m + c * E) ** 4, m, sp.oo)


def _reduced():
    """The exact directions of w and beta at leading order in 1/N, for one item: dtau = c_1 dt / N.

    In sigma(-phi - w a) a the powers a, a^2 count; a^3, a^4 do not, and so no later ones, sigma being bounded.
    """
    above, below = E + s, m + c * E
    powers = [_leading(above**k * below ** (4 - k)) for k in range(1, 5)]
    turns = [_leading(above**k * E * (m - c * s) * below ** (2 - k)) for k in range(3)]
    z = sp.Symbol("z", real=True)
    taylor = [sp.diff(sigmoid(-phi1 - z), z, k).subs(z, 0) / sp.factorial(k) for k in range(2)]
    error = sigmoid(-phi1)
    noise = 1 - error**2 / error
    weight = taylor[0] * powers[0] + taylor[1] * w * powers[1]
    return sp.Matrix(
        [
            sp.simplify((weight - error * (E - noise * w)).rewrite(sp.exp)),
            powers[2],
            powers[3],
            sp.simplify(taylor[0] * w * turns[0] - error * w * E),
            turns[1],
            turns[2],
        ]
    )


def distribution(x):
    return (1 + sp.erf(x / sp.sqrt(2))) / 2


def density(x):
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


# The path of the reduced flow: m_ = u - w runs from h down to minus infinity, in units in which c_2 = 1.
_m = sp.Symbol("mu", real=True)
_rest = density(h) / h + distribution(h) - distribution(_m)
_v = _rest / density(_m)
_s = sp.log(_rest * h / density(h))


def _path():
    """On it dw/ds = v - w and dv/ds = w v^2, w = 1/v - m_, from w = 0 at v = 1/h; s is the time passed."""
    w_ = 1 / _v - _m
    pace = sp.diff(_s, _m)
    start = {_m: h}
    return sp.Matrix(
        [
            sp.simplify(sp.diff(w_, _m) / pace - (_v - w_)),
            sp.simplify(sp.diff(_v, _m) / pace - w_ * _v**2),
            sp.simplify(w_.subs(start)),
            sp.simplify(_s.subs(start)),
        ]
    )


def _scaling():
    """s = c_2 tau and v = e^beta / c_2 take c_2 out of the reduced flow."""
    dw, dbeta = E - c2 * w, w * E
    v = E / c2
    return sp.Matrix([sp.simplify(dw / c2 - (v - w)), sp.simplify(sp.diff(v, beta) * dbeta / c2 - w * v**2)])


def _end():
    """The fall ends where m_ -> -infinity; the time is the stated one at c_2 = 1."""
    return sp.simplify(sp.exp(sp.limit(_s, _m, -sp.oo)) - sp.exp(_required(h)))


def _required(height):
    return sp.log(1 + height * distribution(height) / density(height))


_height = c2 * sp.exp(-beta)

required = Formula(
    title="Accumulated error at which the circuit is acquired",
    backs="theory.induction.acquisition.required_error",
    symbol=sp.Symbol("T"),
    arguments=(beta, c2),
    domain={beta: Interval(-4, 6), c2: Interval(1e-3, 1, log=True)},
    expression=_required(_height) / c2,
    proofs={
        "the exact flow at many labels": _reduced,
        "units": _scaling,
        "path and time": _path,
        "end of the fall": _end,
        "free fall": lambda: sp.limit(_required(h) / h, h, 0) - sp.sqrt(sp.pi / 2),
        # ln(1 + x) = ln x + O(1/x), and Phi -> 1.
        "friction": lambda: (
            sp.limit(_required(h) - sp.log(h * distribution(h) / density(h)), h, sp.oo)
            + sp.limit(sp.expand_log(sp.log(h / density(h))) / (h**2 / 2), h, sp.oo)
            - 1
        ),
    },
    source="derived for the model of Nguyen & Reddy 2024 (arXiv:2412.00104)",
)

_fallen = sp.sqrt(2) * sp.erfinv(2 * (distribution(_height) - density(_height) / _height * (sp.exp(c2 * tau) - 1)) - 1)


def _inverse():
    """Phi(m_) and v from the time s passed: both hold along the path."""
    passed = sp.exp(_s) - 1
    place = distribution(h) - density(h) / h * passed - distribution(_m)
    grown = sp.exp(_s + (_m**2 - h**2) / 2) / h - _v
    return sp.Matrix([sp.simplify(place), sp.simplify(grown)])


sharpening = Formula(
    title="Sharpness of the attention before acquisition",
    backs="theory.induction.acquisition.reduced_flow",
    symbol=sp.Symbol("beta"),
    arguments=(tau, beta, c2),
    # Free fall from beta = 1 takes 0.46.
    domain={tau: Interval(0.01, 0.42), beta: Interval(-1, 1), c2: Interval(0.05, 1)},
    # Away from its zero.
    expression=4 + beta + c2 * tau + (_fallen**2 - _height**2) / 2,
    proofs={"the path, solved for its place": _inverse},
    read=lambda found: found.sharpness + 4,
    source="derived for the model of Nguyen & Reddy 2024 (arXiv:2412.00104)",
)

_noise = (sigmoid(-phi1) * sigmoid(phi1) + sigmoid(-phi2) * sigmoid(phi2)) / (sigmoid(-phi1) + sigmoid(-phi2))

noise = Formula(
    title="Noise of a memoriser",
    backs="theory.induction.acquisition.memoriser_moments",
    symbol=sp.Symbol("c_2"),
    arguments=(phi1, phi2),
    domain={phi1: Interval(-5, 20), phi2: Interval(-5, 20)},
    expression=_noise,
    proofs={
        "1 - <sigma^2> / c_1": lambda: sp.simplify(
            1 - (sigmoid(-phi1) ** 2 + sigmoid(-phi2) ** 2) / (sigmoid(-phi1) + sigmoid(-phi2)) - _noise
        ),
        "untrained": _noise.subs({phi1: 0, phi2: 0}) - sp.Rational(1, 2),
    },
    call=lambda a, b: (np.array([a, b]),),
    read=lambda found: found.noise,
    source=SOURCE,
)

_spent = sp.Symbol("C", positive=True)
_critical = (_spent / amplitude) ** (1 / exponent)

diversity = Formula(
    title="Critical number of items",
    backs="theory.induction.acquisition.critical_diversity",
    symbol=sp.Symbol("K"),
    arguments=(_spent, amplitude, exponent),
    domain={
        _spent: Interval(1, 500, log=True),
        amplitude: Interval(0.01, 1, log=True),
        exponent: Interval(0.5, 1.1),
    },
    expression=_critical,
    proofs={"the memoriser's error just suffices": lambda: sp.simplify(amplitude * _critical**exponent / _spent) - 1},
    source="Nguyen & Reddy 2024 (arXiv:2412.00104), the scaling of K*",
)

_needed = n * _required(_height) / c2

acquisition = Formula(
    title="Time of acquisition beside a memoriser at rest",
    backs="theory.induction.acquisition.acquisition_time",
    symbol=sp.Symbol("t"),
    arguments=(n, beta, c1, c2),
    domain={n: Interval(2, 500, log=True), beta: Interval(-2, 2), c1: Interval(1e-3, 1), c2: Interval(0.1, 1)},
    expression=_needed / c1,
    proofs={
        "int c_1 dt / N = T": lambda: sp.simplify(
            sp.integrate(c1 / n, (tau, 0, _needed / c1)) - _required(_height) / c2
        )
    },
    source="Nguyen & Reddy 2024 (arXiv:2412.00104)",
)
