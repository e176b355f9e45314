"""Every study at smoke size: its claims hold and its rivals fall."""

import pytest

from validation.study import check, discover, find

# More than some fifteen seconds of CPU time each. The report runs them like all others; the tests do with `-m slow`.
SLOW = {
    "deep_linear/gated_race",
    "deep_linear/sgd_risk",
    "deep_linear/small_random_start",
    "induction/abrupt_transition",
    "induction/clamping",
    "induction/data_dependence",
    "induction/forgetting",
    "induction/formation_time",
    "induction/match_and_copy",
    "induction/minimal_head",
    "induction/natural_language",
    "induction/nested_logits",
    "induction/race",
    "induction/recurrent_or_attention",
    "induction/task_identification",
    "kernels/batchnorm_only",
    "kernels/cross_entropy_and_momentum",
    "kernels/double_descent",
    "kernels/edge_of_chaos",
    "kernels/feature_learning_limit",
    "kernels/intrinsic_dimension",
    "kernels/learning_curves_digits",
    "kernels/learning_rate_transfer",
    "kernels/linearised_training",
    "kernels/score_matching",
    "kernels/wide_networks",
    "kernels/width_sweep",
    "lazy_rich/continual_binary",
    "lazy_rich/feature_emergence",
    "lazy_rich/geometry",
    "lazy_rich/grokking",
    "lazy_rich/mean_field_kernels",
    "lazy_rich/modular_addition",
    "lazy_rich/noise_phases",
    "lazy_rich/output_scale",
    "lazy_rich/pruning_regimes",
    "lazy_rich/sgd_noise",
    "lazy_rich/structured_weights",
}


def marked(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


@pytest.mark.parametrize("name", [marked(name) for name in discover()])
def test_study_holds(name):
    outcome = check(find(name))
    failed = [f"{v.statement}: {v.value:.3g} > {v.tolerance:.3g}" for v in outcome.verdicts if not v.holds]
    standing = [r.belief for r in outcome.refutations if not r.holds]
    assert not failed, failed
    assert not standing, standing


def test_the_slow_ones_exist():
    assert set(discover()) >= SLOW
