"""Ways to run 3x3 convolutions: PyTorch's, ours in C and in Triton; and the trial that finds the fastest."""
