"""Sign descent and Muon on an associative memory: polar factors of explicit matrices, resolvents, Gaussian signs."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

r, big, small, k, lr, s, x = sp.symbols("r F R K eta s x", positive=True)
P = sp.symbols("p_1:4", positive=True)
RATIO = Interval(1e-4, 10, log=True)
COUNT = Interval(1, 200, log=True)
HERE = "derived here"

_f = big / (big + small)
_n = sp.sqrt(1 - _f + r**2 * _f)
_inverse = sp.Symbol("n_inverse", positive=True)
_own = 1 - 1 / big + (1 - _f) / (_n * big)
_rare = 1 - 1 / small + r * _f / (_n * small)
_cross, _rare_cross = -1 / (_n * (big + small)), -r / (_n * (big + small))


def _two_levels():
    """Q of two frequent and three rare keys, C diag(p), and C itself; 1 / n is kept as a symbol."""
    sizes = {big: 2, small: 3}
    a, cross, b, rare_cross = (z.subs(_n, 1 / _inverse).subs(sizes) for z in (_own, _cross, _rare, _rare_cross))

    def entry(i, j):
        if (i < 2) != (j < 2):
            return cross if j < 2 else rare_cross
        own = a if j < 2 else b
        return own if i == j else own - 1

    c = sp.eye(5) - sp.ones(5, 5) / 5
    return sp.Matrix(5, 5, entry), c * sp.diag(1, 1, r, r, r), c


def _reduced(residual):
    """With 1 / n^2 put in."""
    return residual.applyfunc(lambda z: sp.cancel(sp.expand(z).subs(_inverse**2, 1 / (_n**2).subs({big: 2, small: 3}))))


def _isometry():
    """Q Q^T = C."""
    q, _, c = _two_levels()
    return _reduced(q * q.T - c)


def _symmetric():
    """S = Q^T C diag(p) is symmetric, with the positive eigenvalues 1, r and n: Q is the polar factor."""
    q, matrix, _ = _two_levels()
    product = q.T * matrix
    n = (_n**2).subs({big: 2, small: 3}) * _inverse
    across = sp.Matrix([3, 3, -2 * r, -2 * r, -2 * r])
    vectors = ((sp.Matrix([1, -1, 0, 0, 0]), 1), (sp.Matrix([0, 0, 1, -1, 0]), r), (across, n))
    rest = [product * v - value * v for v, value in vectors]
    return _reduced(sp.Matrix.vstack((product - product.T).reshape(25, 1), *rest))


frequent_logit = Formula(
    title="Muon's first step at a frequent key",
    backs="theory.induction.spectral_descent.two_level_polar",
    symbol=sp.Symbol("Q_AA"),
    arguments=(r, big, small),
    domain={r: RATIO, big: COUNT, small: COUNT},
    expression=_own,
    proofs={"Q Q^T = C": _isometry, "Q^T C diag(p) is positive": _symmetric},
    read=lambda found: found.frequent,
    source=HERE,
)

rare_logit = Formula(
    title="Muon's first step at a rare key",
    backs="theory.induction.spectral_descent.two_level_polar",
    symbol=sp.Symbol("Q_BB"),
    arguments=(r, big, small),
    domain=frequent_logit.domain,
    expression=_rare,
    proofs={
        "values sum to zero": lambda: sp.simplify(_rare + (small - 1) * (_rare - 1) + big * _rare_cross),
        "frequent, by exchange": lambda: sp.simplify(
            _rare.subs({r: 1 / r, big: small, small: big}, simultaneous=True) - _own
        ),
    },
    read=lambda found: found.rare,
    source=HERE,
)

_lone = r * (k - 1) / k / sp.sqrt(1 / k + r**2 * (k - 1) / k)

lone_rare = Formula(
    title="Muon's first step at a single rare key",
    backs="theory.induction.spectral_descent.lone_rare_logit",
    symbol=sp.Symbol("Q_rr"),
    arguments=(r, k),
    domain={r: RATIO, k: Interval(2, 1000, log=True)},
    expression=_lone,
    proofs={
        "two levels, one rare": lambda: sp.simplify(_rare.subs({small: 1, big: k - 1}) - _lone),
        "small ratios": lambda: sp.simplify(sp.diff(_lone, r).subs(r, 0) - (k - 1) / sp.sqrt(k)),
    },
    source=HERE,
)


def _resolvent():
    """The inverse of C P^2 C + s^2 among vectors of sum zero, where it is C D C with D = P^2 + s^2; three keys.

    D^{-1} - D^{-1} 1 1^T D^{-1} / (1^T D^{-1} 1)
    """
    d = sp.diag(*sp.symbols("d_1:4", positive=True))
    ones = sp.ones(3, 1)
    c = sp.eye(3) - ones * ones.T / 3
    inverse = d.inv() - d.inv() * ones * ones.T * d.inv() / (ones.T * d.inv() * ones)[0]
    return sp.Matrix.vstack(c * d * inverse - c, ones.T * inverse).applyfunc(sp.cancel)


polar = Formula(
    title="Polar factor of C diag(p) as an integral over resolvents",
    backs="theory.induction.spectral_descent.polar_factor",
    symbol=sp.Symbol("Q_33"),
    arguments=(r,),
    domain={r: RATIO},
    # (C P^2 C)^{-1/2} = (2/pi) int (C P^2 C + s^2)^{-1} ds; two keys of one frequency and a third are in closed form.
    expression=_rare.subs({big: 2, small: 1}),
    proofs={
        "inverse root": lambda: 2 / sp.pi * sp.integrate(1 / (P[0] ** 2 + s**2), (s, 0, sp.oo)) - 1 / P[0],
        "resolvent": _resolvent,
    },
    call=lambda r: (np.array([1, 1, r]) / (2 + r),),
    read=lambda found: found[2, 2],
    source=HERE,
)


def _explicit_pair():
    """The gradient of two keys with wrong probabilities w_1, w_2 is one singular pair; its polar factor."""
    w1, w2 = sp.symbols("w_1 w_2", positive=True)
    gradient = sp.Matrix([[w1, -r * w2], [-w1, r * w2]])
    size = sp.sqrt(2) * sp.sqrt(w1**2 + r**2 * w2**2)
    q = gradient / size
    product = q.T * gradient
    residues = [*(q * q.T - (sp.eye(2) - sp.ones(2, 2) / 2)), *(product - product.T), product.det()]
    return sp.Matrix(residues).applyfunc(sp.simplify)


def _pair(first, second):
    """Own logits of two keys after another step, from w = 1 / (1 + e^{2 z}) (a value's logits sum to zero)."""
    w1, w2 = (1 / (1 + sp.exp(2 * z)) for z in (first, second))
    size = sp.sqrt(2) * sp.sqrt(w1**2 + r**2 * w2**2)
    return first + lr * w1 / size, second + lr * r * w2 / size


two_steps = Formula(
    title="Two steps of Muon on two keys",
    backs="theory.induction.spectral_descent.two_level_muon",
    symbol=sp.Symbol("z_2"),
    arguments=(lr, r),
    domain={lr: Interval(0.1, 3), r: RATIO},
    expression=_pair(*_pair(sp.Integer(0), sp.Integer(0)))[1],
    proofs={
        "polar factor of an explicit gradient": _explicit_pair,
        "the first step is the polar factor of C diag(p)": lambda: sp.simplify(
            _pair(sp.Integer(0), sp.Integer(0))[1] - lr * _rare.subs({big: 1, small: 1})
        ),
    },
    call=lambda lr, r: (2, lr, r, 1.0, 1.0),
    read=lambda found: found.rare[-1],
    source=HERE,
)

_QUINTIC = tuple(sp.Rational(c) for c in ("3.4445", "-4.7750", "2.0315"))


def _iterate(value):
    a, b, c = _QUINTIC
    return a * value + b * value**3 + c * value**5


def _on_a_matrix():
    """a X + b X X^T X + c (X X^T)^2 X turns the singular values only."""
    a, b, c = _QUINTIC
    one, two = sp.symbols("sigma_1 sigma_2", positive=True)
    left, right = (sp.Matrix([[u, -v], [v, u]]) / 5 for u, v in ((3, 4), (4, -3)))
    matrix = left * sp.diag(one, two) * right.T
    square = matrix * matrix.T
    result = (a * sp.eye(2) + b * square + c * square**2) * matrix
    return (result - left * sp.diag(_iterate(one), _iterate(two)) * right.T).applyfunc(sp.expand)


quintic = Formula(
    title="Newton-Schulz iteration of Muon in practice",
    backs="theory.induction.spectral_descent.newton_schulz",
    symbol=sp.Symbol("sigma_2"),
    arguments=(x,),
    domain={x: Interval(1e-4, 1, log=True)},
    expression=_iterate(_iterate(x)),
    proofs={"singular values of an explicit matrix": _on_a_matrix},
    keywords={"iterations": 2},
    source="Jordan et al. 2024, Muon",
)


def _signs():
    """With one-hot keys the gradient is s_j > 0 off the diagonal and minus the sum of the others' s on it."""
    z = sp.symbols("z_1:4", real=True)
    total = sum(sp.exp(f) for f in z)
    gradient = [sp.diff(-P[0] * (z[0] - sp.log(total)), f) for f in z]
    others = [P[0] * sp.exp(f) / total for f in z]
    return sp.Matrix([gradient[0] + others[1] + others[2], gradient[1] - others[1], gradient[2] - others[2]])


_steps = sp.Symbol("n", positive=True)

sign_margin = Formula(
    title="Margin under sign descent with one-hot keys",
    backs="theory.induction.spectral_descent.sign_margin",
    symbol=sp.Symbol("m"),
    arguments=(_steps, lr),
    domain={_steps: Interval(1, 100), lr: Interval(1e-3, 1)},
    expression=2 * lr * _steps,
    proofs={"signs of an explicit gradient": _signs},
    source=HERE,
)

_spread = [1 + 2 * s**2 * p**2 for p in P]


def _gaussian_sign():
    """E[sign(G) A] = sqrt(2/pi) Cov(A, G) / sd(G), from A = G Cov / Var + what is independent of G."""
    sd, cov = sp.symbols("sigma kappa", positive=True)
    density = sp.exp(-(x**2) / (2 * sd**2)) / (sp.sqrt(2 * sp.pi) * sd)
    return sp.simplify(2 * sp.integrate(x * density, (x, 0, sp.oo)) * cov / sd**2 - sp.sqrt(2 / sp.pi) * cov / sd)


def _inverse_root():
    """pi^{-1/2} int s^{-1/2} e^{-s S} ds = S^{-1/2}, with s = u^2."""
    size = sp.Symbol("S", positive=True)
    return 2 / sp.sqrt(sp.pi) * sp.integrate(sp.exp(-(s**2) * size), (s, 0, sp.oo)) - 1 / sp.sqrt(size)


def _moments():
    """E[e^{-s^2 p^2 g^2}] and E[g^2 e^{-s^2 p^2 g^2}] of a standard normal g."""
    g = sp.Symbol("g", real=True)
    weight = sp.exp(-(g**2) * _spread[0] / 2) / sp.sqrt(2 * sp.pi)
    plain, squared = (sp.integrate(g**power * weight, (g, -sp.oo, sp.oo)) for power in (0, 2))
    return sp.Matrix([plain - _spread[0] ** sp.Rational(-1, 2), squared - _spread[0] ** sp.Rational(-3, 2)]).applyfunc(
        sp.simplify
    )


def _centred():
    """Own logit less the mean of the others is K / (K - 1) times own logit less the mean of all."""
    z = sp.symbols("z_1:4", real=True)
    return sp.expand(z[0] - (z[1] + z[2]) / 2 - sp.Rational(3, 2) * (z[0] - sum(z) / 3))


def _sign_integral():
    """Two keys; s = u^2, and the far part by 1 / u, both finite."""
    first, second = _spread[:2]
    integrand = 2 / sp.sqrt(sp.pi) / (first * sp.sqrt(first * second))
    beyond = sp.simplify(integrand.subs(s, 1 / x) / x**2)
    whole = sp.Integral(integrand, (s, 0, 1)) + sp.Integral(beyond, (x, 0, 1))
    return whole.subs(P[1], 1 - P[0])


rotated_sign = Formula(
    title="Mean margin after a step of sign descent in a random basis",
    backs="theory.induction.spectral_descent.rotated_sign_margin",
    symbol=sp.Symbol("m_1"),
    arguments=P[:1],
    domain={P[0]: Interval(0.1, 0.9)},
    expression=4 * sp.sqrt(2 / sp.pi) * P[0] * _sign_integral(),
    proofs={
        "sign of a Gaussian": _gaussian_sign,
        "inverse root": _inverse_root,
        "Gaussian moments": _moments,
        "mean of the others": _centred,
    },
    call=lambda p: (np.array([p, 1 - p]),),
    read=lambda found: found[0],
    source=HERE,
)
