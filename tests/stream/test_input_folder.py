"""RLDS behind an address: planned from both ends of its files, read unit by unit, named by its address in errors."""

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from oxe_pipeline.ingest.features_json import RldsError
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.input_folder import InputFolder
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import ShardOptions, make_plan
from tests.ingest.tfds_sample import write_unified
from tests.synthetic import make_episode

ADDRESS = "memory://lab/rlds"


@pytest.fixture(scope="module")
def rlds(tmp_path_factory) -> Path:
    return write_unified(tmp_path_factory.mktemp("rlds"), [make_episode(i, image_px=160) for i in range(12)], shards=3)


@pytest.fixture
def remote(rlds):
    """The data set behind an address; yields the file system that holds it."""
    filesystem = fsspec.filesystem("memory")
    for file in rlds.iterdir():
        filesystem.pipe_file(f"/lab/rlds/{file.name}", file.read_bytes())
    yield filesystem
    filesystem.rm("/lab", recursive=True)


def test_the_outline_has_every_name_size_and_both_ends(rlds, remote):
    with InputFolder(ADDRESS).outline(end_bytes=1000) as outline:
        for file in rlds.glob("*tfrecord*"):
            whole, found = file.read_bytes(), (outline.path / file.name).read_bytes()
            assert found[:1000] == whole[:1000] and found[-1000:] == whole[-1000:]
            assert len(found) == len(whole) and not any(found[1000:-1000])
    with InputFolder(ADDRESS).outline(end_bytes=10**9) as outline:
        assert all((outline.path / file.name).read_bytes() == file.read_bytes() for file in rlds.iterdir())


def test_the_job_is_the_same_one_wherever_the_input_lies(rlds, remote, tmp_path):
    out = OutputFolder(str(tmp_path))
    here, there = (make_plan(address, out, ShardOptions(shard_mb=1)) for address in (rlds, ADDRESS))
    assert len(here.units) > 1
    assert replace(there, work=replace(there.work, rlds=here.work.rlds)) == here
    assert there.work.rlds == ADDRESS


def test_only_the_files_asked_for_are_copied_and_none_stays(rlds, remote):
    first, *others = sorted(file.name for file in rlds.glob("*tfrecord*"))
    with InputFolder(ADDRESS).opened([first]) as directory:
        assert (directory.path / first).read_bytes() == (rlds / first).read_bytes()
        assert not any((directory.path / name).exists() for name in others)
    assert not directory.path.exists()


def test_errors_name_the_address_and_not_the_temporary_folder(remote, tmp_path):
    with pytest.raises(RldsError, match=r"^memory://lab/elsewhere: no dataset_info\.json"):
        make_plan("memory://lab/elsewhere", OutputFolder(str(tmp_path)), ShardOptions())
    remote.pipe_file("/lab/rlds/features.json", b"[")
    with pytest.raises(RldsError, match=r"^memory://lab/rlds/features\.json"):
        make_plan(ADDRESS, OutputFolder(str(tmp_path)), ShardOptions())
    with pytest.raises(StreamError, match=r"^nosuch://lab"):
        make_plan("nosuch://lab", OutputFolder(str(tmp_path)), ShardOptions())
