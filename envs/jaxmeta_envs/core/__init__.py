"""The contracts of task families and policies."""
