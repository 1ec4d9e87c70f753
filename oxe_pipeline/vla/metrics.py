"""Where metrics go: one JSON line per record in RUN/metrics.jsonl, always, and TensorBoard where it is installed."""

import json
import sys
from pathlib import Path
from types import ModuleType

from oxe_pipeline.stream.format import write_whole

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends records and flushes each line, so that a killed run has lost nothing that it had done."""

    def __init__(self, run: Path, *, resume_step: int = 0, writes: bool = True):
        """Continues the log after `resume_step`: lines of later steps, which the run will do again, are dropped.

        `writes` is false on all ranks but the first: those keep no log.
        """
        self._file = self._board = None
        if not writes:
            return
        path = run / METRICS
        kept = [line for line in read_lines(path) if json.loads(line)["step"] <= resume_step]
        write_whole(path, "".join(line + "\n" for line in kept).encode())
        self._file = open(path, "a")  # noqa: SIM115  (closed in __exit__)
        self._board = _open_board(run, resume_step)

    def write(self, record: dict) -> None:
        """`record` must hold "step". Numbers are written with every digit; TensorBoard gets each under its path of
        keys.
        """
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in _flat(record):
                self._board.add_scalar(name, value, record["step"])

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()


def read_lines(path: Path) -> list[str]:
    """The complete lines of a log; a last line cut by a kill is left out. Empty where there is no file."""
    if not path.is_file():
        return []
    return [line[:-1] for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _open_board(run: Path, resume_step: int):
    # TensorBoard loads TensorFlow wherever it is installed, unless this module of its own marks a build without; torch
    # then writes event files by TensorBoard's stub, and the trainer stays free of TensorFlow.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # An optional viewer: the JSON lines hold everything.
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=resume_step + 1)


def _flat(record: dict, prefix: str = ""):
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key != "step":
            yield prefix + key, value
