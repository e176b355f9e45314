"""Products of random layers: moments of ln chi^2, layer upon layer."""

import sympy as sp

from derivations.formula import Formula, Interval

n, g, depth = sp.symbols("n g N", positive=True)
k, order, y = sp.symbols("k z y", positive=True)

_SOURCE = "Newman 1986 (Commun. Math. Phys. 103, 121)"

# E Y^z of Y ~ chi^2 with k degrees of freedom generates the moments of ln Y.
_moment = 2**order * sp.gamma(k / 2 + order) / sp.gamma(k / 2)
_mean_log = sp.digamma(k / 2) + sp.log(2)
_variance_log = sp.polygamma(1, k / 2)


def _moment_residual():
    density = y ** (k / 2 - 1) * sp.exp(-y / 2) / (2 ** (k / 2) * sp.gamma(k / 2))
    return sp.gammasimp(sp.integrate(sp.powsimp(y**order * density), (y, 0, sp.oo)) - _moment)


def _mean_residual():
    return sp.simplify(sp.diff(sp.log(_moment), order).subs(order, 0) - _mean_log)


def _variance_residual():
    return sp.simplify(sp.diff(sp.log(_moment), order, 2).subs(order, 0) - _variance_log)


_PROOFS = {
    "the moments of chi^2": _moment_residual,
    "the mean of its logarithm": _mean_residual,
}


def _exponent(freedom, width):
    """Mean of ln(g^2 chi^2 / n) / 2."""
    return sp.log(g) + (_mean_log.subs(k, freedom) - sp.log(width)) / 2


# Widths are whole numbers: they are drawn as real ones and cut.
_whole = sp.floor(n)
_WIDTHS, _GAINS = Interval(1, 400), Interval(1.3, 3)

largest = Formula(
    title="Largest Lyapunov exponent of a product of Gaussian layers",
    backs="theory.deep_linear.random_products.lyapunov_exponents",
    symbol=sp.Symbol("lambda_1"),
    arguments=(n, g),
    domain={n: _WIDTHS, g: _GAINS},
    expression=_exponent(_whole, _whole),
    proofs=_PROOFS,
    call=lambda n, g: (int(n), g),
    read=lambda exponents: exponents[0],
    source=_SOURCE,
)

smallest = Formula(
    title="Smallest Lyapunov exponent of a product of Gaussian layers",
    backs="theory.deep_linear.random_products.lyapunov_exponents",
    symbol=sp.Symbol("lambda_n"),
    arguments=(n,),
    domain={n: _WIDTHS},
    expression=-(sp.EulerGamma + sp.log(2 * _whole)) / 2,
    proofs=_PROOFS
    | {"psi(1/2)": lambda: sp.expand_log(_exponent(1, n).subs(g, 1) + (sp.EulerGamma + sp.log(2 * n)) / 2)},
    call=lambda n: (int(n),),
    read=lambda exponents: exponents[-1],
    source=_SOURCE,
)

variance = Formula(
    title="Variance per layer of the logarithm of the largest singular value",
    backs="theory.deep_linear.random_products.lyapunov_variances",
    symbol=sp.Symbol("v_1"),
    arguments=(n,),
    domain={n: _WIDTHS},
    expression=_variance_log.subs(k, _whole) / 4,
    proofs={"the variance of ln chi^2": _variance_residual},
    call=lambda n: (int(n),),
    read=lambda variances: variances[0],
    source=_SOURCE,
)

log_determinant = Formula(
    title="Mean logarithm of the determinant behind N Gaussian layers of width 3",
    backs="theory.deep_linear.random_products.log_volume_moments",
    symbol=sp.Symbol("D"),
    arguments=(depth, g),
    domain={depth: Interval(1, 100), g: _GAINS},
    expression=depth * sum(_exponent(freedom, 3) for freedom in (1, 2, 3)),
    proofs=_PROOFS,
    call=lambda depth, g: (depth, 3, 3, g),
    read=lambda moments: moments.mean,
    source=_SOURCE,
)

squared_norm = Formula(
    title="Variance of the squared norm behind N Gaussian layers",
    backs="theory.deep_linear.random_products.squared_norm_moments",
    symbol=sp.Symbol("V"),
    arguments=(depth, n, g),
    domain={depth: Interval(1, 50), n: _WIDTHS, g: _GAINS},
    expression=g ** (4 * depth) * ((1 + 2 / n) ** depth - 1),
    proofs={
        "the mean of g^2 chi^2 / n": lambda: sp.gammasimp(_moment.subs(order, 1).subs(k, n) / n - 1),
        "the mean of its square": lambda: sp.gammasimp(_moment.subs(order, 2).subs(k, n) / n**2 - 1 - 2 / n),
    },
    read=lambda moments: moments.variance,
    source="moments of chi^2 with n degrees of freedom",
)

critical_gain = Formula(
    title="Gain at which a typical vector neither grows nor dies",
    backs="theory.deep_linear.random_products.critical_gain",
    symbol=g,
    arguments=(n,),
    domain={n: _WIDTHS},
    expression=sp.sqrt(_whole / 2) * sp.exp(-sp.digamma(_whole / 2) / 2),
    proofs={
        "the largest exponent is 0": lambda: sp.expand_log(
            _exponent(n, n).subs(g, sp.sqrt(n / 2) * sp.exp(-sp.digamma(n / 2) / 2)), force=True
        )
    },
    call=lambda n: (int(n),),
    source=_SOURCE,
)

orthogonal = Formula(
    title="Singular values behind N orthogonal layers",
    backs="theory.deep_linear.random_products.orthogonal_strength",
    symbol=sp.Symbol("sigma"),
    arguments=(depth, g),
    domain={depth: Interval(0, 100), g: Interval(0.5, 1.5)},
    expression=g**depth,
    proofs={"one more layer": sp.powsimp(g ** (depth + 1) - g * g**depth)},
    source="Saxe, McClelland & Ganguli 2013, section on orthogonal initial weights",
)
