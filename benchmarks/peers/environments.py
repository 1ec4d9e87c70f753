"""Makes one virtual environment per peer, from the exact versions in requirements/<peer>.txt.

    python -m benchmarks.peers.environments DIR [--peers litdata grain ...]

The lists are closed (every package with its version), so nothing is resolved and `--no-deps` keeps pip from pulling in
what a peer's loader never imports: CUDA, training frameworks, robot drivers. torch comes from wherever pip is told to
look; set PIP_EXTRA_INDEX_URL to PyTorch's CPU index where the default is the CUDA build of several GB.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
ENVIRONMENTS = {
    "webdataset": "webdataset",
    "datasets": "datasets",
    "litdata": "litdata",
    "streaming": "streaming",
    "grain": "grain",
    "octo_way": "tfds",
    "openvla_way": "tfds",
    "lerobot": "lerobot",
}
"""Peer -> the environment and requirements file that it runs in."""
_FINISHED = "finished.txt"


def python_of(environments: Path, peer: str) -> Path:
    """The interpreter of a peer's environment. Raises RuntimeError, with the reason, where it could not be made."""
    environment = environments / ENVIRONMENTS[peer]
    if not (environment / _FINISHED).exists():
        failure = environment.with_suffix(".failed.txt")
        reason = failure.read_text().strip() if failure.exists() else "run benchmarks.peers.environments"
        raise RuntimeError(f"{peer} is not installed: {reason}")
    return environment / "bin" / "python"


def make_environment(environments: Path, name: str) -> str | None:
    """Makes `environments`/<name> unless it is there; returns None, or pip's last line of error when it cannot be."""
    environment, requirements = environments / name, (REQUIREMENTS / f"{name}.txt").read_text()
    finished, failure = environment / _FINISHED, environments / f"{name}.failed.txt"
    if finished.exists() and finished.read_text() == requirements:
        return None
    venv.create(environment, with_pip=True, clear=True)
    command = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--quiet"]
    done = subprocess.run([*command, "-r", str(REQUIREMENTS / f"{name}.txt")], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        failure.write_text(errors[-1])
        return errors[-1]
    failure.unlink(missing_ok=True)
    finished.write_text(requirements)
    return None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.environments", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", nargs="+", choices=sorted(ENVIRONMENTS), default=sorted(ENVIRONMENTS))
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = sorted({ENVIRONMENTS[peer] for peer in arguments.peers})
    failed = 0
    for name in names:
        error = make_environment(arguments.folder.resolve(), name)
        print(f"{name}: {error or 'ready'}", flush=True)
        failed += error is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
