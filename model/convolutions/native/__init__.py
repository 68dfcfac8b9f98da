"""Convolutions in C, with what calls them: for CPUs with SIMD, and for AMX, the matrix unit of Intel's processors."""
