"""A low-rank teacher in noise, textbook forms (Benaych-Georges & Nadakuditi 2012; Lampinen & Ganguli 2019)."""

import numpy as np
import sympy as sp

from derivations.deep_linear.marchenko_pastur import alpha, g, m
from derivations.formula import Formula, Interval

s, c, t, u0, x = sp.symbols("s c t u_0 x", positive=True)

_found = sp.sqrt((1 + s**2) * (c + s**2)) / s
_left = sp.sqrt((s**4 - c) / (s**2 * (s**2 + c)))
_right = sp.sqrt((s**4 - c) / (s**2 * (s**2 + 1)))
_over = s**4 > c

# The transforms of Benaych-Georges & Nadakuditi 2012 at z, with x = z^2: phi = mean of z / (z^2 - lam) over the N1
# eigenvalues of Z^T Z (this is -z m(-z^2)), and the same over the N3 of Z Z^T.
_root, _S = sp.symbols("R S", positive=True)
_under_root = (x - c - 1) ** 2 - 4 * c
_phi_right = (x - c + 1 - _root) / (2 * sp.sqrt(x))
_phi_left = (_phi_right - (1 - c) / sp.sqrt(x)) / c
_D = sp.expand(_phi_right * _phi_left)


def _at_the_pole(expression):
    """`expression` at z = shat, with S = s^2: there the square root is rational."""
    return sp.simplify(expression.subs({_root: (_S**2 - c) / _S, x: (1 + _S) * (c + _S) / _S}))


def _overlap_from(phi):
    """BGN: |<u, uhat>|^2 = -2 phi(z) / (s^2 D'(z)), with d/dz = 2 sqrt(x) d/dx."""
    slope = sp.diff(_D, x) + sp.diff(_D, _root) * sp.diff(_under_root, x) / (2 * _root)
    return _at_the_pole(-2 * phi / (_S * 2 * sp.sqrt(x) * slope))


_POLE = {
    "the square root at the pole": lambda: _at_the_pole(_under_root - _root**2),
    "phi is -z m(-z^2)": lambda: (
        _phi_right.subs(_root, -sp.sqrt(_under_root)) * sp.sqrt(x) + x * m.subs({g: -x, alpha: c})
    ),
    "phi -> 1/z far out": lambda: sp.limit(_phi_right.subs(_root, sp.sqrt(_under_root)) * sp.sqrt(x), x, sp.oo) - 1,
    "D(shat) = 1 / s^2": lambda: _at_the_pole(_D) - 1 / _S,
    "shat^2 is the pole": _found.subs(s, sp.sqrt(_S)) ** 2 - (1 + _S) * (c + _S) / _S,
}
_THRESHOLD = sp.root(c, 4)
_ARGUMENTS = (s, c)
_RANGES = {s: Interval(0.01, 30, log=True), c: Interval(0.05, 20, log=True)}
_SOURCE = "Benaych-Georges & Nadakuditi 2012; Lampinen & Ganguli 2019 (arXiv:1809.10374)"


threshold = Formula(
    title="Strength below which a mode is lost",
    backs="theory.deep_linear.spiked_teacher.detection_threshold",
    symbol=sp.Symbol("s_c"),
    arguments=(c,),
    domain=_RANGES,
    expression=_THRESHOLD,
    proofs={
        "the empirical value meets the edge of the bulk": sp.expand(
            (_found**2).subs(s, _THRESHOLD) - (1 + sp.sqrt(c)) ** 2
        ),
        "the overlap vanishes": _left.subs(s, _THRESHOLD),
    },
    source=_SOURCE,
)

empirical = Formula(
    title="Singular value of a mode among noise",
    backs="theory.deep_linear.spiked_teacher.empirical_singular_value",
    symbol=sp.Symbol("shat"),
    arguments=_ARGUMENTS,
    domain=_RANGES,
    expression=sp.Piecewise((_found, _over), (1 + sp.sqrt(c), True)),
    proofs=_POLE,
    source=_SOURCE,
)

