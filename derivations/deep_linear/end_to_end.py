"""End-to-end flow of deep linear networks: small cases in textbook form."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, s, lam, u0 = sp.symbols("t s lambda u_0", positive=True)
w, g, k = sp.symbols("w g k", real=True)
N = sp.Symbol("N", positive=True, integer=True)

_SCALE = Interval(1e-6, 20, log=True)
_SIGNED = Interval(-5, 5)
ARORA = "Arora, Cohen & Hazan 2018, theorem 1"


def _symbols(name, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{i + 1}{j + 1}", real=True))


# One number per layer: N layers a, w = a^N; j counts the layer that moves, the others multiply its velocity.
_a = sp.Symbol("a", positive=True)


def scalar(depth):
    """The velocity of a scalar map of `depth` layers."""
    velocity = -depth * sp.Abs(w) ** (2 - sp.Rational(2, depth)) * g
    layers = sp.prod([sp.Symbol(f"a_{i}") for i in range(depth)])
    moved = sum(sp.diff(layers, a) * (-g * sp.diff(layers, a)) for a in layers.free_symbols)
    return Formula(
        title=f"Velocity of a scalar map of {depth} balanced layers",
        backs="theory.deep_linear.end_to_end.end_to_end_velocity",
        symbol=sp.Derivative(sp.Function("w")(sp.Symbol("t")), sp.Symbol("t")),
        arguments=(w, g),
        domain={w: _SIGNED, g: _SIGNED},
        expression=velocity,
        call=lambda w, g: (np.array([[w]]), np.array([[g]]), depth),
        read=lambda velocity: velocity[0, 0],
        proofs={
            "the layers' own flow, all layers equal": (
                moved.subs({a: _a for a in layers.free_symbols}) - velocity.subs(w, _a**depth)
            ),
        },
        source=ARORA,
    )


scalar_one, scalar_two, scalar_three, scalar_seven = (scalar(depth) for depth in (1, 2, 3, 7))


# A diagonal map of three layers: each entry of the gradient has its own preconditioner.
_s1, _s2 = sp.symbols("sigma_1 sigma_2", positive=True)
_gradient = _symbols("g", 2, 2)
_root = sp.diag(*[sp.Symbol(f"r_{i}", positive=True) for i in (1, 2)])
_velocity = -sum((_root ** (2 * (3 - j)) * _gradient * _root ** (2 * (j - 1)) for j in (1, 2, 3)), sp.zeros(2))
_layers_move = -(_root**4 * _gradient + _root * (_root * _gradient * _root) * _root + _gradient * _root**4)
_thirds = {_root[0, 0]: sp.cbrt(_s1), _root[1, 1]: sp.cbrt(_s2)}

diagonal = Formula(
    title="Velocity of an off-diagonal entry of a diagonal map of three balanced layers",
    backs="theory.deep_linear.end_to_end.end_to_end_velocity",
    symbol=sp.Derivative(sp.Function("W_12")(sp.Symbol("t")), sp.Symbol("t")),
    arguments=(_s1, _s2, *_gradient),
    domain={_s1: _SCALE, _s2: _SCALE, **{g: _SIGNED for g in _gradient}},
    expression=_velocity[0, 1].subs(_thirds),
    call=lambda s1, s2, *g: (np.diag([s1, s2]), np.reshape(g, (2, 2)), 3),
    read=lambda velocity: velocity[0, 1],
    proofs={
        "d(W3 W2 W1)/dt with each W_l = diag(r)": _velocity - _layers_move,
        "divided difference": (
            _velocity[0, 1]
            + _gradient[0, 1] * (_root[0, 0] ** 6 - _root[1, 1] ** 6) / (_root[0, 0] ** 2 - _root[1, 1] ** 2)
        ),
    },
    source=ARORA,
)


# One output: W_1 = q r^T |w|^{1/N}, scalars above; in two dimensions, from the layers.
_w1, _w2, _g1, _g2 = sp.symbols("w_1 w_2 g_1 g_2", real=True)
_size = sp.sqrt(_w1**2 + _w2**2)


def single(depth):
    """The velocity of the first entry of a map with one output."""
    power = _size ** (2 - sp.Rational(2, depth))
    velocity = -power * (_g1 + (depth - 1) * _w1 * (_w1 * _g1 + _w2 * _g2) / _size**2)

    def from_layers():
        # First layer c w (one hidden unit), then depth - 1 scalars a, balanced: a = |c w|, c a^(depth-1) = 1.
        a = _size ** sp.Rational(1, depth)
        c = a ** (1 - depth)
        upper = a ** (depth - 1)
        first = upper * (-upper * _g1)
        scalars = (depth - 1) * a ** (depth - 2) * c * _w1 * (-(a ** (depth - 2)) * c * (_w1 * _g1 + _w2 * _g2))
        return sp.powsimp(sp.expand(first + scalars - velocity))

    return Formula(
        title=f"Velocity of a map with one output, {depth} balanced layers",
        backs="theory.deep_linear.end_to_end.single_output_velocity",
        symbol=sp.Derivative(sp.Function("w_1")(sp.Symbol("t")), sp.Symbol("t")),
        arguments=(_w1, _w2, _g1, _g2),
        domain={_w1: _SIGNED, _w2: Interval(1e-6, 5, log=True), _g1: _SIGNED, _g2: _SIGNED},
        expression=velocity,
        call=lambda w1, w2, g1, g2: (np.array([w1, w2]), np.array([g1, g2]), depth),
        read=lambda velocity: velocity[0],
        proofs={"the layers' own flow": from_layers},
        source=ARORA,
    )


single_two, single_five = single(2), single(5)


# The layers' flow is minus the gradient of the loss, and conserves the imbalance.
_lower, _upper = _symbols("a", 2, 2), _symbols("b", 1, 2)
_sxx = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"c_{min(i, j) + 1}{max(i, j) + 1}", real=True))
_syx = _symbols("d", 1, 2)
_map = _upper * _lower
_loss = (_map * _sxx * _map.T / 2 - _map * _syx.T)[0, 0]
_lower_moves = _upper.T * (_syx - _map * _sxx)
_upper_moves = (_syx - _map * _sxx) * _lower.T
_numbers = (*_lower, *_upper, *sorted(_sxx.free_symbols, key=str), *_syx)


def _network(numbers):
    a, b, (c11, c12, c22), d = numbers[:4], numbers[4:6], numbers[6:9], numbers[9:]
    return (np.reshape(a, (2, 2)), np.reshape(b, (1, 2))), np.array([[c11, c12], [c12, c22]]), np.reshape(d, (1, 2))


velocity = Formula(
    title="Velocity of a first-layer weight",
    backs="theory.deep_linear.end_to_end.weight_velocity",
    symbol=sp.Derivative(sp.Function("W_1")(sp.Symbol("t")), sp.Symbol("t")),
    arguments=_numbers,
    domain={n: _SIGNED for n in _numbers},
    expression=_lower_moves[0, 1],
    call=lambda *numbers: _network(numbers),
    read=lambda velocity: velocity[0][0, 1],
    proofs={
        "minus the gradient of the loss": sp.diff(_loss, _lower[0, 1]) + _lower_moves[0, 1],
        "and so for the second layer": sp.diff(_loss, _upper[0, 1]) + _upper_moves[0, 1],
    },
    source="Saxe, McClelland & Ganguli 2013, section 1",
)

_imbalance = _upper.T * _upper - _lower * _lower.T
conserved = Formula(
    title="What two layers conserve",
    backs="theory.deep_linear.end_to_end.conserved_matrices",
    symbol=sp.Symbol("C_12"),
    arguments=(*_lower, *_upper),
    domain={n: Interval(0.1, 5) for n in (*_lower, *_upper)},
    expression=_imbalance[0, 0] + 10 * _imbalance[0, 1],
    call=lambda *numbers: ((np.reshape(numbers[:4], (2, 2)), np.reshape(numbers[4:], (1, 2))),),
    # Shifted and mixed, so that neither a transpose nor a sign goes unseen.
    read=lambda matrices: matrices[0][0, 0] + 10 * matrices[0][0, 1],
    proofs={
        "dC/dt = 0 on any data": sp.expand(
            _upper_moves.T * _upper + _upper.T * _upper_moves - _lower_moves * _lower.T - _lower * _lower_moves.T
        )
    },
    source=ARORA,
)


_logistic = s * u0 / (lam * u0 + (s - lam * u0) * sp.exp(-2 * s * t))
_relaxation = s / lam + (u0 - s / lam) * sp.exp(-lam * t)
_course = {t: Interval(1e-3, 30), s: Interval(0.05, 5, log=True), u0: Interval(1e-9, 5, log=True)}
_course[lam] = Interval(0.1, 3, log=True)


def _scalar_course(depth, expression, law):
    return Formula(
        title=f"Course of a scalar map, {depth} layers",
        backs="theory.deep_linear.end_to_end.end_to_end_flow",
        symbol=sp.Function("w")(t),
        arguments=(t, s, u0, lam),
        domain=_course,
        expression=expression,
        call=lambda t, s, u0, lam: (np.array([t]), np.array([[u0]]), np.array([[lam]]), np.array([[s]]), depth),
        read=lambda course: course[0, 0, 0],
        proofs={
            "the end-to-end flow": sp.diff(expression, t) - law,
            "w(0) = u_0": expression.subs(t, 0) - u0,
        },
        source=ARORA,
    )


course_one = _scalar_course(1, _relaxation, s - lam * _relaxation)
course_two = _scalar_course(2, _logistic, 2 * _logistic * (s - lam * _logistic))


def _weak_mode(t, s, u0, lam):
    """A second, uncorrelated input stands by, so that the mode is one of two."""
    return np.array([t]), np.diag([lam, 1.0]), np.diag([s, s / 2]), u0


# Descent on one scalar layer is (1 - lr lam)^k: the leading error is had by expanding its logarithm.
_step = sp.Symbol("eta", positive=True)
_stepped = s / lam + (u0 - s / lam) * sp.exp(t / _step * sp.log(1 - _step * lam))
_error = -(lam**2) * t / 2 * (u0 - s / lam) * sp.exp(-lam * t)
step_error = Formula(
    title="Leading error of gradient descent on one scalar layer",
    backs="theory.deep_linear.end_to_end.map_and_descent_error",
    symbol=sp.Function("e")(t),
    arguments=(t, s, u0, lam),
    # Far from the fixed point, while the error is not yet lost against the map.
    domain={t: Interval(0.1, 4), s: Interval(0.05, 1), u0: Interval(20, 100), lam: Interval(0.2, 1.5)},
    expression=_error,
    call=lambda t, s, u0, lam: (np.array([t]), [np.array([[u0]])], np.array([[lam]]), np.array([[s]])),
    read=lambda both: both[1][0, 0, 0],
    proofs={
        "e' = J e - J field / 2": sp.diff(_error, t) + lam * _error - lam * (s - lam * _relaxation) / 2,
        "lim of (descent - flow) / lr": lambda: sp.limit(sp.diff(_stepped, _step), _step, 0) - _error,
    },
    source="Hairer, Lubich & Wanner 2006, IX.1",
)

unmixed = Formula(
    title="Strength of a mode that does not mix",
    backs="theory.deep_linear.end_to_end.modewise_strengths",
    symbol=sp.Function("u")(t),
    arguments=(t, s, u0, lam),
    domain=_course,
    expression=_logistic,
    call=_weak_mode,
    read=lambda u: u[0, 0],
    proofs={"du/dt = 2 u (s - lam u)": sp.diff(_logistic, t) - 2 * _logistic * (s - lam * _logistic)},
    source="Saxe, McClelland & Ganguli 2013, eq. 12",
)

_root_map = sp.diag(_s1 ** sp.Rational(1, 4), _s2 ** sp.Rational(1, 4))
balanced = Formula(
    title="A layer of four balanced ones",
    backs="theory.deep_linear.end_to_end.balanced_weights",
    symbol=sp.Symbol("W_11"),
    arguments=(_s1, _s2),
    domain={_s1: _SCALE, _s2: _SCALE},
    expression=_root_map[0, 0],
    call=lambda s1, s2: (np.diag([s1, s2]), 4),
    read=lambda layers: layers[2][0, 0],
    proofs={
        "their product": _root_map**4 - sp.diag(_s1, _s2),
        "balanced": _root_map.T * _root_map - _root_map * _root_map.T,
    },
    source="Arora, Cohen, Golowich & Hu 2019, balanced initialisation",
)
