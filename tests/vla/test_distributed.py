"""Two real processes that meet as torchrun would have them, against one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic import make_stream

ROOT = Path(__file__).parents[2]


def start_ranks(size: int, mixture_file: Path, out: Path, *words: str) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "oxe_pipeline.train", "--mixture", str(mixture_file), "--out", str(out)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [*command, "--device", "cpu", *words],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "one", "one", episodes=4, held_out=1)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: one, path: one}\n")
    return path


def test_two_ranks_make_the_optimisation_of_one(mixture_file, tmp_path):
    runs = {size: tmp_path / f"ranks_{size}" for size in (1, 2)}
    for size, run in runs.items():
        # An odd batch, so that the ranks' parts differ in size.
        for process in start_ranks(size, mixture_file, run, "--steps", "3", "--batch-size", "5"):
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors[-3000:]
    one, two = records(runs[1]), records(runs[2])
    assert len(one) == len(two) == 4
    for alone, shared in zip(one[:3], two[:3], strict=True):
        assert shared["samples"] == alone["samples"]
        for name in ("loss", "gradient_norm", "token_accuracy"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-4)


def test_a_batch_with_too_few_samples_for_the_ranks_leaves_nothing_behind(mixture_file, tmp_path):
    for process in start_ranks(2, mixture_file, tmp_path / "run", "--batch-size", "1"):
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 2 and "gives one of 2 ranks 0 samples" in errors
    assert not (tmp_path / "run").exists()
