"""Points in the plane."""
