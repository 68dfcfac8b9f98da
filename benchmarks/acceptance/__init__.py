"""The first ten minutes on a GPU: every claim that only a GPU can prove, as PASS or FAIL."""
