import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oxe_pipeline.eval import main
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.vla.evaluate import evaluate
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from schemas.slots import ACTION_NAMES
from tests.synthetic import make_stream

CHUNK = 3


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    make_stream(folder / "held", "held", episodes=4, held_out=2)
    make_stream(folder / "none", "none", episodes=4, held_out=0)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: held, path: held}\n- {name: none, path: none}\n")
    return path


def normalizers(mixture):
    return {e.name: {v: stream_normalizer(e.stream, v) for v in ("action", "state")} for e in mixture.datasets}


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
