"""Classic control with other physics."""
