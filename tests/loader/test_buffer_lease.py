"""Leases: a buffer is free when nothing shows it, in this process or in one forked from it."""

import os
from collections.abc import Callable

import pytest
import torch

from oxe_pipeline.loader.buffer_file import FREE, LENT, BufferFile
from oxe_pipeline.loader.buffer_lease import lease


@pytest.fixture
def file() -> BufferFile:
    return BufferFile.create(10_000)


def lend(file: BufferFile, number: int, fill: int):
    file.flags[number] = LENT
    file.buffer(number)[:] = fill
    return lease(file, number)


VIEWS: dict[str, Callable] = {
    "slice": lambda shown: shown[3:5],
    "other type": lambda shown: shown.view("int16")[::7],
    "tensor": torch.from_numpy,
    "tensor of another type": lambda shown: torch.frombuffer(shown, dtype=torch.float32, offset=64),
    "slice of a tensor as an array": lambda shown: torch.from_numpy(shown).view(100, 100)[:, 4].numpy(),
    "storage": lambda shown: torch.from_numpy(shown).untyped_storage(),
    "buffer": memoryview,
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_buffer_is_free_when_the_last_view_of_it_is_gone(file, name):
    shown = lend(file, 3, fill=7)
    view = VIEWS[name](shown)
    del shown
    assert file.flags[3] == LENT
    del view
    assert file.flags[3] == FREE


def test_what_a_forked_child_sees_stays_until_the_child_has_ended(file):
    shown = lend(file, 0, fill=1)
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(wait, 1)
        os._exit(0 if set(shown.tolist()) == {1} else 1)
    del shown
    lend(file, 1, fill=2)  # looks for children that have ended
    assert file.flags[0] == LENT
    assert file.flags[1] == FREE, "lent after the fork: the child does not see it"
    os.write(go, b"1")
    assert os.waitpid(child, 0)[1] == 0
    lend(file, 1, fill=3)
    assert file.flags[0] == FREE
    os.close(wait), os.close(go)


def test_what_a_child_of_a_child_sees_stays_too(file):
    shown = lend(file, 0, fill=1)
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        if not os.fork():
            os.read(wait, 1)
        os._exit(0)
    os.waitpid(child, 0)
    del shown
    lend(file, 1, fill=2)
    assert file.flags[0] == LENT
    os.write(go, b"1")
    for _ in range(10_000):
        lend(file, 1, fill=2)
        if file.flags[0] == FREE:
            break
    assert file.flags[0] == FREE
    os.close(wait), os.close(go)


def test_a_forked_child_frees_nothing(file):
    shown = lend(file, 0, fill=1)
    child = os.fork()
    if not child:
        del shown
        lend(BufferFile.create(100), 0, fill=2)
        os._exit(int(file.flags[0] != LENT))
    assert os.waitpid(child, 0)[1] == 0
    assert file.flags[0] == LENT
    del shown


def test_a_forked_child_does_not_free_what_waits_for_another_child(file):
    shown = lend(file, 0, fill=1)
    wait, go = os.pipe()
    first = os.fork()
    if not first:
        os.close(go)
        os.read(wait, 1)
        os._exit(0)
    del shown
    second = os.fork()
    if not second:
        os.write(go, b"1")
        os.close(go)
        for _ in range(1000):
            lend(BufferFile.create(100), 0, fill=2)
        os._exit(int(file.flags[0] != LENT))
    assert os.waitpid(first, 0)[1] == 0
    assert os.waitpid(second, 0)[1] == 0
    assert file.flags[0] == LENT
    lend(file, 1, fill=2)
    assert file.flags[0] == FREE
    os.close(wait), os.close(go)
