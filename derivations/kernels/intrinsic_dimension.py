"""Training in a random subspace, textbook forms.

The residual r (of length s, energies r_i^2) is projected off the range of M = A^{1/2} G, A the curvatures and G an
s x d Gaussian matrix. By the symmetry g_i -> -g_i only the diagonal q_i of the mean projector counts.
"""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

d, s, x, p, kappa, tau = sp.symbols("d s x p kappa tau", positive=True)
c1, c2, e1, e2 = sp.symbols("c_1 c_2 e_1 e_2", positive=True)
t, rate = sp.symbols("t rho", positive=True)

_LI = "Li, Farkhoor, Liu & Yosinski 2018, section 2; the Beta law of angles"
_SURROGATE = "Derezinski, Liang, Liao & Mahoney 2020"

# Equal curvatures: |r off the subspace|^2 = X / (X + Y) with X, Y chi-squared of s - d and d degrees of freedom.
_a, _b = (s - d) / 2, d / 2


def _moment(k):
    """E x^k of Beta(a, b)."""
    return sp.gammasimp(sp.gamma(_a + k) * sp.gamma(_a + _b) / (sp.gamma(_a) * sp.gamma(_a + _b + k)))


mean = Formula(
    title="Mean of the lowest loss in a random subspace",
    backs="theory.kernels.intrinsic_dimension.mean_residual",
    symbol=sp.Symbol("L_min / L_0"),
    arguments=(d, s),
    domain={d: Interval(0, 10), s: Interval(10.1, 1e3, log=True)},
    expression=1 - d / s,
    proofs={"the first moment of Beta((s - d)/2, d/2)": lambda: _moment(1) - (1 - d / s)},
    source=_LI,
)

deviation = Formula(
    title="Standard deviation of the lowest loss in a random subspace",
    backs="theory.kernels.intrinsic_dimension.residual_deviation",
    symbol=sp.Symbol("sigma"),
    arguments=(d, s),
    domain={d: Interval(0.1, 10), s: Interval(10.1, 1e3, log=True)},
    expression=sp.sqrt(2 * d * (s - d) / (s**2 * (s + 2))),
    proofs={
        "the second moment of Beta((s - d)/2, d/2)": lambda: (
            _moment(2) - (1 - d / s) ** 2 - 2 * d * (s - d) / (s**2 * (s + 2))
        )
    },
    source=_LI,
)

_four = x ** ((s - 4) / 2) * (1 + (s - 4) / 2 * (1 - x))

law = Formula(
    title="Law of the lowest loss in a subspace of four dimensions",
    backs="theory.kernels.intrinsic_dimension.residual_probability",
    symbol=sp.Symbol("P"),
    arguments=(x, s),
    domain={x: Interval(0.01, 1), s: Interval(4.5, 60)},
    expression=_four,
    call=lambda x, s: (x, 4.0, s),
    proofs={
        "its slope is the density x^{a-1} (1 - x) a (a + 1)": (
            sp.diff(_four, x) - x ** ((s - 4) / 2 - 1) * (1 - x) * (s - 4) / 2 * (s - 2) / 2
        ),
        "no loss exceeds the initial one": _four.subs(x, 1) - 1,
    },
    source=_LI,
)

quantile = Formula(
    title="Quantile of the lowest loss in a subspace of two dimensions",
    backs="theory.kernels.intrinsic_dimension.residual_quantile",
    symbol=x,
    arguments=(p, s),
    domain={p: Interval(0.05, 0.999), s: Interval(4, 40)},
    expression=p ** (2 / (s - 2)),
    call=lambda p, s: (p, 2.0, s),
    proofs={
        "its probability is p": sp.powdenest((x ** ((s - 2) / 2)).subs({x: p ** (2 / (s - 2))}).subs(s, d + 2)) - p
    },
    source=_LI,
)

# Two curvatures, held by N1 and N2 directions.
_N1, _N2 = 3, 5
_N = _N1 + _N2


def _reached(c):
    """p_i."""
    return c / (c + kappa)


_count = _N1 * _reached(c1) + _N2 * _reached(c2)
# d (c1 + kappa) (c2 + kappa) = N1 c1 (c2 + kappa) + N2 c2 (c1 + kappa).
_linear = d * (c1 + c2) - _N1 * c1 - _N2 * c2
_root = (sp.sqrt(_linear**2 + 4 * d * (_N - d) * c1 * c2) - _linear) / (2 * d)
_CURVATURES = {c1: Interval(0.01, 10, log=True), c2: Interval(0.01, 10, log=True)}
_ENERGIES = {e1: Interval(0.1, 10, log=True), e2: Interval(0.1, 10, log=True)}
_DIMENSION = {d: Interval(0.1, _N - 0.1)}


