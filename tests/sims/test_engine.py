"""Laws of the engine: resume, independence of neighbours, one compile, refusals."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache

from sims import engine
from sims.batching import chosen, largest_operation
from sims.compilation import quick_compilation
from sims.engine import Runs, Simulation, every, grid, session, simulate


def walk(scale=1.0):
    """A noisy walk whose state holds a typed key, like a training run."""

    def init(key, hyper):
        start, noise = jax.random.split(key)
        return {"x": scale * jax.random.normal(start, (3, 2)), "key": noise, "n": jnp.zeros((), int), "lr": hyper["lr"]}

    def step(state):
        kick = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (3, 2))
        x = state["x"] + state["lr"] * (kick - jnp.tanh(state["x"]))
        return state | {"x": x, "n": state["n"] + 1}

    return Simulation(init, step, lambda state: {"x": state["x"], "square": jnp.sum(state["x"] ** 2)})


RUNS = grid(seeds=[3, 5], lr=[0.1, 0.2, 0.3])
TIMES = np.array([0, 1, 4, 10, 11, 30, 50])


def test_records_are_what_a_plain_loop_gives():
    simulation = walk()
    found = simulate(simulation, RUNS, TIMES)
    for run, (seed, lr) in enumerate(zip(RUNS.seeds, RUNS.hyper["lr"], strict=True)):
        state = simulation.init(jax.random.fold_in(jax.random.key(0), seed), {"lr": lr})
        for n in range(TIMES[-1] + 1):
            if n in TIMES:
                at = int(np.searchsorted(TIMES, n))
                # Compiled and eager arithmetic differ by rounding, amplified over 50 steps by at most e^15 eps.
                np.testing.assert_allclose(found.records["x"][run, at], state["x"], atol=1e-9)
            state = simulation.step(state)


def test_grid_has_every_combination_once():
    trajectory = simulate(walk(), RUNS, TIMES)
    assert trajectory.runs.shape == (2, 3)
    unfolded = trajectory.on_grid()["square"]
    assert unfolded.shape == (2, 3, len(TIMES))
    np.testing.assert_array_equal(unfolded[1, 2], trajectory.records["square"][5])
    pairs = set(zip(RUNS.seeds.tolist(), RUNS.hyper["lr"].tolist(), strict=True))
    assert pairs == {(s, lr) for s in (3, 5) for lr in (0.1, 0.2, 0.3)}


@pytest.mark.parametrize("batching", ["vmap", "map"])
def test_a_run_does_not_depend_on_its_neighbours(batching):
    together = simulate(walk(), RUNS, TIMES, batching=batching)
    alone = simulate(walk(), grid(seeds=[5], lr=[0.3]), TIMES, batching=batching)
    np.testing.assert_allclose(together.records["x"][5], alone.records["x"][0], atol=1e-9)


def test_batching_and_chunks_do_not_change_the_numbers():
    reference = simulate(walk(), RUNS, TIMES, batching="map", chunks=1)
    for batching, chunks in (("map", 7), ("vmap", 3), (2, 7), (4, 1), (100, 3)):
        other = simulate(walk(), RUNS, TIMES, batching=batching, chunks=chunks)
        np.testing.assert_allclose(other.records["x"], reference.records["x"], atol=1e-9)
        assert other.batching == batching


@pytest.mark.parametrize("batching", ["vmap", "map", 4])
def test_stopped_and_resumed_is_bit_identical(tmp_path, batching):
    file = tmp_path / "run.npz"
    whole = simulate(walk(), RUNS, TIMES, batching=batching)

    def stop(done, total):
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(walk(), RUNS, TIMES, batching=batching, checkpoint=file, chunks=7, progress=stop)
    seen = []
    resumed = simulate(
        walk(), RUNS, TIMES, batching=batching, checkpoint=file, chunks=7, progress=lambda done, _: seen.append(done)
    )
    assert seen[0] > 10, "it went on from where it was stopped"
    for name in whole.records:
        np.testing.assert_array_equal(resumed.records[name], whole.records[name])
    np.testing.assert_array_equal(resumed.state["x"], whole.state["x"])
    assert jnp.array_equal(jax.random.key_data(resumed.state["key"]), jax.random.key_data(whole.state["key"]))


def test_a_session_keeps_a_checkpoint_per_configuration(tmp_path):
    with session(tmp_path):
        first = simulate(walk(), RUNS, TIMES)
        simulate(walk(2.0), RUNS, TIMES)
        again = simulate(walk(), RUNS, TIMES)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    np.testing.assert_array_equal(first.records["x"], again.records["x"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(simulation=walk(2.0)), "the code or the constants"),
        (dict(runs=grid(seeds=[3, 6], lr=[0.1, 0.2, 0.3])), "the seeds"),
        (dict(runs=grid(seeds=[3, 5], lr=[0.1, 0.2, 0.4])), "the hyperparameters"),
        (dict(record_at=TIMES + 1), "the steps to record at"),
    ],
)
def test_a_checkpoint_refuses_another_configuration(tmp_path, change, named):
    file = tmp_path / "run.npz"
    base = dict(simulation=walk(), runs=RUNS, record_at=TIMES)
    simulate(**base, checkpoint=file)
    with pytest.raises(ValueError, match=f"another configuration: {named}"):
        simulate(**(base | change), checkpoint=file)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_corrupt_checkpoint_is_named(tmp_path, damage):
    file = tmp_path / "run.npz"
    simulate(walk(), RUNS, TIMES, checkpoint=file)
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    file.write_bytes({"flip": bytes(content), "cut": bytes(content[:300]), "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"checkpoint .*run\.npz is corrupt"):
        simulate(walk(), RUNS, TIMES, checkpoint=file)


def test_a_checkpoint_that_cannot_be_written_does_not_cost_the_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="could not be written, the run goes on"):
        found = simulate(walk(), RUNS, TIMES, checkpoint=tmp_path / "file" / "run.npz")
    np.testing.assert_array_equal(found.records["x"], simulate(walk(), RUNS, TIMES).records["x"])


def test_one_compile_per_shape():
    simulation, compiles = walk(), []

    def hear(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiles.append(event)

    simulate(simulation, RUNS, TIMES, batching="vmap")
    monitoring.register_event_duration_secs_listener(hear)
    try:
        other = grid(seeds=[7, 8], lr=[0.5, 0.6, 0.7])
        simulate(simulation, other, TIMES + 2, batching="vmap")
        assert not compiles, "the same shapes were compiled again"
    finally:
        monitoring.clear_event_listeners()


def test_a_state_given_to_the_next_chunk_costs_nobody_anything(tmp_path):
    """Neither the arrays that the caller still holds nor, where there is a checkpoint, what Ctrl-C has to save."""
    lr = jnp.array([0.1, 0.2, 0.3])
    runs = Runs(np.arange(3), {"lr": lr}, (3,))
    first = simulate(walk(), runs, TIMES, chunks=7)
    np.testing.assert_array_equal(lr, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(first.state["lr"], lr)
    calls = []

    def dies(program):
        def advance(state, gaps):
            # As where Ctrl-C comes while the device is at work: the state was handed over, nothing came back.
            found = program.advance(state, gaps)
            calls.append(found)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return found

        return program._replace(advance=advance)

    made, file = engine._program, tmp_path / "run.npz"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "_program", lambda *given, **named: dies(made(*given, **named)))
        simulate(walk(), runs, TIMES, chunks=7, checkpoint=file)
    assert file.exists(), "the last finished chunk was not saved"
    again = simulate(walk(), runs, TIMES, chunks=7, checkpoint=file)
    np.testing.assert_array_equal(again.records["x"], first.records["x"])


def layers(width, samples, depth=2):
    """A stack of tanh layers: how much a step computes grows with the width and with the number of samples."""
    data = np.ones((samples, width))

    def loss(weights):
        h = data
        for w in weights:
            h = jnp.tanh(h @ w)
        return jnp.sum(h)

    def step(weights):
        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))

    return Simulation(lambda key, _: [jnp.ones((width, width))] * depth, step, loss)


def how(simulation, runs):
    return chosen(simulation.init, simulation.step, {}, runs, "auto")


def test_what_fits_into_the_cache_goes_side_by_side(monkeypatch):
    small, wide, many = layers(8, 4), layers(64, 4), layers(32, 512)
    state = jax.eval_shape(small.init, jax.random.key(0), {})
    needed = largest_operation(small.step, state)
    assert needed == 3 * 8 * 8 * 8, "weights less a gradient, and what comes out"
    assert largest_operation(layers(8, 4, depth=9).step, state * 5) == needed, "depth makes no operation larger"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert how(small, 4) == "vmap"
    # Networks of one width: what they compute decides, not the width.
    assert how(layers(32, 4), 4) == "vmap"
    assert how(layers(128, 4), 64) == "map"
    assert how(many, 4) == "map"
    for runs in (1024, 1000, 997):
        size = how(small, runs)
        assert isinstance(size, int) and 4 <= size < runs
        assert size * needed <= 3 * 2**16 < 4 * size * needed
        assert runs == 997 or runs % size == 0, "a remainder is compiled for itself"
    assert how(many, 1) == "vmap", "a single run has nothing beside it"
    # Where programs are compiled quickly the width decides.
    monkeypatch.setenv("XLA_FLAGS", quick_compilation())
    assert (how(small, 1024), how(many, 64), how(wide, 64)) == ("vmap", "vmap", "map")


def test_what_a_loop_and_a_choice_hold_counts_once():
    def step(x):
        x = jax.lax.fori_loop(0, 1000, lambda _, y: jnp.tanh(y), x)
        return jax.lax.cond(x[0] > 0, lambda x: jnp.outer(x, x)[0], lambda x: x, x)

    state = jax.ShapeDtypeStruct((100,), jnp.float64)
    outer = 8 * (100 + 100 + 100**2)
    assert outer <= largest_operation(step, state) < 2.5 * outer


def test_seeds_and_steps_draw_different_noise():
    records = simulate(walk(), grid(seeds=50, lr=[1.0]), [0, 1, 2]).records["x"]
    draws = np.concatenate([records[:, 0], records[:, 1] - records[:, 0], records[:, 2] - records[:, 1]])
    flat = np.sort(draws.reshape(-1))
    assert (np.diff(flat) > 0).all(), "two draws are equal: a key was used twice"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(record_at=[]), "record_at"),
        (dict(record_at=[0, 5, 5]), "record_at"),
        (dict(record_at=[-1, 5]), "record_at"),
        (dict(record_at=np.array([0.0, 1.5])), "record_at"),
        (dict(batching="loop"), "batching"),
        (dict(batching=0), "batching"),
        (dict(batching=True), "batching"),
        (dict(runs=RUNS._replace(seeds=np.array([-1] * 6))), "seeds"),
        (dict(runs=RUNS._replace(hyper={"lr": np.ones(5)})), r"hyper\['lr'\]"),
    ],
)
def test_refusals_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        simulate(**(dict(simulation=walk(), runs=RUNS, record_at=TIMES) | arguments))


def test_an_empty_axis_is_named():
    with pytest.raises(ValueError, match=r"^lr must hold"):
        grid(seeds=2, lr=[])
    with pytest.raises(ValueError, match="interval"):
        every(10, 0)


SHARDED = """
import sys, jax, numpy as np
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, sys.argv[1])
from test_engine import walk, RUNS, TIMES
from sims.engine import simulate
assert jax.device_count() == 4
for batching in ("vmap", "map", 1):
    found = simulate(walk(), RUNS, TIMES, batching=batching, checkpoint=f"{sys.argv[2]}/{batching}.npz")
    assert len(found.state["x"].devices()) == 4
    np.save(f"{sys.argv[2]}/{batching}.npy", found.records["x"])
