"""Adaptation of a distribution over simulators to a target system."""
