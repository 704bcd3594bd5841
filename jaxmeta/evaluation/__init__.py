"""How well an agent adapts to held-out tasks."""
