"""What deep linear networks cost: theory against integration, ensembles against loops, growth with size.

    python -m benchmarks.deep_linear [closed_form | published_class | accuracy | ensemble | scaling] [--peers FOLDER]
        [--keep]

The published class is that of github.com/Nico31415/LinearNetworkDynamics, where `python -m benchmarks` has fetched it.
All figures are ratios (or exponents) from one run on one machine; seconds mean nothing elsewhere.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import diffrax
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import scipy.integrate

from benchmarks.driver import run
from benchmarks.environments import REPOSITORIES, repository
from benchmarks.kept import Result, growth, point
from benchmarks.timing import ratios
from sims.engine import Simulation, grid, simulate
from sims.networks.deep_linear import correlation_loss, gaussian
from sims.training import gradient_descent
from theory.deep_linear.matrix import exact_solution

# Errors that integrators may make, and that we may.
LOOSEST, ALLOWED = 1e-11, 1e-12


def correlations(n_in: int, n_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """White inputs, and a random input-output correlation with singular values between 0.3 and 3."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (n_out, n_in))
    k = min(n_in, n_out)
    return np.eye(n_in), (left[:, :k] * np.linspace(3, 0.3, k)) @ right[:, :k].T


def trained(width: int, depth: int, lr: float = 1e-3) -> Simulation:
    """Gradient descent on a square network of equal widths."""
    sxx, syx = map(jnp.asarray, correlations(width, width))
    return gradient_descent(
        lambda key, hyper: gaussian(key, (width,) * (depth + 1), 1 / width),
        lambda network: correlation_loss(network, sxx, syx),
        lr,
        lambda network, hyper: correlation_loss(network, sxx, syx),
    )


def raw_velocity(syx):
    """Gradient flow of the raw weights on white inputs, as (W1, W2) -> (dW1/dt, dW2/dt)."""

    def velocity(weights):
        w1, w2 = weights
        error = syx - w2 @ w1
        return w2.T @ error, error @ w1.T

    return velocity


def with_diffrax(t, w1, w2, syx, rtol):
    """The network map at times t by diffrax's Dopri8, compiled."""
    field = raw_velocity(syx)

    @jax.jit
    def solve(w1, w2):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda _, y, __: field(y)),
            diffrax.Dopri8(),
            0.0,
            t[-1],
            None,
            (w1, w2),
            saveat=diffrax.SaveAt(ts=t) if len(t) > 1 else diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * 1e-3),
            max_steps=100_000,
        )
        return solution.ys[1] @ solution.ys[0]

    return lambda: solve(w1, w2)


def with_scipy(t, w1, w2, syx, rtol):
    """The same by SciPy's DOP853."""
    shape, field = w1.shape, raw_velocity(np.asarray(syx))

    def flat(_, y):
        a, b = field((y[: w1.size].reshape(shape), y[w1.size :].reshape(w2.shape)))
        return np.concatenate([a.ravel(), b.ravel()])

    start = np.concatenate([np.ravel(w1), np.ravel(w2)])

    def solve():
        solution = scipy.integrate.solve_ivp(flat, (0, t[-1]), start, "DOP853", t_eval=t, rtol=rtol, atol=rtol * 1e-3)
        return [y[w1.size :].reshape(w2.shape) @ y[: w1.size].reshape(shape) for y in solution.y.T]

    return solve


def closed_form(asked, peers: dict) -> list[Result]:
    """The exact two-layer solution against integrating the raw weights, at the loosest tolerance that keeps LOOSEST.

    The error counts at every time that is asked for: between its steps an integrator interpolates, at a lower order.
    """
    series: dict[str, list] = {}
    for n in (5, 10, 20, 50):
        w1, w2 = lam_balanced(n, 0.0)
        _, syx = correlations(n, n)
        for count in (1, 200):
            t = np.linspace(0, 6, count + 1)[1:]
            arguments = [jnp.asarray(x) for x in (t if count > 1 else t[0], w1, w2, syx)]
            exact = jax.jit(lambda *a: exact_solution(*a).network_map)
            closed = np.reshape(np.asarray(exact(*arguments)), (count, n, n))
            calls = {
                "exact": partial(exact, *arguments),
                "diffrax": loosest(lambda rtol, t=t, a=arguments: with_diffrax(jnp.asarray(t), *a[1:], rtol), closed),
                "SciPy": loosest(lambda rtol, t=t, a=(w1, w2, syx): with_scipy(t, *a, rtol), closed),
            }
            for name, each in ratios(calls, "exact", asked.rounds).items():
                aim = None if name == "SciPy" else 15.0 if count == 1 else 2.0 if n <= 20 else None
                when = "one end time" if count == 1 else f"{count} times"
                series.setdefault(f"{name}, {when}", []).append(point(n, each, aim))
    title = f"Exact two-layer solution against integration to {LOOSEST:.0e}"
    comment = (
        "diffrax by Dopri8, SciPy by DOP853. At 200 times the exact solution factors a matrix for each of them, where "
        "an integrator interpolates between a few steps."
    )
    return [Result(title, "units", "integration / exact, CPU time", series, comment=comment)]


