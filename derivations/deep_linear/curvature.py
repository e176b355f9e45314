"""Hessians of deep linear networks, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

s, s1, s2, u, eta = sp.symbols("s s_1 s_2 u eta", positive=True)
a, b, imbalance = sp.symbols("a b Lambda", real=True)
depth = sp.Symbol("N", positive=True)
sharpness = sp.Function("h")


def _loss(weights, target, variances=(1, 1)):
    """Half the squared error of a product of two-by-two weights, W_1 first, over independent inputs."""
    product = sp.eye(2)
    for w in weights:
        product = w * product
    error = product - target
    return sum(v * error[i, j] ** 2 for i in range(2) for j, v in enumerate(variances)) / 2


def _pair_residual():
    """(Hessian - h_12) applied to the pair's eigenvector, at a three-layer minimum with two modes."""
    x, y, lam = sp.symbols("x y lambda", positive=True)
    entries = sp.symbols("w:12", real=True)
    weights = [sp.Matrix(2, 2, entries[4 * k : 4 * k + 4]) for k in range(3)]
    loss = _loss(weights, sp.diag(x**3, y**3), (1, lam))
    minimum = dict(zip(entries, [x, 0, 0, y] * 3, strict=True))
    hessian = sp.hessian(loss, entries).subs(minimum)
    # Output mode 1, input mode 2: layer l enters with s_1^{(3-l)/3} s_2^{(l-1)/3}, in its entry (1, 2).
    vector = sp.zeros(12, 1)
    for k, weight in enumerate((x**2, x * y, y**2)):
        vector[4 * k + 1] = weight
    value = lam * (x**4 + x**2 * y**2 + y**4)
    return (hessian * vector - value * vector).expand()


lam = sp.Symbol("lambda", positive=True)
pair = Formula(
    title="Hessian eigenvalue of a pair of modes at a balanced minimum, three layers",
    backs="theory.deep_linear.curvature.minimum_spectrum",
    symbol=sharpness(s1, s2),
    arguments=(s1, s2, lam),
    domain={
        s1: Interval(1e-6, 50, log=True),
        s2: Interval(1e-6, 50, log=True),
        lam: Interval(1e-2, 10, log=True),
    },
    expression=lam * (s1 ** sp.Rational(4, 3) + (s1 * s2) ** sp.Rational(2, 3) + s2 ** sp.Rational(4, 3)),
    proofs={"an eigenvector of the explicit Hessian of a two-by-two network": _pair_residual},
    call=lambda s1, s2, lam: (np.array([s1, s2]), 3, 2, 2, np.array([1.0, lam])),
    read=lambda h: h[0, 1],
    source="Gauss-Newton matrix at zero residual, in the frame of Saxe, McClelland & Ganguli 2013",
)

unlearned = Formula(
    title="Hessian eigenvalue of a learned and an unlearned mode, four layers, more inputs than outputs",
    backs="theory.deep_linear.curvature.minimum_spectrum",
    symbol=sharpness(s),
    arguments=(s,),
    domain={s: Interval(1e-6, 50, log=True)},
    expression=s ** sp.Rational(3, 2),
    proofs={
        "limit of the pair as the other mode vanishes": lambda: (
            sp.limit(
                sum(s ** sp.Rational(2 * (4 - k), 4) * u ** sp.Rational(2 * (k - 1), 4) for k in range(1, 5)), u, 0
            )
            - s ** sp.Rational(3, 2)
        )
    },
    call=lambda s: (np.array([s]), 4, 1, 3),
    read=lambda h: h[0, 2],
    source="Gauss-Newton matrix at zero residual, in the frame of Saxe, McClelland & Ganguli 2013",
)

_largest = depth * s ** (2 - 2 / depth)


def _scalar_hessian(n, x, target):
    """Hessian of n equal scalar layers x."""
    layers = sp.symbols(f"a:{n}", positive=True)
    return sp.hessian((target - sp.prod(layers)) ** 2 / 2, layers).subs({layer: x for layer in layers})


largest = Formula(
    title="Sharpness of the balanced minimum",
    backs="theory.deep_linear.curvature.minimum_sharpness",
    symbol=sharpness(s, depth),
    arguments=(s, depth),
    domain={s: Interval(1e-6, 50, log=True), depth: Interval(1, 40)},
    expression=_largest,
    proofs={
        "trace of the rank-one Hessian of five equal layers": lambda: (
            _scalar_hessian(5, u, u**5).trace() - _largest.subs({depth: 5, s: u**5})
        ),
        "the pair of the largest mode with itself, three layers": _largest.subs(depth, 3)
        - pair.expression.subs({s1: s, s2: s, lam: 1}),
    },
    source="Mulayoff & Michaeli 2020",
)

