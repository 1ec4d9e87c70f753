import json
from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.mixture.config import DatasetEntry, MixtureConfig
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.robot_texts import main, write_robot_texts
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.vla.text_examples import open_text_examples
from tests.synthetic import make_episode, write_stream

STEPS = 12


def closing_at(seed: int, step: int, **changes):
    """An episode whose gripper closes at a step."""
    episode = make_episode(seed, steps=STEPS, cameras=("wrist",), **changes)
    episode.action[:, 6] = np.arange(STEPS) < step
    return episode


def mixture_of(folder, episodes):
    write_stream(folder / "robot", episodes)
    entry = DatasetEntry(name="robot", path=str(folder / "robot"), weight=1.0)
    return load_mixture(MixtureConfig(datasets=[entry], seed=3))


def written(folder, mixture, *questions, **options) -> list[dict]:
    write_robot_texts(mixture, folder, questions=list(questions), **options)
    return [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]


def step_of(line: dict) -> int:
    return int(line["images"][0].rpartition("_")[2].partition(".")[0])


def test_every_example_can_be_read_and_shows_the_stored_image_of_its_step(tmp_path):
    mixture = mixture_of(tmp_path, [closing_at(seed, 5) for seed in range(6)])
    lines = written(tmp_path / "texts", mixture, "task", "finished", "gripper")
    examples, stream = open_text_examples(tmp_path / "texts"), open_stream(tmp_path / "robot")
    assert len(examples) == len(lines) == 6 * 4 and not examples.quarantined
    for number, line in enumerate(lines):
        assert examples[number].target == line["target"] and examples[number].images[0].shape == (32, 32, 3)
        stored = (tmp_path / "texts" / line["images"][0]).read_bytes()
        assert stored == bytes(stream.image(number // 4, step_of(line), "wrist"))
    assert [line["target"] for line in lines[::4]] == [f"push block {seed}" for seed in range(6)]


def test_the_end_of_a_success_is_finished_its_first_half_is_not_and_nothing_is_said_of_others(tmp_path):
    episodes = [replace(closing_at(seed, 5), success=success) for seed, success in enumerate((1, 0, -1, 1))]
    lines = written(tmp_path / "texts", mixture_of(tmp_path, episodes), "finished")
    assert [line["target"] for line in lines] == ["no", "yes"] * 2
    assert all(step_of(line) == STEPS - 1 for line in lines[1::2])
    assert all(step_of(line) < STEPS / 2 for line in lines[::2])
    assert lines[-1]["prompt"] == "<image>The task is: push block 3. Q: is it finished? A:"


def test_the_gripper_s_next_command_is_the_answer(tmp_path):
    lines = written(tmp_path / "texts", mixture_of(tmp_path, [closing_at(seed, 6) for seed in range(30)]), "gripper")
    for line in lines:
        assert line["target"] == ("close it" if step_of(line) < 6 else "leave it as it is")
    assert {line["target"] for line in lines} == {"close it", "leave it as it is"}
    assert len({step_of(line) for line in lines}) > 6, "steps are drawn, not fixed"


def test_the_gripper_is_found_in_a_data_set_that_has_few_of_the_slots(tmp_path):
    episodes = [closing_at(seed, 6) for seed in range(4)]
    for episode in episodes:
        episode.action_mask[2:6] = False
        episode.action[:, 2:6] = 0
    lines = written(tmp_path / "texts", mixture_of(tmp_path, episodes), "gripper")
    assert len(lines) == 4
    for line in lines:
        assert line["target"] == ("close it" if step_of(line) < 6 else "leave it as it is")


def test_the_same_texts_come_out_again_and_do_not_hang_on_other_episodes(tmp_path):
    episodes = [closing_at(seed, 6) for seed in range(8)]
    lines = written(tmp_path / "a", mixture_of(tmp_path, episodes), "task", "gripper")
    assert written(tmp_path / "b", mixture_of(tmp_path, episodes), "task", "gripper") == lines
    assert written(tmp_path / "c", mixture_of(tmp_path / "fewer", episodes[4:]), "task", "gripper") == lines[8:]


def test_what_cannot_be_asked_about_is_left_out_and_counted(tmp_path):
    episodes = [closing_at(seed, 6) for seed in range(4)]
    episodes[1] = replace(episodes[1], instruction="", alternatives=())
    episodes[2].images["wrist"] = [image[:60] for image in episodes[2].images["wrist"]]
    (row,) = write_robot_texts(mixture_of(tmp_path, episodes), tmp_path / "texts", questions=["task"])
    assert (row.episodes, row.examples["task"]) == (4, 2)
    assert (row.without_instruction, row.without_image, row.unreadable) == (1, 0, 1)


def test_a_limit_spreads_over_the_episodes_and_only_those_of_the_split_are_asked_about(tmp_path):
    episodes = [closing_at(seed, 6, split="val" if seed == 8 else "train") for seed in range(9)]
    lines = written(tmp_path / "texts", mixture_of(tmp_path, episodes), "task", episodes_per_dataset=3)
    asked = [int(line["target"].removeprefix("push block ")) for line in lines]
    assert len(asked) == 3 and asked[0] == 0 and asked[-1] == 7


def test_the_command_prints_what_it_wrote_and_refuses_what_does_not_hold(tmp_path, capsys):
    mixture_of(tmp_path, [closing_at(seed, 6) for seed in range(3)])
    (tmp_path / "mix.yaml").write_text("datasets:\n- {name: robot, path: robot, weight: 1.0}\n")
    arguments = ["--mixture", str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "texts")]
    assert main([*arguments, "--questions", "tasks"]) == 2
    assert "question 'tasks' is unknown; did you mean task?" in capsys.readouterr().err
    assert not (tmp_path / "texts").exists()
    assert main(arguments) == 0
    assert "robot" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "exists; name a new folder" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*.part"))


def test_nothing_is_left_behind_where_writing_fails(tmp_path):
    mixture = mixture_of(tmp_path, [closing_at(seed, 6) for seed in range(3)])
    (tmp_path / "robot" / mixture.datasets[0].stream.manifest.shards[0].images_name).unlink()
    with pytest.raises(ValueError):
        write_robot_texts(mixture, tmp_path / "texts", questions=["task"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["robot"]
