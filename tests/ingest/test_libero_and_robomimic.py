"""The specs of LIBERO and robomimic on files of their layouts: alignment, orientation, no-ops, labels, outcome."""

import numpy as np
import pytest

from oxe_pipeline.episode import DataError, SourceEpisode
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.hdf5_demo import read_episode
from oxe_pipeline.ingest.images import decode
from samples.drawn import drawn_frames
from samples.robomimic_layout import write_file
from schemas.spec import load_spec

STEPS = 10


def libero(file_name="KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", *, problem=None, actions=None) -> SourceEpisode:
    """As the reader gives it, images on their heads."""
    rng = np.random.default_rng(0)
    if actions is None:
        actions = np.column_stack([rng.uniform(-1, 1, (STEPS, 6)), np.full(STEPS, -1.0)])
    upside_down = drawn_frames(STEPS, height=16, width=16)[:, ::-1]
    steps = {
        "data/actions": actions,
        "data/obs/agentview_rgb": upside_down,
        "data/obs/eye_in_hand_rgb": upside_down,
        "data/obs/ee_states": rng.normal(0, 0.3, (STEPS, 6)),
        "data/obs/gripper_states": np.tile([0.04, -0.04], (STEPS, 1)),
        "data/obs/joint_states": rng.normal(0, 0.3, (STEPS, 7)),
    }
    said = {"file_name": file_name} | ({"problem_info/language_instruction": problem} if problem else {})
    return SourceEpisode(key=file_name, source_path=file_name, steps=steps, metadata=said, split="")


def published_keep(actions) -> list[int]:
    """Which rows OpenVLA's regenerate_libero_dataset.py keeps, written out one by one."""
    kept = []
    for number, action in enumerate(actions):
        still = sum(float(value) ** 2 for value in action[:6]) ** 0.5 < 1e-4
        if not still or (kept and action[6] != actions[kept[-1]][6]):
            kept.append(number)
    return kept


def test_no_ops_go_by_the_published_rule_and_gripper_work_stays():
    actions = np.zeros((STEPS, 7))
    actions[:, 6] = [-1, -1, -1, 1, 1, 1, 1, -1, -1, -1]
    actions[[2, 5], 0] = 0.3
    actions[6, :3] = 5e-5  # moves by less than the threshold
    whole = apply_spec(libero(actions=actions), load_spec("libero_as_regenerated"))
    spec = load_spec("libero_as_regenerated").model_copy(
        update={"episode_ops": load_spec("libero_as_without_no_ops").episode_ops[1:]}
    )
    shortened = apply_spec(libero(actions=actions), spec)
    kept = published_keep(actions)
    assert kept == [2, 3, 5, 7]
    assert np.array_equal(shortened.action, whole.action[kept])
    assert np.array_equal(shortened.state, whole.state[kept])
    assert shortened.images["wrist"] == [whole.images["wrist"][row] for row in kept]


def test_no_ops_are_counted_after_observations_have_moved():
    actions = np.zeros((STEPS, 7))
    actions[:, 6], actions[4:8, 1] = -1, 0.5
    source = libero(actions=actions)
    episode = apply_spec(source, load_spec("libero_as_without_no_ops"))
    assert np.array_equal(episode.action_raw, actions[4:8].astype(np.float32))
    assert np.allclose(episode.state_raw[:, :6], source.steps["data/obs/ee_states"][3:7])


def test_an_episode_of_nothing_but_no_ops_is_set_aside():
    actions = np.zeros((STEPS, 7))
    with pytest.raises(DataError, match=r"no step moves by 0\.0001 or works the gripper"):
        apply_spec(libero(actions=actions), load_spec("libero_as_without_no_ops"))


def test_images_are_flipped_and_the_variant_of_the_published_copies_mirrors_them():
    upright = drawn_frames(STEPS, height=16, width=16)
    for spec, expected in (("libero", upright), ("libero_as_rotated", upright[:, :, ::-1])):
        found = decode(apply_spec(libero(), load_spec(spec)).images["primary"][3]).astype(int)
        assert np.abs(found - expected[3]).mean() < 5
        assert np.abs(found - expected[3][:, ::-1]).mean() > 20


def test_a_task_description_that_says_something_else_leaves_a_flag_and_no_words():
    flag = "differs_from:problem_info/language_instruction"
    same = apply_spec(libero(problem='"Turn on the stove"'), load_spec("libero"))
    other = apply_spec(libero(problem="switch the oven off"), load_spec("libero"))
    silent = apply_spec(libero(), load_spec("libero"))
    assert [flag in episode.label_flags for episode in (same, other, silent)] == [False, True, False]
    assert {episode.instruction for episode in (same, other, silent)} == {"turn on the stove"}
    assert other.alternatives == () and "oven" not in other.label_raw


def test_29_of_the_130_real_tasks_describe_themselves_in_other_words(real_data):
    flagged = []
    for line in (real_data / "language" / "libero" / "bddl_language_lines.tsv").read_text().splitlines():
        path, sentence = line.split("\t")
        name = path.rsplit("/", 1)[-1].replace(".bddl", "_demo.hdf5")
        said = sentence.strip().removeprefix("(:language").removesuffix(")").strip()
        episode = apply_spec(libero(name, problem=said), load_spec("libero"))
        flagged.append("differs_from:problem_info/language_instruction" in episode.label_flags)
    assert len(flagged) == 130 and sum(flagged) == 29


def test_robomimic_rows_stay_with_upright_images_and_the_outcome_is_the_last_reward(tmp_path):
    write_file(tmp_path / "can" / "image.hdf5")
    for number, (split, success) in enumerate((("train", 1), ("val", 0))):
        source = read_episode(f"can/image.hdf5/demo_{number}", root=tmp_path)
        episode = apply_spec(source, load_spec("robomimic"))
        assert (episode.split, episode.success) == (split, success)
        assert np.allclose(episode.action[:, 3:6], source.steps["data/actions"][:, 3:6] * 0.5, atol=1e-6)
        assert np.array_equal(episode.action[:, 6], [1, 1, 1, 0, 0, 0])
        assert np.allclose(episode.state[:, :3], source.steps["data/obs/robot0_eef_pos"], atol=1e-6)
        assert np.allclose(episode.state[:, 9], np.linspace(1, 0.25, 7)[:-1])
        upright = drawn_frames(7, height=24, width=24)
        assert np.abs(decode(episode.images["primary"][2]).astype(int) - upright[2]).mean() < 5
        assert episode.instruction == "pick up the can and put it into its bin"
