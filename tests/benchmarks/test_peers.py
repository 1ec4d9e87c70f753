"""The frame of the comparison with other loaders; the loaders themselves run only where their environments are."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import turns
from benchmarks.peers.compare import DEFAULT_WAYS, compare, main
from benchmarks.peers.environments import ENVIRONMENTS, REQUIREMENTS, python_of
from benchmarks.peers.episodes import CAMERAS, CHUNK, Episode, read_episodes
from benchmarks.peers.export import hand_over
from benchmarks.peers.moving_scenes import make_moving_stream
from benchmarks.peers.peer_process import PeerError, PeerProcess
from benchmarks.peers.records import BATCH_SIZE, decoded, stacked
from oxe_pipeline.stream.reader import open_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    return make_moving_stream(tmp_path_factory.mktemp("peers") / "stream", episodes=4, steps=40, image_px=32)


def test_handed_over_episodes_hold_the_bytes_and_vectors_of_the_stream(stream, tmp_path):
    opened = open_stream(stream)
    episodes = list(read_episodes(hand_over(opened, tmp_path)))
    assert len(episodes) == 4
    for number, episode in enumerate(episodes):
        assert episode.instruction == opened.instruction(number)
        np.testing.assert_array_equal(episode.action, opened.vector("action_raw", number))
        np.testing.assert_array_equal(episode.state, opened.vector("state_raw", number))
        for camera in CAMERAS:
            assert episode.images[camera] == [bytes(opened.image(number, step, camera)) for step in range(40)]


def test_all_images_of_the_moving_scenes_differ(stream, tmp_path):
    episodes = read_episodes(hand_over(open_stream(stream), tmp_path))
    images = [image for episode in episodes for camera in CAMERAS for image in episode.images[camera]]
    assert len(set(images)) == len(images) == 320


def test_chunks_hold_the_last_action_past_the_end():
    action = np.arange(6, dtype=np.float32)[:, None].repeat(7, 1)
    episode = Episode(images={}, state=np.zeros((6, 10), np.float32), action=action, instruction="")
    assert episode.chunk(0)[:, 0].tolist() == [0, 1, 2, 3]
    assert episode.chunk(4)[:, 0].tolist() == [4, 5, 5, 5]


def test_records_become_a_batch_that_the_check_accepts_and_a_short_one_is_refused(stream, tmp_path):
    episodes = read_episodes(hand_over(open_stream(stream), tmp_path))
    records = [decoded(record) for episode in episodes for record in episode.records()][:BATCH_SIZE]
    batch = stacked(records)
    assert batch["primary"].shape == (BATCH_SIZE, 32, 32, 3) and batch["primary"].dtype == np.uint8
    assert batch["action"].shape == (BATCH_SIZE, CHUNK, 7)
    turns._check(batch)
    with pytest.raises(ValueError, match="camera primary"):
        turns._check({**batch, "primary": batch["primary"][:-1]})


def test_a_turn_throws_away_what_was_made_ahead_and_counts_the_rest():
    taken = []

    def batches():
        while True:
            taken.append(1)
            # Seven lie ready, the others take 20 ms each.
            time.sleep(0 if len(taken) <= 7 else 0.02)
            yield {}

    rate = turns._turn(batches(), made_ahead=3, most_batches=5, most_seconds=60)
    assert len(taken) == 8 + 5
    assert 0 < rate <= BATCH_SIZE / 0.02


def test_our_loader_runs_as_a_process_that_is_stopped_between_turns(stream, tmp_path):
    pytest.importorskip("torch")
    with PeerProcess(Path(sys.executable), "ours", "threads", stream, tmp_path / "log") as process:
        assert process.first_batch(timeout_s=120)["first_batch_s"] > 0
        assert _is_stopped(process)
        rate, memory_mb = process.turn(batches=3, seconds=20, timeout_s=120)
        assert rate > 0 and 20 < memory_mb < 5000
        assert _is_stopped(process)
    assert not Path(f"/proc/{process._process.pid}").exists()


def _is_stopped(process: PeerProcess) -> bool:
    """Whether it comes to a stop within a few seconds: signals take effect when the process is next scheduled."""
    for _ in range(100):
        if Path(f"/proc/{process._process.pid}/stat").read_text().split()[2] == "T":
            return True
        time.sleep(0.05)
    return False


def test_a_peer_that_ends_is_reported_with_its_last_words(tmp_path):
    with (
        PeerProcess(Path(sys.executable), "ours", "threads", tmp_path / "absent", tmp_path / "log") as process,
        pytest.raises(PeerError, match=r"ours:threads ended: .*absent"),
    ):
        process.first_batch(timeout_s=120)


def test_a_peer_without_an_environment_is_a_row_with_the_reason(stream, tmp_path):
    (row,) = compare(stream, tmp_path, tmp_path, ["grain:threads"], rounds=1, batches=1, seconds=1)
    assert row.failure and "grain is not installed" in row.failure and row.samples_per_s is None


def test_what_pip_said_is_the_reason(tmp_path):
    (tmp_path / "grain.failed.txt").write_text("ERROR: No matching distribution found for grain==0.2.18\n")
    with pytest.raises(RuntimeError, match="No matching distribution found for grain"):
        python_of(tmp_path, "grain")


def test_every_peer_has_closed_requirements_and_a_default_way():
    for peer, environment in ENVIRONMENTS.items():
        lines = (REQUIREMENTS / f"{environment}.txt").read_text().split()
        assert lines and all("==" in line for line in lines)
        assert any(way.startswith(f"{peer}:") for way in DEFAULT_WAYS)


def test_an_unknown_peer_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        main(["--environments", "e", "--data", "d", "--peers", "dali"])
    assert "dali" in capsys.readouterr().err
