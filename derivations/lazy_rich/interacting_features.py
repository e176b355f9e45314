"""Interacting features: the energy of a node in the field of others, from explicit inverses and Fourier modes."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

eta, strength, learned = sp.symbols("eta S n", positive=True)
a, b = sp.symbols("a b", real=True)
_f1, _f2, _p1, _p2, _y1, _y2 = sp.symbols("f_1 f_2 p_1 p_2 y_1 y_2", real=True)
DECAY = {eta: Interval(1e-2, 30, log=True)}


def samples(one, two):
    """Three samples without a mean."""
    return sp.Matrix([one, two, -one - two])


def dot(x, y):
    return (x.T * y)[0]


_f, _p, _y = samples(_f1, _f2), samples(_p1, _p2), samples(_y1, _y2)
# Q_j f = (f - p (p.f) / (eta + |p|^2)) / eta.
_left = _f - _p * dot(_p, _f) / (eta + dot(_p, _p))
_field = dot(_y, _left) ** 2 / (2 * (eta + dot(_f, _left)))
_numbers = {_p1: 1, _p2: -3, _y1: 2, _y2: 1}


def potential(features):
    """(eta / 2) Tr Y^T Q Y by an explicit inverse."""
    y = _y.subs(_numbers)
    return eta / 2 * dot(y, (features * features.T + eta * sp.eye(3)).inv() * y)


def _drop():
    """The energy is what the loss loses when the node joins."""
    p = _p.subs(_numbers)
    return sp.simplify(potential(p) - potential(p.row_join(_f)) - _field.subs(_numbers))


def _column():
    """Its gradient is the node's column of (Y - F V) V^T."""
    g = sp.Matrix(sp.symbols("g_1:4", real=True))
    p, y = _p.subs(_numbers), _y.subs(_numbers)
    left = g - p * dot(p, g) / (eta + dot(p, p))
    slope = sp.Matrix([sp.diff(dot(y, left) ** 2 / (2 * (eta + dot(g, left))), x) for x in g])
    point = dict(zip(g, (1, 2, -3), strict=True))
    features = p.row_join(g).subs(point)
    readout = (features.T * features + eta * sp.eye(2)).inv() * features.T * y
    return (slope.subs(point) - (y - features * readout) * readout[1]).applyfunc(sp.simplify)


_entries = dict.fromkeys((_f1, _f2, _p1, _p2, _y1, _y2), Interval(0.2, 1))

node_in_field = Formula(
    title="Energy of a node next to another one",
    backs="theory.lazy_rich.interacting_features.field_energy",
    symbol=sp.Symbol("E_j"),
    arguments=(_f1, _f2, _p1, _p2, _y1, _y2, eta),
    domain={**_entries, **DECAY},
    expression=_field + sp.Rational(1, 10),
    proofs={"drop of the loss": _drop, "gradient of the node": _column},
    # Means are centred away.
    call=lambda f1, f2, p1, p2, y1, y2, eta: (
        np.array([f1, f2, -f1 - f2]) + 2,
        np.array([[p1], [p2], [-p1 - p2]]) - 1,
        np.array([[y1], [y2], [-y1 - y2]]) + 3,
        eta,
    ),
    read=lambda energy: energy + 0.1,
    source="derived for the framework of Tian 2025 (arXiv:2509.21519)",
)

_loss = (dot(_y, _y) - dot(_f, _y) ** 2 / (dot(_f, _f) + eta)) / 2


def _least():
    """No readout has a smaller loss: the slope there is zero, and the loss is the stated one."""
    readout, best = sp.Symbol("V"), dot(_f, _y) / (dot(_f, _f) + eta)
    loss = dot(_y - _f * readout, _y - _f * readout) / 2 + eta * readout**2 / 2
    return sp.Matrix(
        [sp.simplify(sp.diff(loss, readout).subs(readout, best)), sp.simplify(loss.subs(readout, best) - _loss)]
    )


loss_left = Formula(
    title="Loss behind a ridge readout of one feature",
    backs="theory.lazy_rich.interacting_features.ridge_loss",
    symbol=sp.Symbol("J"),
    arguments=(_f1, _f2, _y1, _y2, eta),
    domain={k: v for k, v in ({**_entries, **DECAY}).items() if k not in (_p1, _p2)},
    expression=_loss + sp.Rational(1, 10),
    proofs={"minimum over the readout": _least},
    call=lambda f1, f2, y1, y2, eta: (
        np.array([[f1], [f2], [-f1 - f2]]),
        np.array([[y1], [y2], [-y1 - y2]]),
        eta,
    ),
    read=lambda loss: loss + 0.1,
    source="derived",
)

