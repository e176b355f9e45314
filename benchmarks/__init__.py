"""What the library costs, against peers: `python -m benchmarks` runs all, `python -m benchmarks.NAME` one of them.

Everybody has one thread, peers included, who inherit it: threads that wait count as CPU time.
"""

import os

for _name, _value in {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)
