"""Oscillation and self-stabilisation beyond the edge of stability, textbook forms."""

import sympy as sp

from derivations.formula import Formula, Interval

b, kappa, eta, u0, u, theta, x, v = sp.symbols("b kappa eta u_0 u theta x v", positive=True)
argument = sp.Symbol("x", real=True)
over, fraction, size, w0 = sp.symbols("X f w_end w_0", positive=True)

_li2 = sp.Function("li2")
_real_li2 = sp.re(sp.polylog(2, x))


def _reli2(z):
    return sp.re(sp.polylog(2, z))


def _dilogarithm_slope():
    return sp.simplify(sp.expand_func(sp.diff(sp.polylog(2, x), x)) + sp.log(1 - x) / x)


dilog = Formula(
    title="Real part of the dilogarithm",
    backs="theory.deep_linear.edge_of_stability.dilogarithm",
    symbol=_li2(argument),
    arguments=(argument,),
    # Up to its zero at 12.595..., next to which it has no relative accuracy.
    domain={argument: Interval(-200, 12.4)},
    expression=_reli2(argument),
    proofs={"its derivative": _dilogarithm_slope, "at one": sp.polylog(2, 1) - sp.pi**2 / 6},
    source="Lewin 1981, chapter 1",
)

# The setting is drawn by X = eta kappa b, from which kappa follows.
_kappa = over / (eta * b)
_X = eta * kappa * b

growth = Formula(
    title="Growth of the outlier weight per step on the plateau",
    backs="theory.deep_linear.edge_of_stability.plateau_growth",
    symbol=sp.Symbol("g"),
    arguments=(b, eta, over),
    domain={b: Interval(0.5, 3), eta: Interval(1e-3, 0.3, log=True), over: Interval(2.01, 3)},
    expression=sp.log(over - 1),
    proofs={
        "the step of w_o beyond the edge": sp.expand_log(
            sp.log(-(1 - eta * kappa * u)).subs({u: b, kappa: _kappa}) - sp.log(over - 1)
        )
    },
    call=lambda b, eta, over: ((b, over / (eta * b), eta, b / 100),),
    source="w_o <- (1 - eta kappa c^2) w_o",
)


def _integral(at):
    """The antiderivative I(x) of the gain."""
    y = (1 - at) / (over - 1)
    return -_reli2(at) - sp.log(sp.Abs(1 - at)) * sp.log(1 + y) - _reli2(-y)


def _gain_slope():
    """dI/dx less ln(1 - x) (1/x + 1/(X - x)), for 0 < x < 1 where nothing needs its real part."""
    y = (1 - x) / (over - 1)
    antiderivative = -sp.polylog(2, x) - sp.log(1 - x) * sp.log(1 + y) - sp.polylog(2, -y)
    slope = sp.expand_func(sp.diff(antiderivative, x)) - sp.log(1 - x) * (1 / x + 1 / (over - x))
    return sp.simplify(slope)


def _gain_measure():
    """Steps per unit of x = eta kappa u along the logistic, less what the integral assumes."""
    rate = 2 * u * (b - u) * eta * kappa
    return sp.simplify((1 / (eta * rate) - (1 / x + 1 / (_X - x)) / (2 * b * eta)).subs(x, eta * kappa * u))


gain = Formula(
    title="Logarithm of the outlier weight while the signal grows",
    backs="theory.deep_linear.edge_of_stability.oscillation_gain",
    symbol=sp.Symbol("G"),
    arguments=(b, eta, over, fraction),
    domain={
        b: Interval(0.5, 3),
        eta: Interval(1e-3, 0.3, log=True),
        over: Interval(2.01, 3),
        fraction: Interval(0.05, 0.9),
    },
    expression=((_integral(over * fraction) - _integral(over / 100)) / (2 * b * eta)),
    proofs={"derivative of the antiderivative": _gain_slope, "steps along the logistic": _gain_measure},
    call=lambda b, eta, over, fraction: (fraction * b, (b, over / (eta * b), eta, b / 100)),
    source="integral of ln|1 - eta kappa u| over the logistic u",
)

_x0 = over / 100
_h0 = sp.log(over - 1) - sp.log(1 - _x0)
_j1 = sp.log(over - 1) * sp.log(over / _x0) + _reli2(over) - _reli2(_x0)
_j2 = sp.pi**2 / 6 + _h0 * sp.log((over - _x0) / (over - 1)) - _reli2(-(1 - _x0) / (over - 1))


def _count(u, u0):
    """The step at which c^2 passes u."""
    f = sp.log(u / u0) / 2 + sp.log((b - u) / (b - u0))
    return sp.log((b / u0 - 1) / (b / u - 1)) / (2 * b * eta) + f / 2


