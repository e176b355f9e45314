"""How much XLA should think before it runs a program on the CPU."""

from __future__ import annotations

import importlib.metadata
import os

_QUICK = "--xla_backend_optimization_level=0"
# On the CPU a batched decomposition waits for threads of the pool on which it runs itself. In JAX 0.10 two of them at a
# time stop a machine of two cores for ever, and this scheduler is what sets them going at a time.
ONE_AT_A_TIME = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def quick_compilation() -> str:
    """XLA's flags for programs that take longer to compile than to run: smoke runs, tests."""
    return f"{_QUICK} {ONE_AT_A_TIME}" + " --xla_cpu_use_fusion_emitters=false" * _emitters_are_optional()


def optimisations() -> dict[str, str | bool] | None:
    """XLA's options for programs that run for longer than they compile, where its flags ask for quick compilation.

    The first level with emitted fusions runs faster than the second without, and compiles as soon.
    """
    if _QUICK not in os.environ.get("XLA_FLAGS", ""):
        return None
    emitted = {"xla_cpu_use_fusion_emitters": True} if _emitters_are_optional() else {}
    return {"xla_backend_optimization_level": "1"} | emitted


def _emitters_are_optional() -> bool:
    """Later versions always emit fusions, quickly, and end the process at an option that they do not know."""
    version = importlib.metadata.version("jaxlib").split(".")
    return (int(version[0]), int(version[1])) < (0, 11)
