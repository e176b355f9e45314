"""Public theory functions that back no `Formula` answer or refuse bad input, too: no NaN comes out, none goes unseen.

Those that back one are given bad input in test_derivations.py. `EXAMPLES` holds proper arguments of the others, which
are then changed one at a time; `NO_EXAMPLE` says of which there are none, and why.
"""

import ast
import functools
import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from derivations.formula import discover
from validation.formulas import answers

ROOT = Path(__file__).parent.parent
T = np.array([0.0, 0.5, 2.0])
X = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1], [0.7, 0.4]])
Y = np.array([0.3, -0.5, 1.0, 0.2])
TEST = np.array([[0.4, -0.2], [0.9, 1.0]])
QUERY = np.array([0.4, -0.2])
CUBE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
SIGNS = 2 * CUBE - 1
LABELS = np.array([0.0, 1.0, 0.0, 1.0])
SYMBOLS = np.array([0, 1, 1, 0, 2, 1])
TWO = np.array([0.6, 0.4])
THREE = np.array([0.5, 0.3, 0.2])
W1, W2 = np.array([[0.5, 0.1], [-0.2, 0.7], [0.3, 0.3]]), np.array([[0.4, -0.1, 0.6], [0.2, 0.5, -0.3]])
GRAM = X @ X.T + np.eye(4)
BLOCKS = (GRAM, TEST @ X.T, TEST @ TEST.T + np.eye(2))
MERGED = (np.array([0.1]), 0.1 * np.eye(2)[None])
PROMPTS = (np.diag([1.0, 0.5]), np.eye(2), 0.1)
LOSSES = np.array([0.9, 0.7, 0.8, 0.6])
SPECTRUM = np.array([1.0, 0.5, 0.2])
CYCLIC = np.add.outer(np.arange(3), np.arange(3)) % 3


def made(path, *arguments, **keywords):
    """What another theory function makes: a group, contexts, a solution."""
    module, name = f"theory.{path}".rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(*arguments, **keywords)


def call(*arguments, **keywords):
    return arguments, keywords, lambda f: f


def through(use, *arguments):
    """For a function that returns a function: what is made of it by `use`."""
    return arguments, {}, lambda f: lambda *given: use(f(*given))


def of_activation(*arguments):
    return through(lambda phi: made("kernels.activations.dual", phi, 1.0, 0.8, 0.3), *arguments)


