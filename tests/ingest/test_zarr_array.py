"""Arrays of Zarr stores: every codec against the zarr package that wrote them, and descriptions that are traps."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.zarr_replay import read_episode

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")

from samples import zarr_replay_layout as layout  # noqa: E402


def edit_description(array: Path, **changes) -> None:
    said = json.loads((array / ".zarray").read_text())
    (array / ".zarray").write_text(json.dumps(said | changes))


@pytest.mark.parametrize("codec", ["none", "blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma"])
def test_every_codec_gives_what_was_written_with_chunks_cut_along_all_axes(tmp_path, codec):
    import numcodecs

    values = np.random.default_rng(0).normal(size=(11, 7))
    compressor = None if codec == "none" else numcodecs.get_codec({"id": codec})
    root = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    root.create_array("data/action", data=values, chunks=(3, 4), compressors=compressor)
    root.create_array("meta/episode_ends", data=np.array([4, 11]), compressors=None)
    episode = read_episode("x.zarr/episode_1", root=tmp_path)
    np.testing.assert_array_equal(episode.steps["data/action"], values[4:])


def test_registered_image_codecs_are_read_in_folder_and_zip(tmp_path):
    import imagecodecs.numcodecs

    pixels = np.stack([layout.draw(t, side_px=32) for t in range(5)])
    codecs = {"x.zarr.zip": imagecodecs.numcodecs.Jpegxl(level=100), "y.zarr": imagecodecs.numcodecs.Jpeg2k(level=0)}
    for name, codec in codecs.items():
        layout.write_replay(tmp_path / name, {"camera0_rgb": pixels}, [2, 3], image_codec=codec)
        frames = read_episode(f"{name}/episode_1", root=tmp_path).steps["data/camera0_rgb"]
        np.testing.assert_allclose(np.stack(list(frames)), pixels[2:], atol=2)


@pytest.mark.parametrize("codec", ["zstd", "zlib", "bz2", "lzma", "blosc", "lz4", "imagecodecs_jpegxl"])
def test_a_chunk_that_would_decompress_to_more_than_it_should_is_refused_at_once(tmp_path, codec):
    import imagecodecs
    import numcodecs

    side_px = 500 if codec.startswith("imagecodecs") else 3000
    bomb = np.zeros((side_px, side_px, 3), np.uint8)
    if codec.startswith("imagecodecs"):
        packed = imagecodecs.jpegxl_encode(bomb)
    else:
        packed = bytes(numcodecs.get_codec({"id": codec}).encode(bomb))
    layout.write_replay(tmp_path / "x.zarr", {"img": np.ones((1, 16, 16, 3), np.uint8)}, [1])
    edit_description(tmp_path / "x.zarr" / "data" / "img", compressor={"id": codec})
    # As long as a chunk may be, so that what is refused is the decompressed size.
    (tmp_path / "x.zarr" / "data" / "img" / "0.0.0.0").write_bytes(packed[:60_000])
    with pytest.raises(DataError, match=r"decompresses to more than the 768 bytes|claims 27000000 bytes|500, 500, 3"):
        list(read_episode("x.zarr/episode_0", root=tmp_path).steps["data/img"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"compressor": {"id": "pickle"}}, "codec 'pickle' is not read"),
        ({"compressor": {"id": "imagecodecs_gif"}}, "codec 'imagecodecs_gif' is not read"),
        ({"filters": [{"id": "pickle"}]}, "filters are not read"),
        ({"dtype": "|O"}, "dtype '|O' is not read"),
        ({"dtype": ",f4"}, "dtype ',f4' is not read"),
        ({"dtype": "(999999999,)f4"}, "is not read"),
        ({"dtype": [["a", "<f4"]]}, "dtype"),
        ({"chunks": [2**40, 2]}, "take more than 256 MB"),
        ({"shape": [12, 2**30], "chunks": [1, 1]}, "take more than 256 MB"),
        ({"shape": [12, 2**20], "chunks": [1, 1]}, "more than 4096 chunks"),
        ({"shape": [-1, 2]}, "is no list of sizes"),
        ({"shape": [12, 2, 2]}, "does not fit chunks"),
        ({"chunks": [0, 2]}, "is no list of sizes"),
        ({"zarr_format": 3}, "zarr_format is 3; 2 is read"),
        ({"order": "F"}, "only C order is read"),
        ({"shape": [12, 4], "chunks": [12, 4]}, "a blosc block claims 192 bytes where a chunk takes 384"),
    ],
)
def test_descriptions_of_arrays_that_no_robot_needs_are_refused_before_anything_is_decoded(tmp_path, changes, why):
    layout.write_replay(tmp_path / "x.zarr", {"action": np.ones((12, 2))}, [12])
    edit_description(tmp_path / "x.zarr" / "data" / "action", **changes)
    with pytest.raises(DataError) as caught:
        read_episode("x.zarr/episode_0", root=tmp_path)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_a_zip_member_is_never_unpacked_beyond_what_its_array_needs(tmp_path):
    layout.write_umi(tmp_path / "good.zarr.zip", lengths=[2])
    with zipfile.ZipFile(tmp_path / "good.zarr.zip") as good, zipfile.ZipFile(tmp_path / "bad.zarr.zip", "w") as bad:
        for member in good.namelist():
            bomb = bytes(1 << 24) if member == "data/robot0_eef_pos/0.0" else good.read(member)
            bad.writestr(member, bomb, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"data/robot0_eef_pos/0\.0: is longer than the \d+ bytes that it can need"):
        read_episode("bad.zarr.zip/episode_0", root=tmp_path)


def test_a_name_that_would_break_a_line_is_refused(tmp_path):
    layout.write_umi(tmp_path / "x.zarr.zip", lengths=[2])
    with zipfile.ZipFile(tmp_path / "x.zarr.zip", "a") as file:
        file.writestr("data/od\nd/.zarray", "{}")
    with pytest.raises(DataError, match=r"data: an array's name is not printable: 'od\\nd'") as caught:
        read_episode("x.zarr.zip/episode_0", root=tmp_path)
    assert "\n" not in str(caught.value)
