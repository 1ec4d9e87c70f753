import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oxe_pipeline.eval import main
from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.stats.normalizer import NormalizerConfig
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.vla.evaluate import evaluate, training_record
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from schemas.slots import ACTION_NAMES
from tests.synthetic import make_episode, make_stream, write_stream

CHUNK = 3


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "held", "held", episodes=4, held_out=2)
    make_stream(folder / "none", "none", episodes=4, held_out=0)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: held, path: held}\n- {name: none, path: none}\n")
    return path


def normalizers(mixture, config=None):
    return {e.name: {v: stream_normalizer(e.stream, v, config) for v in ("action", "state")} for e in mixture.datasets}


class Constant(VLA):
    """A model that always predicts the same normalised action."""

    value = 0.25

    def predict(self, batch):
        return torch.where(batch["action_mask"][:, None], self.value, 0.0).expand(-1, CHUNK, -1)


def by_hand(stream_folder, predicted_7):
    """Errors [7] of a constant prediction, the train mean and the previous action, straight from the stream."""
    stream = open_stream(stream_folder)
    train = np.concatenate([stream.vector("action", e) for e in np.flatnonzero(stream.episodes.split_is("train"))])
    mean = train.astype(np.float64).mean(0)
    rows = {"model": [], "mean_action": [], "previous_action": []}
    for episode in np.flatnonzero(stream.episodes.split_is("val")):
        actions = stream.vector("action", episode).astype(np.float64)
        for step in range(len(actions)):
            for future in range(step, min(step + CHUNK, len(actions))):
                rows["model"].append((predicted_7, actions[future]))
                rows["mean_action"].append((mean, actions[future]))
                rows["previous_action"].append((actions[step - 1] if step else mean, actions[future]))
    result = {}
    for name, pairs in rows.items():
        guess, truth = (np.array(column) for column in zip(*pairs, strict=True))
        result[name] = np.abs(guess - truth).mean(0)
        result[name][6] = ((guess[:, 6] > 0.5) == (truth[:, 6] > 0.5)).mean()
    return result


def test_errors_are_those_of_an_independent_computation_in_metres_and_radians(mixture_file):
    mixture = load_mixture(mixture_file)
    model = Constant(ModelConfig(chunk=CHUNK))
    held, none = evaluate(model, mixture, normalizers(mixture))
    assert (none.windows, none.slots) == (0, ())

    statistics = open_stream(mixture_file.parent / "held").manifest.statistics["action"]
    limits = [(statistics[ACTION_NAMES[slot]]["q01"], statistics[ACTION_NAMES[slot]]["q99"]) for slot in range(6)]
    predicted = np.array([low + (high - low) * (Constant.value + 1) / 2 for low, high in limits] + [Constant.value])
    expected = by_hand(mixture_file.parent / "held", predicted)
    assert [slot.name for slot in held.slots] == list(ACTION_NAMES[:7])
    assert [slot.unit for slot in held.slots] == ["m"] * 3 + ["rad"] * 3 + ["1"]
    for predictor, values in expected.items():
        np.testing.assert_allclose([getattr(slot, predictor) for slot in held.slots], values, rtol=1e-4, atol=1e-6)
        shares = np.array([values[i] / (high - low) for i, (low, high) in enumerate(limits)])
        assert held.error_of_range[predictor] == pytest.approx(shares.mean(), rel=1e-4)