def loosest(integrate, closed):
    """The integration at the loosest tolerance that keeps LOOSEST, judged by the closed form."""
    for rtol in 10.0 ** -np.arange(8, 14.5, 0.5):
        call = integrate(rtol)
        if np.abs(np.reshape(np.asarray(call()), closed.shape) - closed).max() <= LOOSEST:
            break
    return call


def published_class(asked, peers: dict) -> list[Result]:
    """The published class in NumPy, which goes from one time to the next."""
    folder = repository(asked.peers, "LinearNetworkDynamics")
    if not folder:
        return []
    peers["LinearNetworkDynamics"] = REPOSITORIES["LinearNetworkDynamics"][1][:8]
    solver, count, step = class_of(folder), 200, 0.03
    points = []
    for n, aim in ((5, 50.0), (10, None), (20, 8.0)):
        # It divides by lam.
        w1, w2 = lam_balanced(n, 0.5)
        _, syx = correlations(n, n)
        # White inputs, of which it takes the covariance with the labels.
        x, y = np.sqrt(n) * np.eye(n), np.sqrt(n) * syx.T
        times = jnp.asarray(step * np.arange(count))
        exact = partial(jax.jit(lambda *a: exact_solution(*a).network_map), times, *map(jnp.asarray, (w1, w2, syx)))

        def walk(w1=w1, w2=w2, x=x, y=y, n=n):
            model = solver(w1.copy(), w2.copy(), x, y)
            return [model.forward(step)[n:, :n] for _ in range(count)]

        np.testing.assert_allclose(np.array(walk()), exact(), atol=1e-8)
        points.append(point(n, ratios({"exact": exact, "class": walk}, "exact", asked.rounds)["class"], aim))
    title, unit = f"Exact two-layer solution at {count} times: a published class", "class / ours, CPU time"
    comment = (
        "What is saved is Python's overhead at each time. The class inverts one matrix beforehand, which lambda = 0 "
        "forbids; ours factors one at each time, which holds for any balance, rank and time, and costs more."
    )
    return [Result(title, "units", unit, {"LinearNetworkDynamics": points}, comment=comment)]


# What the file of the class imports, to draw and to try it, and the class itself does without.
UNUSED = {
    "seaborn": (),
    "tools": ("BlindColours",),
    "utils": ("get_lambda_balanced", "get_random_regression_task"),
    "linear_network": ("LinearNetwork",),
}


def class_of(folder: Path):
    """The class, with nothing in place of what it does without."""
    spec = importlib.util.spec_from_file_location("qqt_lambda_balanced", folder / "qqt_lambda_balanced.py")
    module = importlib.util.module_from_spec(spec)
    before = {name: sys.modules.get(name) for name in UNUSED}
    for name, parts in UNUSED.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(dict.fromkeys(parts))
    try:
        spec.loader.exec_module(module)
    finally:
        for name, known in before.items():
            del sys.modules[name]
            if known is not None:
                sys.modules[name] = known
    return module.QQT_lambda_balanced


def reference_map(t: float, w1, w2, syx, digits: int) -> np.ndarray:
    """W2 W1 at time t by the textbook formula, in as many digits as its cancellations need."""
    lam = float(np.mean(np.diag(w2.T @ w2 - w1 @ w1.T)))
    n_out, n_in = syx.shape
    with mpmath.workdps(digits):
        f = mpmath.zeros(n_in + n_out)
        for i in range(n_in):
            f[i, i] = -mpmath.mpf(lam) / 2
        for o in range(n_out):
            f[n_in + o, n_in + o] = mpmath.mpf(lam) / 2
            for i in range(n_in):
                f[n_in + o, i] = f[i, n_in + o] = mpmath.mpf(float(syx[o, i]))
        values, vectors = mpmath.eigsy(f)
        q0 = vectors.T * mpmath.matrix(np.vstack([w1.T, w2]).tolist())
        size = n_in + n_out
        grown = mpmath.matrix(size, q0.cols)
        j = mpmath.zeros(size)
        for k in range(size):
            mu = values[k]
            j[k, k] = mpmath.expm1(2 * mu * t) / (2 * mu) if mu else mpmath.mpf(t)
            for c in range(q0.cols):
                grown[k, c] = mpmath.exp(mu * t) * q0[k, c]
        inner = mpmath.inverse(mpmath.eye(q0.cols) + q0.T * j * q0)
        p = vectors * grown * inner * grown.T * vectors.T
        return np.array([[float(p[n_in + o, i]) for i in range(n_in)] for o in range(n_out)])


