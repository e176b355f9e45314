"""What deep linear networks cost: theory against integration, ensembles against loops, growth with size.

    python -m benchmarks.deep_linear [closed_form | accuracy | ensemble | scaling] [--keep]

All figures are ratios (or exponents) from one run on one machine; seconds mean nothing elsewhere.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("JAX_ENABLE_X64", "1")

import diffrax
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import scipy.integrate
from rich.console import Console
from rich.table import Table

from benchmarks.kept import Result, keep
from benchmarks.timing import least_seconds, ratios, slope
from sims.engine import Simulation, grid, simulate
from sims.networks.deep_linear import correlation_loss, gaussian
from sims.training import gradient_descent
from theory.deep_linear.matrix import exact_solution

console = Console(width=110)


def table(title: str, *columns: str) -> Table:
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right")
    return drawn


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


def closed_form(aim: float = 1e-11) -> list[Result]:
    """The exact two-layer solution against integrating the raw weights, at the loosest tolerance that keeps `aim`.

    The error counts at every time that is asked for: between its steps an integrator interpolates, at a lower order.
    """
    drawn = table(
        "Two layers from a product near 0.05: cost of integration / cost of the exact solution,\n"
        f"at the loosest tolerance that keeps the integrator's error below {aim:.0e} at all times",
        "units",
        "times",
        "diffrax Dopri8",
        "its error",
        "SciPy DOP853",
        "its error",
        "closed form's error",
    )
    series: dict[str, list] = {}
    for n in (5, 10, 20, 50):
        w1, w2 = lam_balanced(n, 0.0)
        _, syx = correlations(n, n)
        for count in (1, 200):
            t = np.linspace(0, 6, count + 1)[1:]
            arguments = [jnp.asarray(x) for x in (t if count > 1 else t[0], w1, w2, syx)]
            exact = jax.jit(lambda *a: exact_solution(*a).network_map)
            closed = np.reshape(np.asarray(exact(*arguments)), (count, n, n))

            def loosest(integrate, closed=closed):
                """Judged by the closed form, whose own error is in the last column and in the next table."""
                for rtol in 10.0 ** -np.arange(8, 14.5, 0.5):
                    call = integrate(rtol)
                    error = np.abs(np.reshape(np.asarray(call()), closed.shape) - closed).max()
                    if error <= aim:
                        break
                return call, error

            diffrax_call, diffrax_error = loosest(
                lambda rtol, t=t, a=arguments: with_diffrax(jnp.asarray(t), *a[1:], rtol)
            )
            scipy_call, scipy_error = loosest(lambda rtol, t=t, w1=w1, w2=w2, syx=syx: with_scipy(t, w1, w2, syx, rtol))
            found = ratios(
                {
                    "exact": lambda exact=exact, arguments=arguments: exact(*arguments),
                    "diffrax": diffrax_call,
                    "SciPy": scipy_call,
                },
                "exact",
                rounds=5,
            )
            for name, each in found.items():
                when = "one end time" if count == 1 else f"{count} times"
                series.setdefault(f"{name}, {when}", []).append({"x": n, "ratio": each})
            # Multiple precision takes minutes beyond.
            own = "-"
            if n <= 20:
                some = np.unique(np.linspace(0, count - 1, 4).astype(int))
                truth = np.array([reference_map(t[i], w1, w2, syx, 60) for i in some])
                own = f"{np.abs(closed[some] - truth).max():.0e}"
            drawn.add_row(
                str(n),
                str(count),
                f"{found['diffrax'][1]:.1f}",
                f"{diffrax_error:.0e}",
                f"{found['SciPy'][1]:.0f}",
                f"{scipy_error:.0e}",
                own,
            )
    console.print(drawn)
    title = f"Exact two-layer solution against integration to {aim:.0e}"
    words = "Aims: 15 for diffrax and one end time, 2 for 200 times and up to 20 units."
    return [Result(title, "units", "integration / exact", series, comment=words)]


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


def accuracy() -> None:
    """Error of the exact solution against multiple precision, for any time and any balance of the layers."""
    drawn = table("Error of the exact solution against 600 digits", "lam", "time x largest singular value", "error")
    for lam in (0.0, 1e-6, 0.5, -3.0):
        w1, w2 = lam_balanced(5, lam)
        _, syx = correlations(5, 5)
        for reach in (0.1, 3, 10, 30, 100, 300):
            t = reach / np.linalg.norm(syx, 2)
            found = np.asarray(exact_solution(t, w1, w2, syx).network_map)
            error = np.abs(found - reference_map(t, w1, w2, syx, 600)).max()
            drawn.add_row(f"{lam:g}", f"{reach:g}", f"{error:.0e}")
    console.print(drawn)


def lam_balanced(n: int, lam: float, scale: float = 0.05, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A start of n x n layers with W2^T W2 - W1 W1^T = lam I."""
    rng = np.random.default_rng(seed)
    left, hidden, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(3))
    product = scale * rng.uniform(0.5, 1.5, n)
    big = np.sqrt((np.hypot(lam, 2 * product) + abs(lam)) / 2)
    a, b = (product / big, big) if lam >= 0 else (big, product / big)
    return (hidden * a) @ right.T, (left * b) @ hidden.T


