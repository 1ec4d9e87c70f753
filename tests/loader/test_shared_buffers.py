"""SharedBuffers without DataLoader: what is pickled on one side arrives on the other, and stays what it was."""

import copy
import os
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.loader.buffer_file import MAX_BUFFERS
from oxe_pipeline.loader.shared_buffers import SharedBuffers

SHAPE = (4, 2, 30, 41, 3)


def carry(message) -> dict:
    """What DataLoader does: a shallow copy, and the pickle for processes."""
    message = copy.copy(message)
    sent = ForkingPickler.dumps(message)
    del message
    return pickle.loads(sent)


def make(buffers: SharedBuffers, number: int, shape=SHAPE) -> dict:
    """A batch all of whose values tell its number."""
    buffers.begin()
    image = buffers.take(shape)
    image.fill_(number % 251)
    state = torch.full((shape[0], 5), float(number))
    return buffers.share({"g": torch.arange(shape[0]) + number, "image": image, "state": state, "text": [str(number)]})


def number_of(batch: dict) -> int:
    """The number, after all values were found to tell the same."""
    number = int(batch["text"][0])
    assert batch["g"].tolist() == list(range(number, number + len(batch["g"])))
    assert bool((batch["image"] == number % 251).all()) and bool((batch["state"] == number).all())
    return number


def went_by_buffer(batch: dict) -> bool:
    """Else it came in shared memory that torch made for it."""
    return not batch["image"].is_shared()


def shared_memory_kb() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssShmem"))


VALUES = {
    "image": torch.arange(4 * 3 * 5 * 3, dtype=torch.uint8).reshape(4, 3, 5, 3),
    "mask": torch.tensor([[True, False], [False, False]]),
    "half": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "every other": torch.arange(20.0)[::2],
    "transposed": torch.arange(12).reshape(3, 4).T,
    "none": torch.zeros(0, 7),
    "one": torch.tensor(5, dtype=torch.int64),
    "double": torch.linspace(0, 1, 7, dtype=torch.float64),
    "text": ["pick up", "", "ü"],
    "other": {"a": (1, None)},
}


def test_every_kind_of_value_arrives_as_it_was_in_a_plain_dict():
    buffers = SharedBuffers()
    for _ in range(3):
        buffers.begin()
        arrived = carry(buffers.share(dict(VALUES)))
        assert type(arrived) is dict and list(arrived) == list(VALUES)
        for name, value in VALUES.items():
            if isinstance(value, torch.Tensor):
                assert type(arrived[name]) is torch.Tensor and arrived[name].dtype == value.dtype
                assert arrived[name].shape == value.shape and torch.equal(arrived[name], value)
            else:
                assert arrived[name] == value
        arrived["image"].add_(1)  # a batch may be written to
        assert torch.equal(arrived["image"], VALUES["image"] + 1)


def test_a_message_is_small_whatever_the_size_of_the_batch():
    buffers = SharedBuffers()
    make(buffers, 0, (64, 1, 224, 224, 3))
    assert len(ForkingPickler.dumps(make(buffers, 1, (64, 1, 224, 224, 3)))) < 2000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 6), min_size=1, max_size=60))
def test_batches_that_are_kept_stay_what_they_were(drops):
    buffers, kept = SharedBuffers(), []
    for number, drop in enumerate(drops):
        batch = carry(make(buffers, number))
        assert number_of(batch) == number
        kept.append((number, batch))
        if 0 <= drop < len(kept):
            del kept[drop]
        del batch
        assert all(number_of(batch) == number for number, batch in kept)


def test_a_piece_of_a_batch_keeps_its_buffer():
    buffers = SharedBuffers()
    pieces = [carry(make(buffers, number))["image"][1:2, :, 3].numpy() for number in range(10)]
    assert [set(piece.ravel().tolist()) for piece in pieces] == [{number} for number in range(10)]


def test_batches_that_are_let_go_share_few_buffers():
    buffers = SharedBuffers()
    number_of(carry(make(buffers, 0)))
    addresses = {carry(make(buffers, number))["image"].data_ptr() for number in range(1, 50)}
    assert len(addresses) <= 2


def test_a_batch_that_is_not_sent_takes_no_buffer_for_ever():
    buffers = SharedBuffers()
    for number in range(3 * MAX_BUFFERS):
        make(buffers, number)
    assert went_by_buffer(carry(make(buffers, 1)))


