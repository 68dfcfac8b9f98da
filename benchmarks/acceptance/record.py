"""The lines of an acceptance run, printed as they come, and the report file."""

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MARKS = {True: "PASS", False: "FAIL", None: "----"}
LEGEND = (
    "Each line: stage, check, figures, and in brackets what is demanded. ---- is for comparison and demands nothing."
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One check, or a figure without a limit, for which `passed` is None."""

    stage: str
    name: str
    passed: bool | None
    text: str
    figures: dict[str, float | int | str]

    def __str__(self) -> str:
        values = (
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.figures.items()
        )
        return " ".join(
            (MARKS[self.passed], f"{self.stage}: {self.name}", *values, *([f"({self.text})"] * bool(self.text)))
        )


@dataclass(kw_only=True)
class Record:
    """Everything that a run has found.

    Args:
        report: file that is written before and after each stage, as text for people, and as JSON next to it: a fault of
            the driver may end this process.
        title: its first line.
    """

    report: Path | None = None
    title: str = ""
    lines: list[Line] = field(default_factory=list)
    stage: str = ""
    began_s: float = field(default_factory=time.perf_counter)

    def check(self, name: str, passed: bool | None, text: str = "", **figures: float | int | str) -> None:
        """Print and keep a line; `text` names the requirement."""
        line = Line(stage=self.stage, name=name, passed=passed, text=text, figures=figures)
        self.lines.append(line)
        print(f"[{time.perf_counter() - self.began_s:6.1f}] {line}", flush=True)

    def run(self, stage: str, call: Callable[[], None]) -> None:
        """Run a stage; an exception becomes a failed line, so that later stages still run."""
        self.stage = stage
        cut_short = Line(
            stage=stage, name="runs to its end", passed=False, text="the process ended or hung in it", figures={}
        )
        self.write([*self.lines, cut_short])
        try:
            call()
        except Exception as error:
            traceback.print_exc()
            self.check("runs to its end", False, " ".join(f"{type(error).__name__}: {error}".split())[:300])
        self.write(self.lines)

    def figure(self, stage: str, name: str, figure: str) -> float | None:
        """Return a figure of an earlier line, if there is one."""
        found = [line.figures[figure] for line in self.lines if (line.stage, line.name) == (stage, name)]
        return float(found[-1]) if found else None

    @property
    def failed(self) -> list[str]:
        """Names of the failed checks."""
        return [f"{line.stage}: {line.name}" for line in self.lines if line.passed is False]

    def write(self, lines: Sequence[Line]) -> None:
        """Write the report, if there is one."""
        if self.report is None:
            return
        self.report.parent.mkdir(parents=True, exist_ok=True)
        checks = [line for line in lines if line.passed is not None]
        failed = sum(not line.passed for line in checks)
        verdict = f"{failed} of {len(checks)} checks failed" if failed else f"{len(checks)} checks passed"
        text = (self.title, LEGEND, "", *map(str, lines), "", verdict, "")
        self.report.write_text("\n".join(text), encoding="utf-8")
        self.report.with_suffix(".json").write_text(
            json.dumps([asdict(line) for line in lines], indent=1), encoding="utf-8"
        )
