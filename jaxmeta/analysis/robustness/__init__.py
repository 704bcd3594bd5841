"""Returns over a map of physical parameters."""
