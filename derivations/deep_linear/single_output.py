"""Deep linear networks with one output, textbook forms (Arora, Cohen & Hazan 2018)."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, lam, w0, r = sp.symbols("t s lambda w_0 r", positive=True)
p, q, m = sp.symbols("p q m", positive=True)
g1, g2, a, b = sp.symbols("g_1 g_2 a b", positive=True)
_DEPTH = 3
_theta = sp.Matrix([a, b])
_g = sp.Matrix([g1, g2])
_size = sp.sqrt(a**2 + b**2)


def _chain_rule(depth: int):
    """dw/dt from dtheta/dt = |theta|^{N-1} g, less the end-to-end flow of a balanced network."""
    w = _size ** (depth - 1) * _theta
    velocity = w.jacobian(_theta) * (_size ** (depth - 1) * _g)
    norm = _size**depth
    along = w * (w.T * _g)[0] / norm**2
    return sp.simplify(velocity - _size ** (2 * depth - 2) * (_g + (depth - 1) * along))


def _layers(depth: int):
    """Gradient flow of rank-one layers: theta' = a_2 ... a_N g and a_l' = (the other layers) theta . g, all |theta|."""
    rate_of_size = (_theta.T * (_size ** (depth - 1) * _g))[0] / _size
    return sp.simplify(rate_of_size - _size ** (depth - 2) * (_theta.T * _g)[0])


_BALANCED = {
    "theta' = |theta|^{N-1} g is the balanced flow of w, N = 2": lambda: _chain_rule(2),
    "the same, N = 3": lambda: _chain_rule(3),
    "the layers above keep pace with |theta|": lambda: _layers(_DEPTH),
}

first_layer = Formula(
    title="First layer of a balanced network of three layers",
    backs="theory.deep_linear.single_output.first_layer",
    symbol=sp.Symbol("theta_1"),
    arguments=(p, q),
    domain={p: Interval(1e-6, 1e3, log=True), q: Interval(1e-6, 1e3, log=True)},
    expression=p * (p**2 + q**2) ** (sp.Rational(1, 2) * (sp.Rational(1, _DEPTH) - 1)),
    keywords={"depth": _DEPTH},
    call=lambda p, q: (np.array([p, q]),),
    read=lambda theta: theta[0],
    proofs={
        "w = |theta|^{N-1} theta": lambda: (
            (_size**2 * _theta)[0] * _size ** (_DEPTH * (sp.Rational(1, _DEPTH) - 1)) - _theta[0]
        ),
    },
    source="Arora, Cohen & Hazan 2018 (arXiv:1802.06509)",
)

network_map = Formula(
    title="Map of a balanced network of three layers",
    backs="theory.deep_linear.single_output.network_map",
    symbol=sp.Symbol("w_1"),
    arguments=(p, q),
    domain={p: Interval(1e-6, 1e3, log=True), q: Interval(1e-6, 1e3, log=True)},
    expression=(p**2 + q**2) * p,
    keywords={"depth": _DEPTH},
    call=lambda p, q: (np.array([p, q]),),
    read=lambda w: w[0],
    proofs=_BALANCED,
    source="Arora, Cohen & Hazan 2018 (arXiv:1802.06509)",
)

_logistic = s * w0 * sp.exp(2 * s * t) / (s + lam * w0 * (sp.exp(2 * s * t) - 1))
one_dimension = Formula(
    title="Flow of two layers in one dimension",
    backs="theory.deep_linear.single_output.single_output_flow",
    symbol=sp.Function("w")(t),
    arguments=(t, w0, lam, s),
    domain={
        t: Interval(0, 10),
        w0: Interval(1e-3, 3, log=True),
        lam: Interval(0.1, 3, log=True),
        s: Interval(0.1, 3, log=True),
    },
    expression=_logistic,
    keywords={"depth": 2},
    call=lambda t, w0, lam, s: tuple(np.array(x) for x in ([t], [w0], [[lam]], [s])),
    read=lambda w: w[0, 0],
    proofs={
        # In one dimension |w|^{2-2/N} [g + (N-1) g] = 2 |w| g.
        "dw/dt = 2 w (s - lam w)": sp.diff(_logistic, t) - 2 * _logistic * (s - lam * _logistic),
        "w(0) = w_0": _logistic.subs(t, 0) - w0,
    },
    source="Arora, Cohen & Hazan 2018 (arXiv:1802.06509)",
)


def _one_sample(p, q, m):
    """One sample along the first axis with label m; the start (p, q) has its frozen part along the second."""
    return np.array([p, q]), np.array([[1.0], [0.0]]), np.array([m])


_frozen_two = q / sp.sqrt(sp.sqrt(p**2 + q**2))
_root = (_frozen_two**2 + sp.sqrt(_frozen_two**4 + 4 * m**2)) / 2
_STARTS = {
    p: Interval(1e-3, 10, log=True),
    q: Interval(1e-3, 10, log=True),
    m: Interval(1e-3, 10, log=True),
}

interpolator_two = Formula(
    title="Frozen part of the interpolating map, two layers",
    backs="theory.deep_linear.single_output.interpolator",
    symbol=sp.Symbol("w_2"),
    arguments=(p, q, m),
    domain=_STARTS,
    expression=sp.sqrt(_root) * _frozen_two,
    keywords={"depth": 2},
    call=_one_sample,
    read=lambda w: w[1],
    proofs={
        "r^2 = m^2 + r |frozen|^2": _root**2 - m**2 - _root * _frozen_two**2,
        **_BALANCED,
    },
    source="conserved part of the first layer; Advani & Saxe 2017 (arXiv:1710.03667) for the frozen subspace",
)

_frozen = q * (p**2 + q**2) ** (sp.Rational(1, 2) * (sp.Rational(1, _DEPTH) - 1))
interpolator_three = Formula(
    title="Frozen part of the interpolating map, three layers",
    backs="theory.deep_linear.single_output.interpolator",
    symbol=r,
    arguments=(p, q, m),
    domain=_STARTS,
    # Solved for the frozen part v = r^{2/3} |frozen|, so that r^2 = m^2 + v^2.
    law=r**3 - _frozen**3 * (m**2 + r**2),
    keywords={"depth": _DEPTH},
    call=_one_sample,
    read=lambda w: w[1],
    proofs=_BALANCED,
    source=interpolator_two.source,
)
