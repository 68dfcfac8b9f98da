"""Side-by-side measurements. Machines are noisy: compare within one run."""
