"""The side of a peer: runs in the peer's own environment, writes its format, or makes batches when it is its turn.

    python -m benchmarks.peers.turns litdata write --episodes DIR --data DIR
    python -m benchmarks.peers.turns litdata serve --data DIR --variant NAME

`serve` speaks in lines of JSON. It says on its own that it has made a first batch, and then answers each request
{"batches": most, "seconds": most} with the samples per second of one turn. Batches that the peer made ahead of the turn
are taken and thrown away first: only what is made while the clock runs counts.

An adapter is a module of this package with PACKAGE (the distribution whose version is reported), VARIANTS (name ->
settings, in words), MADE_AHEAD (the fewest batches to throw away), `write(episodes, folder)`, and
`open_batches(folder, variant)`, an endless iterator of batches.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from benchmarks.peers.episodes import CAMERAS, CHUNK, read_episodes
from benchmarks.peers.records import BATCH_SIZE

_WAITED_S = 0.003
"""A batch that lies ready is handed over in less; making one takes several times as long on a few cores."""
_MOST_DISCARDED = 50


def serve(peer: ModuleType, folder: Path, variant: str, answers) -> None:
    """Opens the peer's data, reports the first batch, and takes turns until standard input ends."""
    started = time.perf_counter()
    batches = peer.open_batches(folder, variant)
    first = next(batches)
    first_batch_s = time.perf_counter() - started
    _check(first)
    _say(answers, {"first_batch_s": first_batch_s, "version": _version(peer.PACKAGE)})
    for line in sys.stdin:
        request = json.loads(line)
        _say(answers, {"samples_per_s": _turn(batches, peer.MADE_AHEAD, request["batches"], request["seconds"])})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def _turn(batches: Iterator[dict], made_ahead: int, most_batches: int, most_seconds: float) -> float:
    _discard(batches, made_ahead)
    started, taken, elapsed = time.perf_counter(), 0, 0.0
    while taken < most_batches and elapsed < most_seconds:
        next(batches)
        taken, elapsed = taken + 1, time.perf_counter() - started
    return taken * BATCH_SIZE / elapsed


def _discard(batches: Iterator[dict], made_ahead: int) -> None:
    """Takes `made_ahead` batches, and more until one had to be waited for: some peers make as many as they see fit."""
    for number in range(made_ahead + _MOST_DISCARDED):
        started = time.perf_counter()
        next(batches)
        if number >= made_ahead - 1 and time.perf_counter() - started > _WAITED_S:
            return


def _check(batch: dict) -> None:
    """ValueError unless the batch holds what every peer has to deliver."""
    for name in CAMERAS:
        shape = tuple(batch[name].shape)
        if len(shape) != 4 or shape[0] != BATCH_SIZE or 3 not in shape or min(shape[1:]) != 3:
            raise ValueError(f"camera {name}: shape {shape}, expected {BATCH_SIZE} colour images")
    if tuple(batch["action"].shape[:2]) != (BATCH_SIZE, CHUNK) or len(batch["state"]) != BATCH_SIZE:
        raise ValueError(f"action {tuple(batch['action'].shape)}, state {tuple(batch['state'].shape)}")
    if len(batch["instruction"]) != BATCH_SIZE:
        raise ValueError(f"{len(batch['instruction'])} instructions, expected {BATCH_SIZE}")


def _say(answers, message: dict) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.turns", description=__doc__.split("\n")[0])
    parser.add_argument("peer", help="adapter: a module of benchmarks.peers")
    parser.add_argument("task", choices=("write", "serve"))
    parser.add_argument("--episodes", type=Path, help="folder of .npz episodes to write into the peer's format")
    parser.add_argument("--data", type=Path, required=True, help="folder in the peer's format")
    parser.add_argument("--variant", help="which of the adapter's settings to use")
    arguments = parser.parse_args(argv)
    peer = importlib.import_module(f"benchmarks.peers.{arguments.peer}")
    if arguments.task == "write":
        peer.write(read_episodes(arguments.episodes), arguments.data)
        return 0
    # Peers print to standard output as they please; answers go where it pointed before, it goes to standard error.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(peer, arguments.data, arguments.variant, answers)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Worker processes and runtimes of peers may take long to come down, or never do.
    os._exit(status)
