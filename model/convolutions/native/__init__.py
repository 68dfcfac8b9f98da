"""Convolutions in C and the Python code that calls them: for CPUs with SIMD, and for AMX, Intel's matrix unit."""
