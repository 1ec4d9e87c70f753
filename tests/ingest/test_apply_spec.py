"""What apply_spec promises beyond any one data set: faults named, ids, splits, cameras, labels. Small specs made
here."""

import re

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.apply_spec import apply_spec, choose_split, episode_id
from oxe_pipeline.ingest.images import decode
from schemas.spec import DatasetSpec

STEPS = 6


def make_spec(**changes) -> DatasetSpec:
    content = {
        "name": "toy",
        "title": "Toy",
        "lab": "lab",
        "robot": "robot",
        "control_hz": 10,
        "licence": "CC0",
        "citation": "none",
        "cameras": {"primary": {"source": "image"}},
        "action": [{"slots": "arm0.eef_position_delta", "source": "action[0:3]", "kind": "delta"}],
        "state": [{"slots": "arm0.eef_position", "source": "observation/state[0:3]"}],
        "action_raw": ["action"],
        "state_raw": ["observation/state"],
        "language": {"sources": ["language_instruction"]},
    }
    return DatasetSpec.model_validate(content | changes)


def make_source(seed: int = 0, **changes) -> SourceEpisode:
    rng = np.random.default_rng(seed)
    steps = {
        "action": rng.normal(size=(STEPS, 4)).astype(np.float32),
        "observation/state": rng.normal(size=(STEPS, 3)),
        "image": [simplejpeg.encode_jpeg(rng.integers(0, 256, (16, 24, 3), np.uint8)) for _ in range(STEPS)],
        "language_instruction": [b"push the block"] * STEPS,
    }
    return SourceEpisode(key="e1", source_path="raw/e1", steps=steps | changes, metadata={}, split="")


def fault(source, spec) -> str:
    with pytest.raises(DataError) as caught:
        apply_spec(source, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_slots_masks_raw_vectors_and_metadata_are_filled():
    source = make_source()
    episode = apply_spec(source, make_spec())
    np.testing.assert_array_equal(episode.action[:, :3], source.steps["action"][:, :3])
    assert not episode.action[:, 3:].any() and episode.action_mask.sum() == 3
    np.testing.assert_array_equal(episode.action_raw, source.steps["action"])
    assert episode.state.dtype == np.float32 and episode.state_raw.shape == (STEPS, 3)
    assert (episode.lab, episode.control_hz, episode.source_path, episode.success) == ("lab", 10, "raw/e1", -1)
    assert episode.instruction == "push the block" and episode.label_raw == "push the block"
    assert all(a is b for a, b in zip(episode.images["primary"], source.steps["image"], strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": np.zeros((STEPS - 1, 4))}, "5 steps|6 steps, but action has 5"),
        ({"action": np.zeros((STEPS, 2))}, re.escape("action: action[0:3] reaches beyond its 2 value(s) a step")),
        ({"action": np.full((STEPS, 4), np.nan)}, "arm0.eef_position_delta.x is nan at step 0"),
        ({"action": [b"a"] * STEPS}, "action: is not numeric"),
        ({"image": [b"\xff\xd8junk"] * STEPS}, "images.primary.: step 0: .*JPEG"),
        ({"image": np.zeros((STEPS, 16, 16), np.uint8)}, "image: pixels must be uint8"),
        ({"image": ["a file name"] * STEPS}, "image: step 0: an encoded image must be bytes, is str"),
    ],
)
def test_a_fault_names_data_set_episode_and_field(change, message):
    text = fault(make_source(**change), make_spec())
    assert text.startswith("toy: episode ")
    assert re.search(message, text), text


def test_a_missing_key_is_named_with_the_nearest():
    source = make_source()
    source.steps["observation/states"] = source.steps.pop("observation/state")
    assert fault(source, make_spec()) == (
        "toy: episode e1: observation/state: no such key in the source; did you mean observation/states?"
    )


def test_a_channel_of_the_wrong_width_is_refused():
    spec = make_spec(action=[{"slots": "arm0.gripper", "source": "action[0:3]"}])
    assert "gives [6, 3] for action slots arm0.gripper, which take [6, 1]" in fault(make_source(), spec)


def test_a_value_that_is_no_rotation_is_a_data_error_with_its_source():
    ops = [{"op": "rotation", "from": "quaternion_xyzw", "to": "rotation_vector"}]
    spec = make_spec(action=[{"slots": "arm0.eef_rotation_delta", "source": "action", "ops": ops}])
    assert fault(make_source(action=np.zeros((STEPS, 4))), spec).startswith("toy: episode e1: action: ")


def test_an_episode_of_one_step_that_the_operations_empty_is_refused():
    source = make_source()
    source.steps = {key: column[:1] for key, column in source.steps.items()}
    spec = make_spec(episode_ops=[{"op": "drop_first"}])
    assert "1 step(s) long; drop_first drops 1" in fault(source, spec)


def test_the_id_depends_on_content_and_not_on_path_split_or_label():
    spec, source = make_spec(), make_source()
    again = make_source(language_instruction=[b"other words"] * STEPS)
    again.key, again.source_path, again.split = "elsewhere", "/other/place", "test"
    assert re.fullmatch("[0-9a-f]{16}", episode_id(source, spec))
    assert episode_id(again, spec) == episode_id(source, spec)


@pytest.mark.parametrize("key", ["action", "observation/state", "image"])
def test_the_id_changes_with_any_action_state_or_image(key):
    spec, source, other = make_spec(), make_source(), make_source()
    if key == "image":
        other.steps[key][3] = other.steps[key][3] + b"\0"
    else:
        other.steps[key][3, 1] += 1e-3
    assert episode_id(other, spec) != episode_id(source, spec)


def test_the_sources_own_split_is_kept_under_our_name():
    spec, source = make_spec(split={"names": {"train": "train", "validation": "val"}}), make_source()
    source.split = "validation"
    assert apply_spec(source, spec).split == "val"
    source.split = "test"
    assert "split 'test' is not in split.names" in fault(source, spec)


def test_the_hash_holds_out_about_the_wanted_share():
    spec = make_spec(split={"val_share": 0.2})
    splits = [choose_split(make_source(), spec, f"{seed:016x}") for seed in range(4000)]
    assert 0.18 < splits.count("val") / 4000 < 0.22
    assert set(splits) == {"train", "val"}


@given(st.integers(0, 30), st.integers(0, 1000), st.integers(0, 1000))
def test_episodes_of_one_group_stay_on_one_side(scene, one, other):
    spec = make_spec(split={"val_share": 0.5, "group_by": "scene"})
    source = make_source()
    source.metadata = {"episode_metadata/scene": f"scene {scene}".encode()}
    assert choose_split(source, spec, f"{one:016x}") == choose_split(source, spec, f"{other:016x}")


def test_a_group_named_by_damaged_text_is_a_group_too():
    source = make_source()
    source.metadata = {"episode_metadata/scene": "sc\udcffne"}
    spec = make_spec(split={"val_share": 0.5, "group_by": "scene"})
    assert choose_split(source, spec, "0" * 16) == choose_split(source, spec, "1" * 16)


def test_a_black_camera_is_left_out_where_the_spec_says_so():
    black = [simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))] * STEPS
    cameras = {"primary": {"source": "image", "missing": "black"}, "wrist": {"source": "wrist", "missing": "black"}}
    assert set(apply_spec(make_source(wrist=black), make_spec(cameras=cameras)).images) == {"primary"}
    cameras["wrist"]["missing"] = "never"
    assert set(apply_spec(make_source(wrist=black), make_spec(cameras=cameras)).images) == {"primary", "wrist"}


