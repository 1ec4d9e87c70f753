"""Size and wholeness of an encoded JPEG or PNG from its first and last bytes, without decoding it.

A few microseconds an image instead of a millisecond, so every image of every episode is looked at. The price: damage in
the middle of the data goes unseen here and is met by the decoder.
"""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""Markers of a start of frame, which holds the size (ITU-T T.81, table B.1)."""
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length field."""
_PADDING = 64
"""Some cameras pad a JPEG after its end marker; it is searched in this many last bytes."""


def is_png(data: bytes) -> bool:
    return data.startswith(_PNG_START)


def is_jpeg(data: bytes) -> bool:
    return data.startswith(_JPEG_START)


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) in pixels. Raises ValueError saying what is wrong: not an image, truncated, damaged header."""
    if is_jpeg(data):
        size = _jpeg_size(data)
        if data.rfind(_JPEG_END, len(data) - _PADDING) < 0:
            raise ValueError(f"truncated JPEG: {len(data)} bytes without an end marker")
        return size
    if is_png(data):
        if len(data) < 24 or data[12:16] != b"IHDR":
            raise ValueError("damaged PNG: no IHDR chunk")
        if not data.endswith(_PNG_END):
            raise ValueError(f"truncated PNG: {len(data)} bytes without an IEND chunk")
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if not data:
        raise ValueError("no bytes")
    raise ValueError(f"neither JPEG nor PNG: begins with {data[:8].hex(' ')}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"damaged JPEG: byte {position} is no marker")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _FRAME_MARKERS:
            return int.from_bytes(data[position + 5 : position + 7], "big"), int.from_bytes(
                data[position + 7 : position + 9], "big"
            )
        elif marker in _BARE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ValueError(f"truncated JPEG: no frame header in {len(data)} bytes")