"""


def test_runs_are_sharded_over_devices_with_equal_results(tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-c", SHARDED, os.path.dirname(__file__), str(tmp_path)],
        check=True,
        env=os.environ | flags,
    )
    here = simulate(walk(), RUNS, TIMES)
    for batching in ("vmap", "map", 1):
        np.testing.assert_allclose(np.load(tmp_path / f"{batching}.npy"), here.records["x"], atol=1e-9)
        # A checkpoint written on four devices is continued on one.
        again = simulate(walk(), RUNS, TIMES, batching=batching, checkpoint=tmp_path / f"{batching}.npz")
        np.testing.assert_array_equal(again.records["x"], np.load(tmp_path / f"{batching}.npy"))


def test_float32_is_a_choice(tmp_path):
    with jax.enable_x64(False):
        trajectory = simulate(walk(), RUNS, TIMES)
        assert trajectory.records["x"].dtype == np.float32
    file = tmp_path / "run.npz"
    simulate(walk(), RUNS, TIMES, checkpoint=file)
    with jax.enable_x64(False), pytest.raises(ValueError, match="precision"):
        simulate(walk(), RUNS, TIMES, checkpoint=file)


def test_progress_is_a_bar_or_a_function(capfd):
    seen = []
    simulate(walk(), RUNS, TIMES, progress=lambda *steps: seen.append(steps), chunks=3)
    assert seen == [(4, 50), (30, 50), (50, 50)]
    simulate(walk(), RUNS, TIMES, progress=True)
    # Nothing is drawn where there is no terminal.
    assert capfd.readouterr().err == ""


def test_optimised_programs_compute_the_same():
    """Whatever XLA's flags ask for: the same sums in another order."""
    quick, slow = (simulate(walk(), RUNS, TIMES, optimised=flag).records for flag in (False, True))
    for one, other in zip(jax.tree.leaves(quick), jax.tree.leaves(slow), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.fixture
def kept_programs(tmp_path):
    """A folder in which JAX keeps compiled programs, as a user's JAX_COMPILATION_CACHE_DIR may ask it to."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path / "programs"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compiled_anew():
    jax.clear_caches()
    engine._program.cache_clear()
    return simulate(walk(), RUNS, TIMES).records["x"]


def test_a_broken_kept_program_costs_no_run(kept_programs):
    first = compiled_anew()
    files = list(kept_programs.glob("*-cache"))
    assert files, "nothing was kept"
    for length in (100, 0):
        for file in files:
            file.write_bytes(file.read_bytes()[:length])
        with pytest.warns(UserWarning, match="persistent compilation cache"):
            again = compiled_anew()
        np.testing.assert_array_equal(again, first)
    # A folder that cannot be written to is none.
    (kept_programs.parent / "file").touch()
    jax.config.update("jax_compilation_cache_dir", str(kept_programs.parent / "file" / "programs"))
    compilation_cache.reset_cache()
    with pytest.warns(UserWarning, match="persistent compilation cache"):
        np.testing.assert_array_equal(compiled_anew(), first)
