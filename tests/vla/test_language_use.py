import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oxe_pipeline.eval import main
from oxe_pipeline.loader.batch import BatchAssembler
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.backbones.nano import NanoConfig
from oxe_pipeline.vla.evaluate import evaluate
from oxe_pipeline.vla.language_use import exchanged_instructions, language_use
from oxe_pipeline.vla.model import VLA
from oxe_pipeline.vla.noise import counter_uniform
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import load_trained
from tests.synthetic import make_stream
from tests.vla.choosing import STEP_M, choosing_stream


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing")
    choosing_stream(folder / "choose", episodes=100, held_out=16)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: choose, path: choose}\n")
    return path


def trained_nano(mixture_file, run, *, steps: int, text_length: int = 64):
    config = preset("nano", steps=steps, batch_size=16, evaluate_windows=1)
    backbone = NanoConfig(width=64, image_size=32, text_length=text_length)
    config = replace(config, model=replace(config.model, backbone=backbone))
    train(config, load_mixture(mixture_file), run, mixture_file=mixture_file, device=torch.device("cpu"))
    return load_trained(run)


@pytest.fixture(scope="module")
def follower(mixture_file, tmp_path_factory):
    """Trained until it goes to the block that it is told to."""
    return trained_nano(mixture_file, tmp_path_factory.mktemp("follower"), steps=200)


def test_nano_learns_more_on_held_out_episodes_than_the_two_predictions_that_need_no_model(follower, mixture_file):
    (result,) = evaluate(follower.model, load_mixture(mixture_file), follower.normalizers)
    errors = result.error_of_range
    assert errors["model"] < 0.5 * min(errors["previous_action"], errors["mean_action"])


def test_a_model_trained_where_language_decides_goes_to_the_other_block_when_instructions_are_exchanged(
    follower, mixture_file
):
    (result,) = language_use(follower.model, load_mixture(mixture_file), follower.normalizers)
    assert (result.windows, result.instructions) == (48, 2)
    assert result.mean.error < 0.15 and result.mean.error_exchanged > 0.7
    assert result.mean.change > 0.7 and result.mean.change_by_noise == 0
    unit, effect = result.slots["arm0.eef_position_delta.y"]
    assert unit == "m" and effect.change > 1.4 * STEP_M, "the way to the other block is two steps apart"


def test_a_model_that_never_reads_the_instruction_is_seen_not_to_use_it(mixture_file, tmp_path):
    # Room for 7 bytes: "go to t" is all that it reads of either instruction.
    deaf = trained_nano(mixture_file, tmp_path, steps=40, text_length=16)
    (result,) = language_use(deaf.model, load_mixture(mixture_file), deaf.normalizers)
    assert result.mean.change == 0 and result.mean.error == result.mean.error_exchanged > 0.3


def test_changes_and_errors_are_those_of_an_independent_computation(follower, mixture_file):
    """From predictions made window by window, without the package's loader of held-out windows."""
    mixture = load_mixture(mixture_file)
    stream, model = mixture.datasets[0].stream, follower.model
    normalizer = follower.normalizers["choose"]["action"]
    assembler = BatchAssembler(mixture.datasets, BatchOptions(image_size=32), seed=0, buffers=BufferPool(keep=1))
    changes, wrong = [], []
    for episode in np.flatnonzero(stream.episodes.split_is("val")):
        for step in range(3):
            at = Samples(*(np.array([value]) for value in (0, 0, episode, step)))
            batch = assembler.assemble(at)
            other_text = "go to the blue block" if "red" in batch["instruction"][0] else "go to the red block"
            swapped = {**batch, "instruction": [other_text]}
            one, other = (normalizer.inverse(model.predict(b).numpy())[0, 0, 1] for b in (batch, swapped))
            changes.append(abs(one - other))
            wrong.append(abs(other - stream.vector("action", episode)[step, 0]))
    (result,) = language_use(model, mixture, follower.normalizers)
    _, effect = result.slots["arm0.eef_position_delta.y"]
    assert effect.change == pytest.approx(np.mean(changes), rel=1e-4)
    assert effect.error_exchanged == pytest.approx(np.mean(wrong), rel=1e-4)


class Noisy(VLA):
    """Predicts a random number of the sample's g, whatever the instruction."""

    def predict(self, batch):
        return torch.where(batch["action_mask"][:, None], counter_uniform(batch["g"], (1, 32), stream=99), 0.0)


def test_change_by_noise_is_told_apart_from_change_by_language(follower, mixture_file):
    noisy = Noisy(follower.config.model)
    (result,) = language_use(noisy, load_mixture(mixture_file), follower.normalizers)
    assert result.mean.change == 0 and result.mean.change_by_noise > 0.1


def test_instructions_are_exchanged_within_a_data_set_none_stays_and_all_occur():
    given = ["b", "a", "", "c", "a", "x", "y", "z", "z", "only", "only", ""]
    dataset = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    other = exchanged_instructions(given, dataset)
    assert other[2] is None and other[9:] == [None] * 3
    for number in (0, 1):
        pairs = {(given[i], other[i]) for i in np.flatnonzero(dataset == number) if given[i]}
        before, after = (set(side) for side in zip(*pairs, strict=True))
        assert before == after and len(pairs) == len(before), "the same instruction always becomes the same other"
        assert all(one != another for one, another in pairs)
    assert other == exchanged_instructions(given, dataset)


def test_the_command_prints_what_language_does_and_gives_it_as_json(follower, capsys):
    assert main([str(follower.folder), "--language", "--max-windows", "8"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 instructions exchanged" in shown and "error when exchanged" in shown
    assert main([str(follower.folder), "--language", "--json", "--max-windows", "8"]) == 0
    record = json.loads(capsys.readouterr().out)["language"]["choose"]
    assert record["windows"] == 8 and record["mean"]["error_exchanged"] > record["mean"]["error"]


def test_a_data_set_with_one_instruction_has_nothing_to_exchange(tmp_path, capsys):
    make_stream(tmp_path / "one", "one", episodes=2, held_out=1)
    mixture_file = tmp_path / "mix.yaml"
    mixture_file.write_text("datasets:\n- {name: one, path: one}\n")
    config = preset("nano", steps=1, batch_size=2)
    train(config, load_mixture(mixture_file), tmp_path / "run", mixture_file=mixture_file, device=torch.device("cpu"))
    assert main([str(tmp_path / "run"), "--language"]) == 0
    assert "one: 1 different instruction(s) in its held-out windows, nothing to exchange" in capsys.readouterr().out
