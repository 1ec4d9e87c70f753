"""Shows how far a shard job is: a bar on a terminal, otherwise a line now and then. Watches the output folder alone, so
it works for every runner whose workers write where this process can look."""

import sys
import threading
import time

from oxe_pipeline.stream.convert import UNITS_FOLDER
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import Plan

POLL_SECONDS = 0.5
REMOTE_POLL_SECONDS = 5.0
LINE_SECONDS = 15.0


class Progress:
    """Context manager: watches the units' records appear while the block runs."""

    def __init__(self, plan: Plan, out: OutputFolder):
        self._plan, self._out = plan, out
        self._done_before = self._finished_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._bar if sys.stderr.isatty() else self._lines, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _finished_bytes(self) -> int:
        names = self._out.names(UNITS_FOLDER)
        return sum(unit.bytes for unit in self._plan.units if unit.record_name in names)

    def _bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(self._plan.dataset, total=self._plan.input_bytes, completed=self._done_before)
            while not self._stop.wait(POLL_SECONDS if self._out.local else REMOTE_POLL_SECONDS):
                bar.update(task, completed=self._finished_bytes())

    def _lines(self) -> None:
        start = time.monotonic()
        while not self._stop.wait(LINE_SECONDS):
            done, total, seconds = self._finished_bytes(), self._plan.input_bytes, time.monotonic() - start
            rate = (done - self._done_before) / seconds
            left = f"about {(total - done) / rate:.0f} s left" if rate else "time left not known yet"
            print(f"{self._plan.dataset}: {done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s, {left}",
                  file=sys.stderr, flush=True)  # fmt: skip
