"""Set up once for every test: float64, shapes checked at run time, Hypothesis profiles."""

import contextlib
import os

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

from sims.compilation import collect_seldom, forget_compiled, quick_compilation

# Tests compile thousands of programs that then run for milliseconds.
os.environ.setdefault("XLA_FLAGS", quick_compilation())
collect_seldom()

# A pytest plugin may have imported JAX before the variable above was set.
jax.config.update("jax_enable_x64", True)

# Every annotated shape and dtype of the public functions is enforced while the tests run.
_hook = install_import_hook(["theory", "sims"], "beartype.beartype")

_COMMON = dict(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# `ci` is the same on every machine; `search` looks for new counterexamples and keeps them.
settings.register_profile("ci", derandomize=True, database=None, max_examples=15, **_COMMON)
settings.register_profile("search", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Grows with every program that is compiled.
_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _compiled.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
)


@pytest.fixture
def compiled_again():
    """How many programs a second call of a function compiles.

    A loop whose body is a new closure is compiled at each call: a hundred times the price of the numbers.
    """

    def counted(function):
        function()
        before = len(_compiled)
        function()
        return len(_compiled) - before

    return counted


def pytest_runtest_teardown(item, nextitem):
    """Between files, forget what was compiled before the process is full."""
    if nextitem is None or nextitem.path != item.path:
        forget_compiled()


@pytest.fixture
def file_limit():
    """`with file_limit(size)`: no file of this process grows beyond it; more is an `OSError`, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limited(size):
        before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))

    return limited
