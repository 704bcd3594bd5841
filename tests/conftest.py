"""Settings of every test: CPU, four host devices, strict shapes."""

import os
import signal

# Before JAX is imported. Children of the tests inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")  # so that sharding is tested everywhere
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # tests count compilations
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # nor does the command line keep them

# A job in the background is born deaf to Ctrl-C; the tests of interrupts, and their children,
# must hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