BAYES_ICL = {
    "algorithms.prefix_predictions": lambda: call(
        functools.partial(importlib.import_module("theory.bayes_icl.algorithms").ridge, penalty=0.5), X, Y
    ),
    "algorithms.spectral_rule": lambda: call(X, Y, QUERY, share=lambda lam: lam / (lam + 0.3)),
    "algorithms.nearest_neighbours": lambda: call(X, Y, QUERY),
    "algorithms.squared_difference": lambda: call(Y, 2 * Y),
    "bandits.linucb_index": lambda: call(X[:2], X, Y, 0.3, 1.7),
    "bandits.best_arm_entropy": lambda: call(TWO),
    "bandits.thompson_regret_bound": lambda: call(0.5, 2.0, 10.0),
    "bandits.linucb_regret_bound": lambda: call(1.5, 2.0, 10.0),
    "bandits.thompson_policy": lambda: call(2, 2, np.array([1.0, 1.5])),
    "bandits.greedy_policy": lambda: call(2, 2, np.array([1.0, 1.5])),
    "best_arm.hypotheses_best_arm": lambda: call(np.log(TWO), X[:2]),
    "boolean_functions.literal_log_prior": lambda: call(made("bayes_icl.boolean_functions.literal_sets", 2), 0.4),
    "boolean_functions.normal_form": lambda: call(made("bayes_icl.boolean_functions.literal_sets", 2), SIGNS),
    "boolean_functions.threshold_function": lambda: call(TEST, SIGNS, 0.1),
    "boolean_functions.input_log_density": lambda: call(
        made("bayes_icl.boolean_functions.literal_sets", 2), SIGNS, 0.6
    ),
    "boolean_functions.class_predictions": lambda: call(
        np.array([[True, False, True, True], [False, True] * 2]), LABELS
    ),
    "boolean_functions.disjunction_predictions": lambda: call(SIGNS, LABELS, 0.6, 0.3),
    "boolean_functions.neighbour_predictions": lambda: call(SIGNS, LABELS, 1),
    "dirichlet_ngrams.urn_predictions": lambda: call(SYMBOLS, np.array([THREE, THREE[::-1]]), np.log(TWO)),
    "function_families.subset_predictions": lambda: call(X, np.array([[0], [1]]), Y, 0.2, 1.0, np.log(TWO)),
    "function_families.fourier_features": lambda: call(Y, 2, 5.0),
    "function_families.monomials": lambda: call(X, np.array([[0, 0], [1, 0]])),
    "gradient_descent_layers.shrinking_descent": lambda: call(X, Y, QUERY, rates=TWO, shrinking=0.1 * TWO),
    "hidden_markov.smoothed_rows": lambda: call(np.array([TWO, TWO[::-1]]), 0.1),
    "linear_attention_dynamics.heads_flow": lambda: call(
        T, made("bayes_icl.linear_attention_dynamics.MergedHeads", *MERGED), PROMPTS, 10.0
    ),
    "linear_attention_dynamics.abrupt_drop": lambda: call(T, 1e-2, PROMPTS, 10.0),
    "markov_mixtures.bigram_inference": lambda: call(SYMBOLS, 3, 1.0),
    "markov_mixtures.unigram_inference": lambda: call(SYMBOLS, 3, 1.0),
    "markov_mixtures.stationary_inference": lambda: call(SYMBOLS, 3, 1.0),
    "parities.parity_predictions": lambda: call(CUBE, LABELS),
    "parities.sparse_parity_predictions": lambda: call(CUBE, LABELS, 1),
    "posterior_sampling.calibration_ranks": lambda: call(X, Y),
    "prequential.normalised_log_prior": lambda: call(np.log(TWO), 2),
    "prequential.log_posterior": lambda: call(-np.abs(X.T), np.log(TWO)),
    "strategy_choice.memoriser_weight": lambda: call(T, (0.1, 1e3), (0.5, 32.0), (0.5, 0.7, 1.0)),
    "strategy_choice.symmetric_divergence": lambda: call(np.log(THREE), np.log(THREE[::-1])),
    "strategy_choice.fitted_learner": lambda: call(
        np.array([10.0, 1e2, 1e3]), (np.zeros(3), np.array([1e3, 2e3, 3e3])), (0.5, 32.0), np.array([0.1, 0.3, 0.8])
    ),
    "universality.coin_divergences": lambda: call(0.3, TWO),
    "universality.hypothesis_log_weight": lambda: call(TWO, 0.5),
    "universality.resolvability": lambda: call(TWO, 10.0),
}
DEEP_LINEAR = {
    "diagonal.start": lambda: call(TWO, TWO / 2),
    "diagonal.coefficients": lambda: call(T, (X, Y, -2.0, 0.1, 2)),
    "edge_of_stability.spike": lambda: call(T, 0.5, 0.1),
    "end_to_end.weight_flow": lambda: call(T, [W1, W2], np.eye(2), np.diag([2.0, 1.0])),
    "end_to_end.strength_curves": lambda: call(T, np.eye(2), np.diag([2.0, 1.0]), np.array([0.1, 0.2]), 2),
    "gated.routing_domains": lambda: call(T, 1.0, TWO, 0.3, TWO, np.ones((2, 2))),
    "gated.pathway_flow": lambda: call(T, [W1, W2], [[0, 1]], [np.diag([2.0, 1.0])], {(0, 0): np.eye(2)}),
    "generalization.early_stopped_error": lambda: call((0.5, 1.0, 0.3)),
    "generalization.overtraining": lambda: call((0.5, 1.0, 0.3)),
    "marchenko_pastur.bulk": lambda: call(0.5),
    "marchenko_pastur.edge_angles": lambda: call(0.5),
    "marchenko_pastur.sample_spectrum": lambda: call(SPECTRUM, 5),
    "spiked_teacher.optimal_stopping_time": lambda: call((np.array([3.0, 1.0]), 200.0, 100.0), 1e-3),
    "tangent_kernel.normalised_kernel": lambda: call(
        (np.ones((3, 2, 2)), np.tile(np.eye(2), (3, 1, 1)), np.tile(2 * np.eye(2), (3, 1, 1)))
    ),
}
INDUCTION = {
    "acquisition.in_context_accuracy": lambda: call((0.5, 1.0), made("induction.acquisition.random_contexts", 4), 2.0),
    "acquisition.acquisition_flow": lambda: call(T, made("induction.acquisition.random_contexts", 4)),
    "associative_memory.power_law": lambda: call(1.3, 4),
    "associative_memory.flow_loss": lambda: call(T, THREE),
    "attention_svm.locally_optimal": lambda: call(
        made("induction.max_margin.max_margin", X.reshape(2, 2, 2), TEST, np.array([0, 1])), X[:2], np.array([0, 1])
    ),
    "attention_svm.margin_deficit": lambda: call(
        3.0,
        made("induction.max_margin.max_margin", X.reshape(2, 2, 2), TEST, np.array([0, 1])),
        X[:2],
        np.array([0, 1]),
    ),
    "clamps.clamped_flow": lambda: call(T, 4, 8.0, ("previous",), 1.0),
    "coopetition.explained": lambda: call((np.ones(4), np.array([512.0, 4096.0, 512.0]), np.zeros(2), np.array(0.5))),
    "coopetition.competition_strength": lambda: call(
        (np.ones(4), np.array([512.0, 4096.0, 512.0]), np.zeros(2), np.array(0.5))
    ),
    "coopetition.coopetition_flow": lambda: call(
        T,
        (np.array([0.3, 0.1, 1.0, 1.0]), np.array([1.0, 1.0, 0.1, 0.1])),
        (np.ones(4), np.array([512.0, 4096.0, 512.0]), np.zeros(2), np.array(0.5)),
    ),
    "data_statistics.label_frequencies": lambda: call(np.array([0.4, 0.3, 0.2, 0.1]), 2),
    "data_statistics.plateaus": lambda: call(16.0, 4.0),
    "data_statistics.in_weights_accuracy": lambda: call(16, 0.5),
    "data_statistics.distribution": lambda: call(THREE),
    "forgetting.race_with_resets": lambda: call(
        5.0, 2, T, made("induction.race.Statistics", 2, 6.0, np.full(2, 1 / 24), np.full(2, 12.0), 0.7)
    ),
    "markov_stages.stage_flow": lambda: call(T, made("induction.markov_stages.all_contexts", 3), 2.0),
    "markov_stages.plateau": lambda: call(made("induction.markov_stages.all_contexts", 3)),
    "markov_stages.slow_flow": lambda: call(T, made("induction.markov_stages.all_contexts", 3)),
    "max_margin.margin_features": lambda: call(X.reshape(2, 2, 2), TEST, np.array([0, 1])),
    "max_margin.other_tokens": lambda: call(X[:2], np.array([0, 1])),
    "minimal_head.minimal_head_flow": lambda: call(T, made("induction.minimal_head.orders", 3), 8.0),
    "minimal_head.formation": lambda: call(made("induction.minimal_head.orders", 3), 8.0),
    "nested_logits.nested_flow": lambda: call(T, 4.0, 8.0, 2.0),
    "nested_logits.averaged_flow": lambda: call(T, 4, 16.0),
    "ngram_heads.ngram_attention": lambda: call(np.array([[0.0, 1.0, 0.0, 2.0]]), 1),
    "ngram_heads.empirical_conditional": lambda: call(np.array([[0.0, 1.0, 0.0, 2.0]]), 3, 1),
    "race.power_law_groups": lambda: call(64, 1.0, 8),
    "race.race": lambda: call(T, made("induction.race.Statistics", 2, 6.0, np.full(2, 1 / 24), np.full(2, 12.0), 0.7)),
    "random_feature_attention.kernel_ridge": lambda: call(GRAM, TEST @ X.T, Y, 0.3),
    "spectral_descent.logit_recall": lambda: call(TEST),
    "spectral_descent.two_level_recall": lambda: call((2.0, 0.1, 0.0, 1.0, 0.1, 0.0), 3.0, 5.0),
    "subcircuits.plane_coordinates": lambda: call([Y, TWO, THREE], [Y[::-1], TWO[::-1], THREE[::-1]]),
    "subcircuits.subcircuit_loss": lambda: call((THREE, THREE), np.ones(3), 64.0),
    "subcircuits.misalignment": lambda: call((THREE, THREE)),
    "subcircuits.factor_flow": lambda: call(T, (THREE, THREE), np.ones(3), 64.0),
    "task_identification.table_prediction": lambda: call(
        np.array([[0, 1]]), np.array([[1, 0]]), np.array([[0, 1], [1, 0]]), 2, 0.1
    ),
    "text_statistics.observed_recurrence": lambda: call(SYMBOLS, np.array([1.0, 2.0])),
    "transience.learning_flow": lambda: call(T, made("induction.acquisition.random_contexts", 4), 16.0, 0.005),
}
KERNELS = {
    "activations.abrelu": lambda: of_activation(0.2, 0.9),
    "activations.leaky_relu": lambda: of_activation(0.1),
    "activations.sine": lambda: of_activation(1.3, 0.4),
    "activations.cosine": lambda: of_activation(1.3),
    "activations.exponential": lambda: of_activation(0.5),
    "activations.polynomial": lambda: of_activation(0.5, 0.2, 0.1),
    "batchnorm_only.batchnorm_kernels": lambda: call(X, depth=2, weight_variance=1.5),
    "cross_entropy.loss_flow": lambda: call(T, lambda f: 0.5 * jnp.sum((f - Y) ** 2), BLOCKS, Y, Y[:2]),
    "cross_entropy.loss_descent": lambda: call(
        np.array([0, 1, 3]), 0.1, lambda f: 0.5 * jnp.sum((f - Y) ** 2), BLOCKS, Y, Y[:2]
    ),
    "deep_limits.log_singular_kernel": lambda: call(0.4, np.array([0.0, 0.2, 0.8])),
    "infinite.kernels": lambda: call(X, depth=2, weight_variance=2.0, bias_variance=0.1),
    "intrinsic_dimension.kernel_modes": lambda: call(GRAM, Y),
    "intrinsic_dimension.spectrum": lambda: call(SPECTRUM),
    "learning_curves.learnability": lambda: call(2.0, SPECTRUM, 0.1),
    "learning_curves.overfitting_coefficient": lambda: call(2.0, SPECTRUM, 0.1),
    "learning_curves.sampled_task": lambda: call(GRAM, Y),
    "learning_curves.conserved_learnability": lambda: call(GRAM, 0.1),
    "linearised_training.trained_outputs": lambda: call(lambda lam: 1 / (lam + 1), BLOCKS, BLOCKS, Y, 0.1),
    "linearised_training.trained_function": lambda: call(lambda lam: 1 / (lam + 1), BLOCKS, Y, Y, Y[:2]),
    "linearised_training.descent_outputs": lambda: call(3.0, 0.1, BLOCKS, BLOCKS, Y),
    "linearised_training.input_blocks": lambda: call(X, TEST, depth=2),
    "linearised_training.prediction": lambda: call(1.0, X, Y, TEST, depth=2),
    "mean_field.linear_output": lambda: call(made("kernels.mean_field.initial_moments", 2), X),
    "mean_field.linear_flow": lambda: call(T, X, Y[:, None], 1.0),
    "order_chaos.phase": lambda: call(TWO),
    "overfitting.taxonomy": lambda: call(1.5, 0.1),
    "particles.neuron_moments": lambda: call((X, Y[:, None], np.full(4, 0.25)), 1.0),
    "particles.mean_field_flow": lambda: call(T, (X, Y[:, None], np.full(4, 0.25)), TEST, TWO[:, None], 1.0, jnp.tanh),
    "quadrature.quadrature_error": lambda: call(made("kernels.activations.erf"), 1.0, 0.8, 0.3, radial=8, angular=8),
    "scalings.standard": lambda: call(2, 0.5),
    "scalings.gauge_changed": lambda: call(made("kernels.scalings.ntk", 2), np.array([0.5, 0.2, 0.1])),
    "scalings.violations": lambda: call((0.5 * THREE, THREE, THREE)),
    "scalings.regime": lambda: call((0.5 * THREE, THREE, THREE)),
    "scalings.layers": lambda: call(made("kernels.scalings.ntk", 2), 16, inputs=3, gain=1.5, learning_rate=0.3),
    "score_matching.ornstein_uhlenbeck": lambda: call(0.3, 1.0),
    "score_matching.empirical_weights": lambda: call(TEST, X, 0.8, 0.6),
    "score_matching.kernel_score_error": lambda: call(T, GRAM, TEST @ X.T, X, TEST, 0.0),
    "score_matching.score_stopping_time": lambda: call((0.8, 0.6, 1.0), 0.5, 0.1),
    "sphere.legendre": lambda: call(TWO, 3, 4),
    "sphere.zonal_harmonic": lambda: call(np.array([[0.6, 0.8], [1.0, 0.0]]), np.array([0.8, 0.6]), 2),
    "sphere.decay_exponent": lambda: call(SPECTRUM),
}
LAZY_RICH = {
    "continual_binary.overlap": lambda: call(0.5),
    "continual_binary.second_task_overlaps": lambda: call(0.5, 0.3, 0.4, 1.0),
    "continual_binary.joint_overlaps": lambda: call(0.5, 0.3, 0.4),
    "continual_fields.trained_overlaps": lambda: call(0.5, 0.3, 0.4),
    "continual_regression.descent_filter": lambda: call(7, 0.3, 0.5, 20),
    "continual_regression.sequential_errors": lambda: call(np.array([[1.0, 0.5], [0.5, 1.0]]), (0.6, 0.1, 0.2), 0.1),
    "feature_emergence.feature_energy": lambda: call(TWO, X, np.eye(2)[[0, 1, 0, 1]]),
    "feature_emergence.energy_maximiser": lambda: call(
        made("lazy_rich.groups.cyclic", 3), 1, *np.array([[[1.0, 0.2]], [[0.5, 0.1]], [[0.3, 0.8]]])
    ),
    "feature_emergence.ascended": lambda: call(np.array([0.5, 0.1, -0.3, 0.2, 0.4, 0.1]), CYCLIC),
    "grokking.infinite_width": lambda: call(3, 0.5, 0.1, 1.0),
    "grokking.network_start": lambda: call(X, 0.5, 0.1),
    "grokking.quadratic_output": lambda: call((TWO, np.eye(2)), X),
    "grokking.first_time_below": lambda: call(T, np.array([1.0, 0.6, 0.1]), 0.5),
    "group_samples.sampled_ascent": lambda: call(TWO, X, np.eye(2)[[0, 1, 0, 1]]),
    "groups.fourier": lambda: call(THREE, made("lazy_rich.groups.cyclic", 3).irreps[1]),
    "groups.irrep_power": lambda: call(THREE, made("lazy_rich.groups.cyclic", 3)),
    "initial_rank.kernel_map": lambda: call(W1, THREE),
    "initial_rank.learned_kernel_map": lambda: call(TWO),
    "initial_rank.two_layer_alignment": lambda: call(T, X, Y, W1, THREE),
    "interacting_features.completed_ascent": lambda: call(0.1 * np.arange(1.0, 7.0), np.array([1.0]), 1.0),
    "landscape.mode_connectivity": lambda: call(LOSSES),
    "landscape.barrier": lambda: call(LOSSES),
    "landscape.output_similarity": lambda: call(X, X[::-1]),
    "landscape.regime": lambda: call(-TWO, TWO, -0.05, 0.95),
    "laziness.target_alignment": lambda: call(GRAM, Y),
    "laziness.gram": lambda: call(X),
    "laziness.relative_change": lambda: call([X, Y], [2 * X, Y]),
    "laziness.linearisation_error": lambda: call(Y, Y + 0.1, Y - 0.3),
    "laziness.sign_agreement": lambda: call(Y, -Y),
    "mean_field_linear.tangent_kernel": lambda: call(
        *made(
            "lazy_rich.mean_field_linear.equal_times",
            made("lazy_rich.mean_field_linear.linear_mean_field", 2, X, Y, 1.0, 0.1, 1),
        ),
        X,
    ),
    "mean_field_linear.equal_times": lambda: call(
        made("lazy_rich.mean_field_linear.linear_mean_field", 2, X, Y, 1.0, 0.1, 1)
    ),
    "mean_field_linear.residual": lambda: call(
        made("lazy_rich.mean_field_linear.linear_mean_field", 2, X, Y, 1.0, 0.1, 1), X, Y, 1.0, 0.1
    ),
    "representational_geometry.alike_task": lambda: call(4, 0.3),
    "representational_geometry.geometry_path": lambda: call(
        T,
        np.concatenate([X, -X]),
        np.concatenate([Y, -Y]),
        made("lazy_rich.representational_geometry.alike_task", 2, 0.3),
        jnp.tanh,
    ),
    "representational_geometry.time_on_path": lambda: call(T, np.array([0.0, 0.3, 0.9])),
    "sgd_noise.noise_exponents": lambda: call(1.0),
    "sgd_noise.least_signal": lambda: call(2.0, 3.0, 1.0),
    "sgd_noise.characteristic_temperature": lambda: call(1.0, 3.0, 1.0),
    "sgd_noise.noise_flow": lambda: call(T, 0.5, 1.0, 1.0, 0.1, 0.1),
    "structured_weights.low_rank_plus_noise": lambda: call(W1, 0.6),
    "structured_weights.cell_type_blocks": lambda: call(np.array([0, 1, 1]), np.array([0, 1]), TEST, np.abs(TEST)),
    "structured_weights.dale_weights": lambda: call(np.array([1.0, -1.0]), TWO, 3),
}
EXAMPLES = {
    **{f"theory.bayes_icl.{name}": example for name, example in BAYES_ICL.items()},
    **{f"theory.deep_linear.{name}": example for name, example in DEEP_LINEAR.items()},
    **{f"theory.induction.{name}": example for name, example in INDUCTION.items()},
    **{f"theory.kernels.{name}": example for name, example in KERNELS.items()},
    **{f"theory.lazy_rich.{name}": example for name, example in LAZY_RICH.items()},
    "theory.wright_omega.wright_omega": lambda: call(Y),
}
# A second and more of compiling each, twenty for some flows: marked slow.
LONG = """
    bayes_icl.dirichlet_ngrams.urn_predictions bayes_icl.function_families.subset_predictions
    bayes_icl.gradient_descent_layers.shrinking_descent bayes_icl.linear_attention_dynamics.abrupt_drop
    bayes_icl.linear_attention_dynamics.heads_flow
    bayes_icl.posterior_sampling.calibration_ranks bayes_icl.strategy_choice.fitted_learner
    deep_linear.diagonal.coefficients deep_linear.edge_of_stability.spike deep_linear.end_to_end.strength_curves
    deep_linear.end_to_end.weight_flow deep_linear.gated.pathway_flow deep_linear.gated.routing_domains
    deep_linear.generalization.early_stopped_error deep_linear.spiked_teacher.optimal_stopping_time
    induction.acquisition.acquisition_flow induction.associative_memory.flow_loss
    induction.attention_svm.locally_optimal induction.clamps.clamped_flow induction.coopetition.coopetition_flow
    induction.forgetting.race_with_resets induction.markov_stages.stage_flow
    induction.markov_stages.slow_flow induction.minimal_head.minimal_head_flow induction.minimal_head.formation
    induction.nested_logits.nested_flow induction.race.race
    induction.subcircuits.factor_flow induction.transience.learning_flow
    kernels.batchnorm_only.batchnorm_kernels kernels.cross_entropy.loss_descent kernels.cross_entropy.loss_flow
    kernels.infinite.kernels kernels.linearised_training.descent_outputs kernels.mean_field.linear_flow
    kernels.particles.mean_field_flow lazy_rich.continual_binary.second_task_overlaps
    lazy_rich.continual_fields.trained_overlaps lazy_rich.continual_regression.descent_filter
    lazy_rich.initial_rank.two_layer_alignment lazy_rich.interacting_features.completed_ascent
    lazy_rich.representational_geometry.geometry_path lazy_rich.sgd_noise.noise_flow
"""

