"""What is made of several runs, or of one in many tasks."""
