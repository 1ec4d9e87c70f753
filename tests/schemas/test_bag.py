"""The map from topics to columns: what it refuses, and that a spec's errors name its keys."""

import pytest
import yaml
from pydantic import ValidationError

from schemas.bag import BagColumn, BagLayout
from schemas.spec import SpecError, load_spec, load_spec_file

NUMBERS = {"topics": ["/x"], "fields": ["data"]}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"topics": [], "fields": ["data"]}, "at least 1 item"),
        ({"topics": ["/x"]}, "needs fields"),
        ({"topics": ["/x"], "kind": "image", "fields": ["data"]}, "an image column takes no fields"),
        ({"topics": ["/x"], "kind": "text"}, "needs fields"),
        ({**NUMBERS, "names": ["a"], "fields": ["x", "y"]}, "names pick values out of one field"),
        ({**NUMBERS, "max_age_s": 0}, "greater than 0"),
        ({**NUMBERS, "take": "nearest"}, "at_step"),
    ],
)
def test_a_column_that_makes_no_sense_is_refused(said, why):
    with pytest.raises(ValidationError, match=why):
        BagColumn.model_validate(said)


def test_a_clock_must_be_a_column_of_numbers_or_images():
    columns = {"a": NUMBERS, "label": {**NUMBERS, "kind": "text"}}
    for clock in ("b", "label"):
        with pytest.raises(ValidationError, match="is no column of numbers or images"):
            BagLayout.model_validate({"columns": columns, "clock": clock})
    assert BagLayout.model_validate({"columns": columns, "clock": "a"}).clock == "a"
    with pytest.raises(ValidationError, match="no column of numbers or images"):
        BagLayout.model_validate({"columns": {"label": columns["label"]}})


def test_bags_hold_several_episodes_only_where_the_spec_lets_them():
    columns = {"a": NUMBERS}
    assert not BagLayout.model_validate({"columns": columns}).several_episodes
    assert BagLayout.model_validate({"columns": columns, "on_gap": "cut"}).several_episodes
    assert BagLayout.model_validate({"columns": columns, "recording": NUMBERS}).several_episodes


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path):
    said = load_spec("rosbag_arm").model_dump(mode="json", by_alias=True, exclude_defaults=True)
    said["bag"]["columns"]["action/gripper"]["max_age"] = 1
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(SpecError, match=r"bag\.columns\.action/gripper\.max_age: unknown key; did you mean max_age_s"):
        load_spec_file(tmp_path / "x.yaml")
