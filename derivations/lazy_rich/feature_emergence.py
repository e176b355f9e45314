"""Emergence of features on groups: gradient of the lazy stage, energies from explicit sums over all pairs."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

eta, v, width = sp.symbols("eta v K", positive=True)


def cyclic_table(order):
    return [[(g + h) % order for h in range(order)] for g in range(order)]


PERMUTATIONS = list(itertools.permutations(range(3)))
S3 = [[PERMUTATIONS.index(tuple(p[q[i]] for i in range(3))) for q in PERMUTATIONS] for p in PERMUTATIONS]
# Permutations of three points, seen in an orthonormal frame of the plane that is orthogonal to (1, 1, 1).
_frame = sp.Matrix([[1 / sp.sqrt(2), -1 / sp.sqrt(2), 0], [1 / sp.sqrt(6), 1 / sp.sqrt(6), -2 / sp.sqrt(6)]])
PLANAR = [_frame * sp.Matrix(3, 3, lambda i, j, p=p: int(i == p[j])) * _frame.T for p in PERMUTATIONS]
SIGNS = [sp.Matrix([[rho.det()]]) for rho in PLANAR]
# 1, i, j, k and their negatives: signs and units of products of units.
_units = {(0, j): (1, j) for j in range(4)} | {(i, 0): (1, i) for i in range(4)} | {(i, i): (-1, 0) for i in (1, 2, 3)}
_units |= {(i, j): (1, k) for i, j, k in ((1, 2, 3), (2, 3, 1), (3, 1, 2))}
_units |= {(j, i): (-1, k) for i, j, k in ((1, 2, 3), (2, 3, 1), (3, 1, 2))}
Q8 = [
    [_units[a % 4, b % 4][1] + 4 * ((a // 4 + b // 4 + (_units[a % 4, b % 4][0] < 0)) % 2) for b in range(8)]
    for a in range(8)
]


def energy(table, first, second):
    """|Y^T sigma(X w)|^2 / 2 by its definition: labels less their mean over all pairs, squares of u_g + v_h."""
    order = len(table)
    forces = [0] * order
    for g, h in itertools.product(range(order), repeat=2):
        for a in range(order):
            forces[a] += (int(table[g][h] == a) - sp.Rational(1, order)) * (first[g] + second[h]) ** 2
    return sum(sp.expand(force) ** 2 for force in forces) / 2


def weights(*numbers):
    return np.array(numbers)


_u, _v = sp.symbols("u_0:3", real=True), sp.symbols("v_0:3", real=True)


def power(f):
    """|f^_1|^2 on Z_3."""
    return sum(x**2 for x in f) - f[0] * f[1] - f[1] * f[2] - f[2] * f[0]


_cyclic = sp.Rational(4, 3) * power(_u) * power(_v)
_drawn = dict.fromkeys((*_u, *_v), Interval(-1, 1))

cyclic_energy = Formula(
    title="Energy of a node on Z_3",
    backs="theory.lazy_rich.feature_emergence.group_energy",
    symbol=sp.Symbol("E"),
    arguments=(*_u, *_v),
    domain=_drawn,
    expression=_cyclic + sp.Rational(1, 10),
    proofs={
        "definition": lambda: sp.expand(energy(cyclic_table(3), _u, _v) - _cyclic),
        "the power is that of the Fourier mode": lambda: sp.expand(_mode(_u) - power(_u)),
        "half of the norm in u: M/4": lambda: _maximum(sp.Integer(3)),
    },
    call=lambda *x: (weights(*x), np.array(cyclic_table(3))),
    read=lambda energy: energy + 0.1,
    source="derived; Tian 2025 (arXiv:2509.21519)",
)


def _mode(f):
    root = sp.exp(2 * sp.pi * sp.I / 3)
    z = sum(x * root**g for g, x in enumerate(f))
    return sp.expand_complex(z * sp.conjugate(z))


def _maximum(factor):
    """E = factor |u|^2 |v|^2 with |u|^2 + |v|^2 = 1 is largest at one half, where it is factor / 4."""
    share = sp.Symbol("s")
    curve = factor * share * (1 - share)
    half = sp.Rational(1, 2)
    # A mode of Z_3 without a mean has |f^_1|^2 = (3/2) |f|^2: the factor is that of the two-dimensional part.
    plane = _cyclic.subs({_u[2]: -_u[0] - _u[1], _v[2]: -_v[0] - _v[1]})
    norms = [sum(x**2 for x in f).subs(f[2], -f[0] - f[1]) for f in (_u, _v)]
    return sp.Matrix(
        [
            sp.diff(curve, share).subs(share, half),
            curve.subs(share, half) - factor / 4,
            sp.expand(plane - factor * norms[0] * norms[1]),
        ]
    )


cyclic_gradient = Formula(
    title="Gradient of the energy on Z_3",
    backs="theory.lazy_rich.feature_emergence.group_energy_gradient",
    symbol=sp.Symbol("dE/du_0"),
    arguments=(*_u, *_v),
    domain=_drawn,
    expression=sp.Rational(4, 3) * (2 * _u[0] - _u[1] - _u[2]) * power(_v) + 20,
    proofs={
        "derivative of the definition": lambda: sp.expand(
            sp.diff(energy(cyclic_table(3), _u, _v), _u[0])
            - sp.Rational(4, 3) * (2 * _u[0] - _u[1] - _u[2]) * power(_v)
        ),
        "homogeneous of degree four": lambda: sp.expand(sum(x * sp.diff(_cyclic, x) for x in (*_u, *_v)) - 4 * _cyclic),
    },
    call=cyclic_energy.call,
    read=lambda gradient: gradient[0] + 20,
    source="derived",
)

_p, _q = sp.symbols("p_0:6", real=True), sp.symbols("q_0:6", real=True)


def transformed(f, matrices):
    """The Fourier transform: sum of f(g) rho(g)."""
    total = sp.zeros(*matrices[0].shape)
    for x, matrix in zip(f, matrices, strict=True):
        total += x * matrix
    return total


def _s3_energy(first, second):
    """(2/6) [sign part + 2 |u^ v^|_F^2]."""
    planar = transformed(first, PLANAR) * transformed(second, PLANAR)
    signs = transformed(first, SIGNS) * transformed(second, SIGNS)
    return (signs[0] ** 2 + 2 * sum(entry**2 for entry in planar)) / 3


s3_energy = Formula(
    title="Energy of a node on S_3",
    backs="theory.lazy_rich.feature_emergence.group_energy",
    symbol=sp.Symbol("E"),
    arguments=(*_p, *_q),
    domain=dict.fromkeys((*_p, *_q), Interval(-1, 1)),
    expression=_s3_energy(_p, _q) + 1,
    proofs={"definition": lambda: sp.expand(energy(S3, _p, _q) - _s3_energy(_p, _q))},
    call=lambda *x: (weights(*x), np.array(S3)),
    read=lambda energy: energy + 1,
    source="derived; Tian 2025 (arXiv:2509.21519)",
)

_a, _b, _c = (sp.Matrix(sp.symbols(f"{name}_1:3", real=True)) for name in "abc")


def _matrix_node():
    """u = a^T rho(g) b and v = b^T rho(g) c reach E = (M/2d) 4 |u|^2 |v|^2: M/(2d) where both are one half."""
    first, second = ([(x.T * rho * y)[0] for rho in PLANAR] for x, y in ((_a, _b), (_b, _c)))
    found = _s3_energy(first, second)
    norms = [sum(sp.expand(x) ** 2 for x in side) for side in (first, second)]
    lengths = [(x.T * x)[0] for x in (_a, _b, _c)]
    return sp.Matrix(
        [
            sp.expand(found - 6 * norms[0] * norms[1]),
            sp.expand(norms[0] - 3 * lengths[0] * lengths[1]),
        ]
    )


def _rank_one_is_best():
    """|A|^2 |B|^2 - |A B|^2 is a sum of squares: those of the areas of rows of A and columns of B, and of the rest."""
    a, b = (sp.Matrix(2, 2, sp.symbols(f"{name}_1:5", real=True)) for name in "AB")
    size = lambda matrix: sum(entry**2 for entry in matrix)  # noqa: E731
    areas = sum((a[i, 0] * b[1, j] - a[i, 1] * b[0, j]) ** 2 for i in range(2) for j in range(2))
    return sp.expand(size(a) * size(b) - size(a * b) - areas)


s3_node = Formula(
    title="Energy of a node in the two-dimensional representation of S_3",
    backs="theory.lazy_rich.feature_emergence.group_energy",
    symbol=sp.Symbol("E"),
    arguments=(*_a, *_b, *_c),
    domain=dict.fromkeys((*_a, *_b, *_c), Interval(0.1, 1)),
    expression=54 * (_a.T * _a)[0] * (_b.T * _b)[0] ** 2 * (_c.T * _c)[0],
    proofs={"outer products": _matrix_node, "no other matrices have more": _rank_one_is_best},
    call=lambda a1, a2, b1, b2, c1, c2: (
        np.array(
            [
                *(np.array([a1, a2]) @ rho @ np.array([b1, b2]) for rho in planar_numbers()),
                *(np.array([b1, b2]) @ rho @ np.array([c1, c2]) for rho in planar_numbers()),
            ]
        ),
        np.array(S3),
    ),
    source="derived; Tian 2025 (arXiv:2509.21519)",
)


def planar_numbers():
    return [np.array(rho.evalf(17), float) for rho in PLANAR]


_s, _t = sp.symbols("s_0:4", real=True), sp.symbols("t_0:4", real=True)


def odd(f):
    """The function on the eight units that a quaternion is: f(-q) = -f(q)."""
    return [*f, *(-x for x in f)]


_norms = [sum(x**2 for x in f) for f in (_s, _t)]

quaternion_node = Formula(
    title="Energy of a node in the quaternionic representation of Q_8",
    backs="theory.lazy_rich.feature_emergence.group_energy",
    symbol=sp.Symbol("E"),
    arguments=(*_s, *_t),
    domain=dict.fromkeys((*_s, *_t), Interval(0.1, 1)),
    # |u|^2 = 2 |s|^2: this is 4 |u|^2 |v|^2, at most 1 = M/(4d).
    expression=16 * _norms[0] * _norms[1],
    proofs={"definition": lambda: sp.expand(energy(Q8, odd(_s), odd(_t)) - 16 * _norms[0] * _norms[1])},
    call=lambda *x: (np.array([*odd(x[:4]), *odd(x[4:])]), np.array(Q8)),
    source="derived; Tian 2025 (arXiv:2509.21519)",
)

_f1, _f2, _y1, _y2 = sp.symbols("f_1 f_2 y_1 y_2", real=True)
_f, _y = (sp.Matrix([one, two, -one - two]) for one, two in ((_f1, _f2), (_y1, _y2)))
_readout = (_f.T * _y)[0] / ((_f.T * _f)[0] + eta)
_gradient = (_y1 - _f1 * _readout) * _readout


def _ridge():
    """V is where the loss with weight decay is least."""
    readout = sp.Symbol("V")
    loss = ((_y - _f * readout).T * (_y - _f * readout))[0] / 2 + eta * readout**2 / 2
    return sp.simplify(sp.diff(loss, readout).subs(readout, _readout))


def _resolvent():
    """(Y - F V) V^T = eta Q Y Y^T Q F, with two features and numbers for all but one entry and the decay."""
    f = sp.Matrix([[_f1, 2], [1, -1], [-1 - _f1, -1]])
    y = sp.Matrix([[1, 0], [-3, 2], [2, -2]])
    q = (f * f.T + eta * sp.eye(3)).inv()
    readout = (f.T * f + eta * sp.eye(2)).inv() * f.T * y
    return ((y - f * readout) * readout.T - eta * q * y * y.T * q * f).applyfunc(sp.simplify)


lone_feature = Formula(
    title="Gradient of one feature behind a ridge readout",
    backs="theory.lazy_rich.feature_emergence.lazy_gradient",
    symbol=sp.Symbol("G"),
    arguments=(_f1, _f2, _y1, _y2, eta),
    domain={**dict.fromkeys((_f1, _f2, _y1, _y2), Interval(0.2, 1)), eta: Interval(1e-2, 10, log=True)},
    expression=_gradient + 10,
    proofs={"ridge regression": _ridge, "eta Q Y Y^T Q F": _resolvent},
    # A constant in features or labels is centred away.
    call=lambda f1, f2, y1, y2, eta: (
        np.array([f1, f2, -f1 - f2])[:, None] + 3,
        np.array([y1, y2, -y1 - y2])[:, None] - 1,
        eta,
    ),
    read=lambda gradient: gradient[0, 0] + 10,
    source="derived; Tian 2025 (arXiv:2509.21519)",
)


def _kernel():
    """Mean of F F^T over Gaussian weights, all pairs of Z_3, centred: it multiplies centred labels by 4 K v^2."""
    pairs = list(itertools.product(range(3), repeat=2))
    # E z^2 z'^2 = E z^2 E z'^2 + 2 (E z z')^2, with E z z' = v ([g = g'] + [h = h']).
    shared = sp.Matrix(9, 9, lambda i, j: sum(int(a == b) for a, b in zip(pairs[i], pairs[j], strict=True)))
    kernel = shared.applyfunc(lambda x: v**2 * (4 + 2 * x**2))
    centre = sp.eye(9) - sp.ones(9, 9) / 9
    labels = centre * sp.Matrix(9, 3, lambda i, a: int(sum(pairs[i]) % 3 == a))
    return centre * kernel * labels - 4 * v**2 * labels


def _isserlis():
    """E z^2 z'^2 for pairs that share an element, by moments of u and v: E u^4 = 3 v^2, E u^2 = v."""
    u, w, z = sp.symbols("u w z")
    moments = {0: 1, 1: 0, 2: v, 3: 0, 4: 3 * v**2}
    total = sum(
        coefficient * sp.prod([moments[k] for k in powers])
        for powers, coefficient in sp.Poly(sp.expand((u + w) ** 2 * (u + z) ** 2), u, w, z).terms()
    )
    return sp.expand(total - v**2 * (4 + 2))


_rate = eta / (eta + 4 * width * v**2) ** 2

rate = Formula(
    title="Rate of random features behind a ridge readout",
    backs="theory.lazy_rich.feature_emergence.lazy_rate",
    symbol=sp.Symbol("rate"),
    arguments=(width, eta, v),
    domain={
        width: Interval(1, 1e4, log=True),
        eta: Interval(1e-4, 1e3, log=True),
        v: Interval(1e-3, 1, log=True),
    },
    expression=_rate,
    proofs={
        "centred labels are an eigenspace": _kernel,
        "moments of a pair": _isserlis,
        "largest at eta = 4 K v^2": sp.simplify(sp.diff(_rate, eta).subs(eta, 4 * width * v**2)),
        "where it is 1/(16 K v^2)": sp.simplify(_rate.subs(eta, 4 * width * v**2) - 1 / (16 * width * v**2)),
        "eta Q Q in this eigenspace": lambda: sp.simplify(eta * (1 / (4 * width * v**2 + eta)) ** 2 - _rate),
    },
    source="derived",
)
