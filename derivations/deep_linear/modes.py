"""Mode equations of deep linear networks, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, u0, lam = sp.symbols("t s u_0 lambda", positive=True)
u = sp.Function("u")(t)
STRENGTHS = {s: Interval(1e-8, 20, log=True), u0: Interval(1e-12, 50, log=True), lam: Interval(1e-2, 10, log=True)}

_logistic = s * u0 * sp.exp(2 * s * t) / (s + lam * u0 * (sp.exp(2 * s * t) - 1))

two_layer = Formula(
    title="Strength of one mode of a two-layer network",
    backs="theory.deep_linear.modes.mode_strength",
    symbol=u,
    arguments=(t, s, u0, lam),
    domain={t: Interval(0, 1e3), **STRENGTHS},
    expression=_logistic,
    proofs={
        "du/dt = 2 u (s - lam u)": sp.diff(_logistic, t) - 2 * _logistic * (s - lam * _logistic),
        "u(0) = u_0": _logistic.subs(t, 0) - u0,
        "u -> s/lam": sp.limit(_logistic, t, sp.oo) - s / lam,
    },
    source="Saxe, McClelland & Ganguli 2013, eq. 12",
)

_relaxation = s / lam + (u0 - s / lam) * sp.exp(-lam * t)

one_layer = Formula(
    title="Strength of one mode of a network without hidden layer",
    backs="theory.deep_linear.modes.mode_strength",
    symbol=u,
    arguments=(t, s, u0, lam),
    domain={t: Interval(0, 1e3), **STRENGTHS},
    expression=_relaxation,
    proofs={
        "du/dt = s - lam u": sp.diff(_relaxation, t) - (s - lam * _relaxation),
        "u(0) = u_0": _relaxation.subs(t, 0) - u0,
    },
    keywords={"depth": 1},
    source="Saxe, McClelland & Ganguli 2013, section on shallow networks",
)

# Depth 3 and more: t is an elementary function of x = (lam u / s)^{1/N}, and u has no explicit form.
x, y, q = sp.symbols("x y q", positive=True)
_rate = {n: s * (s / lam) ** sp.Rational(n - 2, n) for n in (3, 4)}
_smooth = {
    3: -1 / x + sp.log(x**2 + x + 1) / 6 - sp.atan((2 * x + 1) / sp.sqrt(3)) / sp.sqrt(3),
    4: -1 / (2 * x**2) + sp.log(1 + x**2) / 4,
}
_singular = {3: (1 - x, 3), 4: (1 - x**2, 4)}


def _elapsed(n):
    """Time in units of 1/rate as a function of x, up to a constant."""
    gap, power = _singular[n]
    return _smooth[n] - sp.log(gap) / power


def _fraction(n, strength):
    """x."""
    return (lam * strength / s) ** sp.Rational(1, n)


def _law(n, start, end):
    """Rate times t, minus the time from `start` to `end`."""
    times = (_elapsed(n).subs(x, _fraction(n, strength)) for strength in (start, end))
    return _rate[n] * t + next(times) - next(times)


def _settled_law(n, start, end):
    """The same law, exponentiated: free of logarithms of what tends to zero, and real on both sides of s/lam."""
    gap, power = _singular[n]
    (left, smooth), (left0, smooth0) = (
        [part.subs(x, _fraction(n, strength)) for part in (gap, _smooth[n])] for strength in (end, start)
    )
    return left - left0 * sp.exp(power * (smooth - smooth0 - _rate[n] * t))


def _proofs(n):
    """x = (lam u/s)^{1/N} obeys dx/dT = x^{N-1} (1 - x^N) where du/dt = N u^{2-2/N} (s - lam u), T = rate t."""
    v = sp.Symbol("v", positive=True)
    velocity = n * v ** (2 - sp.Rational(2, n)) * (s - lam * v)
    fraction = _fraction(n, v)
    gap, power = _singular[n]
    return {
        "dT/dx = 1 / (x^{N-1} (1 - x^N))": sp.diff(_elapsed(n), x) - 1 / (x ** (n - 1) * (1 - x**n)),
        "dx/dT follows from du/dt": sp.diff(fraction, v) * velocity / _rate[n]
        - fraction ** (n - 1) * (1 - fraction**n),
        "no time has passed at u_0": _law(n, u0, u0) - _rate[n] * t,
        "the settled law is the same": sp.diff(sp.log(gap) - power * _smooth[n], x) + power * sp.diff(_elapsed(n), x),
    }


def _plateau(n):
    """The law, solved in q = u^{2/N - 1}, in which the plateau is linear in time; y is time in plateaus."""
    exponent = sp.Rational(2, n) - 1
    lasts = u0**exponent / ((n - 2) * s)
    return Formula(
        title=f"Strength of one mode of a network of depth {n}, through the plateau: q = u^(2/N - 1)",
        backs="theory.deep_linear.modes.mode_strength",
        symbol=q,
        arguments=(y, s, u0, lam),
        domain={y: Interval(0, 1), s: Interval(0.1, 1), u0: Interval(1e-8, 0.02, log=True), lam: Interval(0.1, 2)},
        law=_law(n, u0, q ** (1 / exponent)).subs(t, y * lasts),
        proofs=_proofs(n),
        call=lambda y, s, u0, lam: (y * u0 ** float(exponent) / ((n - 2) * s), s, u0, lam),
        keywords={"depth": n},
        read=lambda strength: strength ** float(exponent),
        source="Saxe, McClelland & Ganguli 2013, section on deeper networks, integrated",
    )


def _settling(n):
    return Formula(
        title=f"Strength of one mode of a network of depth {n}, from any larger start",
        backs="theory.deep_linear.modes.mode_strength",
        symbol=u,
        arguments=(t, s, u0, lam),
        domain={t: Interval(0, 20), s: Interval(0.5, 2), u0: Interval(0.3, 10), lam: Interval(0.3, 2)},
        law=_settled_law(n, u0, u),
        proofs=_proofs(n),
        keywords={"depth": n},
        source="Saxe, McClelland & Ganguli 2013, section on deeper networks, integrated",
    )


plateau_of_three, settling_of_three = _plateau(3), _settling(3)
plateau_of_four, settling_of_four = _plateau(4), _settling(4)

_forgotten = (u0 ** -sp.Rational(4, 3) + 4 * lam * t) ** -sp.Rational(3, 4)

three_layer_without_target = Formula(
    title="Decay of a mode that the data do not hold, depth 3",
    backs="theory.deep_linear.modes.mode_strength",
    symbol=u,
    arguments=(t, u0, lam),
    domain={t: Interval(0, 1e4), u0: Interval(1e-12, 1e3, log=True), lam: Interval(1e-2, 10, log=True)},
    expression=_forgotten,
    proofs={
        "du/dt = -3 lam u^{7/3}": sp.diff(_forgotten, t) + 3 * lam * _forgotten ** sp.Rational(7, 3),
        "u(0) = u_0": _forgotten.subs(t, 0) - u0,
    },
    call=lambda t, u0, lam: (t, 0.0, u0, lam),
    keywords={"depth": 3},
    source="Saxe, McClelland & Ganguli 2013, mode equation of depth N at s = 0",
)


def _infinite(strength):
    """f(u) with lim N t = f(u) - f(u_0)."""
    return lam / s**2 * sp.log(strength / (s - lam * strength)) - 1 / (s * strength)


infinite_depth = Formula(
    title="Strength of one mode of an infinitely deep network",
    backs="theory.deep_linear.modes.infinite_depth_strength",
    symbol=q,
    arguments=(t, s, u0, lam),
    domain={
        t: Interval(0, 3),
        s: Interval(0.1, 1),
        u0: Interval(1e-6, 0.05, log=True),
        lam: Interval(0.1, 2, log=True),
    },
    law=_infinite(1 / q) - _infinite(u0) - t,
    proofs={
        "du/dt = u^2 (s - lam u)": sp.diff(_infinite(x), x) - 1 / (x**2 * (s - lam * x)),
        "the limit of N du/d(N t) = N u^{2-2/N} (s - lam u) / N": sp.limit(x ** (2 - 2 * q), q, 0) - x**2,
    },
    read=lambda strength: 1 / strength,
    source="Saxe, McClelland & Ganguli 2013, section on very deep networks",
)

# Loss of an aligned problem with two modes.
s1, s2, lam1, lam2, syy = sp.symbols("s_1 s_2 lambda_1 lambda_2 S_yy", positive=True)
u1, u2 = sp.symbols("u_1 u_2", real=True)
_loss = syy / 2 - s1 * u1 - s2 * u2 + (lam1 * u1**2 + lam2 * u2**2) / 2
_best = {u1: s1 / lam1, u2: s2 / lam2}
_spectrum = {
    s1: Interval(0, 5),
    s2: Interval(0, 5),
    lam1: Interval(0.01, 10, log=True),
    lam2: Interval(0.01, 10, log=True),
}
_excess = lam1 * (u1 - s1 / lam1) ** 2 / 2 + lam2 * (u2 - s2 / lam2) ** 2 / 2
_least = (syy - s1**2 / lam1 - s2**2 / lam2) / 2

excess_loss = Formula(
    title="Loss of an aligned problem above its minimum, two modes",
    backs="theory.deep_linear.modes.excess_loss",
    symbol=sp.Symbol("L") - sp.Symbol("L_min"),
    arguments=(u1, u2, s1, s2, lam1, lam2),
    domain={u1: Interval(-3, 600), u2: Interval(-3, 600), **_spectrum},
    expression=_excess,
    proofs={
        "L - L_min with L = 1/2 tr Syy - tr(W Syx^T) + 1/2 tr(W Sxx W^T)": sp.expand(
            _loss - _loss.subs(_best) - _excess
        ),
    },
    call=lambda u1, u2, s1, s2, lam1, lam2: (np.array([u1, u2]), np.array([s1, s2]), np.array([lam1, lam2])),
    source="Saxe, McClelland & Ganguli 2013, loss in the modes' coordinates",
)

least_loss = Formula(
    title="Least loss of any linear map, two modes",
    backs="theory.deep_linear.modes.least_loss",
    symbol=sp.Symbol("L_min"),
    arguments=(syy, s1, s2, lam1, lam2),
    domain={syy: Interval(6e3, 1e4), **_spectrum},
    expression=_least,
    proofs={
        "the gradient vanishes there": sp.Matrix([sp.diff(_loss, v).subs(_best) for v in (u1, u2)]),
        "L there": sp.expand(_loss.subs(_best) - _least),
    },
    call=lambda syy, s1, s2, lam1, lam2: (syy, np.array([s1, s2]), np.array([lam1, lam2])),
    source="Saxe, McClelland & Ganguli 2013, loss in the modes' coordinates",
)

# Two modes, two hidden units: p_i = W1 right_i + W2^T left_i.
_weights = sp.symbols("a_11 a_12 a_21 a_22 b_11 b_12 b_21 b_22", real=True)
_a, _b = sp.Matrix(2, 2, _weights[:4]), sp.Matrix(2, 2, _weights[4:])
_p = _a + _b.T
# p_1 stays away from zero, where its direction is lost.
_WEIGHTS = {w: Interval(-1, 1) for w in _weights} | {_weights[0]: Interval(1, 2), _weights[4]: Interval(0, 1)}


def _as_weights(*numbers):
    """W1 and W2 in the modes' own coordinates, turned by two fixed rotations, and the modes' vectors."""
    right, left = (np.array([[np.cos(x), -np.sin(x)], [np.sin(x), np.cos(x)]]) for x in (0.4, 1.1))
    w1, w2 = np.reshape(numbers[:4], (2, 2)) @ right.T, left @ np.reshape(numbers[4:], (2, 2))
    return w1, w2, left, right


def _escape():
    """Two hidden units and one mode under the linearised flow da/dt = s b, db/dt = s a: what e^{-2st} a.b tends to."""
    a0, b0 = sp.Matrix(sp.symbols("a_1 a_2", real=True)), sp.Matrix(sp.symbols("b_1 b_2", real=True))
    a, b = (v * sp.cosh(s * t) + w * sp.sinh(s * t) for v, w in ((a0, b0), (b0, a0)))
    assert sp.simplify(sp.diff(a, t) - s * b).is_zero_matrix
    product = sp.expand((sp.exp(-2 * s * t) * a.dot(b)).rewrite(sp.exp))
    return sp.limit(product, t, sp.oo) - (a0 + b0).dot(a0 + b0) / 4


effective_start = Formula(
    title="Effective start of a mode from small random weights",
    backs="theory.deep_linear.modes.effective_start",
    symbol=sp.Symbol("u_0"),
    arguments=_weights,
    domain=_WEIGHTS,
    expression=(_p[:, 0].T * _p[:, 0])[0] / 4,
    proofs={"u exp(-2 s t) -> |p|^2 / 4 in the linear stage": _escape},
    call=_as_weights,
    read=lambda starts: starts[0],
    source="Saxe, McClelland & Ganguli 2013, mode equations linearised at small weights",
)

_g11, _g22 = sp.symbols("G_11 G_22", positive=True)
_g12 = sp.Symbol("G_12", real=True)
_overlaps = sp.Matrix([[_g11, _g12], [_g12, _g22]])
_separate = _g22 - _g12**2 / _g11


def _gram(strengths):
    """The inverse of the hidden vectors' Gram matrix G(t), G_ij = h_i . h_j, from a balanced start of Gram matrix G."""
    grown = sp.diag(*(sp.exp(s * t) for s in strengths))
    driven = sp.diag(*((sp.exp(2 * s * t) - 1) / s for s in strengths))
    return grown.inv() * (_overlaps.inv() + driven) * grown.inv()