left = Formula(
    title="Overlap of the output vectors",
    backs="theory.deep_linear.spiked_teacher.left_overlap",
    symbol=sp.Symbol("O_u"),
    arguments=_ARGUMENTS,
    domain=_RANGES,
    expression=sp.Piecewise((_left, _over), (0, True)),
    proofs={
        "the residue at the pole": lambda: _overlap_from(_phi_left) - (_left**2).subs(s, sp.sqrt(_S)),
        "no noise": sp.limit(_left, s, sp.oo) - 1,
    },
    source=_SOURCE,
)

right = Formula(
    title="Overlap of the input vectors",
    backs="theory.deep_linear.spiked_teacher.right_overlap",
    symbol=sp.Symbol("O_v"),
    arguments=_ARGUMENTS,
    domain=_RANGES,
    expression=sp.Piecewise((_right, _over), (0, True)),
    proofs={
        "the residue at the pole": lambda: _overlap_from(_phi_right) - (_right**2).subs(s, sp.sqrt(_S)),
        "no noise": sp.limit(_right, s, sp.oo) - 1,
    },
    source=_SOURCE,
)

_INPUTS = 100


def _logistic(s):
    return s * u0 / (u0 + (s - u0) * sp.exp(-2 * s * t))


def _bulk(f):
    """Sum over the min(N1, N3) - 1 modes of noise, of f(singular value)."""
    lam = (1 - sp.sqrt(c)) ** 2 + 4 * sp.sqrt(c) * x
    mean = sp.Integral(8 * c * sp.sqrt(x * (1 - x)) / (sp.pi * lam) * f(sp.sqrt(lam)), (x, 0, 1))
    return (_INPUTS - 1 / sp.Min(1, c)) * mean


_shat = sp.Piecewise((_found, _over), (1 + sp.sqrt(c), True))
_overlaps = sp.Piecewise((_left * _right, _over), (0, True))
_spike = _logistic(_shat) ** 2 + s**2 - 2 * _logistic(_shat) * s * _overlaps
_CURVE = {
    t: Interval(0, 8),
    s: Interval(0.5, 8, log=True),
    c: Interval(0.1, 4, log=True),
    u0: Interval(1e-4, 0.3, log=True),
}
_logistic_proofs = {
    "du/dt = 2 u (s - u)": sp.diff(_logistic(s), t) - 2 * _logistic(s) * (s - _logistic(s)),
    "u(0) = u_0": _logistic(s).subs(t, 0) - u0,
}


def _teacher(t, s, c, u0):
    return t, (np.array([s]), float(_INPUTS), c * _INPUTS), u0


generalization = Formula(
    title="Test error of a two-layer network on a teacher of rank one",
    backs="theory.deep_linear.spiked_teacher.generalization_error",
    symbol=sp.Function("epsilon_g")(t),
    arguments=(t, s, c, u0),
    domain=_CURVE,
    expression=(_spike + _bulk(lambda s: _logistic(s) ** 2)) / s**2,
    call=_teacher,
    proofs=_logistic_proofs,
    source="Lampinen & Ganguli 2019 (arXiv:1809.10374)",
)

_angle = sp.Symbol("theta", positive=True)
_q = s**2 / sp.sqrt(c)
_d = 1 + 2 * _q * sp.cos(_angle) + _q**2
_lam = 1 + c - 2 * sp.sqrt(c) * sp.cos(_angle)
_turn = sp.Symbol("E", positive=True)  # e^{i theta}; a rational identity in it holds for every number


def _D_on_the_cut():
    """D at x = 1 + c - 2 sqrt(c) cos(theta), where the square root, like x far out, is 2 i sqrt(c) sin(theta) above."""
    on_cut = {_root: sp.sqrt(c) * (_turn - 1 / _turn), x: 1 + c - sp.sqrt(c) * (_turn + 1 / _turn)}
    return sp.cancel(sp.together(_D.subs(on_cut)))