edge = Formula(
    title="Largest stable step at the balanced minimum",
    backs="theory.deep_linear.curvature.largest_stable_step",
    symbol=eta,
    arguments=(s, depth),
    domain={s: Interval(1e-6, 50, log=True), depth: Interval(1, 40)},
    expression=2 / _largest,
    proofs={
        "the map x -> x - eta h x of the top mode flips its sign": (1 - 2 / _largest * _largest) + 1,
        "one layer: 2": (2 / _largest).subs(depth, 1) - 2,
    },
    source="linear stability of gradient descent",
)

_across = (s - u) * u ** (1 - 2 / depth)
_along = depth * u ** (2 - 2 / depth) - (depth - 1) * _across


def _eigen_residual(direction, value):
    x, target = sp.symbols("x S", positive=True)
    value = value.subs({depth: 4, u: x**4, s: target})
    return (_scalar_hessian(4, x, target) * direction - value * direction).expand()


along = Formula(
    title="Curvature along a growing mode, five layers",
    backs="theory.deep_linear.curvature.trajectory_spectrum",
    symbol=sharpness(u),
    arguments=(u, s),
    # Away from u = s (N-1)/(2N-1), where it passes zero and has no relative accuracy.
    domain={u: Interval(0.6, 2), s: Interval(0.1, 1)},
    expression=_along.subs(depth, 5),
    proofs={
        "Hessian of four equal layers, applied to equal changes": lambda: _eigen_residual(sp.ones(4, 1), _along),
        "at the minimum: its sharpness": _along.subs(u, s) - _largest,
    },
    call=lambda u, s: (u, s, 5),
    read=lambda spectrum: spectrum.along,
    source="Hessian of (s - a_1 ... a_N)^2 / 2 at equal layers",
)

across = Formula(
    title="Curvature across a growing mode, five layers",
    backs="theory.deep_linear.curvature.trajectory_spectrum",
    symbol=sharpness(u),
    arguments=(u, s),
    domain={u: Interval(1e-9, 1, log=True), s: Interval(1.1, 5)},
    expression=_across.subs(depth, 5),
    proofs={
        "Hessian of four equal layers, applied to opposite changes": lambda: _eigen_residual(
            sp.Matrix([1, -1, 0, 0]), _across
        ),
        "at the minimum: none": _across.subs(u, s),
    },
    call=lambda u, s: (u, s, 5),
    read=lambda spectrum: spectrum.across,
    source="Hessian of (s - a_1 ... a_N)^2 / 2 at equal layers",
)

_upper = (a**2 + b**2) / 2 + sp.sqrt(((a**2 - b**2) / 2) ** 2 + (2 * a * b - s) ** 2)


def _characteristic():
    hessian = sp.hessian((s - a * b) ** 2 / 2, (a, b))
    value = sp.Symbol("h")
    return sp.expand((hessian - value * sp.eye(2)).det().subs(value, _upper))


two_layers = Formula(
    title="Sharpness of one mode of two unequal layers",
    backs="theory.deep_linear.curvature.two_layer_spectrum",
    symbol=sharpness(a, b),
    arguments=(a, b, s),
    domain={a: Interval(-3, 3), b: Interval(-3, 3), s: Interval(1e-3, 5)},
    expression=_upper,
    proofs={"a root of the characteristic polynomial": _characteristic},
    read=lambda spectrum: spectrum[1],
    source="Hessian of (s - a b)^2 / 2",
)

unbalanced = Formula(
    title="Sharpness of an unbalanced two-layer minimum",
    backs="theory.deep_linear.curvature.unbalanced_sharpness",
    symbol=sharpness(s, imbalance),
    arguments=(s, imbalance),
    domain={s: Interval(1e-9, 50, log=True), imbalance: Interval(-50, 50)},
    expression=sp.sqrt(imbalance**2 + 4 * s**2),
    proofs={
        "a^2 + b^2 on the minima": (a**2 + b**2) ** 2
        - (sp.sqrt(imbalance**2 + 4 * s**2) ** 2).subs({imbalance: b**2 - a**2, s: a * b}),
        "the larger eigenvalue there": lambda: sp.expand(
            (_upper - (a**2 + b**2) / 2).subs(s, a * b) ** 2 - ((a**2 + b**2) / 2) ** 2
        ),
    },
    source="trace of the rank-one Hessian at zero residual",
)