def _gram_flow():
    """dG/dt = S G + G S - 2 G^2 for dh_i/dt = s_i h_i - sum_j h_j (h_j . h_i), as an equation of the inverse."""
    strengths = sp.diag(s1, s2)
    inverse = _gram((s1, s2))
    return sp.simplify(sp.diff(inverse, t) + strengths * inverse + inverse * strengths - 2 * sp.eye(2))


def _second_mode():
    """The second mode once the first is learned, e^{2 s_1 t} -> infinity: logistic from G_22 - G_12^2 / G_11."""
    learned, e = sp.symbols("d E", positive=True)
    inverse = _overlaps.inv() + sp.diag(learned, (1 / e - 1) / s)
    second = sp.limit(sp.simplify(inverse.inv()[1, 1] / e), learned, sp.oo)
    return second - s * _separate / (_separate * (1 - e) + s * e)


separate_start = Formula(
    title="Effective start of a mode beside a stronger one",
    backs="theory.deep_linear.modes.separate_start",
    symbol=sp.Symbol("u_0"),
    arguments=_weights,
    domain=_WEIGHTS,
    # Compared to an absolute accuracy: parallel p_1 and p_2 leave nothing of the second mode.
    expression=_p.det() ** 2 / (4 * (_p[:, 0].T * _p[:, 0])[0]) + 1,
    proofs={
        "the Gram matrix of the hidden vectors": _gram_flow,
        "the second mode is logistic": _second_mode,
        "R_22^2 = |p_2|^2 - (p_1 . p_2)^2 / |p_1|^2": (
            (_p[:, 1].T * _p[:, 1])[0]
            - (_p[:, 0].T * _p[:, 1])[0] ** 2 / (_p[:, 0].T * _p[:, 0])[0]
            - _p.det() ** 2 / (_p[:, 0].T * _p[:, 0])[0]
        ),
    },
    call=_as_weights,
    read=lambda starts: starts[1] + 1,
    source="exact solution of the balanced two-layer flow, in the limit of separate time scales",
)

sigma1, sigma2, w, v = sp.symbols("sigma_1 sigma_2 w v", positive=True)

mean_effective_start = Formula(
    title="Mean effective start over Gaussian weights, 40 hidden units",
    backs="theory.deep_linear.modes.mean_effective_start",
    symbol=sp.Symbol("E u_0"),
    arguments=(sigma1, sigma2),
    domain={sigma1: Interval(0, 3), sigma2: Interval(1e-9, 3, log=True)},
    expression=40 * (sigma1**2 + sigma2**2) / 4,
    proofs={
        "E (w + v)^2 of each hidden unit": lambda: (
            sp.integrate(
                sp.integrate(
                    (w + v) ** 2 * sp.exp(-(w**2) / (2 * sigma1**2)) / (sp.sqrt(2 * sp.pi) * sigma1),
                    (w, -sp.oo, sp.oo),
                )
                * sp.exp(-(v**2) / (2 * sigma2**2))
                / (sp.sqrt(2 * sp.pi) * sigma2),
                (v, -sp.oo, sp.oo),
            )
            - sigma1**2
            - sigma2**2
        ),
    },
    call=lambda sigma1, sigma2: (40, sigma1, sigma2),
    source="variance of a sum of independent Gaussian weights",
)