def test_more_batches_than_buffers_can_be_kept():
    buffers = SharedBuffers()
    kept = [carry(make(buffers, number, (2, 1, 8, 8, 3))) for number in range(MAX_BUFFERS + 20)]
    assert [number_of(batch) for batch in kept] == list(range(MAX_BUFFERS + 20))
    assert [went_by_buffer(batch) for batch in kept] == [True] * MAX_BUFFERS + [False] * 20


def test_a_batch_larger_or_smaller_than_the_first_arrives_too():
    buffers = SharedBuffers()
    for number, size in enumerate((4, 4, 9, 1, 4)):
        batch = carry(make(buffers, number, (size, 2, 30, 41, 3)))
        assert number_of(batch) == number and batch["image"].shape[0] == size


def test_the_memory_of_buffers_that_are_no_longer_needed_goes_back():
    buffers = SharedBuffers()
    shape = (16, 1, 224, 224, 3)
    number_of(carry(make(buffers, 0, shape)))
    before_kb = shared_memory_kb()
    kept = [carry(make(buffers, number, shape)) for number in range(20)]
    assert shared_memory_kb() > before_kb + 20_000
    kept.clear()
    for number in range(150):
        number_of(carry(make(buffers, number, shape)))
    assert shared_memory_kb() < before_kb + 10_000


def test_copies_and_other_pickles_are_plain_and_do_not_hand_the_buffer_over():
    buffers = SharedBuffers()
    make(buffers, 0)
    message = make(buffers, 1)
    for plain in (copy.deepcopy(message), pickle.loads(pickle.dumps(message)), message.copy()):
        assert type(plain) is dict and number_of(plain) == 1
    assert number_of(carry(message)) == 1
    for number in range(3 * MAX_BUFFERS):
        pickle.dumps(make(buffers, number))
    assert went_by_buffer(carry(make(buffers, 1)))


def test_what_a_collate_function_makes_of_a_batch_arrives():
    buffers = SharedBuffers()
    make(buffers, 0)
    message = make(buffers, 7)
    message["image"] = message["image"].float() / 2
    message["added"] = torch.ones(3)
    del message["state"]
    arrived = carry(message)
    assert sorted(arrived) == ["added", "g", "image", "text"]
    assert torch.equal(arrived["image"], torch.full(SHAPE, 3.5)) and torch.equal(arrived["added"], torch.ones(3))


def test_pieces_of_what_is_in_the_buffer_arrive():
    buffers = SharedBuffers()
    make(buffers, 0)
    message = make(buffers, 7)
    image = message["image"]
    image[:] = torch.arange(image.numel(), dtype=torch.uint8).reshape(image.shape)
    expected = image.clone()
    message.update(last=image[:, -1], transposed=image.transpose(1, 2), tail=image[3:], flat=image.view(-1)[5:])
    arrived = carry(message)
    assert torch.equal(arrived["last"], expected[:, -1]) and torch.equal(
        arrived["transposed"], expected.transpose(1, 2)
    )
    assert torch.equal(arrived["tail"], expected[3:]) and torch.equal(arrived["flat"], expected.view(-1)[5:])


def test_a_batch_sent_twice_arrives_twice():
    buffers = SharedBuffers()
    make(buffers, 0)
    message = make(buffers, 3)
    first, second = carry(message), carry(message)
    assert number_of(first) == number_of(second) == 3
    del message, first
    others = [carry(make(buffers, number)) for number in range(4, 10)]
    assert number_of(second) == 3 and [number_of(batch) for batch in others] == list(range(4, 10))


def test_they_hold_a_fixed_number_of_descriptors():
    buffers = SharedBuffers()
    kept = [carry(make(buffers, 0))]
    before = len(os.listdir("/proc/self/fd"))
    kept += [carry(make(buffers, number)) for number in range(1, 40)]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("full", [False, True])
def test_the_consumer_is_told_of_an_arrival(full, capfd):
    buffers = SharedBuffers()
    kept = [carry(make(buffers, number, (1, 1, 4, 4, 3))) for number in range(MAX_BUFFERS if full else 1)]
    buffers.begin()
    message = buffers.share({"g": torch.arange(3)}, on_arrival=_say_it)
    assert "arrived" not in capfd.readouterr().out
    carry(message)
    assert "arrived" in capfd.readouterr().out
    del kept


def _say_it() -> None:
    print("arrived", flush=True)
