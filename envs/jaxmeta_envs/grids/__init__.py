"""Grids to find one's way in."""