NO_EXAMPLE = {
    "it is the refusal itself, or part of one": """
        bayes_icl.dirichlet_ngrams.checked_symbols bayes_icl.linear_attention.checked_length
        bayes_icl.linear_attention.checked_prompts deep_linear.balanced_start.orthogonal deep_linear.diagonal.checked
        deep_linear.discrete.whole_steps deep_linear.generalization.checked deep_linear.outliers.record flow.times
        checks.real checks.positive checks.non_negative checks.within checks.whole checks.matrix checks.floating
        checks.require induction.acquisition.checked_contexts induction.associative_memory.checked_frequencies
        induction.max_margin.checked_choices induction.max_margin.checked_samples
        induction.nested_logits.checked_start induction.race.checked kernels.learning_curves.checked_spectrum
        kernels.learning_curves.checked_task kernels.linearised_training.checked_blocks
        kernels.linearised_training.targets kernels.linearised_training.until
        kernels.linearised_training.whole_steps kernels.mean_field.checked_batches kernels.momentum.fraction
        kernels.momentum.counted lazy_rich.continual_regression.correlation_matrix
        lazy_rich.mean_field_linear.checked_training""",
    "a part of others, which have checked what they pass on": """
        bayes_icl.dirichlet_ngrams.mixture bayes_icl.dirichlet_ngrams.predictions bayes_icl.dirichlet_ngrams.safe_log
        bayes_icl.linear_attention.scatter clock.elapsed clock.when clock.differentiable
        deep_linear.balanced_start.feasible deep_linear.correlations.fitting deep_linear.correlations.length
        deep_linear.diagonal.conserved_scale deep_linear.diagonal.log_weights deep_linear.diagonal.difference
        deep_linear.diagonal.log_ratio deep_linear.diagonal.log_cosh deep_linear.generalization.minimising_time
        deep_linear.matrix.grams deep_linear.matrix.network deep_linear.matrix.moments deep_linear.modes.growing_part
        deep_linear.modes.decay_integral deep_linear.modes.plateau_law deep_linear.modes.relaxation_law
        deep_linear.outliers.passing_step deep_linear.riccati.short_step deep_linear.riccati.any_step
        deep_linear.riccati.evolved deep_linear.riccati.graded deep_linear.riccati.hidden_frame
        deep_linear.riccati.audible deep_linear.riccati.noise_floor deep_linear.riccati.merged
        induction.acquisition.force induction.race.velocity induction.subcircuits.carlson
        induction.subcircuits.product_of_others induction.subcircuits.reduced_loss
        induction.subcircuits.reduced_force kernels.intrinsic_dimension.shares_of kernels.learning_curves.shares
        kernels.learning_curves.plain_ridge kernels.learning_curves.self_consistent_ridge
        kernels.linearised_training.response kernels.linearised_training.spectrum
        kernels.linearised_training.fitted_time kernels.linearised_training.log_ratio
        kernels.pairs.pair kernels.pairs.scaled kernels.pairs.root kernels.pairs.arctangent kernels.pairs.fitted
        kernels.pairs.pairs_of_inputs kernels.pairs.polar lazy_rich.continual_binary.settled
        lazy_rich.continual_binary.two_tasks lazy_rich.continual_perceptron.bayes_channel
        lazy_rich.continual_perceptron.kappa
        lazy_rich.continual_perceptron.mismatched_channel lazy_rich.continual_perceptron.angle
        lazy_rich.feature_emergence.centred""",
    "it takes no floating number: whole numbers, words, symbols, groups": """
        bayes_icl.bandits.histories bayes_icl.boolean_functions.literal_sets
        bayes_icl.boolean_functions.teaching_sequence bayes_icl.context_tree.all_trees
        bayes_icl.discrete_tasks.sign_vectors bayes_icl.function_families.subsets bayes_icl.parities.parity_accuracy
        deep_linear.hierarchy.tree_contrasts deep_linear.hierarchy.tree_multiplicities
        induction.acquisition.random_contexts induction.acquisition.balanced_contexts
        induction.inverse_permutation.answerable induction.inverse_permutation.unanswerable_distribution
        induction.markov_chains.mean_losses induction.markov_stages.all_contexts
        induction.match_and_copy.single_factor_prediction induction.minimal_head.orders
        induction.task_identification.copying_prediction induction.task_identification.distinct_classes
        induction.task_identification.identifier_curve kernels.activations.identity kernels.activations.relu
        kernels.activations.absolute kernels.activations.rectified_power kernels.activations.step
        kernels.activations.sign kernels.activations.erf kernels.activations.normal_cdf kernels.activations.gelu
        kernels.activations.gaussian kernels.activations.activation kernels.batchnorm_only.trainable_rank
        kernels.deep_limits.normalised_dual kernels.linearised_training.loss_rate kernels.mean_field.initial_moments
        kernels.mean_field.whole_batches kernels.scalings.ntk kernels.scalings.mean_field
        kernels.scalings.maximal_update kernels.sphere.multiplicities kernels.sphere.angular_quadrature
        lazy_rich.continual_binary.perfect_learning_load lazy_rich.feature_emergence.energy_maxima
        lazy_rich.group_samples.crossing_fraction lazy_rich.groups.direct_product lazy_rich.groups.division
        lazy_rich.groups.group_table""",
    "it takes a function, and vouches for its answer as far as that": """
        flow.flow flow.descent_error kernels.quadrature.quadrature kernels.sphere.zonal_spectrum
        lazy_rich.feature_emergence.sphere_ascent""",
    "it draws random numbers: its own test gives it bad input, or it takes none": """
        bayes_icl.posterior_sampling.logistic_model bayes_icl.posterior_sampling.student_model
        bayes_icl.posterior_sampling.low_rank_model bayes_icl.posterior_sampling.network_model
        bayes_icl.posterior_sampling.sampled_predictions bayes_icl.posterior_sampling.prediction_draws
        deep_linear.balanced_start.random_rotation kernels.particles.sampled_neurons
        kernels.particles.quadrature_neurons lazy_rich.mean_field_sampled.single_neuron_noise""",
    "NaN is what it is asked about: a sampler's diagnostics may be NaN, and then its gates fail": """
        bayes_icl.posterior_sampling.failed_gates bayes_icl.posterior_sampling.judged""",
}
REASONS = {f"theory.{name}": why for why, names in NO_EXAMPLE.items() for name in names.split()}


