"""The border of a raw folder, and the order of numbered names."""

import os

import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside, number_order, whole_file, whole_files


@pytest.mark.parametrize(
    "name", ["a.txt", "absent.txt", "a.txt/below_a_file", "link_inside", "folder", "folder/../a.txt"]
)
def test_what_lies_inside_is_handed_back_whether_it_exists_or_not(tmp_path, name):
    (tmp_path / "a.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link_inside").symlink_to("a.txt")
    assert inside(tmp_path, tmp_path / name, "e") == tmp_path / name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside", "leads out of the raw folder"),
        ("folder/../../outside", "leads out of the raw folder"),
        ("/etc/passwd", "leads out of the raw folder"),
        ("link_outside", "leads out of the raw folder"),
        ("link_to_itself", "no file can be opened by this name"),
        ("nul\0byte", "no file can be opened by this name: ValueError"),
        ("half a pair \ud800", "no file can be opened by this name: UnicodeEncodeError"),
        ("x" * 5000, "no file can be opened by this name: File name too long"),
        ("y/" * 4000 + "z", "no file can be opened by this name: File name too long"),
        ("pipe", "is a pipe or a device"),
    ],
)
def test_what_leads_out_or_can_be_no_file_is_a_short_data_error(tmp_path, name, reason):
    root = tmp_path / "raw"
    (root / "folder").mkdir(parents=True)
    (root / "link_outside").symlink_to(tmp_path)
    (root / "link_to_itself").symlink_to("link_to_itself")
    os.mkfifo(root / "pipe")
    with pytest.raises(DataError, match=reason) as caught:
        inside(root, root / name, "e")
    assert caught.value.episode == "e" and len(str(caught.value).encode()) < 250


def test_a_whole_file_is_read_up_to_a_limit_and_nothing_else_is(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1234")
    assert whole_file(tmp_path, tmp_path / "a.txt", "e", most_bytes=4) == b"1234"
    for name, reason in (("a.txt", "4 bytes; at most 3"), ("absent", "cannot be read: No such"), (".", "Is a dir")):
        with pytest.raises(DataError, match=reason):
            whole_file(tmp_path, tmp_path / name, "e", most_bytes=3 if name == "a.txt" else 1 << 30)


@pytest.mark.parametrize("what", ["link", "folder", "absent", "pipe"])
def test_files_of_a_folder_are_read_together_and_the_border_holds_for_each(tmp_path, what):
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "raw" / "images"
    folder.mkdir(parents=True)
    files = [folder / f"im_{n}" for n in range(3)]
    for file in files:
        file.write_bytes(file.name.encode())
    assert whole_files(tmp_path / "raw", files, "e") == [b"im_0", b"im_1", b"im_2"]
    files[1].unlink()
    match what:
        case "link":
            files[1].symlink_to(tmp_path / "secret")
        case "folder":
            files[1].mkdir()
        case "pipe":
            os.mkfifo(files[1])
    with pytest.raises(DataError, match=r"e: im_1: "):
        whole_files(tmp_path / "raw", files, "e")
    (tmp_path / "raw" / "away").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leads out of the raw folder"):
        whole_files(tmp_path / "raw", [tmp_path / "raw" / "away" / "secret"], "e")


def test_numbers_in_names_are_sorted_as_numbers():
    assert sorted(["im_10", "im_2", "im_b", "im_1"], key=number_order) == ["im_1", "im_2", "im_10", "im_b"]