def accuracy(asked, peers: dict) -> list[Result]:
    """Error of the exact solution against multiple precision, for any time and any balance of the layers."""
    series: dict[str, list] = {}
    _, syx = correlations(5, 5)
    for lam in (0.0, 1e-6, 0.5, -3.0):
        w1, w2 = lam_balanced(5, lam)
        starts = {f"lambda = {lam:g}": (w1, w2)}
        if lam == 0:
            # Two of five units that do nothing.
            starts["rank 3"] = (np.diag([1.0, 1, 1, 0, 0]) @ w1, w2 @ np.diag([1.0, 1, 1, 0, 0]))
        for name, (first, second) in starts.items():
            for reach in (0.1, 3, 10, 30, 100):
                t = reach / np.linalg.norm(syx, 2)
                found = np.asarray(exact_solution(t, first, second, syx).network_map)
                error = np.abs(found - reference_map(t, first, second, syx, 300)).max()
                series.setdefault(name, []).append(point(reach, ALLOWED / max(error, np.finfo(float).eps / 4), 1.0))
    title, x = "Error of the exact solution, 5 units, against 300 digits", "time x largest singular value"
    comment = "In logarithmic scale, by a factorisation that asks for no inverse: neither long times nor lambda matter."
    return [Result(title, x, f"allowed error ({ALLOWED:.0e}) / error", series, comment=comment)]


def lam_balanced(n: int, lam: float, scale: float = 0.05, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A start of n x n layers with W2^T W2 - W1 W1^T = lam I."""
    rng = np.random.default_rng(seed)
    left, hidden, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(3))
    product = scale * rng.uniform(0.5, 1.5, n)
    big = np.sqrt((np.hypot(lam, 2 * product) + abs(lam)) / 2)
    a, b = (product / big, big) if lam >= 0 else (big, product / big)
    return (hidden * a) @ right.T, (left * b) @ hidden.T


def ensemble(asked, peers: dict, steps: int = 500) -> list[Result]:
    """An ensemble in one program, against the same runs one by one, against a Python loop over compiled steps."""
    series: dict[str, list] = {}
    for width, runs in ((8, 64), (32, 16), (128, 8)):
        simulation = trained(width, 2)
        times = [0, steps]
        together = grid(seeds=runs)
        network = jax.jit(simulation.init)(jax.random.key(0), {})
        step = jax.jit(simulation.step)

        def loop(network=network, step=step):
            state = network
            for _ in range(steps):
                state = step(state)
            return state.model.weights[0]

        def one_by_one(simulation=simulation, runs=runs, times=times):
            return [simulate(simulation, grid(seeds=[seed]), times).records for seed in range(runs)]

        def batched(batching, simulation=simulation, together=together, times=times):
            return simulate(simulation, together, times, batching=batching).records

        calls = {name: partial(batched, name) for name in ("auto", "vmap", "map")}
        calls |= {"run by run": one_by_one, "Python loop of steps": loop}
        found = ratios(calls, "auto", min(asked.rounds, 3))
        found["Python loop of steps"] = [runs * each for each in found["Python loop of steps"]]
        for name, each in found.items():
            series.setdefault(name, []).append(point(f"{width} ({runs} runs)", each))
    unit = "alternative / one program, batched as the engine chooses"
    return [Result(f"Ensembles of linear networks, {steps} steps", "width", unit, series)]


def scaling(asked, peers: dict, steps: int = 200) -> list[Result]:
    """Cost of training against width, depth and number of runs, and of the exact solution against units and times."""

    def train(width: int, depth: int = 2, runs: int = 1):
        simulation = trained(width, depth)
        return lambda: simulate(simulation, grid(seeds=runs), [0, steps]).records

    def exact(units: int, times: int):
        (w1, w2), (_, syx) = lam_balanced(units, 0.0), correlations(units, units)
        t = jnp.linspace(0.1, 6, times)
        return partial(jax.jit(lambda *a: exact_solution(*a).network_map), t, *map(jnp.asarray, (w1, w2, syx)))

    training = {
        "width": ((32, 64, 128, 256), train),
        "depth": ((2, 4, 8, 16, 32), lambda n: train(64, n)),
        "runs": ((1, 4, 16, 64, 256), lambda n: train(16, runs=n)),
    }
    theory = {
        "units": ((10, 20, 40, 80), lambda n: exact(n, 20)),
        "times": ((25, 100, 400), lambda n: exact(10, n)),
    }
    return [
        growth(f"Training, {steps} steps: growth", "width, depth or runs", training, min(asked.rounds, 3)),
        growth("Exact two-layer solution: growth", "units or times", theory, asked.rounds),
    ]


def main() -> None:
    parts = {each.__name__: each for each in (closed_form, published_class, accuracy, ensemble, scaling)}
    run("deep_linear", "Deep linear networks", __doc__, parts)


if __name__ == "__main__":
    main()
