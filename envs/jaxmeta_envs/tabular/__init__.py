"""Small decision processes that can be solved exactly."""
