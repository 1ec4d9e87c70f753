"""A stream behind a URL is the stream in the folder, whatever the server does on the way. The servers are real."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.stream.cache import CacheOptions
from oxe_pipeline.stream.format import MANIFEST, VECTORS, StreamError
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.stream.remote import is_url
from oxe_pipeline.stream.verify import verify_stream
from tests.stream.servers import S3_CREDENTIALS, Fault, FaultyServer, nginx, s3_endpoint
from tests.synthetic import make_stream

pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install aiohttp)")
ROOT = Path(__file__).parents[2]
PIECE = 16 << 10


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Holds the stream `s` of six shards of some 80 kB."""
    root = tmp_path_factory.mktemp("served")
    make_stream(root / "s", "demo", episodes=21, held_out=2)
    return root


@pytest.fixture
def options(tmp_path):
    return CacheOptions(folder=tmp_path / "cache", attempts=4, backoff_s=0.01, timeout_s=5, piece_bytes=PIECE)


@pytest.fixture
def server(root):
    with FaultyServer(root).running() as server:
        yield server


def same_content(stream, local) -> bool:
    """Every vector, image and text."""
    same = stream.identity == local.identity and stream.instructions == local.instructions
    for episode in range(len(local.episodes)):
        same &= stream.episodes.source_path(episode) == local.episodes.source_path(episode)
        same &= all(np.array_equal(stream.vector(name, episode), local.vector(name, episode)) for name in VECTORS)
        same &= all(
            bytes(stream.image(episode, step, camera)) == bytes(local.image(episode, step, camera))
            for step in range(local.episodes.length[episode])
            for camera in ("primary", "wrist")
        )
    return same and all(stream.statistics(name).summary() == local.statistics(name).summary() for name in VECTORS)


def test_a_stream_on_nginx_reads_as_in_its_folder_and_every_file_travels_once(root, tmp_path, options):
    local = open_stream(root / "s")
    with nginx(root, tmp_path) as served:
        assert same_content(open_stream(f"{served.url}/s/", cache=options), local)
        for name, entry in local.manifest.all_files().items():
            assert served.bytes_of(name) == entry.bytes
        requests = served.requests()
        # As after a restart: the manifest alone is asked for again.
        assert same_content(open_stream(f"{served.url}/s", cache=options), local)
        assert served.requests() == requests + 1


def test_a_stream_on_s3_reads_as_in_its_folder(root, options, monkeypatch):
    with s3_endpoint(root, "bucket") as endpoint:
        for name, value in {**S3_CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        assert same_content(open_stream("s3://bucket/s", cache=options), open_stream(root / "s"))
        with pytest.raises(StreamError, match=r"s3://bucket/nothing: no stream"):
            open_stream("s3://bucket/nothing", cache=options)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("https://host/x", True), ("s3://b/x", True), ("/data/x", False), ("x", False), ("file:///data/x", False)],
)
def test_what_is_a_url(path, expected):
    assert is_url(path) is expected


def test_a_file_address_is_the_folder_itself(root):
    stream = open_stream(f"file://{root}/s")
    assert not stream.is_remote and stream.path == root / "s"


