"""The image on a GPU: everything that Triton needs to compile and load its launcher is in it."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICE_STAGE = DOCKERFILE.split("\nFROM ")[-1]
COMPOSE_GPU = (ROOT / "docker" / "compose.gpu.yml").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.mark.skipif(find_spec("triton") is None or shutil.which("gcc") is None, reason="needs Triton and gcc")
def test_gcc_and_the_headers_of_c_and_python_suffice_for_tritons_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.backends.nvidia import driver
    from triton.runtime.build import compile_so_from_file

    stub = tmp_path / "libcuda.so.1"  # the driver's library comes from the host
    name = ["-Wl,-soname,libcuda.so.1", "-o", str(stub)]
    subprocess.run(["gcc", "-shared", *name, "-x", "c", "/dev/null"], check=True)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "gcc")
    source = str(Path(driver.__file__).parent / "driver.c")
    fast = ["-O0"]
    made = compile_so_from_file(source, "cuda_utils", [str(tmp_path)], driver.include_dirs, driver.libraries, fast)
    assert Path(made).is_relative_to(tmp_path / "cache")


def test_the_image_has_the_compiler_and_a_folder_for_kernels_that_is_on_a_volume() -> None:
    installed = re.findall(r"apt-get install [^&]*", SERVICE_STAGE)[0].split()
    assert {"gcc", "libc6-dev"} <= set(installed)
    (folder,) = re.findall(r"TRITON_CACHE_DIR=(\S+)", SERVICE_STAGE)
    (volume, mounted) = re.findall(r"- (\w+):(/\S+)", COMPOSE_GPU)[0]
    assert Path(folder).is_relative_to(mounted)
    assert f"install --directory --owner esrgan {mounted}" in SERVICE_STAGE
    assert re.search(rf"(?m)^volumes:\n  {volume}:$", COMPOSE_GPU)
    assert mounted not in re.findall(r"(?m)^    tmpfs:\n((?:      - .*\n)+)", COMPOSE)[0]


def test_a_container_with_a_gpu_insists_on_it() -> None:
    assert "ESRGAN_DEVICE: cuda\n" in COMPOSE_GPU
    assert 'device_ids: ["${GPU:-0}"]' in COMPOSE_GPU
