"""Verification finds every kind of damage, names the file and leaves a sound stream in peace."""

import json

import pytest

from oxe_pipeline.stream.format import MANIFEST
from oxe_pipeline.stream.verify import verify_stream
from oxe_pipeline.verify import main
from tests.synthetic import make_episode, make_stream, write_stream


@pytest.fixture
def stream(tmp_path):
    return make_stream(tmp_path / "s", "demo", episodes=6, held_out=2)


def change_manifest(stream, change):
    path = stream / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_sound_stream_has_no_fault(stream):
    found = verify_stream(stream, images=True)
    assert found.faults == []
    assert found.episodes == 8 and found.images == 2 * found.steps
    assert found.files == len([p for p in stream.rglob("*") if p.is_file()]) - 1


def test_every_file_is_covered_by_a_hash(stream):
    for path in sorted(p for p in stream.rglob("*") if p.is_file() and p.name != MANIFEST):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (fault,) = verify_stream(stream).faults
        assert str(path) in fault and "hash" in fault and "\n" not in fault
        path.write_bytes(whole[:-1])
        (fault,) = verify_stream(stream).faults
        assert str(path) in fault and "bytes" in fault
        path.unlink()
        assert any(str(path) in fault and "absent" in fault for fault in verify_stream(stream).faults)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["counts"].update(episodes_in=9), "9 episodes in"),
        (lambda m: m["counts"]["split_steps"].update(train=1), "split_steps"),
        (lambda m: m["shards"]["steps"].__setitem__(0, 1), "rows"),
        (lambda m: m["cameras"].update(wrist=3), "camera wrist"),
        (lambda m: m.update(action_slots=[0, 1]), "action is"),
        (lambda m: m["statistics"]["action"].clear(), "action.bin"),
        (lambda m: [column.reverse() for column in m["shards"].values() if isinstance(column, list)], "end to end"),
    ],
)
def test_a_manifest_that_does_not_fit_the_files_is_a_fault(stream, change, expected):
    change_manifest(stream, change)
    assert any(expected in fault for fault in verify_stream(stream).faults)


def test_a_truncated_image_is_found_when_images_are_looked_at(tmp_path):
    episode = make_episode(0, steps=3)
    episode.images["primary"][2] = episode.images["primary"][2][:-40]
    stream = write_stream(tmp_path / "s", [episode])
    assert verify_stream(stream).faults == []
    (fault,) = verify_stream(stream, images=True).faults
    assert "camera primary, row 2" in fault and "truncated" in fault


def test_the_command_exits_0_on_a_sound_stream_and_2_on_a_damaged_one(stream, capsys):
    assert main([str(stream), "--images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    (stream / "episodes.parquet").write_bytes(b"")
    assert main([str(stream)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "episodes.parquet" in error and "--overwrite" in error
    assert main([str(stream / "nothing")]) == 2
    assert "no stream" in capsys.readouterr().err