def test_a_folder_is_opened_without_any_remote_machinery(root):
    code = (
        "import sys; from oxe_pipeline.stream.reader import open_stream; stream = open_stream(sys.argv[1]); "
        "stream.shard(0), stream.instructions, stream.statistics('state'); "
        "print([name for name in ('fsspec', 'aiohttp', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root / "s"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_nothing_there_and_no_access_are_told_in_one_line_and_asked_once(server, options):
    with pytest.raises(StreamError, match=f"{server.url}/nothing: no stream: {MANIFEST} is missing"):
        open_stream(f"{server.url}/nothing", cache=options)
    server.faults.append(Fault(MANIFEST, times=9, status=403))
    with pytest.raises(StreamError, match=f"{server.url}/s/{MANIFEST}: .*403") as error:
        open_stream(f"{server.url}/s", cache=options)
    assert "\n" not in str(error.value)
    assert [server.requests_of(name) for name in ("/nothing/manifest.json", "/s/manifest.json")] == [1, 1]


def test_a_protocol_without_its_package_names_the_package(options):
    with pytest.raises(StreamError, match=r"abfs://x/y: .*pip install adlfs"):
        open_stream("abfs://x/y", cache=options)


def test_a_server_that_is_overloaded_for_a_while_is_asked_again(root, server, options):
    server.faults += [Fault(MANIFEST, times=2, status=503), Fault("images.arrow", times=3, status=503)]
    assert same_content(open_stream(f"{server.url}/s", cache=options), open_stream(root / "s"))
    assert sum(status == 503 for _, status, _ in server.sent) == 5


def test_a_server_that_stays_overloaded_is_an_error_after_the_attempts(server, options):
    server.faults.append(Fault("images.arrow", times=99, status=503))
    stream = open_stream(f"{server.url}/s", cache=options)
    with pytest.raises(StreamError, match=rf"{server.url}/s/shards/.*images\.arrow: failed 4 times, last: .*503"):
        stream.image(0, 0, "primary")
    assert server.requests_of("images.arrow") == options.attempts


def test_a_connection_cut_in_mid_file_costs_at_most_a_piece(root, server, options):
    local = open_stream(root / "s")
    shard = local.manifest.shards[0]
    assert shard.images_file.bytes > 3 * PIECE
    stream = open_stream(f"{server.url}/s", cache=options)
    server.faults += [Fault(shard.images_name, times=2, cut_after=PIECE // 2), Fault(shard.steps_name, cut_after=0)]
    assert same_content(stream, local)
    assert server.bytes_of(shard.images_name) == shard.images_file.bytes + 2 * (PIECE // 2)


def test_wrong_bytes_are_thrown_away_and_fetched_again(root, server, options):
    server.faults += [Fault("00002-000.images.arrow", flip_byte=5), Fault("episodes.parquet", flip_byte=100)]
    assert same_content(open_stream(f"{server.url}/s", cache=options), open_stream(root / "s"))
    assert server.requests_of("episodes.parquet") == 2


def test_bytes_that_stay_wrong_are_an_error_with_both_hashes_and_leave_nothing(root, server, options):
    entry = open_stream(root / "s").manifest.shards[0]
    server.faults.append(Fault(entry.steps_name, times=99, flip_byte=3))
    stream = open_stream(f"{server.url}/s", cache=options)
    expected = f"{server.url}/s/{entry.steps_name}: content hash [0-9a-f]{{32}}, the manifest says "
    with pytest.raises(StreamError, match=f"{expected}{entry.steps_file.xxh3}, 4 times"):
        stream.vector("action", 0)
    assert not list(options.folder.glob(f"{entry.steps_file.xxh3}.arrow"))
    server.faults.clear()
    assert len(stream.vector("action", 0))


def test_a_server_that_does_not_answer_in_time_is_asked_again(root, server, tmp_path):
    options = CacheOptions(folder=tmp_path / "cache", timeout_s=0.3, attempts=3, backoff_s=0.01)
    server.faults.append(Fault("00001-000.images.arrow", wait_s=2))
    assert same_content(open_stream(f"{server.url}/s", cache=options), open_stream(root / "s"))
    server.faults.append(Fault("00000-000.images.arrow", times=9, wait_s=2))
    shutil.rmtree(options.folder)
    with pytest.raises(StreamError, match=r"00000-000\.images\.arrow: failed 3 times, last: .*Timeout.*timeout_s"):
        open_stream(f"{server.url}/s", cache=options).image(0, 0, "primary")


def test_a_server_without_ranges_does_no_harm_even_to_a_download_that_is_resumed(root, options):
    with FaultyServer(root, honours_ranges=False).running() as server:
        local = open_stream(root / "s")
        entry = local.manifest.shards[0]
        part = options.folder / f"{entry.images_file.xxh3}.{entry.images_file.bytes}.part"
        part.parent.mkdir()
        part.write_bytes((root / "s" / entry.images_name).read_bytes()[: PIECE + 7])
        assert same_content(open_stream(f"{server.url}/s", cache=options), local)
        assert server.requests_of(entry.images_name) == 1


def test_a_stream_travels_as_its_address_and_refuses_to_be_another_when_it_arrives(root, tmp_path, options):
    shutil.copytree(root / "s", tmp_path / "served" / "s")
    with FaultyServer(tmp_path / "served").running() as server:
        stream = open_stream(f"{server.url}/s", cache=options)
        packed = pickle.dumps(stream)
        assert len(packed) < 1000 and same_content(pickle.loads(packed), stream)
        shutil.rmtree(tmp_path / "served" / "s")
        other = open_stream(make_stream(tmp_path / "served" / "s", "demo", episodes=5))
        with pytest.raises(StreamError, match=f"it was stream {stream.identity} and is {other.identity}"):
            pickle.loads(packed)


def test_verification_reads_the_server_and_not_the_cache(root, tmp_path, options):
    shutil.copytree(root / "s", tmp_path / "served" / "s")
    with FaultyServer(tmp_path / "served").running() as server:
        local, remote = verify_stream(root / "s", images=True), verify_stream(f"{server.url}/s", images=True)
        assert remote.faults == [] and remote.stream == f"{server.url}/s"
        assert all(getattr(remote, name) == getattr(local, name) for name in ("identity", "files", "bytes", "images"))
        stream = open_stream(f"{server.url}/s", cache=options)
        stream.image(0, 0, "primary")
        damaged = tmp_path / "served" / "s" / stream.manifest.shards[0].images_name
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        (tmp_path / "served" / "s" / stream.manifest.shards[1].steps_name).unlink()
        faults = verify_stream(f"{server.url}/s").faults
        assert len(faults) == 2 and "content hash" in faults[0] and "absent" in faults[1]
