"""The recorder's own parts, without a simulator: content hashes and what each command line prints."""

from samples.record import content_hash, main


def test_a_content_hash_changes_with_a_byte_a_name_or_a_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    seen = {content_hash(tmp_path / "a")}
    (tmp_path / "a" / "b" / "x").write_text("2")
    seen.add(content_hash(tmp_path / "a"))
    (tmp_path / "a" / "b" / "x").rename(tmp_path / "a" / "b" / "y")
    seen.add(content_hash(tmp_path / "a"))
    (tmp_path / "a" / "z").write_text("")
    seen.add(content_hash(tmp_path / "a"))
    assert len(seen) == 4


def test_recording_into_a_folder_that_has_a_lab_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "metaworld_libero").mkdir()
    assert main(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "exists; remove it" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["metaworld_libero"]
