"""The demo's own arguments; what it runs is tested in tests/test_whole_way.py."""

from samples.demo import main


def test_an_output_that_is_taken_is_refused_and_left_as_it_is(tmp_path, capsys):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "mine").touch()
    for taken in (file, folder):
        assert main(["--out", str(taken)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {taken} is not empty and not an earlier demo") and error.count("\n") == 1
    assert file.read_text() == "mine" and (folder / "mine").exists()
