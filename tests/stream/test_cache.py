"""The cache of remote streams: bounded, shared by processes, safe to kill, and right to the last byte at all times."""

import dataclasses
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.stream.cache import CacheOptions, FileCache, default_cache_folder, file_cache
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.stream.remote import RemoteFolder
from tests.stream.servers import Fault, FaultyServer
from tests.synthetic import make_stream

pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install aiohttp)")
ROOT = Path(__file__).parents[2]
PIECE = 16 << 10
READ_ALL = (
    "import sys\n"
    "from oxe_pipeline.stream.cache import CacheOptions\n"
    "from oxe_pipeline.stream.reader import open_stream\n"
    f"options = CacheOptions(folder=sys.argv[2], limit_bytes=int(sys.argv[3]), piece_bytes={PIECE}, backoff_s=0.01)\n"
    "stream = open_stream(sys.argv[1], cache=options)\n"
    "print(sum(len(stream.shard(number).vectors['action']) for number in range(len(stream.manifest.shards))))\n"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Holds the stream `s` of six shards of some 80 kB, and `longer`, which begins with the same episodes."""
    root = tmp_path_factory.mktemp("served")
    make_stream(root / "s", "demo", episodes=22, held_out=2)
    make_stream(root / "longer", "demo", episodes=22, held_out=6)
    return root


@pytest.fixture
def server(root):
    with FaultyServer(root).running() as server:
        yield server


@pytest.fixture
def options(tmp_path):
    return CacheOptions(folder=tmp_path / "cache", attempts=3, backoff_s=0.01, piece_bytes=PIECE)


def room_for(shards: int, root: Path, options: CacheOptions) -> CacheOptions:
    """`options` with a limit that holds so many shards and no more."""
    manifest = open_stream(root / "s").manifest
    largest = max(shard.steps_file.bytes + shard.images_file.bytes for shard in manifest.shards)
    return dataclasses.replace(options, limit_bytes=shards * largest + 1000)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files, a download counted with what it will have, while nobody makes room or renames."""
    with open(folder / "folder.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sum(
            int(path.name.split(".")[1]) if path.suffix == ".part" else path.stat().st_size for path in folder.iterdir()
        )


def start_reader(server: FaultyServer, folder: Path, limit_bytes: int = 10**9) -> subprocess.Popen:
    words = [sys.executable, "-c", READ_ALL, f"{server.url}/s", str(folder), str(limit_bytes)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CacheOptions().folder == default_cache_folder() == tmp_path / "oxe_pipeline" / "streams"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CacheOptions().folder == Path.home() / ".cache" / "oxe_pipeline" / "streams"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheOptions(folder="~/streams").folder == tmp_path / "streams"


@pytest.mark.parametrize("wrong", [{"limit_bytes": 0}, {"attempts": 0}, {"backoff_s": -1}, {"timeout_s": 0}])
def test_options_that_cannot_hold_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        CacheOptions(**wrong)


def test_equal_files_of_two_streams_are_fetched_and_kept_once(root, server, options):
    streams = [open_stream(f"{server.url}/{name}", cache=options) for name in ("s", "longer")]
    for stream in streams:
        stream.shard(0)
    shared = streams[0].manifest.shards[0]
    assert shared.images_file.xxh3 == streams[1].manifest.shards[0].images_file.xxh3
    assert server.requests_of(f"s/{shared.images_name}") > 0
    assert server.requests_of(f"longer/{shared.images_name}") == 0


def test_the_limit_holds_at_every_moment_and_what_is_read_stays_right(root, server, options):
    options = room_for(2, root, options)
    local, stream = open_stream(root / "s"), open_stream(f"{server.url}/s", cache=options)
    most, done = [0], threading.Event()

    def watch():
        while not done.is_set():
            most[0] = max(most[0], folder_bytes(options.folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    drawn = random.Random(0)
    try:
        for _ in range(60):
            episode = drawn.randrange(len(local.episodes))
            assert bytes(stream.image(episode, 0, "wrist")) == bytes(local.image(episode, 0, "wrist"))
    finally:
        done.set()
        watcher.join()
    assert options.limit_bytes / 2 < most[0] <= options.limit_bytes


def test_the_least_recently_used_shard_goes_first(root, server, options):
    options = dataclasses.replace(room_for(3, root, options), renew_s=1e-6)
    stream = open_stream(f"{server.url}/s", cache=options)
    for number in (0, 1, 2, 0, 3):
        stream.shard(number)
    assert [stream.is_here(number) for number in range(4)] == [True, False, True, True]


def test_a_shard_above_the_limit_is_refused_at_open(server, options):
    with pytest.raises(StreamError, match=r"shard \d{5}-000: \d+ bytes are needed at a time.*limited to 20000.*raise"):
        open_stream(f"{server.url}/s", cache=dataclasses.replace(options, limit_bytes=20_000))


def test_a_removed_file_stays_readable_where_it_is_mapped_until_maps_are_renewed(root, server, options):
    options = dataclasses.replace(options, renew_s=0.5)
    local, stream = open_stream(root / "s"), open_stream(f"{server.url}/s", cache=options)
    image, shard = stream.image(0, 0, "primary"), stream.shard(0)
    for path in options.folder.glob("*.arrow"):
        path.unlink()
    assert bytes(image) == bytes(local.image(0, 0, "primary")) and stream.shard(0) is shard
    time.sleep(0.6)
    assert stream.shard(0) is not shard and stream.is_here(0)
    assert bytes(image) == bytes(stream.image(0, 0, "primary")) == bytes(local.image(0, 0, "primary"))


def test_processes_that_want_the_same_files_at_once_download_them_once(root, server, options):
    server.bytes_per_s = 2e6
    readers = [start_reader(server, options.folder) for _ in range(2)]
    printed = {reader.communicate(timeout=60)[0].strip() for reader in readers}
    local = open_stream(root / "s")
    assert printed == {str(local.num_steps)}
    for shard in local.manifest.shards:
        for name, entry in shard.file_entries().items():
            assert server.bytes_of(name) == entry.bytes


def test_a_reader_killed_in_mid_download_is_resumed_and_nothing_whole_travels_again(root, server, options):
    entry = open_stream(root / "s").manifest.shards[0].images_file
    part = options.folder / f"{entry.xxh3}.{entry.bytes}.part"
    server.bytes_per_s = 60_000
    reader = start_reader(server, options.folder)
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 2 * PIECE) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(reader.pid, signal.SIGKILL)
    reader.communicate()
    there = part.stat().st_size
    assert 2 * PIECE <= there < entry.bytes
    server.bytes_per_s = float("inf")
    before = {name: server.bytes_of(name) for name in ("episodes.parquet", "steps.arrow")}
    time.sleep(1)  # until the server, too, has noticed that the reader is gone, and has counted what it sent
    sent = server.bytes_of("00000-000.images.arrow")
    stream = open_stream(f"{server.url}/s", cache=options)
    stream.shard(0)
    assert server.bytes_of("00000-000.images.arrow") - sent == entry.bytes - there
    assert {name: server.bytes_of(name) for name in before} == before


def test_a_forked_process_reads_on_its_own_connections(root, server, options):
    stream = open_stream(f"{server.url}/s", cache=options)
    stream.shard(0)
    local = open_stream(root / "s")

    def read(episode: int) -> None:
        right = bytes(stream.image(episode, 0, "primary")) == bytes(local.image(episode, 0, "primary"))
        os._exit(0 if right else 1)

    children = [multiprocessing.get_context("fork").Process(target=read, args=(episode,)) for episode in (0, 9, 20)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0, 0]


def test_readers_that_are_killed_again_and_again_leave_a_sound_cache_within_its_limit(root, server, options):
    options = room_for(3, root, options)
    server.bytes_per_s = 400_000
    drawn = random.Random(1)
    for _ in range(3):
        readers = [start_reader(server, options.folder, options.limit_bytes) for _ in range(2)]
        time.sleep(drawn.uniform(1.0, 3.0))
        for reader in readers:
            reader.kill()
            reader.communicate()
        if (options.folder / "folder.lock").exists():
            assert folder_bytes(options.folder) <= options.limit_bytes
    server.bytes_per_s = float("inf")
    local, stream = open_stream(root / "s"), open_stream(f"{server.url}/s", cache=options)
    for episode in range(24):
        assert bytes(stream.image(episode, 0, "primary")) == bytes(local.image(episode, 0, "primary"))
        assert np.array_equal(stream.vector("state", episode), local.vector("state", episode))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 256 kB: three shards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_on_a_disk_that_others_fill_the_cache_gives_way_and_goes_on(root, server, options, small_disk):
    local, stream = open_stream(root / "s"), open_stream(f"{server.url}/s", cache=room_on(small_disk, options))
    for episode in (*range(24), *range(24)):
        assert bytes(stream.image(episode, 0, "primary")) == bytes(local.image(episode, 0, "primary"))


def test_a_full_disk_is_an_error_that_names_folder_free_bytes_and_remedy(root, server, options, small_disk):
    stream = open_stream(f"{server.url}/s", cache=room_on(small_disk, options))
    (small_disk / "of_others").write_bytes(bytes(230_000))
    with pytest.raises(StreamError, match=rf"{small_disk}: the disk is full \(\d+ bytes free.*another disk") as error:
        stream.shard(1)
    assert "\n" not in str(error.value)
    (small_disk / "of_others").unlink()
    assert len(stream.vector("action", 5))


def room_on(disk: Path, options: CacheOptions) -> CacheOptions:
    return dataclasses.replace(options, folder=disk, limit_bytes=10**9)


def test_a_limit_on_the_size_of_files_is_an_error_that_names_it(server, options):
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n" + READ_ALL.replace(
        "print(",
        "from oxe_pipeline.stream.format import StreamError\ntry:\n    stream.shard(0)\n"
        "except StreamError as error:\n    print(error)\n    sys.exit()\nprint(",
    )
    words = [sys.executable, "-c", code, f"{server.url}/s", str(options.folder), "1000000000"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "File too large" in done.stdout and "ulimit -f" in done.stdout, done.stderr


def test_a_folder_that_cannot_be_made_is_an_error_with_the_remedy(tmp_path, server, options):
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match=r"file/cache: cannot be used as cache .*another folder"):
        open_stream(f"{server.url}/s", cache=dataclasses.replace(options, folder=tmp_path / "file" / "cache"))


def test_a_prefetch_displaces_only_what_nobody_has_wanted_lately(root, server, options):
    options = dataclasses.replace(room_for(2, root, options), renew_s=60)
    stream = open_stream(f"{server.url}/s", cache=options)
    for number in (0, 1):
        stream.shard(number)
    assert not stream.prefetch(2, called_off=lambda: False)
    assert stream.is_here(0) and stream.is_here(1)
    an_hour_ago = time.time() - 3600
    for entry in stream.manifest.shards[0].file_entries().values():
        os.utime(options.folder / f"{entry.xxh3}.arrow", (an_hour_ago, an_hour_ago))
    assert stream.prefetch(2, called_off=lambda: False)
    assert [stream.is_here(number) for number in range(3)] == [False, True, True]


def test_files_of_others_in_the_folder_are_left_alone(root, server, options):
    options = room_for(1, root, options)
    options.folder.mkdir()
    notes = options.folder / "notes.txt"
    notes.write_bytes(bytes(10**6))
    stream = open_stream(f"{server.url}/s", cache=options)
    for number in range(3):
        stream.shard(number)
    assert notes.stat().st_size == 10**6


def test_one_process_has_one_cache_for_the_same_options(options):
    assert file_cache(options) is file_cache(dataclasses.replace(options))
    assert isinstance(file_cache(options), FileCache)


def test_a_folder_that_is_emptied_in_mid_download_costs_one_more_download(root, server, options):
    manifest = open_stream(root / "s").manifest
    name, entry = manifest.shards[0].images_name, manifest.shards[0].images_file
    server.faults.append(Fault(name=name, wait_s=1.0))

    def empty_folder() -> None:
        while not list(options.folder.glob("*.part")):
            time.sleep(0.01)
        shutil.rmtree(options.folder)

    threading.Thread(target=empty_folder, daemon=True).start()
    remote = RemoteFolder(f"{server.url}/s", attempts=1, backoff_s=0, timeout_s=5)
    assert file_cache(options).fetch(remote, name, entry).read_bytes() == (root / "s" / name).read_bytes()
    assert server.bytes_of(name) == 2 * entry.bytes


def test_a_download_that_is_called_off_keeps_what_has_come(root, server, options):
    manifest = open_stream(root / "s").manifest
    name, entry = manifest.shards[0].images_name, manifest.shards[0].images_file
    remote = RemoteFolder(f"{server.url}/s", attempts=1, backoff_s=0, timeout_s=5)
    answers = iter([False, False, True])
    assert not file_cache(options).prefetch(remote, name, entry, called_off=lambda: next(answers))
    part = options.folder / f"{entry.xxh3}.{entry.bytes}.part"
    assert part.stat().st_size == 2 * PIECE
    assert file_cache(options).fetch(remote, name, entry).read_bytes() == (root / "s" / name).read_bytes()
    assert server.bytes_of(name) == entry.bytes
