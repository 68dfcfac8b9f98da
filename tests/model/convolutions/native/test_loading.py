"""Compiled libraries are optional: a missing one is logged, and nothing fails."""

import ctypes
from pathlib import Path
from typing import cast

import pytest

from model.convolutions.native import winograd
from model.convolutions.native.loading import has_amx, has_avx512_bf16, load


def test_a_library_that_is_not_compiled_is_none_and_the_log_has_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(tmp_path / "libnone.so", {}, structs=(), otherwise="slow") is None
    assert "slow; `make native` compiles it" in caplog.text


@pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")
def test_a_library_of_older_sources_is_none() -> None:
    assert load(winograd.LIBRARY, {"no_such_function": (ctypes.c_int,)}, structs=(), otherwise="slow") is None


@pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")
def test_a_library_with_structs_of_another_size_is_none(caplog: pytest.LogCaptureFixture) -> None:
    class Convolution(ctypes.Structure):
        _fields_ = (("of_another_size", ctypes.c_int),)

    assert load(winograd.LIBRARY, {}, structs=(Convolution,), otherwise="slow") is None
    assert "it was compiled from other sources" in caplog.text


def test_without_a_library_there_is_no_amx() -> None:
    assert not has_amx(None)
    assert not has_avx512_bf16(None)


@pytest.mark.parametrize(
    ("limit", "tiles", "vectors"),
    [
        ("avx2", False, False),
        ("AVX512_CORE_VNNI", False, False),
        ("AVX512_CORE_BF16", False, True),
        ("AVX512_CORE_AMX", True, True),
        ("all", True, True),
    ],
)
def test_the_limit_of_onednn_counts_here_too(
    monkeypatch: pytest.MonkeyPatch, limit: str, tiles: bool, vectors: bool
) -> None:
    class Library:
        @staticmethod
        def amx_available() -> int:
            return 1

        avx512_bf16_available = amx_available

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    library = cast(ctypes.CDLL, Library)
    assert (has_amx(library), has_avx512_bf16(library)) == (tiles, vectors)