def _repeated(first, second):
    return np.array([first] * _N1 + [second] * _N2)


effective = Formula(
    title="Effective curvature of a subspace, two curvatures",
    backs="theory.kernels.intrinsic_dimension.effective_curvature",
    symbol=kappa,
    arguments=(d, c1, c2),
    domain={**_DIMENSION, **_CURVATURES},
    expression=_root,
    call=lambda d, c1, c2: (d, _repeated(c1, c2)),
    proofs={
        "sum_i p_i = d": lambda: sp.numer(sp.together(_count - d)).subs(kappa, _root).expand(),
        "equal curvatures: kappa = c (s - d) / d": (_N * _reached(c1) - d).subs(kappa, c1 * (_N - d) / d),
    },
    source=_SURROGATE,
)

_mean = (_N1 * e1 * (1 - _reached(c1)) + _N2 * e2 * (1 - _reached(c2))) / (_N1 * e1 + _N2 * e2)

residual = Formula(
    title="Mean of the lowest loss in a random subspace, two curvatures",
    backs="theory.kernels.intrinsic_dimension.expected_residual",
    symbol=sp.Symbol("L_min / L_0"),
    arguments=(d, c1, c2, e1, e2),
    domain={**_DIMENSION, **_CURVATURES, **_ENERGIES},
    expression=_mean.subs(kappa, _root),
    call=lambda d, c1, c2, e1, e2: (d, _repeated(c1, c2), _repeated(e1, e2)),
    proofs={
        "equal curvatures: 1 - d/s": lambda: _mean.subs(c2, c1).subs(kappa, c1 * (_N - d) / d) - (1 - d / _N),
        "the complement is a subspace for the inverse curvatures": (
            _reached(c1).subs({c1: 1 / c1, kappa: 1 / kappa}, simultaneous=True) - (1 - _reached(c1))
        ),
    },
    source=_SURROGATE,
)

# The next order. With W = sum_i c_i g_i g_i^T (d x d) and V = W - c_i g_i g_i^T, 1 - Pi_ii = 1 / (1 + c_i X) where
# X = g_i^T V^{-1} g_i. Over g_i, X has mean x + c_i t_2 q_i and variance 2 t_2: x = tr W^{-1}, t_2 = tr W^{-2},
# q_i = 1 / (1 + c_i x). So E(1 - Pi_ii) = q_i + c_i^2 q_i^3 t_2, and what keeps the sum of all at
# s - d moves x from 1/kappa.
_t2 = sp.Symbol("t_2", positive=True)
_q = {c: 1 - _reached(c) for c in (c1, c2)}
_norm = _N1 * c1 * _q[c1] ** 2 + _N2 * c2 * _q[c2] ** 2
_moved = sum(n * c**2 * _q[c] ** 3 for n, c in ((_N1, c1), (_N2, c2))) / _norm
_trace = 1 / (kappa**2 * _norm / kappa)


def _left_out(c):
    """The correction of a direction of curvature c, as leaving it out gives it."""
    return _trace * (c**2 * _q[c] ** 3 - _moved * c * _q[c] ** 2)


def _correction(c):
    """The same in the notation of the reached fractions."""
    v = {c: _reached(c) * (1 - _reached(c)) for c in (c1, c2)}
    total = _N1 * v[c1] + _N2 * v[c2]
    centre = (_N1 * v[c1] * _reached(c1) + _N2 * v[c2] * _reached(c2)) / total
    return v[c] / total * (_reached(c) - centre)


_dual = {c1: 1 / c1, c2: 1 / c2, kappa: 1 / kappa}
_second = (_N1 * e1 * _correction(c1) + _N2 * e2 * _correction(c2)) / (_N1 * e1 + _N2 * e2)
_inverse = sp.Symbol("m", positive=True)
_eps = sp.Symbol("epsilon")
_spread = 1 / (1 + c1 * (x + _eps))

