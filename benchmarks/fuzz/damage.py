"""One damaged copy of a raw folder, chosen by a random number generator: the same generator, the same damage.

A kind of file is drawn before the file, so that hundreds of images do not hide the one table. Bytes alone rarely get
past a checksum or a parser, so where `edits` knows the kind of a file, most damage keeps the file well-formed and
changes what it says.
"""

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from benchmarks.fuzz.edits import EDITS, kind_of

EDITED_SHARE, BYTES_SHARE = 0.6, 0.7
"""Of the inputs on a file that can be edited; of the others."""
HOLE_BYTES = 64 << 30
"""A sparse file of this size takes no disk; reading it whole takes all memory."""
LIMITS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def damage_folder(root: Path, outside: Path, rng: random.Random) -> str:
    """Damages one file below `root` and says how ("edit meta/info.json"). `outside` is a whole copy of the folder as it
    was, for links and paths that lead out."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kinds = sorted({kind_of(path) for path in files})
    kind = rng.choice(kinds)
    path = rng.choice([file for file in files if kind_of(file) == kind])
    name = path.relative_to(root).as_posix()
    edit = EDITS.get(kind)
    if edit is not None and rng.random() < EDITED_SHARE:
        return f"edit {name}: {edit(path, outside, rng)}"
    if path.stat().st_size and rng.random() < BYTES_SHARE:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return f"bytes of {name}"
    replace = rng.choice(REPLACEMENTS)
    replace(path, root, outside, rng)
    return f"{replace.__name__} {name}"


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content`, not empty, with bytes exchanged, put in, taken out or cut off."""
    changed = bytearray(content)
    if rng.random() < 0.15:
        return content[: rng.randrange(len(content))]
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(changed) or 1)
        length = rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(6):
            case 0:
                changed[place : place + 1] = bytes([changed[place] ^ (1 << rng.randrange(8))] if changed else [0])
            case 1:
                changed[place : place + length] = rng.choice((b"\xff", b"\0")) * length
            case 2:
                changed[place : place + length] = rng.randbytes(length)
            case 3:
                changed[place:place] = rng.randbytes(length)
            case 4:
                del changed[place : place + length]
            case 5:
                number = rng.choice(LIMITS)
                width, order = rng.choice(((4, "<I"), (4, ">I"), (8, "<Q"), (8, ">Q")))
                changed[place : place + width] = struct.pack(order, number & (256**width - 1))
    return bytes(changed)


def absent(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.unlink()


def empty(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def grown_by_a_hole(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    os.truncate(path, HOLE_BYTES)


def followed_by_garbage(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice((1, 100, 100_000))))


def spliced(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    """The head of this file, the tail of another."""
    head, tail = path.read_bytes(), _another(path, root, rng).read_bytes()
    path.write_bytes(head[: rng.randrange(len(head) + 1)] + tail[rng.randrange(len(tail) + 1) :])


def exchanged(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    other = _another(path, root, rng)
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def link_out(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    """The file itself, or the folder it lies in, as a link to the copy outside."""
    place = rng.choice([path, *(folder for folder in path.parents if folder.is_relative_to(root) and folder != root)])
    target = outside / place.relative_to(root)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(target)


def link_to_itself(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_the_folder_above(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("..")


def pipe(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    """Opening it waits for somebody who never comes."""
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def strange_name(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    """As long as the file system takes, or with a line break, or not UTF-8; the ending stays."""
    end = path.suffix.encode()
    stem = rng.choice(
        (b"x" * (255 - len(end)), b"a\nb", b"\xff\xfe", "\u202e\u0000".encode().strip(b"\0"), b"-", b"9" * 200)
    )
    os.rename(path, os.fsencode(path.parent) + b"/" + stem + end)


def another_name(path: Path, root: Path, outside: Path, rng: random.Random) -> None:
    """The name of a file beside it, with another number."""
    digits = "".join(letter if not letter.isdigit() else str(rng.randrange(10)) for letter in path.stem)
    if not path.with_name(digits + path.suffix).exists():
        path.rename(path.with_name(digits + path.suffix))


REPLACEMENTS: tuple[Callable[[Path, Path, Path, random.Random], None], ...] = (
    absent,
    empty,
    grown_by_a_hole,
    followed_by_garbage,
    spliced,
    exchanged,
    link_out,
    link_to_itself,
    link_to_the_folder_above,
    pipe,
    folder,
    strange_name,
    another_name,
)


def _another(path: Path, root: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(file for file in root.rglob("*") if file.is_file() and file != path) or [path])
