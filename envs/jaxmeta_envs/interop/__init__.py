"""Environments of other libraries, and families as theirs."""