# A node of one frequency has u_g = cos(x + phi) / sqrt(M), v_h = cos(y + psi) / sqrt(M) at angles x, y; M f is
# (cos(x + phi) + cos(y + psi))^2. Sums over all pairs of a group of odd order are M^2 times the constant terms.
_x, _z, _q, _r = sp.symbols("x z q r")


def constant_term(polynomial, *variables):
    """The part of a Laurent polynomial that holds no power of `variables`."""
    shift = sp.prod([z**8 for z in variables])
    return sp.Poly(sp.expand(polynomial * shift), *variables).coeff_monomial(shift)


def feature(q, r):
    """M times the centred feature, in exp(i angles): x, z of the pair, q, r of the phases."""
    whole = ((_x * q + 1 / (_x * q)) / 2 + (_z * r + 1 / (_z * r)) / 2) ** 2
    return whole - constant_term(sp.expand(whole), _x, _z)


def labels(q, r):
    """Part of M times the feature that depends on the product alone: powers of x z."""
    phase = _x * _z * q * r
    return (phase + 1 / phase) / 2


def _inner(first, second):
    return constant_term(sp.expand(first * second), _x, _z)


def as_phases(expression):
    """cos and sin of a, b in exponentials q, r."""
    names = {sp.exp(sp.I * a): _q, sp.exp(sp.I * b): _r}
    return sp.expand(sp.expand(expression.rewrite(sp.exp), power_exp=True).subs(names))


_overlap = ((sp.cos(2 * a) + sp.cos(2 * b)) / 8 + sp.cos(a) * sp.cos(b)) / sp.Rational(5, 4)


def _by_sums():
    """Inner product of two features over that of one with itself, and that of their parts in the product."""
    own, other = feature(sp.Integer(1), sp.Integer(1)), feature(_q, _r)
    size = _inner(own, own)
    part = _inner(labels(sp.Integer(1), sp.Integer(1)), labels(_q, _r))
    found = [_inner(own, other) / size - as_phases(_overlap), part - as_phases(sp.cos(a + b)) / 2]
    return sp.Matrix([sp.simplify(sp.expand(x)) for x in (*found, size - sp.Rational(5, 4))])


PHASES = {a: Interval(-3, 3), b: Interval(-3, 3)}

overlap = Formula(
    title="Overlap of two features of one frequency",
    backs="theory.lazy_rich.interacting_features.feature_overlap",
    symbol=sp.Symbol("o"),
    arguments=(a, b),
    domain=PHASES,
    expression=_overlap + 2,
    proofs={"sums over all pairs": _by_sums},
    read=lambda overlap: overlap + 2,
    source="derived",
)

order = sp.Symbol("M", positive=True)
_alone = order / (4 * eta + 5)

lone = Formula(
    title="Energy of a learned node without others",
    backs="theory.lazy_rich.interacting_features.lone_energy",
    symbol=sp.Symbol("E_j"),
    arguments=(order, eta),
    domain={order: Interval(3, 200), **DECAY},
    expression=_alone,
    # Y Y^T multiplies functions of the product by M; |f|^2 = 5/4, of which 1/2 is in the product.
    proofs={
        "|Y^T f|^2 / (2 eta + 2 |f|^2)": sp.simplify(
            order * _inner(labels(1, 1), labels(1, 1)) / (2 * eta + 2 * _inner(feature(1, 1), feature(1, 1))) - _alone
        ),
        "constants": _by_sums,
    },
    source="derived",
)

_s = eta / (eta + learned)
_ratio = (
    (1 - 2 * (1 - _s) * _overlap * sp.cos(a + b) + (1 - _s) ** 2 * _overlap**2)
    * (1 + 5 / (4 * eta))
    / (1 + 5 / (4 * eta) * (1 - (1 - _s) * _overlap**2))
)


def _modes(first, second):
    """A feature of norm^2 5/4 in its four pairs of modes (k, k), (k, -k), (2k, 0), (0, 2k): vectors of eight."""
    sizes = (sp.sqrt(2), sp.sqrt(2), 2 * sp.sqrt(2), 2 * sp.sqrt(2))
    phases = (first + second, first - second, 2 * first, 2 * second)
    return sp.Matrix(
        [part(phase) / size for phase, size in zip(phases, sizes, strict=True) for part in (sp.cos, sp.sin)]
    )


