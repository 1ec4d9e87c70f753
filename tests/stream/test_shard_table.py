import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.stream.format import MANIFEST, StreamError, read_manifest
from oxe_pipeline.stream.shard_table import CameraBytes, FileEntry, ShardEntry, ShardTable
from tests.synthetic import make_episode, write_stream

SIZES = st.integers(0, 2**62)
FILES = st.builds(FileEntry, bytes=SIZES, xxh3=st.binary(min_size=16, max_size=16).map(bytes.hex))
CAMERAS = st.dictionaries(
    st.sampled_from(["primary", "wrist"]), st.builds(CameraBytes, offset=SIZES, bytes=SIZES), max_size=2
)
ENTRIES = st.lists(
    st.builds(
        ShardEntry,
        name=st.from_regex(r"[0-9]{5}-[0-9]{3}", fullmatch=True),
        episodes=SIZES,
        steps=SIZES,
        steps_file=FILES,
        images_file=FILES,
        cameras=CAMERAS,
    ),
    max_size=5,
)


@given(ENTRIES)
def test_entries_come_back_as_they_were_through_columns_and_json(entries):
    table = ShardTable.of(entries)
    again = ShardTable(json.loads(json.dumps(table.to_json())))
    assert list(again) == entries and again == table
    assert len(again) == len(entries) and again[1:] == entries[1:]
    assert again.file_bytes["images"].tolist() == [entry.images_file.bytes for entry in entries]


@pytest.fixture
def folder(tmp_path):
    """Three shards, of which the second has no wrist camera."""
    made = [
        make_episode(seed, steps=2, cameras=("primary",) if seed == 1 else ("primary", "wrist")) for seed in (0, 1, 2)
    ]
    return write_stream(tmp_path / "s", made, episodes_per_shard=1)


def test_a_manifest_keeps_its_shards(folder):
    manifest = read_manifest(folder)
    assert [list(shard.cameras) for shard in manifest.shards] == [
        ["primary", "wrist"],
        ["primary"],
        ["primary", "wrist"],
    ]
    assert manifest.shards[-1].name == "00002-000"
    with pytest.raises(IndexError):
        manifest.shards[3]
    names, sizes = manifest.file_sizes()
    assert {name: manifest.file_entry(name) for name in names} == manifest.all_files()
    assert manifest.shards.largest() == max(manifest.shards, key=lambda s: s.steps_file.bytes + s.images_file.bytes)
    with pytest.raises(KeyError):
        manifest.file_entry("shards/00009-000.steps.arrow")
    assert dict(zip(names, sizes, strict=True)) == {name: file.bytes for name, file in manifest.all_files().items()}


def test_identity_is_that_of_the_written_manifest_and_hangs_on_every_hash(folder):
    manifest = read_manifest(folder)
    assert type(manifest).model_validate(manifest.model_dump()).identity() == manifest.identity()
    change(folder, lambda shards: shards["images_xxh3"].__setitem__(2, "0" * 32))
    assert read_manifest(folder).identity() != manifest.identity()


def test_a_manifest_that_lists_shards_one_by_one_is_read_too(folder):
    manifest, path = read_manifest(folder), folder / MANIFEST
    content = json.loads(path.read_text())
    content["shards"] = [shard.model_dump() for shard in manifest.shards]
    path.write_text(json.dumps(content))
    assert read_manifest(folder).shards == manifest.shards


def change(folder, of_shards):
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    of_shards(content["shards"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("of_shards", "expected"),
    [
        (lambda s: s["steps"].__setitem__(1, "x"), "steps: expected whole numbers"),
        (lambda s: s["steps"].__setitem__(1, 1.5), "steps: expected whole numbers"),
        (lambda s: s["episodes"].pop(), "episodes: expected a list of 3"),
        (lambda s: s["name"].__setitem__(0, 7), "name: expected a list of texts"),
        (lambda s: s["steps_xxh3"].__setitem__(0, "zz"), "steps_xxh3: expected hexadecimal"),
        (lambda s: s["steps_xxh3"].__setitem__(0, "00"), "steps_xxh3: expected 3 hashes of 32 digits"),
        (lambda s: s.pop("steps_bytes"), "expected columns .*steps_bytes"),
        (lambda s: s.update(more=[]), "found .*more"),
        (lambda s: s["cameras"]["wrist"].pop("offset"), r"cameras\.wrist: expected columns offset, bytes"),
        (lambda s: s["cameras"]["wrist"]["bytes"].append(1), r"cameras\.wrist\.bytes: expected a list of 3"),
    ],
)
def test_a_column_that_does_not_hold_is_named_in_one_line(folder, of_shards, expected):
    change(folder, of_shards)
    with pytest.raises(StreamError, match=f"manifest.json: shards.*{expected}") as error:
        read_manifest(folder)
    assert "\n" not in str(error.value)


def test_a_row_of_a_manifest_cannot_be_changed_from_outside(folder):
    shards = read_manifest(folder).shards
    columns = copy.deepcopy(shards.to_json())
    shards.to_json()["steps"][0] = 99
    assert shards.to_json() == columns
