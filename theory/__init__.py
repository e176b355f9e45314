"""Analytic theories of learning dynamics, as pure JAX functions.

Every function takes arrays and returns arrays: one run, no batch axis (use `jax.vmap`), jittable and
differentiable. Conventions, unless a docstring says otherwise:

- **Loss** is half the squared error, averaged over samples: `L = (1/2P) sum_mu |y_mu - yhat_mu|^2`.
- **Time** `t` is that of gradient flow `dtheta/dt = -dL/dtheta`; gradient descent with step `lr` reaches
  `t = lr * k` after `k` steps. Where there is a time argument it comes first.
- **Shapes**: a sample is a column. `W_1` is hidden x input, `W_N` output x hidden, so that
  `yhat = W_N ... W_1 x`; `Sxx = X X^T / P`, `Syx = Y X^T / P = U diag(s) V^T`.
- **Precision** is that of the arguments. Nothing here touches JAX's global flags: for float64 set
  `jax.config.update("jax_enable_x64", True)` or the environment variable `JAX_ENABLE_X64=1` before use.
- **Mistakes** in an argument raise `ValueError` naming the argument and its value; inside `jit` the
  same sentence arrives as a run-time error.
"""