_held = 4 * s**2 * sp.sin(_angle) ** 2 / (sp.sqrt(_lam) * _d) * _logistic(sp.sqrt(_lam))


_j = sp.Symbol("j", integer=True)
_POINTS = 192


def _shifted(f, held):
    """What the bulk's sum of f gains from a spike, from its own finite size, and from one mode more than M - 1; - held.

    All in one mean over the angle, where the law of the M modes has the density 2 c sin^2 / (pi lam) / min(1, c). The
    integrand is periodic, with poles no nearer than |ln c| / 2 > 0.1: equal steps are off by e^{-40} or less.
    """
    lower, upper = f(sp.sqrt(_lam.subs(_angle, 0))), f(sp.sqrt(_lam.subs(_angle, sp.pi)))
    one_mode = 2 * c * sp.sin(_angle) ** 2 / (_lam * sp.Min(1, c))
    over = f(sp.sqrt(_lam)) * (one_mode - sp.Rational(1, 2) - (_q**2 + _q * sp.cos(_angle)) / _d) - held
    angle = sp.pi * (_j - sp.Rational(1, 2)) / _POINTS
    return (lower + upper) / 4 + sp.Sum(over.subs(_angle, angle) / _POINTS, (_j, 1, _POINTS))


_below = sp.Piecewise((0, _over), (_logistic(_shat) ** 2, True))

correction = Formula(
    title="What spikes do to the bulk, and it to the teacher",
    backs="theory.deep_linear.spiked_teacher.generalization_error_correction",
    symbol=sp.Function("delta")(t),
    arguments=(t, s, c, u0),
    domain=_CURVE | {s: Interval(1.6, 8, log=True), c: Interval(0.1, 0.8, log=True)},
    expression=(_shifted(lambda s: _logistic(s) ** 2, _held) - _below) / s**2,
    call=_teacher,
    proofs={
        "D = -e^{i theta} / sqrt(c) on the cut": lambda: _D_on_the_cut() + _turn / sp.sqrt(c),
        # Moved modes: d/dtheta arg(1 - s^2 D) = Re q e^{i theta} / (1 + q e^{i theta}).
        "modes that a spike moves": lambda: (
            sp.expand_complex(sp.re(_q * sp.exp(sp.I * _angle) / (1 + _q * sp.exp(sp.I * _angle))))
            - (_q**2 + _q * sp.cos(_angle)) / _d
        ),
        # Held of the teacher: the cut of s D / (1 - s^2 D) = (1 / s) [1 / (1 + q e^{i theta}) - 1], over dlam / dtheta.
        "what the bulk holds of the teacher": lambda: (
            sp.expand_complex(-sp.im(1 / (1 + _q * sp.exp(sp.I * _angle))) / s * sp.diff(_lam, _angle))
            - _held / (4 * s**2 * _logistic(sp.sqrt(_lam))) * sp.sqrt(_lam) * 2 * s
        ),
        "du/dt = 2 u (s - u)": _logistic_proofs["du/dt = 2 u (s - u)"],
    },
    source="pole and cut of s D / (1 - s^2 D), D of Benaych-Georges & Nadakuditi 2012; Bai & Silverstein 2004",
)

training = Formula(
    title="Training error of a two-layer network on a teacher of rank one",
    backs="theory.deep_linear.spiked_teacher.training_error",
    symbol=sp.Function("epsilon_t")(t),
    arguments=(t, s, c, u0),
    domain=_CURVE | {t: Interval(0, 3)},
    expression=((_shat - _logistic(_shat)) ** 2 + _bulk(lambda s: (s - _logistic(s)) ** 2))
    / (_shat**2 + _bulk(lambda s: s**2)),
    call=_teacher,
    proofs=_logistic_proofs,
    source="Lampinen & Ganguli 2019 (arXiv:1809.10374)",
)
