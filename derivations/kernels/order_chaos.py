"""Order and chaos: the maps, fixed points and slopes of the error function and of ReLU, and the laws of great depth."""

import sympy as sp

from derivations.formula import Formula, Interval

q, c, w, b, z, kappa, L, chi = sp.symbols("q c sigma_w2 sigma_b2 z kappa L chi", positive=True)
rho = sp.Symbol("rho", real=True)
VARIANCES = {w: Interval(0.3, 6), b: Interval(0.01, 2)}
POOLE = "Poole et al. 2016 (arXiv:1606.05340)"


def gaussian(function):
    """E[function(z)] over a standard normal."""
    return sp.integrate(function * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo))


# The error function: E[phi phi] and E[phi' phi'] at equal variances q and covariance c.
dual = 2 / sp.pi * sp.asin(2 * c / (1 + 2 * q))
slope = 4 / sp.pi / sp.sqrt((1 + 2 * q) ** 2 - 4 * c**2)
alike = {c: q}

_covariance = sp.Matrix([[q, c], [c, q]])
_dual_proofs = {
    "E[phi' phi'] is a Gaussian integral, 4/pi over the root of det(1 + 2 Sigma)": slope**2
    - (4 / sp.pi) ** 2 / (sp.eye(2) + 2 * _covariance).det(),
    "E[phi phi] has it as its derivative (Price)": sp.diff(dual, c) - slope,
    "E[phi phi] vanishes without covariance": dual.subs(c, 0),
}

erf_variance_map = Formula(
    title="Variance map of the error function",
    backs="theory.kernels.order_chaos.variance_map",
    symbol=sp.Function("V")(q),
    arguments=(q, w, b),
    domain={q: Interval(1e-3, 100, log=True), **VARIANCES},
    expression=w * dual.subs(alike) + b,
    proofs=_dual_proofs,
    call=lambda q, w, b: (q, "erf", w, b),
    source=f"{POOLE}, eq. 3",
)

_correlation = (w * dual.subs(c, rho * q) + b) / (w * dual.subs(alike) + b)

erf_correlation_map = Formula(
    title="Correlation map of the error function",
    backs="theory.kernels.order_chaos.correlation_map",
    symbol=sp.Function("C")(rho),
    arguments=(rho, q, w, b),
    domain={rho: Interval(-1, 1), q: Interval(0.05, 20, log=True), **VARIANCES},
    expression=_correlation,
    proofs={
        "C(1) = 1": _correlation.subs(rho, 1) - 1,
        "its slope at 1 is chi_1 at a fixed point of the variance": sp.diff(_correlation, rho).subs(rho, 1)
        * (w * dual.subs(alike) + b)
        / q
        - w * slope.subs(alike),
    },
    call=lambda rho, q, w, b: (rho, q, "erf", w, b),
    source=f"{POOLE}, eq. 5",
)

erf_fixed_variance = Formula(
    title="Fixed point of the variance, error function",
    backs="theory.kernels.order_chaos.fixed_variance",
    symbol=q,
    arguments=(w, b),
    domain=VARIANCES,
    law=w * dual.subs(alike) + b - q,
    proofs=_dual_proofs,
    call=lambda w, b: ("erf", w, b),
    source=f"{POOLE}, section 2",
)

_relu_square = sp.integrate(q * z**2 * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, 0, sp.oo))
_relu = b / (1 - w / 2)

relu_fixed_variance = Formula(
    title="Fixed point of the variance, ReLU below sigma_w^2 = 2",
    backs="theory.kernels.order_chaos.fixed_variance",
    symbol=sp.Symbol("q*"),
    arguments=(w, b),
    domain={w: Interval(0.1, 1.9), b: Interval(0.01, 2)},
    expression=_relu,
    proofs={
        "E[phi^2] = q/2": _relu_square - q / 2,
        "V(q*) = q*": w * _relu_square.subs(q, _relu) + b - _relu,
    },
    call=lambda w, b: ("relu", w, b),
    source=f"{POOLE}, section 2",
)

_critical_weight = sp.pi / 4 * sp.sqrt(1 + 4 * q)

erf_critical_weight = Formula(
    title="Weight variance of the critical line, error function",
    backs="theory.kernels.order_chaos.critical_line",
    symbol=sp.Symbol("sigma_w2*"),
    arguments=(q,),
    domain={q: Interval(1e-6, 1e4, log=True)},
    expression=_critical_weight,
    proofs={"sigma_w^2 E[phi'^2] = 1": _critical_weight * gaussian(4 / sp.pi * sp.exp(-2 * q * z**2)) - 1},
    call=lambda q: (q, "erf"),
    read=lambda line: line[0],
    source=f"{POOLE}, section 2",
)

