"""An agent at work, drawn."""