def public_functions():
    for path in sorted((ROOT / "theory").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{module}.{node.name}"


def test_every_public_function_is_given_bad_input_or_has_a_reason_not_to_be():
    assert {f"theory.{name}" for name in LONG.split()} <= set(EXAMPLES)
    places = {"formula": {f.backs for _, f in discover()}, "example": set(EXAMPLES), "reason": set(REASONS)}
    public = set(public_functions())
    wrong = {name: [p for p, names in places.items() if name in names] for name in public.union(*places.values())}
    # A class of the theory may back a formula.
    wrong = {n: p for n, p in wrong.items() if len(p) != 1 or (n not in public and p != ["formula"])}
    assert not wrong, f"each needs exactly one of a formula, an example, a reason: {wrong}"


# What they are given to integrate is a function, mostly a new one at each call.
GIVEN_A_LOSS = ("kernels.cross_entropy.loss_flow", "kernels.cross_entropy.loss_descent")


def marked(name):
    return pytest.param(name, marks=[pytest.mark.slow] if name.removeprefix("theory.") in LONG.split() else [])


@pytest.mark.parametrize("name", [marked(name) for name in EXAMPLES])
def test_bad_input_is_refused_or_answered(name, compiled_again):
    module, function = name.rsplit(".", 1)
    arguments, keywords, of = EXAMPLES[name]()
    function = of(getattr(importlib.import_module(module), function))
    answers(lambda given, named: function(*given, **named), (arguments, keywords), name=name)
    if name.removeprefix("theory.") not in GIVEN_A_LOSS:
        assert not compiled_again(lambda: function(*arguments, **keywords)), (
            f"{name} is compiled again by a second call"
        )
