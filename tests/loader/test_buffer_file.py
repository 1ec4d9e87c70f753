"""BufferFile: equal buffers in memory that two mappings share, with memory only where it is used."""

import os
import resource

import pytest

from oxe_pipeline.loader.buffer_file import FREE, LENT, MAX_BUFFERS, BufferFile

BUFFER_BYTES = 10_000


@pytest.fixture
def file() -> BufferFile:
    return BufferFile.create(BUFFER_BYTES)


def test_buffers_do_not_overlap(file):
    assert file.flags.tolist() == [FREE] * MAX_BUFFERS
    for number in range(MAX_BUFFERS):
        file.buffer(number)[:] = number + 1
    file.flags[:] = LENT
    assert [set(file.buffer(number).tolist()) for number in range(MAX_BUFFERS)] == [{n + 1} for n in range(MAX_BUFFERS)]
    assert {len(file.buffer(number)) for number in range(MAX_BUFFERS)} == {BUFFER_BYTES}


def test_a_second_mapping_shows_the_same(file):
    other = BufferFile(os.dup(file.fd), BUFFER_BYTES)
    file.buffer(5)[:] = 9
    other.flags[5] = LENT
    assert set(other.buffer(5).tolist()) == {9}
    assert file.flags[5] == LENT


def test_only_reserved_buffers_have_memory_until_they_are_discarded(file):
    assert os.fstat(file.fd).st_blocks * 512 <= resource.getpagesize()
    for number in range(8):
        file.reserve(number)
    used = os.fstat(file.fd).st_blocks
    assert used * 512 >= 8 * BUFFER_BYTES
    file.buffer(0)[:] = 1
    for number in range(1, 8):
        file.discard(number)
    assert os.fstat(file.fd).st_blocks < used / 4
    assert set(file.buffer(0).tolist()) == {1}
    assert set(file.buffer(1).tolist()) == {0}


def test_its_descriptors_are_closed_with_it(file):
    before = len(os.listdir("/proc/self/fd"))
    other = BufferFile.create(BUFFER_BYTES)
    shown = other.buffer(1)
    del other
    shown[:] = 3  # the mapping stays for who looks at it
    del shown
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_that_cannot_be_had_is_a_memory_error(file):
    read_only = BufferFile(os.dup(file.fd), BUFFER_BYTES)
    reopened = os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY)
    os.dup2(reopened, read_only.fd)
    os.close(reopened)
    with pytest.raises(MemoryError, match="keep fewer batches"):
        read_only.reserve(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BUFFER_BYTES, hard))
    try:
        with pytest.raises(MemoryError, match="keep fewer batches"):
            BufferFile.create(BUFFER_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(MemoryError, match="keep fewer batches"):
        BufferFile.create(1 << 45)  # more addresses than a process has
