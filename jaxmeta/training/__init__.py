"""Training as one call."""
