"""Agents outside of this library."""
