import json

import pytest

from oxe_pipeline.stream.format import MANIFEST, StreamError, canonical_json, hash_file, read_manifest, write_whole
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream


def test_identity_changes_with_any_content_and_not_with_anything_else(tmp_path):
    first = open_stream(make_stream(tmp_path / "a", "a")).identity
    assert open_stream(make_stream(tmp_path / "again", "a")).identity == first
    assert open_stream(make_stream(tmp_path / "longer", "a", episodes=9)).identity != first
    assert open_stream(make_stream(tmp_path / "named", "b")).identity != first


def test_missing_stream_is_told_apart_from_an_unfinished_one(tmp_path):
    with pytest.raises(StreamError, match="no stream"):
        read_manifest(tmp_path)
    folder = make_stream(tmp_path / "a", "a")
    (folder / MANIFEST).unlink()
    with pytest.raises(StreamError, match="unfinished stream"):
        read_manifest(folder)


def test_newer_format_is_refused_with_the_remedy(tmp_path):
    folder = make_stream(tmp_path / "a", "a")
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(StreamError, match="stream format 2, this version reads 1; update this package"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"format": 1}', "\udcff"])
def test_damaged_manifest_is_one_line_that_names_the_file(tmp_path, text):
    folder = make_stream(tmp_path / "a", "a")
    (folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StreamError, match=str(folder)) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_write_whole_leaves_nothing_but_the_final_file(tmp_path):
    entry = write_whole(tmp_path / "x" / "y.bin", b"abc" * 1000)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y.bin"]
    assert hash_file(tmp_path / "x" / "y.bin") == entry


def test_canonical_json_does_not_depend_on_key_order():
    assert canonical_json({"b": 1, "a": {"d": [1.5], "c": "ü"}}) == canonical_json(
        {"a": {"c": "ü", "d": [1.5]}, "b": 1}
    )
