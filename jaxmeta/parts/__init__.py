"""What algorithms are composed of."""
