"""Every study at smoke size: its claims hold and its rivals fall."""

import pytest

from validation.study import check, discover, find

# More than some six seconds of CPU time each. The report runs them like all others; the tests do with `-m slow`.
SLOW = {
    "bayes_icl/architectures",
    "bayes_icl/asymptotic_linear_attention",
    "bayes_icl/bandit_transformer",
    "bayes_icl/conjunctions",
    "bayes_icl/context_tree",
    "bayes_icl/english_in_context",
    "bayes_icl/generative_discriminative",
    "bayes_icl/hidden_concepts",
    "bayes_icl/item_pools",
    "bayes_icl/linear_attention_drops",
    "bayes_icl/linear_bandit_transformer",
    "bayes_icl/low_rank_completion",
    "bayes_icl/markov_algorithms",
    "bayes_icl/one_gradient_step",
    "bayes_icl/optimal_linear_attention",
    "bayes_icl/prism_mixture",
    "bayes_icl/ridge_in_context",
    "bayes_icl/sampled_references",
    "bayes_icl/simplicity_bias",
    "bayes_icl/stacked_layers",
    "bayes_icl/task_diversity",
    "bayes_icl/training_sets",
    "bayes_icl/unsupervised_pretraining",
    "bayes_icl/urns",
    "bayes_icl/words_in_context",
    "deep_linear/depth",
    "deep_linear/diagonal_kernel_to_rich",
    "deep_linear/digits",
    "deep_linear/digits_whitened",
    "deep_linear/early_stopping",
    "deep_linear/gated_race",
    "deep_linear/hierarchy",
    "deep_linear/largest_stable_step",
    "deep_linear/lazy_to_rich",
    "deep_linear/opposing_outliers",
    "deep_linear/overtraining_peak",
    "deep_linear/random_products",
    "deep_linear/sgd_risk",
    "deep_linear/single_output",
    "deep_linear/small_random_start",
    "deep_linear/spiked_teacher",
    "induction/abrupt_transition",
    "induction/acquisition",
    "induction/associative_memory",
    "induction/clamping",
    "induction/coopetition",
    "induction/data_dependence",
    "induction/forgetting",
    "induction/formation_time",
    "induction/inverse_permutation",
    "induction/long_tail",
    "induction/markov_stages",
    "induction/match_and_copy",
    "induction/minimal_head",
    "induction/natural_language",
    "induction/nested_logits",
    "induction/race",
    "induction/recurrent_or_attention",
    "induction/subcircuits",
    "induction/task_identification",
    "induction/transience",
    "kernels/batchnorm_only",
    "kernels/cross_entropy_and_momentum",
    "kernels/deep_classifiers",
    "kernels/double_descent",
    "kernels/edge_of_chaos",
    "kernels/feature_learning_limit",
    "kernels/intrinsic_dimension",
    "kernels/learning_curves_digits",
    "kernels/learning_curves_sphere",
    "kernels/learning_rate_transfer",
    "kernels/linearised_training",
    "kernels/overfitting_regimes",
    "kernels/score_matching",
    "kernels/wide_networks",
    "kernels/width_sweep",
    "lazy_rich/continual_binary",
    "lazy_rich/continual_regression",
    "lazy_rich/feature_emergence",
    "lazy_rich/geometry",
    "lazy_rich/grokking",
    "lazy_rich/initial_rank",
    "lazy_rich/interacting_features",
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
