"""Pure, un-batched mathematics; callers add ``vmap`` and ``jit``."""
