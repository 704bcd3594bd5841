"""Settings of every test: CPU, four host devices, strict shapes."""

import os

# Before JAX is imported. Children of the tests inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")  # so that sharding is tested everywhere
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # tests count compilations

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
