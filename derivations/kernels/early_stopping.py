"""Expected test error of training in the linear regime and where it is least, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, theta, teacher, prior, noise = sp.symbols("t Theta T K sigma^2", positive=True)
E = sp.Function("E")(t)

# One point, trained on and tested on: f_t = f_0 + (1 - e^{-Theta t}) (w + noise - f_0) against the truth w, P = 1.
_decay = sp.exp(-theta * t)
_error = _decay**2 * (teacher + prior) + (1 - _decay) ** 2 * noise


def _averaged():
    """E (f_t - w)^2 over w, f_0 and the noise, all independent, of variances T, K and sigma^2."""
    w, f, e = sp.symbols("w f e")
    square = sp.Poly(sp.expand((f + (1 - _decay) * (w + e - f) - w) ** 2), w, f, e)
    variance = {(2, 0, 0): teacher, (0, 2, 0): prior, (0, 0, 2): noise}
    return sum(coefficient * variance.get(powers, 0) for powers, coefficient in square.terms()) - _error


_stop = sp.log(1 + (teacher + prior) / noise) / theta
ONE = {
    theta: Interval(0.05, 20, log=True),
    teacher: Interval(0.1, 5),
    prior: Interval(0.1, 2),
    noise: Interval(0.05, 10, log=True),
}


best_stopping_time = Formula(
    title="Best time to stop, one point",
    backs="theory.kernels.early_stopping.best_stopping_time",
    symbol=sp.Symbol("t_opt"),
    arguments=(theta, teacher, prior, noise),
    domain=ONE,
    expression=_stop,
    proofs={
        "E (f_t - w)^2": _averaged,
        "dE/dt = 0 there": sp.diff(_error, t).subs(t, _stop),
        "and the curvature is positive": sp.diff(_error, t, 2).subs(t, _stop)
        - 2 * noise**2 * theta**2 / (teacher + prior + noise),
    },
    call=lambda theta, teacher, prior, noise: (
        (
            teacher + prior,
            np.array([theta * (teacher + prior)]),
            np.array([[theta**2 * (teacher + prior + noise)]]),
            np.array([theta]),
        ),
    ),
    read=lambda stop: stop.time,
    source="one mode of Advani & Saxe 2017, with a random start",
)

expected_error = Formula(
    title="Expected test error at time t, one point",
    backs="theory.kernels.early_stopping.expected_error",
    symbol=E,
    arguments=(t, theta, teacher, prior, noise),
    domain={t: Interval(0, 20), **ONE},
    expression=_error,
    proofs={"E (f_t - w)^2": _averaged, "the error of the start": _error.subs(t, 0) - teacher - prior},
    call=lambda t, theta, teacher, prior, noise: (
        # At an eigenvalue of 1 the filter is 1 - e^{-Theta t}, and the form is written for that.
        (teacher + prior, np.array([teacher + prior]), np.array([[teacher + prior + noise]]), np.array([1.0])),
        np.array([-np.expm1(-theta * t)]),
    ),
    source="Lee et al. 2019, eqs. 14 and 15, in the squared error",
)

# One training and one test point, which differ: f_t(x) = f_0(x) + A (w(X) + noise - f_0(X)).
g, h = sp.symbols("g h", positive=True)
t11, t12, t22, k11, k12, k22 = sp.symbols("T_11 T_12 T_22 K_11 K_12 K_22", real=True)
_two = t22 + k22 - 2 * h * g * (t12 + k12) + h**2 * g**2 * (t11 + k11 + noise)


def _elsewhere():
    """E (f_t(x) - w(x))^2 with E over the teacher, the start and the noise, entered by hand."""
    w1, w2, f1, f2, e = sp.symbols("w_1 w_2 f_1 f_2 e")
    square = sp.Poly(sp.expand((f2 + h * g * (w1 + e - f1) - w2) ** 2), w1, w2, f1, f2, e)
    second = {
        (2, 0, 0, 0, 0): t11,
        (1, 1, 0, 0, 0): t12,
        (0, 2, 0, 0, 0): t22,
        (0, 0, 2, 0, 0): k11,
        (0, 0, 1, 1, 0): k12,
        (0, 0, 0, 2, 0): k22,
        (0, 0, 0, 0, 2): noise,
    }
    return sp.expand(sum(coefficient * second.get(powers, 0) for powers, coefficient in square.terms()) - _two)


error_form = Formula(
    title="Expected test error of a filter, one training and one test point",
    backs="theory.kernels.early_stopping.error_form",
    symbol=sp.Symbol("E"),
    arguments=(h, t11, t12, t22, k11, k12, k22, noise),
    domain={
        h: Interval(0.1, 2),
        **{v: Interval(0.5, 2) for v in (t11, k11)},
        **{v: Interval(-0.5, 0.5) for v in (t12, k12)},
        **{v: Interval(20, 30) for v in (t22, k22)},
        noise: Interval(0, 2),
    },
    expression=_two.subs(g, sp.Rational(3, 4)),
    proofs={"E (f_t(x) - w(x))^2": _elsewhere},
    call=lambda h, t11, t12, t22, k11, k12, k22, noise: (
        *(tuple(np.array([[v]]) for v in block) for block in ((2, h, 1), (t11, t12, t22), (k11, k12, k22))),
        noise,
    ),
    read=lambda form: form.constant - 1.5 * form.linear[0] + 0.5625 * form.quadratic[0, 0],
    source="Lee et al. 2019, eqs. 14 and 15, in the squared error",
)

y1, y2, z1, z2 = sp.symbols("y_1 y_2 z_1 z_2", real=True)

known_truth = Formula(
    title="Second moments of one known function of two outputs",
    backs="theory.kernels.early_stopping.known_truth",
    symbol=sp.Function("T")(sp.Symbol("x"), sp.Symbol("X")),
    arguments=(y1, y2, z1, z2),
    domain={v: Interval(0.1, 3) for v in (y1, y2, z1, z2)},
    expression=y1 * z1 + y2 * z2,
    proofs={
        "its error is |A y - z|^2": sp.expand(
            (z1**2 + z2**2)
            - 2 * g * (y1 * z1 + y2 * z2)
            + g**2 * (y1**2 + y2**2)
            - (g * y1 - z1) ** 2
            - (g * y2 - z2) ** 2
        ),
    },
    call=lambda y1, y2, z1, z2: (np.array([[y1, y2]]), np.array([[z1, z2]])),
    read=lambda blocks: blocks.cross[0, 0],
    source="definition",
)
