"""What the later published data sets say beside their slots: labels, outcomes, cameras, rates. Slots are compared in
test_published_specs.py, from the tables in published_cases."""

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import load_spec, spec_names, variant_names
from tests.ingest.published_cases import ALL_CASES
from tests.ingest.published_structure import SENTENCE, STEPS, make_episode

FAMILIES = {
    "libero_spatial_no_noops": ["libero_object_no_noops", "libero_goal_no_noops", "libero_10_no_noops"],
    "tdroid_carrot_in_bowl": ["tdroid_flip_pot_upright", "tdroid_knock_object_over", "tdroid_pour_corn_in_pot"],
    "aloha1_fold_shorts_20_demos": ["aloha1_fold_shirt_30_demos", "aloha1_put_X_into_pot_300_demos"],
    "aloha_static_dataset": ["aloha_dagger_dataset"],
}


def converted(name: str, filled: dict | None = None):
    base = name.partition("_as_")[0]
    source = ALL_CASES[base].source()
    for key, values in (filled or {}).items():
        (source.metadata if key.startswith("episode_metadata/") else source.steps)[key] = values
    return apply_spec(source, load_spec(name))


def text(sentence: str) -> list[bytes]:
    return [sentence.encode()] * STEPS


@pytest.mark.parametrize("first", sorted(FAMILIES))
def test_members_of_a_family_differ_in_name_and_title_alone(first):
    for other in FAMILIES[first]:
        mine, theirs = (
            load_spec(name).model_dump(exclude={"name", "title", "expected_episodes"}) for name in (first, other)
        )
        assert mine == theirs


def test_droid_success_is_read_from_the_path_and_its_three_labels_become_alternatives():
    labels = {f"language_instruction{end}": text(f"label{end}") for end in ("", "_2", "_3")}
    won = converted("droid", {"episode_metadata/file_path": b"r2d2/AUTOLab/success/x/trajectory.h5", **labels})
    lost = converted("droid", {"episode_metadata/file_path": b"r2d2/AUTOLab/failure/x/trajectory.h5"})
    assert (won.success, lost.success) == (1, 0)
    assert won.instruction == "label" and len(won.alternatives) == 2
    assert set(won.images) == {"primary", "secondary", "wrist"}


def test_fmb_takes_the_instruction_of_the_episode_where_steps_name_their_primitive():
    labels = {
        "episode_metadata/episode_language_instruction": b"insert the red peg",
        "language_instruction": text("grasp the peg"),
    }
    assert converted("fmb_dataset", labels).instruction == "insert the red peg"
    assert converted("fmb_dataset_as_octo", labels).instruction == "grasp the peg"


def test_a_constant_label_is_kept_raw_and_not_given_to_training():
    own, published = (converted(f"berkeley_gnm_recon{end}") for end in ("", "_as_openvla"))
    assert own.instruction == "" and own.label_raw == SENTENCE
    assert published.instruction == SENTENCE


def test_octo_blanks_the_labels_of_mutex_and_openvla_keeps_them():
    instructions = [converted(f"utaustin_mutex{end}").instruction for end in ("", "_as_octo", "_as_openvla")]
    assert instructions == [SENTENCE, "", SENTENCE]


def test_conq_episodes_without_a_label_have_none():
    assert converted("conq_hose_manipulation", {"language_instruction": text("no instruction")}).instruction == ""


@pytest.mark.parametrize("outcome", [True, False])
def test_spoc_success_is_that_of_the_last_step(outcome):
    reached = np.full(STEPS, not outcome)
    reached[-1] = outcome
    assert converted("spoc", {"observation/hypothetical_task_success": reached}).success == int(outcome)


def test_food_episodes_without_finger_images_have_no_wrist_camera():
    black = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    episode = converted("cmu_playing_with_food", {"observation/finger_vision_1": [black] * STEPS})
    assert set(episode.images) == {"primary"}


@pytest.mark.parametrize("name", ["utaustin_mutex", "berkeley_fanuc_manipulation", "cmu_playing_with_food"])
def test_cameras_stored_bgr_are_put_right(name):
    orange = simplejpeg.encode_jpeg(np.full((8, 8, 3), (250, 120, 10), np.uint8), quality=95)
    episode = converted(name, {"observation/image": [orange] * STEPS})
    pixel = simplejpeg.decode_jpeg(episode.images["primary"][0])[0, 0].astype(int)
    assert pixel.tolist() == pytest.approx([10, 120, 250], abs=12)


@pytest.mark.parametrize("name", ["aloha_static_dataset", "aloha_dagger_dataset", "aloha_mobile_dataset"])
def test_octo_takes_one_aloha_step_in_five_and_the_rate_follows(name):
    assert converted(name).control_hz == 50
    assert converted(f"{name}_as_octo").control_hz == 10


def test_a_second_bridge_camera_is_taken_where_a_copy_has_it():
    assert set(converted("bridge_oxe").images) == {"primary"}
    source = ALL_CASES["bridge_oxe"].source()
    source.steps["observation/image_1"] = source.steps["observation/image"]
    assert set(apply_spec(source, load_spec("bridge_oxe")).images) == {"primary", "secondary"}


@pytest.mark.parametrize("name", ["eth_agent_affordances", "utokyo_saytap_converted_externally_to_rlds"])
def test_a_data_set_without_real_images_has_no_camera(name):
    episode = converted(name)
    assert episode.images == {} and episode.action_raw.shape[1] == make_episode(name).steps["action"].shape[1]


def test_specs_that_take_after_another_have_its_variants_too():
    for first, others in FAMILIES.items():
        mine = {name.partition("_as_")[2] for name in variant_names() if name.startswith(f"{first}_as_")}
        for other in others:
            assert {f"{other}_as_{variant}" for variant in mine} <= set(variant_names())


def test_every_unpublished_structure_says_so():
    """Where no copy was ever published, spec and structure must not look surer than they are."""
    for name in ("rh20t", "mujoco_manip", "aloha_static_dataset", "tdroid_carrot_in_bowl", "droid_wipe"):
        assert name in spec_names()
        assert any("not published" in note for note in load_spec(name).notes), name
