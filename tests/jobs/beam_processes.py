"""The processes that a portable Beam job needs beside it, started as an operator starts them and killed at the end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.conftest import ROOT

START_SECONDS = 120
Found = TypeVar("Found")


@contextmanager
def started(*words: str | Path, log: Path, umask: int = -1) -> Iterator[subprocess.Popen]:
    """Runs `python -m WORDS` in a process group of its own, which is killed as a whole when the block ends."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT, env={**os.environ, "PATH": path}, stdout=output, stderr=output,
            umask=umask, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(find: Callable[[], Found | None], process: subprocess.Popen, seconds: float = START_SECONDS) -> Found:
    """What `find` returns once it is true; AssertionError when the process is over before, or the time is."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert process.poll() is None, f"{process.args!r}: over, with status {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r}: nothing after {seconds} s"
        time.sleep(0.002)
    return found


@contextmanager
def worker_pool(folder: Path, name: str, umask: int = -1) -> Iterator[tuple[subprocess.Popen, str]]:
    """(process, address) of Beam's worker pool. Files that its workers write get their mode from `umask`."""
    log = folder / f"{name}.log"
    words = ("apache_beam.runners.worker.worker_pool_main", "--service_port", "0")
    with started(*words, log=log, umask=umask) as process:
        found = wait_for(lambda: re.search(r"servicer at port: (\S+:\d+)", log.read_text()), process)
        yield process, found[1]


@contextmanager
def job_service(folder: Path) -> Iterator[str]:
    """Address of Beam's local job service."""
    ports = folder / "job_service.port"
    words = ("apache_beam.runners.portability.local_job_service_main", "--port", "0", "--port_file", ports)
    with started(*words, log=folder / "job_service.log") as process:
        wait_for(ports.exists, process)
        yield f"localhost:{ports.read_text()}"


@contextmanager
def parallel_job_service(folder: Path, pools: list[str]) -> Iterator[tuple[str, str]]:
    """(job service, balancer before the pools), addresses; see tests.jobs.parallel_job_service."""
    ports = folder / "parallel_job_service.port"
    words = ("tests.jobs.parallel_job_service", "--port_file", ports, "--pools", ",".join(pools))
    with started(*words, log=folder / "parallel_job_service.log") as process:
        wait_for(ports.exists, process)
        job_port, balancer_port = ports.read_text().split()
        yield f"localhost:{job_port}", f"localhost:{balancer_port}"


def children(process: subprocess.Popen) -> list[int]:
    """Process ids of the running children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
