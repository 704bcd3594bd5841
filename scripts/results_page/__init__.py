"""The pages of results: RESULTS.md and its appendix, rendered from the files in ``results/``."""