_critical_bias = q - _critical_weight * dual.subs(alike)

erf_critical_bias = Formula(
    title="Bias variance of the critical line, error function",
    backs="theory.kernels.order_chaos.critical_line",
    symbol=sp.Symbol("sigma_b2*"),
    arguments=(q,),
    domain={q: Interval(0.02, 1e3, log=True)},
    expression=_critical_bias,
    proofs={
        "q is the fixed point of the variance": (w * dual.subs(alike) + b - q).subs(
            {w: _critical_weight, b: _critical_bias}
        ),
        "the line begins without biases": sp.limit(_critical_bias, q, 0),
    },
    call=lambda q: (q, "erf"),
    read=lambda line: line[1],
    source=f"{POOLE}, section 2",
)

# A network of prescribed q* and c*: convexity, dual(c)/c <= dual(q)/q, makes its bias variance non-negative.
_share = sp.Symbol("r", positive=True)
_chaotic_weight = (q - c) / (dual.subs(alike) - dual)
_chaotic_bias = q - _chaotic_weight * dual.subs(alike)
_numeric = sp.lambdify((q, c), (_chaotic_weight, _chaotic_bias), "mpmath")


def _network(q, r):
    """The error function's network with fixed point q and correlation r, as arguments of `fixed_point`."""
    weight, bias = _numeric(q, r * q)
    return "erf", float(weight), float(bias)


_fixed_covariance = {
    "V(q) = q": _chaotic_weight * dual.subs(alike) + _chaotic_bias - q,
    "c is a fixed point of the covariance": _chaotic_weight * dual + _chaotic_bias - c,
}
_prescribed = {q: Interval(0.3, 6, log=True), _share: Interval(0.05, 0.95)}


def _at_fixed_point(title, symbol, expression, field, source, proofs):
    return Formula(
        title=title,
        backs="theory.kernels.order_chaos.fixed_point",
        symbol=symbol,
        arguments=(q, _share),
        domain=_prescribed,
        expression=expression.subs(c, _share * q),
        proofs=proofs,
        call=_network,
        read=lambda point: getattr(point, field),
        source=source,
    )


fixed_covariance = _at_fixed_point(
    "Fixed point of the covariance in the chaotic phase",
    sp.Symbol("c*"),
    c,
    "covariance",
    f"{POOLE}, section 2",
    _fixed_covariance,
)

chaotic_slope = _at_fixed_point(
    "Slope of the correlation map at c*",
    sp.Symbol("chi_c"),
    _chaotic_weight * slope,
    "chi_c",
    "Schoenholz et al. 2017 (arXiv:1611.01232), section 3",
    _dual_proofs | _fixed_covariance,
)

_chi_q = sp.diff(w * dual.subs(alike) + b, q).subs(w, _chaotic_weight)

variance_slope = _at_fixed_point(
    "Slope of the variance map at q*",
    sp.Symbol("chi_q"),
    _chi_q,
    "chi_q",
    "Schoenholz et al. 2017 (arXiv:1611.01232), section 3",
    {
        # E[phi''(u) phi(u)] from the other Gaussian integral: d/dq of the dual at fixed c.
        "chi_q = chi_1 + sigma_w^2 E[phi phi'']": _chi_q
        - _chaotic_weight * (slope.subs(alike) + sp.diff(dual, q).subs(alike)),
    },
)

correlation_length = Formula(
    title="Correlation length",
    backs="theory.kernels.order_chaos.depth_scales",
    symbol=sp.Symbol("xi"),
    arguments=(chi,),
    domain={chi: Interval(0.01, 0.999)},
    expression=-1 / sp.log(chi),
    proofs={"chi^l = exp(-l / xi)": chi**L - sp.exp(L * sp.log(chi))},
    call=lambda chi: ((1.0, 0.5, chi, chi, chi),),
    read=lambda scales: scales.correlation,
    source="Schoenholz et al. 2017 (arXiv:1611.01232), section 3",
)


_tangent = q * (1 - chi ** (L + 1)) / (1 - chi)

