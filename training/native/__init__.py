"""Training steps in bfloat16 on AMX or AVX512-BF16: convolutions.c, where that has been compiled."""
