"""The shard job on workers of other processes, as on a cluster (docs/cluster.md): the same bytes, killed or not."""

import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from oxe_pipeline.stream.format import MANIFEST, StreamError
from oxe_pipeline.stream.reader import open_stream
from tests.conftest import ROOT, shard
from tests.jobs.beam_processes import children, job_service, parallel_job_service, wait_for, worker_pool
from tests.jobs.conftest import FILES, content

OPTIONS = ("--shard_mb", "1", "--images", "480x480:jpeg:95")
"""Images are enlarged only so that a unit takes long enough to be killed in the middle of the next one."""


@pytest.fixture(scope="module")
def in_process(rlds, tmp_path_factory) -> Path:
    """The stream that one process makes."""
    out = tmp_path_factory.mktemp("in_process") / "stream"
    shard(rlds, out, *OPTIONS, "--direct_running_mode", "in_memory")
    return out


def portable(job_endpoint: str, pool: str) -> list[str]:
    """Beam options that send a job to a job service, with workers from a pool."""
    return [
        "--runner", "PortableRunner", "--job_endpoint", job_endpoint,
        "--environment_type", "EXTERNAL", "--environment_config", pool,
    ]  # fmt: skip


def test_a_job_service_and_a_worker_pool_write_the_same_stream(rlds, in_process, tmp_path):
    with worker_pool(tmp_path, "pool", umask=0o027) as (_, pool), job_service(tmp_path) as service:
        shard(rlds, tmp_path / "out", *OPTIONS, *portable(service, pool))
    assert content(tmp_path / "out") == content(in_process)
    assert set(shards_by_mode(tmp_path / "out")) == {0o640}, "not the pool's worker wrote the shards"


def test_of_two_worker_pools_one_loses_its_worker_and_the_rerun_ends_with_the_same_stream(rlds, in_process, tmp_path):
    out = tmp_path / "out"
    with (
        worker_pool(tmp_path, "first", umask=0o022) as (first_pool, first),
        worker_pool(tmp_path, "second", umask=0o027) as (second_pool, second),
        parallel_job_service(tmp_path, [first, second]) as (service, balancer),
    ):
        options = [*OPTIONS, *portable(service, balancer), "--direct_num_workers", "2"]
        command = [sys.executable, "-m", "jobs.shard", "--rlds", str(rlds), "--out", str(out), *options]
        job = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        written = wait_for(lambda: both_at_work(out), job)
        (slower,) = children({0o644: first_pool, 0o640: second_pool}[min(written, key=written.__getitem__)])
        os.kill(slower, signal.SIGKILL)
        _, error = job.communicate(timeout=120)

        # Beam's local runner tries nothing again: the job fails, and says how to go on.
        assert job.returncode == 1
        assert "the same command goes on from there" in error.splitlines()[-1]
        assert not (out / MANIFEST).exists()
        with pytest.raises(StreamError, match="unfinished"):
            open_stream(out)
        finished = {path.stem for path in out.glob("units/[0-9]*.json")}
        assert 0 < len(finished) < FILES
        before = {path: path.stat() for path in (out / "shards").glob("[0-9]*") if path.name[:5] in finished}

        rerun = shard(rlds, out, *options)
    assert f"of {FILES} units were finished by an earlier run and are kept" in rerun.stdout
    assert content(out) == content(in_process)
    assert {path: path.stat().st_mtime_ns for path in before} == {path: s.st_mtime_ns for path, s in before.items()}


def both_at_work(out: Path) -> Counter[int] | None:
    """Shard files of each pool once both have written some and a first unit is finished: the slower one then has not
    come to its end."""
    written = shards_by_mode(out)
    return written if len(written) == 2 and any(out.glob("units/[0-9]*.json")) else None


def shards_by_mode(out: Path) -> Counter[int]:
    """How many shard files have each mode, which tells the pool that wrote them."""
    return Counter(stat.S_IMODE(path.stat().st_mode) for path in out.glob("shards/[0-9]*"))