def _from_modes():
    """|Y^T Q f|^2 and f^T Q f of explicit vectors, Q from the learned one; decay and size are numbers."""
    numbers = {eta: sp.Rational(1, 3), learned: 2}
    own, other = _modes(sp.Integer(0), sp.Integer(0)), _modes(a, b)
    scaled = own * sp.sqrt(numbers[learned] / dot(own, own))
    q = (scaled * scaled.T + numbers[eta] * sp.eye(8)).inv()
    product = sp.diag(1, 1, 0, 0, 0, 0, 0, 0)
    push = product * q * other
    found = numbers[eta] / 2 * dot(push, push) / (1 + dot(other, q * other)) * order
    return sp.simplify(as_phases(sp.numer(sp.together(found - (_ratio * _alone).subs(numbers)))))


twin = Formula(
    title="Energy of a node next to one of its frequency",
    backs="theory.lazy_rich.interacting_features.twin_energy_ratio",
    symbol=sp.Symbol("E_j/E_j(alone)"),
    arguments=(a, b, eta, learned),
    domain={**PHASES, **DECAY, learned: Interval(0.1, 5, log=True)},
    expression=_ratio + 1,
    proofs={
        "explicit modes": _from_modes,
        "a duplicate": lambda: sp.simplify(
            _ratio.subs({a: 0, b: 0}) - _s**2 * (1 + 5 / (4 * eta)) / (1 + 5 * _s / (4 * eta))
        ),
        "nothing learned": sp.limit(_ratio, learned, 0) - 1,
    },
    read=lambda ratio: ratio + 1,
    source="derived",
)

_u, _v = sp.symbols("u_0:3", real=True), sp.symbols("v_0:3", real=True)


def power(f):
    """|f^_1|^2 on Z_3."""
    return sum(x**2 for x in f) - f[0] * f[1] - f[1] * f[2] - f[2] * f[0]


def mixed(f, other):
    """Modes (1, 0) of (u + v)^2: those of u^2 + 2 <v> u."""
    return [x**2 + sp.Rational(2, 3) * sum(other) * x for x in f]


_interaction, _square = eta / (eta + strength / 4), eta / (eta + strength / 16)
_signal = sp.Rational(4, 3) * _interaction**2 * power(_u) * power(_v)
_size = sp.Rational(16, 9) * _interaction * power(_u) * power(_v) + 2 * _square * (
    power(mixed(_u, _v)) + power(mixed(_v, _u))
)
_completed = _signal / (eta + _size)


def _phase_average():
    """Mean of f f^T over phases, as a matrix over the pairs of Z_3, and E_j of numbers with its inverse."""
    pairs = list(itertools.product(range(3), repeat=2))
    root = [sp.exp(2 * sp.pi * sp.I * g / 3) for g in range(3)]

    def at(pair):
        one, two = root[pair[0]] * _q, root[pair[1]] * _r
        return ((one + 1 / one) / 2 + (two + 1 / two) / 2) ** 2 - 1

    spread = sp.Matrix(
        9, 9, lambda i, j: sp.expand_complex(constant_term(sp.expand(at(pairs[i]) * at(pairs[j])), _q, _r)) / 9
    ).applyfunc(sp.nsimplify)
    numbers = {eta: sp.Rational(1, 2), strength: 8}
    numbers |= dict(zip((*_u, *_v), (1, -2, 3, 2, sp.Rational(1, 2), -1), strict=True))
    centre = sp.eye(9) - sp.ones(9, 9) / 9
    f = centre * sp.Matrix([((_u[g] + _v[h]) ** 2).subs(numbers) for g, h in pairs])
    y = centre * sp.Matrix(9, 3, lambda i, c: int(sum(pairs[i]) % 3 == c))
    left = (numbers[strength] * spread + numbers[eta] * sp.eye(9)).LUsolve(f)
    push = y.T * left
    return sp.simplify(numbers[eta] / 2 * dot(push, push) / (1 + dot(f, left)) - _completed.subs(numbers))


completed = Formula(
    title="Energy of a node next to a completed frequency, Z_3",
    backs="theory.lazy_rich.interacting_features.completed_energy",
    symbol=sp.Symbol("E_j"),
    arguments=(*_u, *_v, strength, eta),
    domain={**dict.fromkeys((*_u, *_v), Interval(-1, 1)), strength: Interval(1e-2, 100, log=True), **DECAY},
    expression=_completed + sp.Rational(1, 10),
    proofs={"average over phases": _phase_average},
    call=lambda *x: (np.array(x[:6]), np.array(x[6:7]), x[7]),
    read=lambda energy: energy + 0.1,
    source="derived",
)
