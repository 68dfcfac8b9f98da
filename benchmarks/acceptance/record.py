"""The lines of an acceptance run, printed as they come, and the report file."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from benchmarks.acceptance.limits import TimeIsUp

MARKS = {True: "PASS", False: "FAIL", None: "----"}
LEGEND = (
    "Each line: stage, check, figures, and in brackets what is demanded. ---- is for comparison and demands nothing."
)
TO_ITS_END = "runs to its end"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One check, or a figure without a limit, for which `passed` is None."""

    stage: str
    name: str
    passed: bool | None
    text: str
    figures: dict[str, float | int | str] = field(default_factory=dict)

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
        report: file that is written after each line, as text for people, and as JSON next to it: a fault of the driver
            may end this process.
        title: its first line.
        planned: names of the stages that are to run; those that have not ended are failures in the report.
    """

    report: Path | None = None
    title: str = ""
    planned: Sequence[str] = ()
    lines: list[Line] = field(default_factory=list)
    stage: str = ""
    ended: set[str] = field(default_factory=set)
    began_s: float = field(default_factory=time.perf_counter)

    def check(self, name: str, passed: bool | None, text: str = "", **figures: float | int | str) -> None:
        """Print and keep a line; `text` names the requirement."""
        line = Line(stage=self.stage, name=name, passed=passed, text=text, figures=figures)
        self.lines.append(line)
        print(f"[{time.perf_counter() - self.began_s:6.1f}] {line}", flush=True)
        self.write()

    def run(self, stage: str, call: Callable[[], None]) -> None:
        """Run a stage; an exception becomes a failed line, so that later stages still run."""
        self.stage = stage
        self.write()
        try:
            call()
        except (Exception, TimeIsUp) as error:
            log.exception("%s failed", stage)
            self.check(TO_ITS_END, False, " ".join(f"{type(error).__name__}: {error}".split())[:300])
        self.ended.add(stage)
        self.write()

    def figure(self, stage: str, name: str, figure: str) -> float | None:
        """Return a figure of an earlier line, if there is one."""
        found = [line.figures[figure] for line in self.lines if (line.stage, line.name) == (stage, name)]
        return float(found[-1]) if found else None

    @property
    def failed(self) -> list[str]:
        """Names of the failed checks."""
        return [f"{line.stage}: {line.name}" for line in self.lines if line.passed is False]

    def write(self) -> None:
        """Write the report, if there is one."""
        if self.report is None:
            return
        self.report.parent.mkdir(parents=True, exist_ok=True)
        lines = [*self.lines, *self._unfinished()]
        checks = [line for line in lines if line.passed is not None]
        failed = sum(not line.passed for line in checks)
        verdict = f"{failed} of {len(checks)} checks failed" if failed else f"{len(checks)} checks passed"
        text = (self.title, LEGEND, "", *map(str, lines), "", verdict, "")
        self.report.write_text("\n".join(text), encoding="utf-8")
        self.report.with_suffix(".json").write_text(
            json.dumps([asdict(line) for line in lines], indent=1), encoding="utf-8"
        )

    def _unfinished(self) -> list[Line]:
        """Return a failure for each stage that has not ended: only a report that was cut short still has them."""
        reasons = {
            stage: "the process ended or hung in it" if stage == self.stage else "it did not run: the process ended"
            for stage in dict.fromkeys((*self.planned, *([self.stage] * bool(self.stage))))
            if stage not in self.ended
        }
        return [Line(stage=stage, name=TO_ITS_END, passed=False, text=why) for stage, why in reasons.items()]


class _Notes(logging.Handler):
    """Keeps messages as lines of a record."""

    def __init__(self, record: Record) -> None:
        super().__init__(logging.INFO)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        self._record.check("log", None, f"{record.levelname}: {' '.join(record.getMessage().split())[:300]}")


@contextmanager
def logged(record: Record, file: TextIO) -> Iterator[None]:
    """Write all messages to a file, and those of the network's code to the record: why a fast path is not used."""
    everything, ours = logging.getLogger(), logging.getLogger("model")
    to_file, notes, level = logging.StreamHandler(file), _Notes(record), ours.level
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    everything.addHandler(to_file)
    ours.addHandler(notes)
    ours.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        ours.setLevel(level)
        ours.removeHandler(notes)
        everything.removeHandler(to_file)