def ensemble(steps: int = 500) -> list[Result]:
    """An ensemble in one program, against the same runs one by one, against a Python loop over compiled steps."""
    drawn = table(
        f"Ensemble training, {steps} steps: cost of the alternative / cost of one program",
        "width",
        "runs",
        "vmap",
        "lax.map",
        "run by run",
        "Python loop of steps",
    )
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

        found = ratios(
            {
                "auto": lambda: simulate(simulation, together, times).records,  # noqa: B023
                "vmap": lambda: simulate(simulation, together, times, batching="vmap").records,  # noqa: B023
                "map": lambda: simulate(simulation, together, times, batching="map").records,  # noqa: B023
                "run by run": one_by_one,
                "Python loop of steps": loop,
            },
            "auto",
            rounds=5,
        )
        found["Python loop of steps"] = [runs * each for each in found["Python loop of steps"]]
        for name, each in found.items():
            series.setdefault(name, []).append({"x": f"{width} ({runs} runs)", "ratio": each})
        drawn.add_row(
            str(width),
            str(runs),
            *(f"{found[name][1]:.2f}" for name in ("vmap", "map")),
            *(f"{found[name][1]:.1f}" for name in ("run by run", "Python loop of steps")),
        )
    console.print(drawn)
    unit = "alternative / one program, batched as the engine chooses"
    return [Result(f"Ensembles of linear networks, {steps} steps", "width", unit, series)]


def scaling(steps: int = 200) -> None:
    """Exponents of the cost of training against width, depth and number of runs."""
    drawn = table("Cost of training against size", "axis", "sizes", "cost relative to the first", "exponent")
    axes = {
        "width": ((32, 64, 128, 256), lambda n: (trained(n, 2), grid(seeds=1))),
        "depth": ((2, 4, 8, 16, 32), lambda n: (trained(64, n), grid(seeds=1))),
        "runs": ((1, 4, 16, 64, 256), lambda n: (trained(16, 2), grid(seeds=n))),
    }
    for name, (sizes, build) in axes.items():
        calls = {}
        for size in sizes:
            simulation, runs = build(size)
            calls[str(size)] = lambda s=simulation, r=runs: simulate(s, r, [0, steps]).records
        seconds = list(least_seconds(calls, rounds=3).values())
        relative = ", ".join(f"{s / seconds[0]:.3g}" for s in seconds)
        drawn.add_row(name, ", ".join(map(str, sizes)), relative, f"{slope(sizes, seconds):.2f}")
    console.print(drawn)


def main() -> None:
    console.print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, float64\n")
    parts = {"closed_form": closed_form, "accuracy": accuracy, "ensemble": ensemble, "scaling": scaling}
    kept = "--keep" in sys.argv
    chosen = [name for name in sys.argv[1:] if name != "--keep"] or list(parts)
    if unknown := [name for name in chosen if name not in parts]:
        raise SystemExit(f"unknown part {unknown[0]!r}; there are: {', '.join(parts)}")
    found: list[Result] = []
    for name in chosen:
        found += parts[name]() or []
        console.print()
    if kept:
        console.print(f"kept in {keep('deep_linear', 'Deep linear networks', found)}")


if __name__ == "__main__":
    main()
