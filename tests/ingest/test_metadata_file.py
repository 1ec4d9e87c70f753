"""Shared metadata files: read once, read again when they change, and every fault with the name of the file."""

import json
import os

import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import metadata_file
from oxe_pipeline.ingest.metadata_file import parsed_file

calls: list[str] = []


def counted(text: str) -> object:
    calls.append(text)
    return json.loads(text)


def test_a_file_is_parsed_once_until_it_changes(tmp_path):
    calls.clear()
    path = tmp_path / "a.json"
    path.write_text('{"x": 1}', encoding="utf-8-sig")
    assert [parsed_file(tmp_path, "a.json", counted, episode="e") for _ in range(3)] == [{"x": 1}] * 3
    assert len(calls) == 1
    path.write_text('{"x": 22}')
    os.utime(path, ns=(1, 1))
    assert parsed_file(tmp_path, "a.json", counted, episode="e") == {"x": 22} and len(calls) == 2


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_of_its_kind_names_episode_and_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"episode e: a\.json: not what it should be"):
        parsed_file(tmp_path, "a.json", counted, episode="e")


def test_absent_too_large_and_outside(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "raw" / "b.json").write_text("{}" + " " * 100)
    with pytest.raises(DataError, match=r"c\.json: no such file"):
        parsed_file(tmp_path / "raw", "c.json", counted, episode="e")
    with pytest.raises(DataError, match="leads out of the raw folder"):
        parsed_file(tmp_path / "raw", "../a.json", counted, episode="e")
    monkeypatch.setattr(metadata_file, "MAX_BYTES", 50)
    with pytest.raises(DataError, match="102 bytes; at most 50 are read"):
        parsed_file(tmp_path / "raw", "b.json", counted, episode="e")