correction = Formula(
    title="The next order in the number of directions, two curvatures",
    backs="theory.kernels.intrinsic_dimension.residual_correction",
    symbol=sp.Symbol("delta"),
    arguments=(d, c1, c2, e1, e2),
    domain={d: Interval(1, _N - 1), c1: Interval(2, 10), c2: Interval(0.05, 1), **_ENERGIES},
    # At e_1 = e_2 it vanishes: the energies of the two are drawn apart.
    expression=_second.subs(kappa, _root).subs(e1, e1 + 2 * e2),
    call=lambda d, c1, c2, e1, e2: (d, _repeated(c1, c2), _repeated(e1 + 2 * e2, e2)),
    proofs={
        "mean and variance of X give + c^2 q^3 t_2": lambda: (
            # - c q^2 (c t_2 q) + c^2 q^3 (2 t_2) from the slope and the curvature of 1/(1 + c X).
            sp.diff(_spread, _eps).subs(_eps, 0) * c1 * _t2 / (1 + c1 * x)
            + sp.diff(_spread, _eps, 2).subs(_eps, 0) / 2 * 2 * _t2
            - c1**2 * _t2 / (1 + c1 * x) ** 3
        ),
        "t_2 = -d tr(W + z)^{-1} / dz from sum_i c_i m / (1 + c_i m) + z m = d": lambda: (
            (
                _inverse
                / sum(n * sp.diff(c * _inverse / (1 + c * _inverse), _inverse) for n, c in ((_N1, c1), (_N2, c2)))
            ).subs(_inverse, 1 / kappa)
            - _trace
        ),
        "leaving one out is the same": lambda: _left_out(c1) - _correction(c1),
        "the corrections sum to zero": lambda: _N1 * _correction(c1) + _N2 * _correction(c2),
        "that of the complement is the opposite": lambda: (
            _correction(c1).subs(_dual, simultaneous=True) + _correction(c1)
        ),
    },
    source="derived by leaving one direction out",
)

_w = e1 * _N1 / (e1 * _N1 + e2 * _N2)
# tau (c1 + kappa) (c2 + kappa) = kappa (w (c2 + kappa) + (1 - w) (c1 + kappa)).
_half = tau * (c1 + c2) - _w * c2 - (1 - _w) * c1
_kappa_of_tau = (_half + sp.sqrt(_half**2 + 4 * tau * (1 - tau) * c1 * c2)) / (2 * (1 - tau))

needed = Formula(
    title="Intrinsic dimension, two curvatures",
    backs="theory.kernels.intrinsic_dimension.intrinsic_dimension",
    symbol=d,
    arguments=(tau, c1, c2, e1, e2),
    domain={tau: Interval(0.01, 0.95), **_CURVATURES, **_ENERGIES},
    expression=_count.subs(kappa, _kappa_of_tau),
    call=lambda tau, c1, c2, e1, e2: (tau, _repeated(c1, c2), _repeated(e1, e2)),
    proofs={
        "the residual is tau": lambda: sp.numer(sp.together(_mean - tau)).subs(kappa, _kappa_of_tau).expand(),
        "equal curvatures: s (1 - tau)": (_N * _reached(c1)).subs(kappa, c1 * tau / (1 - tau)) - _N * (1 - tau),
    },
    source=_LI,
)

# One random direction (cos, sin) of two: the share of the first is 1 / (1 + k^2 tan^2), k^2 = c2 / c1.
_angle, _k = sp.symbols("theta k", positive=True)
_primitive = (_angle - _k * sp.atan(_k * sp.tan(_angle))) / (1 - _k**2)

shares = Formula(
    title="Share of the first of two directions in one random direction",
    backs="theory.kernels.intrinsic_dimension.expected_shares",
    symbol=sp.Symbol("f_1"),
    arguments=(c1, c2),
    domain={c1: Interval(1e-6, 1e6, log=True), c2: Interval(1e-6, 1e6, log=True)},
    expression=sp.sqrt(c1) / (sp.sqrt(c1) + sp.sqrt(c2)),
    call=lambda c1, c2: (np.array([c1, c2]),),
    read=lambda shares: shares[0],
    proofs={
        "the primitive": sp.diff(_primitive, _angle) - 1 / (1 + _k**2 * sp.tan(_angle) ** 2),
        "over a quarter turn": lambda: sp.limit(_primitive, _angle, sp.pi / 2, "-") * 2 / sp.pi - 1 / (1 + _k),
        "the primitive starts at zero": _primitive.subs(_angle, 0),
    },
    source="ratio of quadratic forms",
)

_settled = sp.exp(-4 * rate * t) * (sp.besseli(0, 4 * rate * t) + sp.besseli(1, 4 * rate * t))

flow = Formula(
    title="Loss of gradient flow in a subspace of just enough dimensions, d = s",
    backs="theory.kernels.intrinsic_dimension.subspace_flow_residual",
    symbol=sp.Function("L")(t) / sp.Symbol("L_0"),
    arguments=(t, rate),
    domain={t: Interval(0.001, 100, log=True), rate: Interval(0.1, 10, log=True)},
    expression=_settled,
    call=lambda t, rate: (t, 7.0, 7.0, rate),
    proofs={
        # int rho e^{-2 rate lam t} with moments of rho the Catalan numbers.
        "moments 1, 1, 2, 5, 14": lambda: (
            sp.series(_settled.subs(rate, x / t), x, 0, 5).removeO()
            - sum((-2 * x) ** k / sp.factorial(k) * sp.catalan(k) for k in range(5))
        ).expand(),
    },
    source="Marchenko & Pastur 1967",
)