tangent_kernel = Formula(
    title="Tangent kernel at the fixed point",
    backs="theory.kernels.order_chaos.tangent_kernel",
    symbol=sp.Symbol("Theta"),
    arguments=(L, q, chi),
    domain={L: Interval(0, 100), q: Interval(0.1, 10), chi: Interval(0.05, 0.95)},
    expression=_tangent,
    proofs={
        "one layer more: Theta <- q + chi Theta": sp.expand_power_base(_tangent.subs(L, L + 1) - q - chi * _tangent),
        "without hidden layer Theta = q": _tangent.subs(L, 0) - q,
        "at the edge of chaos (L + 1) q": sp.limit(_tangent, chi, 1) - (L + 1) * q,
    },
    call=lambda L, q, chi: (L, (q, q, chi, chi, chi)),
    read=lambda entries: entries[1],
    source="Xiao, Pennington & Schoenholz 2020 (arXiv:1912.13053), section 3",
)

# Deep in a critical network 1 - rho = e is small, and a layer changes it by a power of itself.
e, a = sp.symbols("epsilon a", positive=True)
_angle = sp.acos(1 - e)
_lens = kappa / sp.pi * (sp.sin(_angle) - _angle * sp.cos(_angle))
_force = 2 * sp.sqrt(2) * kappa / (3 * sp.pi)
_kinked = 9 * sp.pi**2 / (2 * kappa**2 * L**2)

kinked_gap = Formula(
    title="Decorrelation deep in a critical ReLU network",
    backs="theory.kernels.order_chaos.critical_gap",
    symbol=e,
    arguments=(L, kappa),
    domain={L: Interval(1, 1e6, log=True), kappa: Interval(0.1, 2)},
    expression=_kinked,
    proofs={
        "a layer takes kappa (sin - theta cos)/pi off the gap: 2 sqrt2 kappa/(3 pi) e^{3/2} at leading order": lambda: (
            sp.limit(_lens.subs(e, 2 * z**2) / (2 * z**2) ** sp.Rational(3, 2), z, 0, "+") - _force
        ),
        "de/dL = - that": sp.diff(_kinked, L) + _force * _kinked ** sp.Rational(3, 2),
        "chi there is 1 - 3/L, so that Theta_off = a L q with a = 1 - 3 a": 1
        - sp.Rational(3, 2) * _force * sp.sqrt(_kinked)
        - (1 - 3 / L),
        "a = 1/4": sp.solve(a - (1 - 3 * a), a)[0] - sp.Rational(1, 4),
    },
    call=lambda L, kappa: (L, None, kappa),
    source="Hayou, Doucet & Rousseau 2019 (arXiv:1902.06853), section 3",
)

curvature = sp.Symbol("C2", positive=True)
_smooth = 2 / (curvature * L)

smooth_gap = Formula(
    title="Decorrelation deep in a critical network of smooth activation",
    backs="theory.kernels.order_chaos.critical_gap",
    symbol=e,
    arguments=(L, curvature),
    domain={L: Interval(1, 1e6, log=True), curvature: Interval(0.1, 5)},
    expression=_smooth,
    proofs={
        "de/dL = -C'' e^2 / 2": sp.diff(_smooth, L) + curvature * _smooth**2 / 2,
        "chi there is 1 - 2/L, so that Theta_off = a L q with a = 1 - 2 a": 1 - curvature * _smooth - (1 - 2 / L),
        "a = 1/3": sp.solve(a - (1 - 2 * a), a)[0] - sp.Rational(1, 3),
    },
    source="Hayou, Doucet & Rousseau 2019 (arXiv:1902.06853), section 3",
)

_curvature = 4 * q**2 / (1 + 4 * q)

erf_curvature = Formula(
    title="Curvature of the critical correlation map, error function",
    backs="theory.kernels.order_chaos.critical_curvature",
    symbol=curvature,
    arguments=(q,),
    domain={q: Interval(0.01, 100, log=True)},
    expression=_curvature,
    proofs={
        "C'' = sigma_w^2 q d/dc E[phi' phi'] at c = q": _critical_weight * q * sp.diff(slope, c).subs(alike)
        - _curvature
    },
    call=lambda q: (q, "erf"),
    source="Hayou, Doucet & Rousseau 2019 (arXiv:1902.06853), section 3",
)

erf_critical_variance = Formula(
    title="Variance on the critical line at a given bias variance, error function",
    backs="theory.kernels.order_chaos.critical_variance",
    symbol=q,
    arguments=(b,),
    domain={b: Interval(1e-3, 10, log=True)},
    law=_critical_bias - b,
    proofs={"the bias variance begins at 0": sp.limit(_critical_bias, q, 0)},
    call=lambda b: (b, "erf"),
    source=f"{POOLE}, section 2",
)
