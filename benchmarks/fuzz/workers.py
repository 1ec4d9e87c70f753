"""Worker processes that may hang, be killed or die on any input, and are then replaced: what they were at is the
finding."""

import faulthandler
import itertools
import multiprocessing
import os
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.fuzz.attempt import OUTSIDE, Attempt, Bench, limit_memory, watch
from benchmarks.fuzz.formats import Format

CPU_LIMIT_S, WALL_LIMIT_S = 10, 60
"""For one input. The second is for one that waits for ever, on a machine that others use too."""
MEMORY_BYTES = 5 << 30
"""Of address space. Above 2^32, because a reader may ask a file for so many bytes of which only a few are there."""
POLL_S = 0.5
START_LIMIT_S = 300


def fuzz(
    name: str, format: Format, folder: Path, *, seed: int, cpu_seconds: float, only: Iterable[int] | None = None
) -> Iterator[Attempt]:
    """What comes of inputs 0, 1, ... in order, until a worker has computed for so long; or of all those of `only`.
    `folder` is empty and gets the sample."""
    write_sample(format, folder)
    worker, left_s = None, cpu_seconds
    try:
        for number in only or itertools.count():
            worker = worker or _Worker(folder, name, format, seed)
            started_s = worker.cpu_s()
            outcome = worker.attempt(number)
            left_s -= worker.cpu_s() - started_s if isinstance(outcome, Attempt) else CPU_LIMIT_S
            if isinstance(outcome, Attempt):
                yield outcome
            else:
                worker.stop()
                worker = None
                kind, reason = outcome
                damage, trace = _text(folder / f"damage_{number}"), _text(folder / "dying_words")
                yield Attempt(format=name, number=number, damage=damage, outcome=kind, reason=reason, trace=trace)
            if left_s <= 0 and not only:
                return
    finally:
        if worker is not None:
            worker.stop()


def write_sample(format: Format, folder: Path) -> None:
    """The sample and its copy outside, by a process of its own: a writer may load TensorFlow, or not end."""
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(format, folder / "original"))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError(f"{format.spec}: the sample was not written")
    shutil.copytree(folder / "original", folder / OUTSIDE)


def _write(format: Format, folder: Path) -> None:
    folder.mkdir(parents=True)
    format.write(folder)


class _Worker:
    def __init__(self, folder: Path, name: str, format: Format, seed: int):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, name, format, seed), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_LIMIT_S):
            raise RuntimeError(f"{name}: the worker does not start")
        if error := self._connection.recv():
            raise RuntimeError(error)

    def attempt(self, number: int) -> Attempt | tuple[str, str]:
        """The attempt, or ("hang" or "crash", why) after which this worker is of no more use."""
        self._connection.send(number)
        started_s, started_cpu_s = time.monotonic(), self.cpu_s()
        while not self._connection.poll(POLL_S):
            computed_s, waited_s = self.cpu_s() - started_cpu_s, time.monotonic() - started_s
            if computed_s > CPU_LIMIT_S or waited_s > WALL_LIMIT_S:
                assert self._process.pid is not None
                os.kill(self._process.pid, signal.SIGABRT)  # faulthandler then says where it was
                return "hang", f"{computed_s:.0f} s of processor time in {waited_s:.0f} s"
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            return "crash", f"the process ended with {self._process.exitcode}"

    def stop(self) -> None:
        self._connection.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()

    def cpu_s(self) -> float:
        try:
            ticks = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return 0.0
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _serve(connection: Connection, folder: Path, name: str, format: Format, seed: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libav and libhdf5 say about each damaged file
    try:
        bench = Bench(folder=folder, name=name, format=format, seed=seed)
        watch(bench.forbidden)
        warnings.simplefilter("ignore")
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    limit_memory(MEMORY_BYTES)
    dying_words = (folder / "dying_words").open("w", buffering=1)
    faulthandler.enable(dying_words)
    connection.send("")
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        try:
            connection.send(bench.attempt(number))
        except Exception:
            traceback.print_exc(file=dying_words)
            raise


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