_delay = (
    (_j1 + _j2) / (2 * b * eta)
    + (_j1 - 2 * _j2) / 4
    + _h0 / 2
    - sp.log(sp.Abs(2 * sp.sin(sp.pi * _count(b / over, b / 100))))
)


def _half_log_measure():
    """Extra steps per dx that steps of finite size add, f'(c) dc / 2f, less (1/x - 2/(X - x)) / 4."""
    c = sp.Symbol("c", positive=True)
    f = c * (b - c**2)
    extra = sp.diff(f, c) / (2 * f) / sp.diff(eta * kappa * c**2, c)
    return sp.simplify(extra - ((1 / x - 2 / (_X - x)) / 4).subs(x, eta * kappa * c**2))


def _second_integral():
    """The slope in x_0 of J_2 = int_{x_0}^X (ln(X-1) - ln(1-x)) / (X - x) dx, and J_2's value at x_0 = X, x_0 > 1."""
    h = sp.log(over - 1) - sp.log(1 - x)
    j2 = sp.pi**2 / 6 + h * sp.log((over - x) / (over - 1)) - sp.polylog(2, -(1 - x) / (over - 1))
    slope = sp.simplify(sp.expand_func(sp.diff(j2, x)) + h / (over - x))
    # The quotient inside the logarithm is positive: X > x and X > 1.
    slope = slope.subs(sp.log((over - x) / (over - 1)), sp.log(over - x) - sp.log(over - 1))
    # At x_0 = X: h = 0 and Li_2(1) = pi^2/6.
    end = sp.pi**2 / 6 - sp.polylog(2, 1)
    return sp.Matrix([sp.simplify(slope), end])


def _lattice_term():
    """A logarithmic zero at n_1 between steps: the sum over |n| <= M less the integral tends to ln 2 sin(pi n_1)."""
    shift = sp.Symbol("n_1", positive=True)
    # prod_{n=-M}^{M} |n - s| = Gamma(M+1+s) Gamma(M+1-s) sin(pi s)/pi; Stirling's formula for the rest.
    m = sp.Symbol("M", positive=True)
    stirling = 2 * ((m + sp.Rational(1, 2)) * sp.log(m) - m + sp.log(2 * sp.pi) / 2)
    total = stirling + sp.log(sp.sin(sp.pi * shift) / sp.pi)
    # int_{-M-1/2}^{M+1/2} ln|r| dr, expanded for large M.
    half = (m + sp.Rational(1, 2)) * (sp.log(m) + 1 / (2 * m)) - (m + sp.Rational(1, 2))
    left = sp.expand(sp.expand_log(total - 2 * half - sp.log(2 * sp.sin(sp.pi * shift)), force=True))
    return sp.limit(left, m, sp.oo)


arrival = Formula(
    title="Step at which the outlier weight has grown back",
    backs="theory.deep_linear.edge_of_stability.arrival_step",
    symbol=sp.Symbol("n_a"),
    arguments=(b, eta, over, size, w0),
    domain={
        b: Interval(0.5, 3),
        eta: Interval(1e-3, 0.3, log=True),
        over: Interval(2.05, 3),
        size: Interval(1e-4, 1e-3, log=True),
        w0: Interval(1e-8, 1e-5, log=True),
    },
    expression=(sp.log(size / w0) + _delay) / sp.log(over - 1),
    proofs={
        "steps of finite size": _half_log_measure,
        "the slope and the end of J_2": _second_integral,
        "the step next to the zero": _lattice_term,
    },
    call=lambda b, eta, over, size, w0: (size, (b, over / (eta * b), eta, b / 100), w0),
    source="Euler-Maclaurin sum with a logarithmic singularity",
)

p, m, nu = sp.symbols("p m nu")
_flow = {p: -2 / theta * p - 2 * nu, m: -2 * nu, nu: 2 * (1 + 2 * p + 2 * m) * nu}


def _along(f):
    return sum(sp.diff(f, z) * rate for z, rate in _flow.items())


def _first_integral():
    """F = h - (1 + theta + 2 theta A + theta^2 g), h = -2 nu/g, decays as dF = -(2h/theta) F: it stays zero."""
    a, g = m - p, 2 / theta * p
    h = -2 * nu / g
    f = h - (1 + theta + 2 * theta * a + theta**2 * g)
    return sp.simplify(_along(f) + 2 * h / theta * f)


