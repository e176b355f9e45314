"""Opposing outliers: the flow of the signal and the crossing of the edge, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

t, b, kappa, eta, u, u0, fraction = sp.symbols("t b kappa eta u u_0 f", positive=True)
c0, w0, c, w, root, y0 = sp.symbols("c_0 w_0 c w R y_0", positive=True)
imbalance = sp.Symbol("D", real=True)

# The Riccati equation of y = (c + w)^2 / 2, with R = sqrt(b^2 + D^2/4).
_decay = sp.exp(-2 * root * t)
_y = ((b + root) * (y0 - b + root) - (b - root) * (y0 - b - root) * _decay) / (
    (y0 - b + root) - (y0 - b - root) * _decay
)
_start = {
    y0: (c0 + w0) ** 2 / 2,
    root: sp.sqrt(b**2 + (c0**2 - w0**2) ** 2 / 4),
}


def _riccati_of_the_flow():
    """d/dt (c + w)^2 / 2 along the flow, less -(y - y_+)(y - y_-), where y_+ y_- = -D^2/4 and y_+ + y_- = 2b."""
    y = (c + w) ** 2 / 2
    rate = (c + w) * (w * (b - c * w) + c * (b - c * w))
    return sp.expand(rate + y**2 - 2 * b * y - (c**2 - w**2) ** 2 / 4)


def _imbalance_is_conserved():
    return sp.expand(2 * c * w * (b - c * w) - 2 * w * c * (b - c * w))


signal = Formula(
    title="Upper weight while the signal is learned, from any start",
    backs="theory.deep_linear.outliers.signal_path",
    symbol=sp.Function("c")(t),
    arguments=(t, b, c0, w0),
    domain={t: Interval(0, 50), b: Interval(0.1, 5), c0: Interval(1e-4, 3, log=True), w0: Interval(1e-4, 3, log=True)},
    # c = (sqrt(2y) + D / sqrt(2y)) / 2.
    expression=((sp.sqrt(2 * _y) + (c0**2 - w0**2) / sp.sqrt(2 * _y)) / 2).subs(_start),
    proofs={
        "y solves its Riccati equation": lambda: sp.simplify(
            sp.diff(_y, t) + (_y - b - root) * (_y - b + root),
        ),
        "the flow gives that equation": _riccati_of_the_flow,
        "c^2 - w^2 is conserved": _imbalance_is_conserved,
        "start": lambda: sp.simplify(_y.subs(t, 0) - y0),
        "balanced: the logistic mode": lambda: sp.simplify(
            (_y / 2).subs({root: b, y0: 2 * u0}) - b / (1 + (b / u0 - 1) * sp.exp(-2 * b * t))
        ),
    },
    read=lambda path: path.c,
    source="two-layer mode with unequal layers",
)

_final = kappa * (imbalance + sp.sqrt(imbalance**2 + 4 * b**2)) / 2

final = Formula(
    title="Curvature along the outlier at the end of the flow",
    backs="theory.deep_linear.outliers.final_outlier_curvature",
    symbol=sp.Function("S")(imbalance),
    arguments=(b, kappa, imbalance),
    domain={b: Interval(0.1, 5), kappa: Interval(0.1, 200, log=True), imbalance: Interval(-50, 50)},
    expression=_final,
    proofs={
        "in the valley c w = b": lambda: sp.simplify(
            ((2 * _final / kappa - imbalance) ** 2 - imbalance**2 - 4 * b**2).subs(kappa, 1)
        ),
        "c^2 there": sp.expand(((c**2 - w**2) ** 2 + 4 * (c * w) ** 2) - (c**2 + w**2) ** 2),
    },
    source="end of the flow",
)


def _hessian():
    w_s, w_o = sp.symbols("w_s w_o", real=True)
    loss = (c * w_s - b) ** 2 / 2 + kappa * c**2 * w_o**2 / 2
    return sp.hessian(loss, (c, w_s, w_o)).subs(w_o, 0).subs(w_s, w)


_upper = (c**2 + w**2) / 2 + sp.sqrt(((c**2 - w**2) / 2) ** 2 + (2 * c * w - b) ** 2)

outlier_direction = Formula(
    title="Hessian eigenvalue along the outlier",
    backs="theory.deep_linear.outliers.signal_spectrum",
    symbol=sp.Symbol("h_o"),
    arguments=(c, w, b, kappa),
    domain={c: Interval(0.01, 3), w: Interval(-3, 3), b: Interval(0.1, 5), kappa: Interval(0.1, 200, log=True)},
    expression=kappa * c**2,
    proofs={
        "an eigenvector of the Hessian": lambda: _hessian() * sp.Matrix([0, 0, 1]) - sp.Matrix([0, 0, kappa * c**2])
    },
    read=lambda spectrum: spectrum[0],
    source="Hessian at w_o = 0",
)

signal_direction = Formula(
    title="Larger Hessian eigenvalue of the signal's weights",
    backs="theory.deep_linear.outliers.signal_spectrum",
    symbol=sp.Symbol("h_s"),
    arguments=(c, w, b, kappa),
    domain={c: Interval(0.01, 3), w: Interval(0.01, 3), b: Interval(0.1, 5), kappa: Interval(0.1, 200, log=True)},
    expression=_upper,
    proofs={
        "a root of the characteristic polynomial": lambda: sp.expand(
            (_hessian()[:2, :2] - _upper * sp.eye(2)).det(),
        ),
        "balanced: 3u - b": lambda: sp.simplify(_upper.subs(w, c).subs(b, 2 * c**2 - u) - (c**2 + u)),
    },
    read=lambda spectrum: spectrum[1],
    source="Hessian at w_o = 0",
)

# The crossing, at a fraction f of the way from the start to the end of the flow.
_end = (imbalance + sp.sqrt(imbalance**2 + 4 * b**2)) / 2
_crossing_u = c0**2 + fraction * (_end.subs(imbalance, c0**2 - w0**2) - c0**2)
_y_crossing = (sp.sqrt(u) + sp.sqrt(u - imbalance)) ** 2 / 2
_time = sp.log(
    (_y_crossing - b + root) * (b + root - y0) / ((b + root - _y_crossing) * (y0 - b + root)),
) / (2 * root)


def _crossing_arguments(b, kappa, c0, w0, fraction):
    d = c0**2 - w0**2
    u = c0**2 + fraction * ((d + (d**2 + 4 * b**2) ** 0.5) / 2 - c0**2)
    return kappa * u, b, kappa, c0, w0


crossing = Formula(
    title="Time at which the flow passes a sharpness",
    backs="theory.deep_linear.outliers.crossing_time",
    symbol=sp.Symbol("t_c"),
    arguments=(b, kappa, c0, w0, fraction),
    domain={
        b: Interval(1, 5),
        kappa: Interval(0.1, 200, log=True),
        c0: Interval(1e-3, 0.7, log=True),
        w0: Interval(1e-3, 0.7, log=True),
        fraction: Interval(0.1, 0.9),
    },
    expression=_time.subs(u, _crossing_u).subs(imbalance, c0**2 - w0**2).subs(_start),
    proofs={
        "y at that time": lambda: sp.simplify(
            _y.subs(_decay, (b + root - u) * (y0 - b + root) / ((u - b + root) * (b + root - y0))) - u
        ),
    },
    call=_crossing_arguments,
    source="solution of the Riccati equation",
)

_f = sp.Lambda(c, c * (b - c**2))
_step = sp.log((b / u0 - 1) / (b / u - 1)) / (2 * b * eta) + sp.log(_f(sp.sqrt(u)) / _f(sp.sqrt(u0))) / 2


def _one_step_counts_one():
    """n(c + eta f(c)) - n(c) - 1 has no terms of order 1 and eta."""
    count = _step.subs(u, c**2)
    slopes = [sp.diff(count, c, k) for k in (1, 2, 3)]
    change = sum((eta * _f(c)) ** (k + 1) / sp.factorial(k + 1) * slope for k, slope in enumerate(slopes))
    change = sp.expand(sp.simplify(change - 1))
    return sp.Matrix([sp.simplify(change.coeff(eta, k)) for k in (0, 1)])


edge = Formula(
    title="Step at which gradient descent passes a sharpness",
    backs="theory.deep_linear.outliers.crossing_step",
    symbol=sp.Symbol("n_c"),
    arguments=(b, kappa, eta, u0, fraction),
    domain={
        b: Interval(0.5, 3),
        kappa: Interval(0.1, 200, log=True),
        eta: Interval(1e-3, 0.3, log=True),
        u0: Interval(1e-6, 0.1, log=True),
        fraction: Interval(0.05, 0.95),
    },
    expression=_step.subs(u, u0 + fraction * (b - u0)),
    proofs={
        "one step of gradient descent counts one, to second order": _one_step_counts_one,
        "start": _step.subs(u, u0),
    },
    call=lambda b, kappa, eta, u0, fraction: ((b, kappa, eta, u0), kappa * (u0 + fraction * (b - u0))),
    source="modified equation of the Euler method",
)
