import pytest
import torch

from oxe_pipeline.vla.distributed import World
from oxe_pipeline.vla.heads.base import HeadOutput
from oxe_pipeline.vla.step_sums import StepSums, memory_mb


def output(*losses: float, **metrics: list[float]) -> HeadOutput:
    return HeadOutput(torch.tensor(losses), {name: torch.tensor(values) for name, values in metrics.items()})


def test_means_are_over_all_samples_whatever_pieces_they_came_in():
    sums = StepSums(["one", "two", "absent"], torch.tensor([0, 1, 0]))
    sums.add(output(1.0, 2.0, right=[0.0, 1.0]))
    sums.add(output(6.0, right=[1.0]))
    assert sums.record(torch.tensor(0.5), World()) == {
        "loss": 3.0,
        "right": pytest.approx(2 / 3),
        "loss_per_dataset": {"one": 3.5, "two": 2.0},
        "gradient_norm": 0.5,
    }
    assert sums.loss_B.tolist() == [1.0, 2.0, 6.0]


def test_texts_are_told_apart_from_robot_samples():
    sums = StepSums(["one"], torch.tensor([0]))
    sums.add(output(1.0))
    sums.add_texts(output(4.0, 5.0, token_accuracy=[0.0, 0.0]))
    sums.add_texts(output(9.0))
    record = sums.record(torch.tensor(1.0), World())
    assert (record["loss"], record["text_loss"], record["text_samples"]) == (1.0, 6.0, 3)
    assert "token_accuracy" not in record


def test_replaced_images_are_counted_only_where_there_are_any():
    for replaced, expected in ((0, {}), (2, {"images_replaced": 2})):
        sums = StepSums(["one"], torch.tensor([0]), replaced=replaced)
        sums.add(output(1.0))
        record = sums.record(torch.tensor(1.0), World())
        assert {name: value for name, value in record.items() if name == "images_replaced"} == expected


def test_a_loss_that_is_no_number_is_seen_in_its_own_data_set():
    sums = StepSums(["one", "two"], torch.tensor([0, 1]))
    sums.add(output(float("nan"), 2.0))
    record = sums.record(torch.tensor(1.0), World())
    assert record["loss"] != record["loss"] and record["loss_per_dataset"]["two"] == 2.0


def test_memory_is_that_of_a_process_that_has_loaded_torch():
    assert 50 < memory_mb(torch.device("cpu")) < 100_000
