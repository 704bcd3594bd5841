"""Distributions that JAX does not have, and those over parameters."""
