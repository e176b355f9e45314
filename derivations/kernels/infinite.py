"""Kernels of wide networks: sums over all weights of products of gradients, averaged over the weights."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t = sp.Symbol("t", real=True)
w, b = sp.symbols("sigma_w^2 sigma_b^2", positive=True)
pi = sp.pi

# One hidden layer of two units and one input: f = sqrt(w) (v_1 phi(h_1) + v_2 phi(h_2)) / sqrt(2) + sqrt(b) c_2,
# h_i = sqrt(w) u_i x + sqrt(b) c_i, at inputs x and y.
_x, _y, _c, _bias = sp.symbols("x y c c_2")
_u, _v, _biases = (sp.symbols(f"{name}_1:3") for name in "uvd")
_phi = sp.Function("phi")


def _f(x):
    hidden = [_phi(sp.sqrt(w) * u * x + sp.sqrt(b) * d) for u, d in zip(_u, _biases, strict=True)]
    return sp.sqrt(w) * sum(v * h for v, h in zip(_v, hidden, strict=True)) / sp.sqrt(2) + sp.sqrt(b) * _bias


def _gradients():
    """sum over all parameters of df(x) df(y), less what the recursion says of the same units (there E[v_i^2] = 1)."""
    parameters = (*_u, *_v, *_biases, _bias)
    total = sum(sp.diff(_f(_x), p) * sp.diff(_f(_y), p) for p in parameters)
    below = w * _x * _y + b
    said = b
    for u, d, v in zip(_u, _biases, _v, strict=True):
        at = [sp.sqrt(w) * u * z + sp.sqrt(b) * d for z in (_x, _y)]
        slopes = [sp.diff(_phi(_c), _c).subs(_c, h) for h in at]
        said += w / 2 * (_phi(at[0]) * _phi(at[1]) + below * v**2 * slopes[0] * slopes[1])
    return sp.simplify(sp.expand((total - said).doit()))


def _relu(k, q):
    """E[phi phi] and E[phi' phi'] at equal variances q."""
    theta = sp.acos(k / q)
    return q * (sp.sin(theta) + (pi - theta) * k / q) / (2 * pi), (pi - theta) / (2 * pi)


def _networks(depth, dual):
    """(K, Theta) on the sphere of radius sqrt(d), and the variance of each layer."""
    k, q = w * t + b, w + b
    theta = k
    for _ in range(depth):
        moment, slope = dual(k, q)
        k, theta, q = w * moment + b, w * moment + b + w * theta * slope, w * dual(q, q)[0] + b
    return k, theta, q


def _erf(k, q):
    return 2 / pi * sp.asin(2 * k / (1 + 2 * q)), 4 / pi / sp.sqrt((1 + 2 * q) ** 2 - 4 * k**2)


def _formula(depth, name, dual, entry):
    kind = ("Covariance of the outputs", "Tangent kernel")[entry]
    numbers = {w: sp.Rational(3, 2), b: sp.Rational(1, 4)}
    return Formula(
        title=f"{kind} of {depth} hidden layer{'s' * (depth > 1)}, {name}",
        backs="theory.kernels.infinite.kernels_of_cosine",
        symbol=(sp.Function("K"), sp.Function("Theta"))[entry](t),
        arguments=(t,),
        domain={t: Interval(-0.9, 1)},
        expression=_networks(depth, dual)[entry].subs(numbers),
        proofs={"one hidden layer: the sum over all parameters of products of gradients": _gradients},
        keywords=dict(depth=depth, activation=name, weight_variance=1.5, bias_variance=0.25),
        read=lambda kernels: kernels[entry],
        source="Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), theorem 1; Lee et al. 2019 (arXiv:1902.06720)",
    )


relu_nngp, relu_ntk = (_formula(1, "relu", _relu, entry) for entry in (0, 1))
erf_ntk = _formula(1, "erf", _erf, 1)
deep_relu_ntk = _formula(3, "relu", _relu, 1)
deep_erf_nngp = _formula(2, "erf", _erf, 0)

x, d = sp.symbols("x d", positive=True)
_L = sp.Symbol("L", integer=True, positive=True)


def _diagonal(layers):
    """K and Theta of one input through ReLU layers at sigma_w^2 = 2 without bias, by the recursion."""
    k = theta = 2 * x**2 / d
    for _ in range(layers):
        k, theta = 2 * k / 2, 2 * k / 2 + 2 * theta / 2
    return k, theta


critical_relu = Formula(
    title="Tangent kernel of one input at the edge of chaos, ten ReLU layers",
    backs="theory.kernels.infinite.kernel_diagonal",
    symbol=sp.Symbol("Theta"),
    arguments=(x,),
    domain={x: Interval(1e-8, 1e8, log=True)},
    expression=(_L + 1).subs(_L, 10) * 2 * x**2 / 3,
    proofs={
        "Theta = 2 (L + 1) |x|^2 / d, for L = 1, 2 and 10": sum(
            sp.Abs(sp.expand(_diagonal(n)[1] - 2 * (n + 1) * x**2 / d)) for n in (1, 2, 10)
        )
    },
    call=lambda x: (np.array([[x, 0.0, 0.0]]),),
    keywords=dict(depth=10),
    read=lambda kernels: kernels.ntk[0],
    source="He et al. 2015, the variance that ReLU layers keep; the recursion of Jacot, Gabriel & Hongler 2018",
)
