"""Many settings side by side in one program."""
