"""Files of episode ids and weights."""

from fractions import Fraction

import pytest

from oxe_pipeline.overlays.episode_lists import read_episode_ids, read_episode_weights
from oxe_pipeline.overlays.overlay import OverlayError


def test_ids_one_a_line_with_comments(tmp_path):
    (tmp_path / "ids.txt").write_text("# seen by eye\nabc\n\n  def \n")
    assert read_episode_ids(tmp_path / "ids.txt") == ("abc", "def")


@pytest.mark.parametrize("name", ["w.json", "w.csv", "headed.csv"])
def test_weights_are_read_exactly_as_written(tmp_path, name):
    rows = {"w.json": '{"a": 0.1, "b,c": 2}', "w.csv": "a,0.1\nb,c, 2\n", "headed.csv": "id,weight\na,0.1\nb,c,2"}
    (tmp_path / name).write_text(rows[name])
    assert read_episode_weights(tmp_path / name) == {"a": Fraction(1, 10), "b,c": Fraction(2)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.csv", "a,-1", "weight -1 of episode a is negative"),
        ("w.csv", "a,much", "weight 'much' of episode a is not a number"),
        ("w.csv", "a,nan", "weight 'nan' of episode a is not a number"),
        ("w.csv", "a,1/0", "weight '1/0' of episode a is not a number"),
        ("w.csv", "a", "line 'a' has no weight"),
        ("w.csv", "a,1\na,2", "episode a is listed twice"),
        ("w.csv", "\n", "names no episode"),
        ("w.json", '{"a": 1, "a": 2}', "episode a is listed twice"),
        ("w.json", '{"a": NaN}', "weight 'NaN' of episode a is not a number"),
        ("w.json", '{"a": [1]}', r"is not a number"),
        ("w.json", "[1, 2]", "must hold"),
        ("w.json", "{", "not valid JSON"),
    ],
)
def test_faults_are_named_with_file_and_episode(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(OverlayError, match=message) as raised:
        read_episode_weights(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name)) and "\n" not in str(raised.value)


def test_a_list_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(OverlayError, match="cannot be read"):
        read_episode_ids(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(OverlayError, match="names no episode"):
        read_episode_ids(tmp_path / "empty.txt")
