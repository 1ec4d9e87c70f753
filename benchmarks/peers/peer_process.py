"""The driver's side of a peer: a process that makes batches only while it is its turn, and is stopped between turns.

Loaders go on making batches ahead after the last one was taken. Stopping the whole process group keeps one peer's
making ahead out of the next one's time, which waiting for quiet would not guarantee.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

_PATIENCE_S = 5.0


class PeerError(RuntimeError):
    """A peer that ended, or said nothing in time; the message ends with the last line it wrote to standard error."""


class PeerProcess:
    """One variant of a peer, started in its own environment and session. Use it in a `with` block."""

    def __init__(self, python: Path, peer: str, variant: str, data: Path, log: Path):
        self.name = f"{peer}:{variant}"
        self._log = log
        command = [
            str(python),
            "-m",
            "benchmarks.peers.turns",
            peer,
            "serve",
            "--data",
            str(data),
            "--variant",
            variant,
        ]
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=PROJECT,
                start_new_session=True,
                # Threads that a peer's arithmetic library starts would compete with its own workers.
                env={**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            )

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            # The last to go is Python's resource tracker, which gives back the others' shared memory.
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline and (self._process.poll() is None or _processes_of(self._process.pid)):
                time.sleep(0.05)
            self._signal(signal.SIGKILL)
        self._process.wait()

    def first_batch(self, *, timeout_s: float) -> dict:
        """Waits for {"first_batch_s", "version"} and stops the process. Raises PeerError."""
        answer = self._answer(timeout_s)
        self._signal(signal.SIGSTOP)
        return answer

    def turn(self, *, batches: int, seconds: float, timeout_s: float) -> tuple[float, float]:
        """Samples per second of one turn, and MB of memory at its end that is not in the page cache."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"batches": batches, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        rate = self._answer(timeout_s)["samples_per_s"]
        memory = sum(map(_own_memory_mb, _processes_of(self._process.pid)))
        self._signal(signal.SIGSTOP)
        return rate, memory

    def _answer(self, timeout_s: float) -> dict:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            if ready:
                # Its standard output ends before it has said on standard error why.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=10)
            said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            why = "ended" if ready else f"said nothing for {timeout_s:.0f} s"
            raise PeerError(f"{self.name} {why}: {said[-1] if said else 'no word'}")
        return json.loads(line)

    def _signal(self, sign: signal.Signals) -> None:
        os.killpg(self._process.pid, sign)


def _processes_of(session: int) -> list[int]:
    """All processes of a session: the peer's workers, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
    return found


def _own_memory_mb(pid: int) -> float:
    """MB of anonymous and shared memory, each shared page divided by the number of its users; 0 for a process gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024 / 1e6
