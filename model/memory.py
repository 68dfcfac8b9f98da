"""Recognise errors of devices and libraries that mean out of memory."""

import re

import torch

OUT_OF_MEMORY = re.compile(
    r"out of memory"  # CUDA (also cudaHostAlloc for pinned memory, graphs, lazy loading of code), cuBLAS, Triton, NCCL
    r"|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"
    r"|(?:CUDNN|CUBLAS|CUFFT|CUSOLVER|CUSPARSE)_STATUS_ALLOC_FAILED"
    r"|CUDNN_STATUS_INTERNAL_ERROR_(?:DEVICE|HOST)_ALLOCATION_FAILED"
    r"|no valid execution plans|unable to find an engine to execute|find a valid cuDNN algorithm"  # no workspace fits
    r"|DefaultCPUAllocator|can't allocate memory|Cannot allocate memory|std::bad_alloc",
    re.IGNORECASE,
)


def says_out_of_memory(error: BaseException) -> bool:
    """Check if an error means out of memory: of the device, of pinned memory, or of the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and OUT_OF_MEMORY.search(str(error)) is not None
