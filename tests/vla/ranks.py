"""Runs of several ranks, all in one pair of processes, since starting them is what takes the time.

`python -m tests.vla.ranks FILE` under torchrun's WORLD_SIZE and address: FILE is JSON, a list of runs (see `Run`).
"""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.checkpoint import load_checkpoint
from oxe_pipeline.vla.distributed import World
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.records import config_from_record, config_to_record
from oxe_pipeline.vla.text_examples import open_text_examples
from oxe_pipeline.vla.text_stream import TextStream
from oxe_pipeline.vla.train_config import TrainConfig
from oxe_pipeline.vla.train_loop import train

ROOT = Path(__file__).parents[2]


class Run(TypedDict):
    out: str
    mixture: str
    config: dict
    """As config_to_record."""
    texts: str | None
    resume: str | None
    """A checkpoint's folder."""


def run(work: Run, world: World | None = None) -> None:
    """One training run of this process."""
    world = world or World()
    config = config_from_record(work["config"])
    texts = None
    if work["texts"]:
        examples = open_text_examples(work["texts"])
        texts = TextStream(
            examples, share=0.3, seed=1, batch_size=config.batch_size, rank=world.rank, world_size=world.size
        )
    out = Path(work["out"])
    out.mkdir(parents=True, exist_ok=True)
    train(
        config,
        load_mixture(work["mixture"]),
        out,
        mixture_file=Path(work["mixture"]),
        device=torch.device("cpu"),
        world=world,
        texts=texts,
        resume=load_checkpoint(Path(work["resume"])) if work["resume"] else None,
    )
    if texts is not None:
        texts.close()


def config_of(model: ModelConfig | None = None, **changes) -> TrainConfig:
    """Small, and with parts of unequal size: two ranks have 2 and 3 of 5 samples, in micro-batches of 1 and 2."""
    config = {"steps": 4, "batch_size": 5, "micro_batches": 2, "checkpoint_every": 2, "keep_checkpoints": 9}
    config["evaluate_windows"] = 4
    made = replace(preset("nano", learning_rate=1e-3, warmup_steps=0), **{**config, **changes})
    return made if model is None else replace(made, model=model)


def work_of(
    out: Path, mixture: Path, config: TrainConfig, *, texts: Path | None = None, resume: Path | None = None
) -> Run:
    return Run(
        out=str(out),
        mixture=str(mixture),
        config=json.loads(json.dumps(config_to_record(config))),
        texts=str(texts) if texts else None,
        resume=str(resume) if resume else None,
    )


def run_on_ranks(size: int, runs: list[Run], folder: Path) -> None:
    """All runs, one after the other, by `size` processes that find each other as under torchrun."""
    file = folder / "runs.json"
    file.write_text(json.dumps(runs))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.vla.ranks", str(file)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **world}, stderr=subprocess.PIPE, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]


def _fork_ranks(runs: list[Run]) -> int:
    """0 when every rank has done all runs. Libraries are loaded once, before the processes part."""
    import torch.distributed.fsdp  # noqa: F401

    for one in runs:
        VLA(config_from_record(one["config"]).model)
    ranks = {}
    for rank in range(int(os.environ["WORLD_SIZE"])):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            here = World.from_environment(os.environ)
            for one in runs:
                run(one, here)
            here.leave()
            os._exit(0)
        ranks[child] = rank
    failed = 0
    while ranks:
        child, status = os.wait()
        del ranks[child]
        if status:  # The others would wait for it.
            failed = 1
            for other in ranks:
                os.kill(other, signal.SIGTERM)
    return failed


def records(run: str | Path) -> list[dict]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(_fork_ranks(json.loads(Path(sys.argv[1]).read_text())))