def _map_to_flow():
    """The gradient-descent map at c = sqrt(b)(1+al), w_s = sqrt(b)(1+be), expanded: d(al+be) and d(al-be)."""
    al, be, s = sp.symbols("alpha beta s")
    c, w = sp.sqrt(b) * (1 + s * al), sp.sqrt(b) * (1 + s * be)
    square = b * s**2 * nu
    force = c * w - b
    d_al = -(force * w + kappa * c * square) * eta / sp.sqrt(b)
    d_be = -force * c * eta / sp.sqrt(b)
    # eta kappa b = 2 + s and eta b = s/theta; leading order in s per unit of tau = s n.
    scale = {kappa: (2 + s) / (eta * b)}
    leading = [sp.expand(sp.expand(d).subs(scale)).subs(eta, s / (theta * b)) for d in (d_al + d_be, d_al - d_be)]
    found = [sp.expand(sp.simplify(d) / s**2).subs(s, 0) for d in leading]
    return sp.Matrix([sp.expand(found[0] + 2 / theta * (al + be) + 2 * nu), sp.expand(found[1] + 2 * nu)])


_spike = {
    "the map's expansion is the flow of the spike": _map_to_flow,
    "first integral": _first_integral,
}

sigma, peak = sp.symbols("sigma nu_max")
_size = theta * (1 - sigma)

final_size = Formula(
    title="Where the spike leaves the sharpness",
    backs="theory.deep_linear.edge_of_stability.overshoot",
    symbol=sigma,
    arguments=(theta,),
    domain={theta: Interval(1e-4, 30, log=True)},
    law=_size - (1 + theta) * (1 - sp.exp(-_size)),
    proofs=_spike
    | {
        # On the first integral dh/dA = 2 theta h, so that h = (1 + theta) e^{2 theta A}; at the end g = 0.
        "the end of the spike": (1 + theta + 2 * theta * v - (1 + theta) * sp.exp(2 * theta * v)).subs(
            v, -_size / (2 * theta)
        )
        + (_size - (1 + theta) * (1 - sp.exp(-_size))),
    },
    source="first integral of the spike",
)

# nu = r/(4 theta) + r^2/8, solved for r = 1 - z.
_z = 1 + 1 / theta - sp.sqrt(1 / theta**2 + 8 * peak)


def _height():
    """nu = -g h / 2 with g = -r/(2 theta) and h = 1 + theta r / 2, less r/(4 theta) + r^2/8."""
    r = sp.Symbol("r")
    return sp.expand((r / (2 * theta)) * (1 + theta * r / 2) / 2 - r / (4 * theta) - r**2 / 8)


def _turning():
    """The law of z where 1 + 2A + 2 theta g = 0, from g(A) on the first integral, A = -z/2."""
    z = sp.Symbol("z")
    g = (-(1 - z) - 1 / theta + (1 + 1 / theta) * sp.exp(-theta * z)) / theta
    return sp.expand(theta * (1 - z + 2 * theta * g) - (theta * (z - 1) - 2 + 2 * (1 + theta) * sp.exp(-theta * z)))


height = Formula(
    title="Height of the spike",
    backs="theory.deep_linear.edge_of_stability.spike_height",
    symbol=peak,
    arguments=(theta,),
    domain={theta: Interval(1e-3, 30, log=True)},
    # In logarithms, so that the root search is nearly linear.
    law=sp.log(2 * (1 + theta)) - theta * _z - sp.log(2 + theta * (1 - _z)),
    proofs=_spike | {"height from r": _height, "where the growth ends": _turning},
    source="first integral of the spike",
)

# Both are drawn by s = X - 2 and theta = s/(eta b), from which eta and kappa follow.
s = sp.Symbol("s", positive=True)
end = sp.Symbol("S_end")
_scaled_end = (end * s / (theta * b) - 2) / s


def _setting(b, s, theta):
    eta = s / (theta * b)
    return ((b, (2 + s) / (eta * b), eta, b / 100),)


end_sharpness = Formula(
    title="Sharpness at which gradient descent comes to rest",
    backs="theory.deep_linear.edge_of_stability.end_sharpness",
    symbol=end,
    arguments=(b, s, theta),
    domain={b: Interval(0.5, 3), s: Interval(0.02, 0.5), theta: Interval(0.05, 20, log=True)},
    law=final_size.law.subs(sigma, _scaled_end),
    proofs={"to first order in s": lambda: sp.simplify((2 + s * _scaled_end) / (s / (theta * b)) - end)},
    call=_setting,
    source="first integral of the spike",
)

largest = sp.Symbol("w_max", positive=True)
peak_outlier = Formula(
    title="Largest outlier weight of the spike",
    backs="theory.deep_linear.edge_of_stability.peak_outlier",
    symbol=largest,
    arguments=(b, s, theta),
    domain={b: Interval(0.5, 3), s: Interval(0.02, 0.5), theta: Interval(0.05, 20, log=True)},
    law=height.law.subs(peak, (largest / s) ** 2 / b),
    proofs={"w_o^2 = b s^2 nu": lambda: sp.simplify((s * sp.sqrt(b * ((largest / s) ** 2 / b))) - largest)},
    call=_setting,
    source="first integral of the spike",
)
