"""A stream in the format of each peer: the episodes' own JPEG bytes, vectors and instructions, written by the peer.

python -m benchmarks.peers.export STREAM --environments DIR --to DIR [--peers litdata grain ...]
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.environments import ENVIRONMENTS, python_of
from benchmarks.peers.episodes import CAMERAS, Episode, save_episode
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import Stream, open_stream

EPISODES = "episodes"


def hand_over(stream: Stream, folder: Path) -> Path:
    """Writes each episode of the stream as one .npz file into `folder`/episodes and returns that."""
    target = folder / EPISODES
    target.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(stream.episodes.length.tolist()):
        episode = Episode(
            images={
                camera: [bytes(stream.image(number, step, camera)) for step in range(length)] for camera in CAMERAS
            },
            state=stream.vector("state_raw", number),
            action=stream.vector("action_raw", number),
            instruction=stream.instruction(number),
        )
        save_episode(episode, target / f"{number:06d}.npz")
    return target


def export(peer: str, episodes: Path, folder: Path, environments: Path) -> Path:
    """The folder in `folder` that the peer wrote in its own environment; what is there already is kept.

    Peers that share an environment share a format, and the folder.

    Raises RuntimeError with the last line the peer said when it fails.
    """
    target = folder / ENVIRONMENTS[peer]
    if target.exists():
        return target
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    command = [str(python_of(environments, peer)), "-m", "benchmarks.peers.turns", peer, "write"]
    done = subprocess.run(
        [*command, "--episodes", str(episodes), "--data", str(unfinished)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{peer} cannot write the episodes: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    unfinished.rename(target)
    return target


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.export", description=__doc__.split("\n")[0])
    parser.add_argument("stream", type=Path)
    parser.add_argument("--environments", type=Path, required=True, help="folder of benchmarks.peers.environments")
    parser.add_argument("--to", type=Path, required=True, help="folder that gets one folder per peer")
    parser.add_argument("--peers", nargs="+", choices=sorted(ENVIRONMENTS), default=sorted(ENVIRONMENTS))
    arguments = parser.parse_args(argv)
    try:
        episodes = hand_over(open_stream(arguments.stream), arguments.to)
        for peer in arguments.peers:
            print(export(peer, episodes, arguments.to, arguments.environments))
    except (StreamError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
