"""What is played: trials, steps that go on, transitions and what is kept of them."""