def test_a_model_sees_the_middle_of_images_that_were_cropped_in_training(mixture_file):
    seen = []

    class Seeing(Constant):
        def predict(self, batch):
            seen.append(batch["image_primary"])
            return super().predict(batch)

    mixture = load_mixture(mixture_file)
    model, known = Seeing(ModelConfig(chunk=CHUNK)), normalizers(mixture)
    evaluate(model, mixture, known)
    side = model.backbone.image_size
    evaluate(model, mixture, known, augment=AugmentOptions(crop_area=(0.25, 0.25), image_size=side // 2))
    whole, middle = seen
    assert torch.equal(middle, whole[:, :, side // 4 : side // 4 + side // 2, side // 4 : side // 4 + side // 2])


def test_errors_by_position_are_those_of_each_action_of_the_chunk(mixture_file):
    mixture = load_mixture(mixture_file)
    model = Constant(ModelConfig(chunk=CHUNK))
    known = normalizers(mixture)
    held, _ = evaluate(model, mixture, known)
    stream, normalizer = open_stream(mixture_file.parent / "held"), known["held"]["action"]
    predicted = normalizer.offset[:6] + normalizer.scale[:6] * Constant.value
    errors = [[] for _ in range(CHUNK)]
    for episode in np.flatnonzero(stream.episodes.split_is("val")):
        actions = stream.vector("action", episode)
        for step in range(len(actions)):
            for ahead in range(min(CHUNK, len(actions) - step)):
                errors[ahead].append(np.abs(predicted - actions[step + ahead, :6]) / (2 * normalizer.scale[:6]))
    assert held.error_by_position == pytest.approx([np.mean(of_one) for of_one in errors], rel=1e-4)


@pytest.mark.parametrize("mode", ["mean_std", "none"])
def test_a_model_is_evaluated_with_the_normalisation_it_was_trained_with(mode, mixture_file):
    mixture = load_mixture(mixture_file)
    model = Constant(ModelConfig(chunk=CHUNK))
    held, _ = evaluate(model, mixture, normalizers(mixture, NormalizerConfig(mode=mode)))
    statistics = open_stream(mixture_file.parent / "held").manifest.statistics["action"]
    numbers = [statistics[ACTION_NAMES[slot]] for slot in range(6)]
    value = Constant.value
    predicted = [n["mean"] + value * n["std"] if mode == "mean_std" else value for n in numbers]
    expected = by_hand(mixture_file.parent / "held", np.array([*predicted, value]))["model"]
    np.testing.assert_allclose([slot.model for slot in held.slots], expected, rtol=1e-4, atol=1e-6)
    shares = [expected[i] / (n["q99"] - n["q01"]) for i, n in enumerate(numbers)]
    assert held.error_of_range["model"] == pytest.approx(np.mean(shares), rel=1e-4), "shares of one and the same range"


def test_chunks_in_seconds_are_held_against_the_motion_of_their_intervals(tmp_path):
    # 10 Hz and a chunk of 3 actions over 0.6 s: each sums up two recorded displacements; the gripper's is the later.
    spec = {
        "action": [{"slots": f"arm0.eef_{of}_delta", "kind": "delta", "source": "a"} for of in ("position", "rotation")]
    }
    episodes = [make_episode(i, dataset="timed", steps=7, split="train" if i else "val") for i in range(3)]
    write_stream(tmp_path / "timed", episodes, spec=spec)
    (tmp_path / "mix.yaml").write_text("datasets:\n- {name: timed, path: timed}\n")
    mixture = load_mixture(tmp_path / "mix.yaml")
    known = normalizers(mixture)
    (result,) = evaluate(Constant(ModelConfig(chunk=CHUNK)), mixture, known, options={"chunk_s": 0.6})
    actions, normalizer = episodes[0].action[:, :7].astype(np.float64), known["timed"]["action"]
    predicted = 2 * (normalizer.offset[:6] + normalizer.scale[:6] * Constant.value)
    errors, right = [], []
    for step in range(7):
        for first in range(step, min(step + 2 * CHUNK, 6), 2):
            errors.append(np.abs(predicted - actions[first : first + 2, :6].sum(0)))
            right.append((actions[first + 1, 6] > 0.5) == (Constant.value > 0.5))
    np.testing.assert_allclose([slot.model for slot in result.slots[:6]], np.mean(errors, 0), rtol=1e-4)
    assert result.slots[6].model == pytest.approx(np.mean(right))
    shares = np.mean(errors, 0) / (2 * 2 * normalizer.scale[:6])
    assert result.error_of_range["model"] == pytest.approx(shares.mean(), rel=1e-4)


class ByMode(Constant):
    """Predicts 0.25 when told its task by text, -0.5 by a goal image, 0.75 by both."""

    def predict(self, batch):
        assert batch["image_goal"].shape[1:] == (64, 64, 3)
        value = {"text": 0.25, "goal": -0.5, "both": 0.75}[batch["task_mode"]]
        return super().predict(batch) * (value / Constant.value)


def test_a_model_trained_with_goal_images_has_a_result_for_each_way_of_telling_its_task(mixture_file):
    mixture = load_mixture(mixture_file)
    results = evaluate(ByMode(ModelConfig(chunk=CHUNK)), mixture, normalizers(mixture), options={"goal_images": True})
    titles = [(result.dataset, result.task_mode) for result in results]
    assert titles == [(name, mode) for mode in ("text", "goal", "both") for name in ("held", "none")]
    (by_text, _) = evaluate(Constant(ModelConfig(chunk=CHUNK)), mixture, normalizers(mixture))
    assert results[0].slots == by_text.slots
    assert len({result.error_of_range["model"] for result in results[::2]}) == 3
    assert set(training_record(results)) == {"held", "held (goal)", "held (both)"}


def test_a_head_that_predicts_no_tokens_is_evaluated_by_its_own_metrics(mixture_file):
    mixture = load_mixture(mixture_file)
    model = VLA(ModelConfig(chunk=CHUNK, head=ChunkL1Config()))
    held, _ = evaluate(model, mixture, normalizers(mixture), max_windows=4)
    assert held.loss > 0 and "token_accuracy" not in held.metrics and held.metrics
    record = training_record([held])["held"]
    assert {"loss", "error_of_range", *held.metrics} <= set(record)
    assert model.training, "left in the mode it was in"


def test_the_number_of_windows_can_be_bounded(mixture_file):
    mixture = load_mixture(mixture_file)
    held, _ = evaluate(Constant(ModelConfig(chunk=CHUNK)), mixture, normalizers(mixture), max_windows=5)
    assert held.windows == 5


def test_a_data_set_the_model_was_not_trained_on_is_refused(mixture_file):
    mixture = load_mixture(mixture_file)
    known = normalizers(mixture)
    del known["none"]
    with pytest.raises(ValueError, match="none was not trained on; there are held"):
        evaluate(Constant(ModelConfig(chunk=CHUNK)), mixture, known)
    for vector in ("action", "state"):
        own = normalizers(mixture)["none"]
        known["none"] = {**own, vector: replace(own[vector], scale=own[vector].scale * 2)}
        with pytest.raises(ValueError, match=f"none: the {vector} statistics of .* differ from those of the training"):
            evaluate(Constant(ModelConfig(chunk=CHUNK)), mixture, known)


def test_the_command_prints_units_baselines_and_data_sets_without_held_out_episodes(mixture_file, tmp_path, capsys):
    config = preset("nano", steps=2, batch_size=4)
    train(config, load_mixture(mixture_file), tmp_path, mixture_file=mixture_file, device=torch.device("cpu"))
    assert main([str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    slot = record["datasets"]["held"]["slots"]["arm0.eef_rotation_delta.x"]
    assert slot["unit"] == "rad" and set(slot) == {"unit", "measure", "model", "mean_action", "previous_action"}
    assert record["step"] == 2 and record["datasets"]["none"]["windows"] == 0

    assert main([str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("none: no held-out episode", "held:", "mean action", "rad", "% right"):
        assert words in shown


def test_the_command_refuses_windows_and_devices_that_there_are_not(mixture_file, tmp_path, capsys):
    config = preset("nano", steps=1, batch_size=2)
    train(config, load_mixture(mixture_file), tmp_path, mixture_file=mixture_file, device=torch.device("cpu"))
    wrong = {"--max-windows=0": "limited to 1 or more, not to 0"}
    if not torch.cuda.is_available():
        wrong["--device=cuda"] = "torch finds no CUDA device here"
    for words, message in wrong.items():
        assert main([str(tmp_path), words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_folder_without_a_run_gets_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no checkpoint" in error and error.count("\n") == 1
