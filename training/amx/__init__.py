"""Training steps in bfloat16 on AMX, the matrix unit of Intel's processors: amx.c, where that has been compiled."""
