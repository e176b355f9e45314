"""Two-layer modes from unprepared weights, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

SECTION = "Saxe, McClelland & Ganguli 2013, section 1.1, with vectors for the hidden weights"

t, s, p, lam = sp.symbols("t s p lambda", positive=True)
q = sp.Symbol("q", nonnegative=True)

_share = sp.Symbol("r", positive=True)

# D as a symbol of its own keeps the proofs short.
_rate = sp.Symbol("D", positive=True)
_rate_value = sp.sqrt(s**2 + 4 * lam**2 * p * q)
_n = _rate * sp.cosh(_rate * t) + (s + 2 * lam * q) * sp.sinh(_rate * t)
_d = _rate * sp.cosh(_rate * t) + (2 * lam * p - s) * sp.sinh(_rate * t)
_u = p * _n / _d - q * _d / _n


def _law():
    """du/dt - 2 (p y + q / y)(s - lam u): zero for every D, given D^2."""
    residual = sp.together(sp.diff(_u, t) - 2 * (p * _n / _d + q * _d / _n) * (s - lam * _u))
    # Hyperbolic functions as algebra: cosh^2 = 1 + sinh^2.
    c, h = sp.symbols("c h")
    numerator = sp.numer(residual).subs({sp.cosh(_rate * t): c, sp.sinh(_rate * t): h})
    numerator = sp.rem(sp.expand(numerator), c**2 - 1 - h**2, c)
    return sp.rem(sp.expand(numerator), _rate**2 - s**2 - 4 * lam**2 * p * q, _rate)


def _hidden_vectors():
    """From da/dt = b (s - lam a.b), db/dt = a (s - lam a.b): the two parts grow and decay at one rate."""
    a, b = sp.Matrix(sp.symbols("a_1 a_2")), sp.Matrix(sp.symbols("b_1 b_2"))
    rest = s - lam * a.dot(b)
    grows, decays = (a + b).dot(a + b) / 4, (a - b).dot(a - b) / 4

    def change(x):
        return sum(sp.diff(x, v) * r for v, r in zip((*a, *b), (*(b * rest), *(a * rest)), strict=True))

    left = change(grows) - 2 * rest * grows, change(decays) + 2 * rest * decays, grows - decays - a.dot(b)
    return sp.Matrix([sp.expand(x) for x in left])


strength = Formula(
    title="Strength of one mode of a two-layer network from any start",
    backs="theory.deep_linear.random_start.random_start_strength",
    symbol=sp.Function("u")(t),
    arguments=(t, s, p, _share, lam),
    # The decaying part as a share of the growing one: below 1, u never passes through zero, where digits are lost.
    domain={
        t: Interval(0, 200),
        s: Interval(1e-8, 20, log=True),
        p: Interval(1e-9, 50, log=True),
        _share: Interval(1e-9, 0.9, log=True),
        lam: Interval(1e-2, 10, log=True),
    },
    expression=_u.subs(_rate, _rate_value).subs(q, _share * p),
    call=lambda t, s, p, share, lam: (t, s, p, share * p, lam),
    proofs={
        "du/dt = 2 (p y + q/y) (s - lam u)": _law,
        "u(0) = p - q": _u.subs(t, 0) - (p - q),
        "the logistic mode at q = 0": lambda: (
            _u.subs(q, 0).subs(_rate, s).rewrite(sp.exp) - s * p / (lam * p + (s - lam * p) * sp.exp(-2 * s * t))
        ),
        "p y and q / y are the parts of the hidden vectors": _hidden_vectors,
    },
    source=SECTION,
)

_a, _b = sp.symbols("a b", positive=True)
_decaying = (_a - _b) ** 2 / 4
parts = Formula(
    title="Decaying part of a pair of weights, seen through two hidden units",
    backs="theory.deep_linear.random_start.growing_and_decaying",
    symbol=sp.Symbol("q"),
    arguments=(_a, _b),
    domain={_a: Interval(1, 2), _b: Interval(3, 5)},
    expression=_decaying,
    # One input, one output, two hidden units: the weights are (3a/5, 4a/5) and (3b/5, 4b/5).
    call=lambda a, b: (np.array([[0.6 * a], [0.8 * a]]), np.array([[0.6 * b, 0.8 * b]]), np.eye(1), np.eye(1)),
    read=lambda parts: parts[1][0],
    proofs={"p - q = a b": (_a + _b) ** 2 / 4 - _decaying - _a * _b},
    source=SECTION,
)