def gradient(steps=STEPS) -> np.ndarray:
    rows, columns = np.mgrid[0:40, 0:32]
    image = np.stack([rows * 5, columns * 6, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    return np.repeat(image[None], steps, axis=0)


@pytest.mark.parametrize(("encode", "tolerance"), [("png", 0), ("jpeg", 6)])
def test_bare_pixels_are_encoded_as_the_spec_says(encode, tolerance):
    pixels = gradient()
    camera = {"source": "image", "encode": encode, "flip": "rotate_180", "colour": "bgr"}
    images = apply_spec(make_source(image=pixels), make_spec(cameras={"primary": camera})).images["primary"]
    assert images[0].startswith(b"\x89PNG" if encode == "png" else b"\xff\xd8")
    error = np.abs(decode(images[2]).astype(int) - pixels[2][::-1, ::-1, ::-1])
    assert error.max() <= tolerance


def test_a_stored_png_that_must_be_turned_stays_lossless():
    pixels = gradient(1)[0]
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    camera = {"source": "image", "flip": "vertical"}
    source = make_source(image=[buffer.getvalue()] * STEPS)
    images = apply_spec(source, make_spec(cameras={"primary": camera})).images["primary"]
    np.testing.assert_array_equal(decode(images[0]), pixels[::-1])


def test_an_image_that_must_be_turned_but_does_not_decode_names_its_step():
    source = make_source()
    source.steps["image"][4] = source.steps["image"][4][:60]
    camera = {"source": "image", "colour": "bgr"}
    assert "toy: episode e1: image: step 4: " in fault(source, make_spec(cameras={"primary": camera}))


def test_labels_come_from_steps_and_metadata_main_one_first():
    source = make_source()
    source.metadata = {"labels": ["move the block", "shove the block"]}
    spec = make_spec(language={"sources": ["language_instruction", "episode_metadata/labels"]})
    episode = apply_spec(source, spec)
    assert episode.instruction == "push the block"
    assert episode.alternatives == ("move the block", "shove the block")


@pytest.mark.parametrize(("value", "expected"), [(np.bool_(True), 1), (0, 0), (np.array([1.0]), 1)])
def test_success_is_read_from_metadata(value, expected):
    source = make_source()
    source.metadata = {"success": value}
    assert apply_spec(source, make_spec(success={"source": "success"})).success == expected


def test_an_outcome_of_several_values_is_a_data_error():
    spec = make_spec(success={"source": "done"})
    assert "done: 2 values where one outcome is expected" in fault(make_source(done=np.zeros((STEPS, 2))), spec)


def test_reward_discount_and_the_end_come_from_the_source_where_it_has_them():
    reward = np.arange(STEPS, dtype=np.float32)
    terminal = np.zeros(STEPS, bool)
    episode = apply_spec(make_source(reward=reward, is_terminal=terminal), make_spec())
    np.testing.assert_array_equal(episode.reward, reward)
    assert episode.discount is None and episode.is_terminal is False


def test_a_residual_plus_another_column_is_the_target_it_stands_for():
    plus = {"op": "plus", "source": "observation/state[0:3]"}
    channel = {"slots": "arm0.eef_position_delta", "source": "action[0:3]", "kind": "delta", "ops": [plus]}
    source = make_source()
    expected = source.steps["action"][:, :3] + source.steps["observation/state"]
    np.testing.assert_allclose(apply_spec(source, make_spec(action=[channel])).action[:, :3], expected, atol=1e-6)
    absent = channel | {"ops": [plus | {"source": "observation/pose"}]}
    assert "no such key in the source" in fault(make_source(), make_spec(action=[absent]))
    with pytest.raises(ValueError, match="does not parse"):
        make_spec(action=[channel | {"ops": [plus | {"source": "state[a]"}]}])
