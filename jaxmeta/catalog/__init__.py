"""Names of classes, methods and presets, and configurations as JSON."""
