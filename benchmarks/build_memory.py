"""`python -m benchmarks.build_memory [--megabytes 500 2000 8000]`: does the memory of a build grow with the data?

Makes BridgeData raw folders of each size, runs `tfds build` and then `jobs.shard` on them as commands, and prints for
each command the time, the rate and the peak resident memory of its largest process. Episodes are hard links to one
episode of 50 steps and two 480 px cameras, so the raw data cost no disk; what is written does (about twice the size).
TFDS itself sorts up to 1 GB in memory before it goes to disk: sizes beyond that show whether memory stays.
"""

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scenes import encoded_scenes

STEPS = 50
POLL_S = 0.1


def write_raw_episode(folder: Path) -> int:
    """One BridgeData trajectory in `folder`; returns its bytes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    images = iter(encoded_scenes(2 * STEPS, image_px=480))
    for camera in range(2):
        (folder / f"images{camera}").mkdir()
        for step in range(STEPS):
            (folder / f"images{camera}" / f"im_{step}.jpg").write_bytes(next(images))
    state = np.cumsum(rng.normal(0, 0.01, (STEPS, 7)), axis=0)
    state[:, 6] = rng.random(STEPS)
    actions = [{"actions": rng.normal(0, 0.01, 7)} for _ in range(STEPS - 1)]
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps({"full_state": state}))
    (folder / "policy_out.pkl").write_bytes(pickle.dumps(actions))
    (folder / "lang.txt").write_text("put the carrot on the plate\nconfidence: 1\n")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_raw_folder(root: Path, episode: Path, episodes: int) -> None:
    """`episodes` trajectories that are hard links to one."""
    dated = root / "set" / "kitchen" / "task" / "00" / "2022-01-01_10-00-00" / "raw"
    for number in range(episodes):
        shutil.copytree(episode, dated / f"traj_group{number // 1000}" / f"traj{number}", copy_function=os.link)


def watched(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MB of the largest process of a command; RuntimeError when it fails."""
    started, peak_kb = time.monotonic(), 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        while process.poll() is None:
            peak_kb = max(peak_kb, *(resident_kb(pid) for pid in session_pids(process.pid)), 0)
            time.sleep(POLL_S)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read()[-2000:].decode(errors='replace')}")
    return time.monotonic() - started, peak_kb / 1e3


def session_pids(session: int) -> list[int]:
    """Processes of a session: the command and everything it started."""
    found = [session]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def resident_kb(pid: int) -> int:
    """Peak resident kB of a process so far; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def measure(megabytes: int, folder: Path) -> list[dict]:
    """Rows for `tfds build` and `jobs.shard` on one raw folder of about this size."""
    size = write_raw_episode(folder / "episode")
    episodes = max(1, round(megabytes * 1e6 / size))
    write_raw_folder(folder / "raw", folder / "episode", episodes)
    rlds = folder / "rlds" / "bridge" / "bridge_dataset" / "1.0.0"
    builder = Path(__file__).parent.parent / "builders" / "bridge"
    commands = {
        "tfds build": [
            str(Path(sys.executable).with_name("tfds")),
            *("build", str(builder), "--config", "bridge_dataset"),
            *("--manual_dir", str(folder / "raw"), "--data_dir", str(folder / "rlds")),
        ],
        "jobs.shard": [sys.executable, "-m", "jobs.shard", "--rlds", str(rlds), "--out", str(folder / "stream")],
    }
    rows = []
    for name, command in commands.items():
        seconds, peak_mb = watched(command)
        rows.append(
            {
                "command": name,
                "raw_mb": round(episodes * size / 1e6),
                "episodes": episodes,
                "seconds": round(seconds, 1),
                "mb_per_s": round(episodes * size / 1e6 / seconds, 1),
                "peak_rss_mb": round(peak_mb),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build_memory", description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[500, 2000, 8000], help="sizes of the raw data")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(argv)
    rows = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(megabytes, Path(folder))
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(title="memory of a build against the size of the data")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "command" else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if not isinstance(value, str) else value for value in row.values()))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
