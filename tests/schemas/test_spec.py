"""A spec that does not hold is refused in one line with file, key, value and the nearest right word."""

import pytest
import yaml

from schemas.slots import ACTION_NAMES, STATE_NAMES
from schemas.spec import (
    DATASETS_FOLDER,
    SpecError,
    load_spec,
    load_spec_file,
    spec_names,
    variant_names,
)
from schemas.spec_parts import parse_source, slot_indices


@pytest.fixture
def refused(tmp_path):
    """Writes the Bridge spec with one change and returns the error's text."""

    def write_and_load(change) -> str:
        content = yaml.safe_load((DATASETS_FOLDER / "bridge_dataset.yaml").read_text())
        change(content)
        path = tmp_path / "bridge_dataset.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(SpecError) as caught:
            load_spec_file(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ") and "\n" not in text
        return text

    return write_and_load


def test_an_unknown_key_gets_the_nearest_name(refused):
    assert "control_hertz: unknown key; did you mean control_hz?" in refused(lambda c: c.update(control_hertz=5))
    assert "cameras.primary.color: unknown key; did you mean colour" in refused(
        lambda c: c["cameras"]["primary"].update(color="bgr")
    )


def test_an_unknown_key_of_an_operation_gets_the_nearest_name(refused):
    operation = {"op": "gripper_width", "open_wide": 0.08}
    text = refused(lambda c: c["action"][2].update(ops=[operation]))
    assert "gripper_width" in text and "open_width" in text
    text = refused(lambda c: c["action"][2].update(ops=[{**operation, "open_width": 0.08}]))
    assert "open_wide: unknown key; did you mean open_width" in text


def test_a_missing_key_is_named(refused):
    assert "robot: Field required" in refused(lambda c: c.pop("robot"))


def test_a_bad_slot_gets_the_nearest_name(refused):
    text = refused(lambda c: c["action"][2].update(slots="arm0.griper"))
    assert "action slot 'arm0.griper' is unknown; did you mean arm0.gripper" in text


def test_a_slot_filled_twice_is_named_with_both_sources(refused):
    text = refused(lambda c: c["action"].append({"slots": "arm0.gripper", "source": "action[5]"}))
    assert "action slot arm0.gripper is filled by both 'action[6]' and 'action[5]'" in text


def test_an_unknown_camera_gets_the_nearest_name(refused):
    text = refused(lambda c: c["cameras"].update(wirst={"source": "x"}))
    assert "camera 'wirst' is unknown; did you mean wrist" in text


def test_an_unknown_operation_is_told_with_those_there_are(refused):
    text = refused(lambda c: c["action"][2].update(ops=[{"op": "binarise_gripper"}]))
    assert "binarize_gripper" in text and "binarise_gripper" in text


def test_a_source_that_does_not_parse_is_refused(refused):
    assert "does not parse" in refused(lambda c: c["action"][0].update(source="action[0:3"))
    assert "does not parse" in refused(lambda c: c.update(action_raw=["action[a]"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [("control_hz", 0), ("control_hz", float("inf")), ("control_hz", "fast"), ("name", "Bad Name")],
)
def test_a_bad_value_is_shown(refused, key, value):
    text = refused(lambda c: c.update({key: value}))
    assert f"{key}: " in text and repr(value) in text


def test_a_split_can_only_be_one_of_ours(refused):
    assert "split.names.train: Input should be 'train', 'val' or 'test'" in refused(
        lambda c: c.update(split={"names": {"train": "trian"}})
    )


def test_a_motion_cannot_be_computed_from_states_that_are_not_there(refused):
    text = refused(lambda c: c["state"].pop(0))
    assert "action_from_state needs state slot arm0.eef_position.x" in text
    assert "arm0.eef_rotation_6d" in refused(lambda c: c["state"].pop(1))


def test_a_pattern_that_is_no_regular_expression_is_refused(refused):
    assert "not a regular expression" in refused(lambda c: c.update(success={"source": "x", "pattern": "("}))


def test_broken_yaml_and_other_content_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [1\nb: 2")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_spec_file(path)
    path.write_text("- 1")
    with pytest.raises(SpecError, match="must hold a mapping of keys, holds list"):
        load_spec_file(path)


def test_a_file_that_is_absent_or_no_text_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read as text"):
        load_spec_file(tmp_path / "absent.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"x\.yaml: cannot be read as text"):
        load_spec_file(tmp_path / "x.yaml")


def test_an_unknown_data_set_gets_the_nearest_name():
    with pytest.raises(SpecError, match=r"no spec for data set 'taco_plai' .*did you mean taco_play"):
        load_spec("taco_plai")


@pytest.mark.parametrize("name", spec_names())
def test_every_shipped_spec_holds_and_explains_itself(name):
    spec = load_spec(name)
    assert spec.name == name and spec.notes
    assert {ACTION_NAMES[i] for i in spec.action_indices()} == set(spec.action_kinds())
    assert all(0 <= index < len(STATE_NAMES) for index in spec.state_indices())


def test_the_worked_example_of_the_documentation_holds(tmp_path):
    page = (DATASETS_FOLDER.parents[1] / "docs" / "add_a_dataset.md").read_text()
    path = tmp_path / "reach_play.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0])
    assert load_spec_file(path).action_indices() == [0, 1, 2, 6]


def test_the_hash_follows_what_is_said_and_not_how_it_is_written(tmp_path):
    text = (DATASETS_FOLDER / "taco_play.yaml").read_text()
    content = yaml.safe_load(text)
    rewritten, changed = tmp_path / "a.yaml", tmp_path / "b.yaml"
    rewritten.write_text(yaml.safe_dump({**dict(reversed(content.items())), "arms": 1}))
    changed.write_text(text.replace("factor: 0.02", "factor: 0.03"))
    original = load_spec("taco_play").content_hash()
    assert load_spec_file(rewritten).content_hash() == original
    assert load_spec_file(changed).content_hash() != original


@pytest.mark.parametrize(
    ("source", "key", "part"),
    [
        ("action", "action", None),
        ("observation/state[-1]", "observation/state", slice(-1, None)),
        ("a[2]", "a", slice(2, 3)),
        ("a[1:3]", "a", slice(1, 3)),
        ("a[:-2]", "a", slice(None, -2)),
    ],
)
def test_sources_parse_to_key_and_slice(source, key, part):
    assert parse_source(source) == (key, part)


@pytest.mark.parametrize("source", ["", "a[", "a[]", "a[-]", "a[1:2:3]", "[0]", "a[x]"])
def test_other_sources_do_not_parse(source):
    with pytest.raises(ValueError, match="does not parse"):
        parse_source(source)


def test_a_part_of_a_group_of_slots_can_be_named():
    assert slot_indices("arm0.joint_position[0:6]", "action") == list(range(7, 13))
    assert slot_indices("arm0.eef_rotation_6d[2]", "state") == [5]
    with pytest.raises(ValueError, match=r"arm0\.gripper is 1 wide"):
        slot_indices("arm0.gripper[1:2]", "action")


@pytest.mark.parametrize("name", variant_names())
def test_every_shipped_variant_holds_and_says_why(name):
    spec = load_spec(name)
    assert spec.name == name and spec.name.startswith(f"{spec.variant_of}_as_") and spec.notes[0]
    assert load_spec(spec.variant_of).model_dump(exclude={"name", "variant_of", "notes"}) != spec.model_dump(
        exclude={"name", "variant_of", "notes"}
    )


@pytest.fixture
def written(tmp_path):
    """Writes specs beside each other and returns the path of the last."""

    def write(**contents: dict):
        for name, content in contents.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / f"{name}.yaml"

    return write


def taco() -> dict:
    return yaml.safe_load((DATASETS_FOLDER / "taco_play.yaml").read_text())


def test_a_variant_replaces_whole_keys_and_gives_its_reason(written):
    said = {"why": "Because.", "state": [], "notes": ["More."]}
    path = written(taco_play=taco() | {"variants": {"bare": said}})
    base, bare = load_spec_file(path), load_spec_file(path, "bare")
    assert (bare.name, bare.variant_of, bare.notes) == ("taco_play_as_bare", "taco_play", ["Because.", "More."])
    assert bare.state == [] and base.state and bare.action == base.action and bare.cameras == base.cameras
    assert base.variant_of == "" and base.content_hash() != bare.content_hash()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"state": []}, "variants.bare: must be a mapping with a sentence under `why`"),
        ({"why": "So.", "name": "x"}, "variants.bare: name cannot differ in a variant"),
        ({"why": "So.", "stat": []}, "variants.bare: stat: unknown key; did you mean state"),
    ],
)
def test_a_variant_that_does_not_hold_is_refused_with_its_place(written, said, complaint):
    path = written(taco_play=taco() | {"variants": {"bare": said}})
    with pytest.raises(SpecError, match=complaint):
        load_spec_file(path, "bare")


def test_an_unknown_variant_gets_the_nearest_name():
    with pytest.raises(SpecError, match=r"taco_play\.yaml: no variant 'okto'; did you mean octo"):
        load_spec("taco_play_as_okto")


def test_a_spec_like_another_takes_what_it_does_not_state(written):
    own = {"like": "taco_play", "name": "taco_again", "title": "Again", "expected_episodes": {"train": 3}}
    spec, model = load_spec_file(written(taco_play=taco(), taco_again=own)), load_spec("taco_play")
    assert (spec.name, spec.title, spec.expected_episodes) == ("taco_again", "Again", {"train": 3})
    assert spec.action == model.action and spec.notes == model.notes


def test_a_spec_like_nothing_there_or_like_a_copy_is_refused(written):
    with pytest.raises(SpecError, match=r"like: there is no spec 'taco_plai' beside it; did you mean taco_play"):
        load_spec_file(written(taco_play=taco(), again={"like": "taco_plai", "name": "again"}))
    copies = {"again": {"like": "taco_play", "name": "again"}, "third": {"like": "again", "name": "third"}}
    with pytest.raises(SpecError, match=r"again\.yaml is itself like another; name 'taco_play' instead"):
        load_spec_file(written(taco_play=taco(), **copies))
