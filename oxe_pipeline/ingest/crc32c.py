"""CRC-32C (Castagnoli), the checksum inside TFRecord files, in numpy: no compiled extra needed.

A byte-wise CRC has no parallelism of its own, but it is linear: the message is cut into equal lanes, all lanes advance
together one byte at a time (one vectorised table look-up), and neighbouring lanes are then merged pairwise, log2 times.
"""

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected 0x1EDC6F41
_MASK_DELTA = 0xA282EAD8
LANE_BYTES = 256


@cache
def _byte_table() -> np.ndarray:
    """uint32 [256]: the CRC register after one byte, from an empty register."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@cache
def _byte_table_list() -> list[int]:
    return _byte_table().tolist()


@cache
def _shift_tables(zeros: int) -> np.ndarray:
    """uint32 [4, 256]: what `zeros` (a power of two) zero bytes make of a register, per byte of the register."""
    registers = (np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32)[:, None])).astype(
        np.uint32
    )
    if zeros == 1:
        return _byte_table()[registers & 255] ^ (registers >> 8)
    return _shift(_shift_tables(zeros // 2), zeros // 2)


def _shift(registers: np.ndarray, zeros: int) -> np.ndarray:
    tables = _shift_tables(zeros)
    shifted = tables[0][registers & 255]
    for place in range(1, 4):
        shifted = shifted ^ tables[place][(registers >> (8 * place)) & 255]
    return shifted


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`, as in RFC 3720; crc32c(b"123456789") is 0xE3069283."""
    head = len(data) % LANE_BYTES
    register = _crc_bytes(0xFFFFFFFF, data[:head])
    if len(data) > head:
        register = _crc_lanes(register, np.frombuffer(data, np.uint8, offset=head))
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The form stored in TFRecord files: rotated right by 15 bits plus a constant (tensorflow/tsl crc32c.h)."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _crc_bytes(register: int, data: bytes) -> int:
    table = _byte_table_list()
    for octet in data:
        register = table[(register ^ octet) & 255] ^ (register >> 8)
    return register


def _crc_lanes(register: int, octets: np.ndarray) -> int:
    lanes = octets.reshape(-1, LANE_BYTES)
    # Lanes of zeros in front change nothing while the register is empty, so the number of lanes becomes a power of two.
    count = 1 << (len(lanes) - 1).bit_length()
    columns = np.zeros((LANE_BYTES, count), np.uint8)
    columns[:, count - len(lanes) :] = lanes.T
    registers = np.zeros(count, np.uint32)
    registers[count - len(lanes)] = register
    table = _byte_table()
    for column in columns:
        registers = table[(registers ^ column) & 255] ^ (registers >> 8)
    zeros = LANE_BYTES
    while len(registers) > 1:
        registers = _shift(registers[0::2], zeros) ^ registers[1::2]
        zeros *= 2
    return int(registers[0])
