"""The container image: its compiled libraries, and on a GPU the files that Triton needs for its launcher."""

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPILING_STAGE, SERVICE_STAGE = DOCKERFILE.split("\nFROM ")
COMPOSE_GPU = (ROOT / "docker" / "compose.gpu.yml").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("fleet", "operations")]
COPIED_BY_DERIVED = [
    line.split()[1]
    for guide in GUIDES
    for line in guide.read_text(encoding="utf-8").splitlines()
    if line.startswith("    COPY ")
]
"""Files and folders of the clone that derived images copy, as in the guides."""

TAKEN = set(re.findall(r"COPY --from=compiled /srv/(\S+) ", SERVICE_STAGE))
"""Files and folders of the clone that the service's stage has from the first one."""

COMPILER = """#!/bin/sh
# Compiles nothing, but leaves a file where the library would be.
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


def copied(stage: str) -> list[str]:
    """Return the files and folders of the clone that a stage copies."""
    return [line.split()[1] for line in stage.splitlines() if line.startswith("COPY ") and "--from=" not in line]


def test_every_c_source_of_the_service_is_compiled_from_what_the_image_copies(tmp_path: Path) -> None:
    clone, compiler = tmp_path / "clone", tmp_path / "cc"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    clone.mkdir()
    for name in copied(COMPILING_STAGE):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.so", "*.safetensors", "*.py", "__pycache__")
            shutil.copytree(ROOT / name, clone / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, clone / name)
    made = subprocess.run(["make", "native", f"CC={compiler}"], cwd=clone, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    sources = {path.with_name(f"lib{path.stem}.so") for path in clone.rglob("*.c")}
    assert sources == set(clone.rglob("*.so"))
    assert len(sources) >= 4


def test_what_the_image_copies_is_in_its_build_context_and_no_library_of_the_host_is() -> None:
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in context
    assert "**/*.so" in context
    sent = [Path(line[1:]) for line in context if line.startswith("!")]
    for name in {*copied(COMPILING_STAGE), *copied(SERVICE_STAGE), *COPIED_BY_DERIVED}:
        for requirements in ("base", "image"):
            path = Path(name.replace("${REQUIREMENTS}", requirements))
            assert (ROOT / path).exists()
            assert any(path.is_relative_to(it) for it in sent), path
    assert {"model", "app"} <= TAKEN


def test_the_user_of_the_service_can_read_what_a_clone_under_any_umask_has() -> None:
    (readable,) = re.findall(r"chmod --recursive a\+rX (.+)", COMPILING_STAGE)
    assert set(readable.split()) == TAKEN
    assert all(name.startswith("requirements/") for name in copied(SERVICE_STAGE))  # read by root, then removed
    for guide in GUIDES:
        for block in re.findall(r"FROM esrgan-serve\n(?:    .+\n)+", guide.read_text(encoding="utf-8")):
            for name in re.findall(r"(?m)^    COPY (?!requirements/)(\S+)", block):
                assert f"chmod -R a+rX {name}" in block


def test_any_user_of_the_group_root_can_write_to_the_folders_of_the_service() -> None:
    (folders,) = re.findall(r"install --directory --owner esrgan --group root --mode 770 (.+)", SERVICE_STAGE)
    (jobs,) = re.findall(r"ESRGAN_JOBS_FOLDER=(\S+)", SERVICE_STAGE)
    assert set(folders.split()) == {jobs, "/var/cache/esrgan"}


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock."""
    return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")))


def test_what_builds_packages_is_locked_as_they_are() -> None:
    build, base = locked("build"), locked("base")
    assert {"cffi", "pkgconfig", "setuptools"} <= build.keys()  # `build-system` of pyvips, the only one without wheels
    assert {name: base[name] for name in build.keys() & base.keys()} == {
        name: build[name] for name in build.keys() & base.keys()
    }
    first, second = re.findall(r"\$install (.+?) *\\\n", SERVICE_STAGE)
    assert first == "--requirement /tmp/build.txt"
    assert second == "--no-build-isolation --requirement /tmp/requirements.txt"
    builders = re.findall(r"(?m)^\t@.*(?:pip wheel|\$\(INSTALL\)).*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(builders) == 3
    assert [line for line in builders if "--no-build-isolation" not in line] == ["\t@$(INSTALL) --requirement $<"]


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_triton_brings_an_assembler_that_everyone_may_run() -> None:
    import triton

    (assembler,) = Path(triton.__file__).parent.glob("backends/nvidia/bin/ptxas")
    assert os.access(assembler, os.X_OK)
    assert assembler.stat().st_mode & 0o555 == 0o555
    assert "ptxas" in subprocess.run([assembler, "--version"], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(find_spec("triton") is None or shutil.which("gcc") is None, reason="needs Triton and gcc")
def test_gcc_and_the_headers_of_c_and_python_suffice_for_tritons_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.backends.nvidia import driver
    from triton.runtime import build

    if not hasattr(build, "compile_so_from_file"):
        pytest.skip("this Triton compiles its launcher by another function")
    stub = tmp_path / "libcuda.so.1"  # the driver's library comes from the host
    name = ["-Wl,-soname,libcuda.so.1", "-o", str(stub)]
    subprocess.run(["gcc", "-shared", *name, "-x", "c", "/dev/null"], check=True)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "gcc")
    source = str(Path(driver.__file__).parent / "driver.c")
    fast = ["-O0"]
    made = build.compile_so_from_file(
        source, "cuda_utils", [str(tmp_path)], driver.include_dirs, driver.libraries, fast
    )
    assert Path(made).is_relative_to(tmp_path / "cache")


def test_the_image_has_the_compiler_and_a_folder_for_kernels_that_is_on_a_volume() -> None:
    installed = re.findall(r"apt-get install [^&]*", SERVICE_STAGE)[0].split()
    assert {"gcc", "libc6-dev"} <= set(installed)
    (folder,) = re.findall(r"TRITON_CACHE_DIR=(\S+)", SERVICE_STAGE)
    (volume, mounted) = re.findall(r"- (\w+):(/\S+)", COMPOSE_GPU)[0]
    assert Path(folder).is_relative_to(mounted)
    assert re.search(rf"install --directory --owner esrgan .*{mounted}", SERVICE_STAGE)
    assert re.search(rf"(?m)^volumes:\n  {volume}:$", COMPOSE_GPU)
    assert mounted not in re.findall(r"(?m)^    tmpfs:\n((?:      - .*\n)+)", COMPOSE)[0]


def test_a_container_with_a_gpu_insists_on_it() -> None:
    assert "ESRGAN_DEVICE: cuda\n" in COMPOSE_GPU
    assert 'device_ids: ["${GPU:-0}"]' in COMPOSE_GPU


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker/compose.gpus.yml"])
def test_no_container_fills_the_disk_with_its_log(name: str) -> None:
    services = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["services"]
    own = {service: part for service, part in services.items() if "image" in part}
    assert own
    assert {service for service, part in own.items() if part.get("logging") != {"driver": "local"}} == set()
