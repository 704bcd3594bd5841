"""Functions to fit."""
