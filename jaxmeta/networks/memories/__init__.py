"""Memories of recurrent policies."""
