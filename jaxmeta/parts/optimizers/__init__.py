"""How a policy is improved on a batch of trials."""
