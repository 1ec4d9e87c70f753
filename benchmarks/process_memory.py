"""Resident memory of a process as Linux counts it, split into what the page cache holds and what only the process
does."""

import os
from pathlib import Path

_FIELDS = {"rss": "VmRSS", "anon": "RssAnon", "file": "RssFile", "shmem": "RssShmem", "peak": "VmHWM"}


def memory_mb(pid: int | str = "self") -> dict[str, float]:
    """MB (10^6 bytes) under rss, anon, file, shmem and peak (of rss). FileNotFoundError when the process is gone."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[field].split()[0]) * 1024 / 1e6 for name, field in _FIELDS.items()}


def proportional_mb(pid: int) -> float:
    """MB of a process with each shared page divided by the number of its users (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def open_files(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
