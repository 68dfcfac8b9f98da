"""The files around the code: decisions, targets, releases, workflows, examples of the documentation."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from app import VERSION

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
REGISTRIES = re.compile(r"pypi\.org|pythonhosted|docker\.io|hub\.docker|ghcr\.io|quay\.io|npmjs")


def text_of(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_the_index_of_decisions_has_each_with_its_title_and_status() -> None:
    rows = re.findall(
        r"(?m)^\| (\d+) \| \[(.*)\]\((.*)\) \| (\w+, [\d-]+) \|", text_of("docs", "decisions", "README.md")
    )
    expected = []
    for path in sorted(DECISIONS.glob("0*.md")):
        number, title = re.findall(r"\A# (\d+)\. (.*)", path.read_text(encoding="utf-8"))[0]
        (status,) = re.findall(r"(?m)^Status: (\w+, [\d-]+)", path.read_text(encoding="utf-8"))
        assert int(number) == int(path.name[:4])
        expected.append((number, title, path.name, status))
    assert rows == expected


def test_numbers_of_decisions_are_used_once() -> None:
    numbers = [path.name[:4] for path in DECISIONS.glob("0*.md")]
    assert len(set(numbers)) == len(numbers)


def test_commands_of_documents_run_in_a_clone() -> None:
    bare = re.compile(r"(?m)(?<!\\\n)^ +(?:[A-Z_]+=\S+ )*(?:python|pip|torchrun|ray|tensorboard) .*")
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model/weights/*.md")]
    found = [f"{path.name}: {line}" for path in documents for line in bare.findall(path.read_text(encoding="utf-8"))]
    assert found == []


def test_make_help_shows_every_target() -> None:
    makefile = text_of("Makefile")
    targets = re.findall(r"\.PHONY: ((?:.*\\\n)*.*)", makefile)[0].replace("\\\n", " ").split()
    assert [target for target in targets if not re.search(rf"(?m)^{target}:.*## ", makefile)] == []


def test_the_version_is_written_once() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def notes(tag: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROOT / ".ci" / "notes", tag], capture_output=True, text=True, check=False)


def test_the_notes_of_a_release_are_the_changelogs_section() -> None:
    printed = notes(f"v{VERSION}")
    assert printed.returncode == 0
    assert "### Added" in printed.stdout
    assert "## [" not in printed.stdout


@pytest.mark.parametrize("tag", ["v9.9.9", "nonsense"])
def test_a_tag_that_is_not_the_version_is_no_release(tag: str) -> None:
    printed = notes(tag)
    assert printed.returncode == 1
    assert f"{tag} is not the version" in printed.stderr


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_pin_actions_by_hash_and_run_the_script_of_ci(workflow: Path) -> None:
    content = workflow.read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)", content)
    assert actions
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []
    assert "run: .ci/run" in content


def test_no_configuration_names_the_host_of_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    kinds = {".md", ".toml", ".txt", ".yml", ".yaml", ".cfg", ""}
    files = [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix in kinds]
    assert [path.name for path in files if path.is_file() and REGISTRIES.search(path.read_text("utf-8"))] == []


def test_pre_commit_runs_the_locked_linter() -> None:
    (locked,) = re.findall(r"(?m)^ruff==([\d.]+)", text_of("requirements", "dev.txt"))
    assert set(re.findall(r"ruff==([\d.]+)", text_of(".pre-commit-config.yaml"))) == {locked}


def test_the_sources_of_the_image_compile_without_those_of_training(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for source in [*(ROOT / "app").rglob("*.c"), *(ROOT / "model").rglob("*.c")]:
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    planned = subprocess.run(
        ["make", "--dry-run", "native"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "libwinograd.so" in planned
    assert "training" not in planned
