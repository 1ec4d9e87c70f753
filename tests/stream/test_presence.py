import pytest

from oxe_pipeline.stream import presence
from oxe_pipeline.stream.format import StreamError, read_manifest
from oxe_pipeline.stream.presence import check_files
from tests.synthetic import make_episode, write_stream

EPISODES = 120


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """240 shard files: more than are timed."""
    made = [make_episode(seed, steps=1, cameras=(), image_px=8) for seed in range(EPISODES)]
    return write_stream(tmp_path_factory.mktemp("many") / "s", made, episodes_per_shard=1)


@pytest.fixture(params=["near", "far"])
def disk(request, monkeypatch):
    """Counts every disk as near, or every disk as far away."""
    monkeypatch.setattr(presence, "_FAR_S", {"near": 1e9, "far": 0.0}[request.param])


@pytest.mark.usefixtures("disk")
def test_a_sound_stream_passes(stream):
    check_files(stream, read_manifest(stream))


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize("name", ["episodes.parquet", "shards/00003-000.steps.arrow", "shards/00119-000.images.arrow"])
def test_an_absent_or_short_file_is_named_with_both_sizes(stream, name):
    path = stream / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1])
        with pytest.raises(StreamError, match=f"{name}: {len(whole) - 1} bytes, the manifest says {len(whole)} bytes"):
            check_files(stream, read_manifest(stream))
        path.unlink()
        with pytest.raises(StreamError, match=f"{name}: absent, the manifest says {len(whole)} bytes"):
            check_files(stream, read_manifest(stream))
    finally:
        path.write_bytes(whole)


@pytest.mark.usefixtures("disk")
def test_of_several_faults_the_first_of_the_manifest_is_named(stream):
    paths = [stream / "shards" / f"{number:05d}-000.images.arrow" for number in (119, 118)]
    contents = [path.read_bytes() for path in paths]
    try:
        for path in paths:
            path.unlink()
        with pytest.raises(StreamError, match="00118-000"):
            check_files(stream, read_manifest(stream))
    finally:
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
