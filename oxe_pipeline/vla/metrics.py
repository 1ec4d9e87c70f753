"""Where metrics go: one JSON line per record in RUN/metrics.jsonl, always; TensorBoard where it is installed; wandb
where it is asked for.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from oxe_pipeline.stream.format import write_whole

METRICS = "metrics.jsonl"
WANDB_HINT = "metrics are to be sent to wandb: pip install wandb, or leave --wandb out"
_WANDB_RUN = "wandb_run.txt"


def check_wandb() -> None:
    """ImportError with the remedy where the package is missing; does not load it."""
    if importlib.util.find_spec("wandb") is None:
        raise ImportError(WANDB_HINT)


class MetricsLog:
    """Appends records and flushes each line, so that a killed run has lost nothing that it had done."""

    def __init__(self, run: Path, *, resume_step: int = 0, writes: bool = True, wandb: str = ""):
        """Continues the log after `resume_step`: lines of later steps, which the run will do again, are dropped.

        `writes` is false on all ranks but the first: those keep no log. `wandb` is the project to send to, or "".
        """
        self._file = None
        self._sinks: list[Callable[[dict, int], None]] = []
        self._closing: list[Callable[[], None]] = []
        if not writes:
            return
        if wandb:
            self._open_wandb(run, wandb)
        path = run / METRICS
        kept = [line for line in read_lines(path) if json.loads(line)["step"] <= resume_step]
        write_whole(path, "".join(line + "\n" for line in kept).encode())
        self._file = open(path, "a")  # noqa: SIM115  (closed in __exit__)
        self._open_board(run, resume_step)

    def write(self, record: dict) -> None:
        """`record` must hold "step". Numbers are written with every digit; viewers get each under its path of keys."""
        if self._file is None:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        values = dict(_flat(record))
        for sink in self._sinks:
            sink(values, record["step"])

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        for close in self._closing:
            close()

    def _open_board(self, run: Path, resume_step: int) -> None:
        # TensorBoard loads TensorFlow wherever it is installed, unless this module of its own marks a build without;
        # torch then writes event files by TensorBoard's stub, and the trainer stays free of TensorFlow.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # An optional viewer: the JSON lines hold everything.
            return
        board = SummaryWriter(str(run / "tensorboard"), purge_step=resume_step + 1)

        def write(values: dict, step: int) -> None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

        self._sinks.append(write)
        self._closing.append(board.close)

    def _open_wandb(self, run: Path, project: str) -> None:
        """The same wandb run again where the folder names one. ImportError with the remedy without the package."""
        check_wandb()
        import wandb

        named = run / _WANDB_RUN
        known = named.read_text() if named.is_file() else None
        session = wandb.init(project=project, name=run.name, dir=str(run), id=known, resume="allow")
        write_whole(named, session.id.encode())
        # Steps that a resumed run does again would be refused as wandb's own step, which may only grow.
        session.define_metric("*", step_metric="step")
        self._sinks.append(lambda values, step: session.log({**values, "step": step}))
        self._closing.append(session.finish)


def read_lines(path: Path) -> list[str]:
    """The complete lines of a log; a last line cut by a kill is left out. Empty where there is no file."""
    if not path.is_file():
        return []
    return [line[:-1] for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _flat(record: dict, prefix: str = ""):
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key != "step":
            yield prefix + key, value
