"""Files that stay well-formed and say something else: an edit for every kind of file that raw folders hold.

Each edit changes the file in place and returns what it did. The files are our own samples, so the ordinary, trusting
libraries read them here.
"""

import csv
import io
import json
import pickle
import random
import re
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.fuzz.hdf5_edits import edit_hdf5
from benchmarks.fuzz.strange_values import DEEP, TEXTS, deep_text, edited, strange, strange_array
from oxe_pipeline.ingest.crc32c import masked_crc32c

Edit = Callable[[Path, Path, random.Random], str]
BOMB_BYTES = 200 << 20
MANY_ROWS = 5_000_000
ALIAS_BOMB = "[&a0 [x, x], " + ", ".join(f"&a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)) + "]"
"""YAML: 2^40 words by 39 lists that name each other."""
_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS {columns} FROM c"


def kind_of(path: Path) -> str:
    """The key of EDITS for a file; "" where there is no edit for its kind."""
    name = path.name.lower()
    if ".tfrecord" in name:
        return "tfrecord"
    ending = name.rpartition(".")[2]
    kind = _SAME_KIND.get(ending, ending)
    if kind in EDITS:
        return kind
    return kind if not kind.isdigit() else "chunk"  # Zarr's chunks are named by numbers


def edit_json(path: Path, outside: Path, rng: random.Random) -> str:
    content, said = edited(json.loads(path.read_text()), outside, rng)
    path.write_text(_with_depth(json.dumps(content)), errors="surrogatepass")
    return said


def edit_json_lines(path: Path, outside: Path, rng: random.Random) -> str:
    lines = path.read_text().splitlines()
    number = rng.randrange(len(lines))
    content, said = edited(json.loads(lines[number]), outside, rng)
    lines[number] = _with_depth(json.dumps(content))
    path.write_text("\n".join(lines) + "\n")
    return f"line {number}: {said}"


def edit_yaml(path: Path, outside: Path, rng: random.Random) -> str:
    import yaml

    content, said = edited(yaml.safe_load(path.read_text()), outside, rng)
    text = yaml.safe_dump(content, allow_unicode=False).replace(f"'{DEEP}'", rng.choice((deep_text(), ALIAS_BOMB)))
    path.write_text(text)
    return said


def edit_csv(path: Path, outside: Path, rng: random.Random) -> str:
    rows = list(csv.reader(io.StringIO(path.read_text())))
    row = rng.choice(rows)
    place = rng.randrange(len(row))
    row[place : place + rng.choice((0, 1, 1, 99))] = [str(strange(row[place], outside, rng))]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue(), errors="surrogatepass")
    return f"cell {place}"


def edit_text(path: Path, outside: Path, rng: random.Random) -> str:
    text = rng.choice((*TEXTS, "confidence: " * 50, path.read_text() * 10_000, "\n" * 100_000))
    path.write_text(text, errors="surrogatepass")
    return repr(text[:40])


def edit_pickle(path: Path, outside: Path, rng: random.Random) -> str:
    content, said = edited(pickle.loads(path.read_bytes()), outside, rng, plain=False)
    path.write_bytes(pickle.dumps(content, protocol=rng.choice((2, 4, 5))))
    return said


def edit_npz(path: Path, outside: Path, rng: random.Random) -> str:
    with np.load(path, allow_pickle=True) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.15:
        del arrays[name]
        said = f"{name} taken out"
    elif rng.random() < 0.3:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr(f"{name}.npy", _npy_head(arrays[name], rng) + bytes(rng.choice((0, 1000, BOMB_BYTES))))
        return f"{name} declares more than it holds"
    else:
        arrays[name] = strange_array(arrays[name], rng)
        said = f"{name} := {arrays[name].dtype} {list(arrays[name].shape)}"
    with path.open("wb") as opened:
        np.savez_compressed(opened, **arrays)
    return said


def edit_npy(path: Path, outside: Path, rng: random.Random) -> str:
    values = np.load(path, allow_pickle=True)
    if rng.random() < 0.2 and not values.dtype.hasobject:
        path.write_bytes(_npy_head(values, rng))
        return "declares more than it holds"
    if values.dtype.hasobject:
        content, said = edited(values.item(), outside, rng, plain=False)
        values = np.empty((), object)
        values[()] = content
    else:
        values = strange_array(values, rng)
        said = f"{values.dtype} {list(values.shape)}"
    np.save(path, values)
    return said


def edit_parquet(path: Path, outside: Path, rng: random.Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    choice = rng.randrange(6)
    if choice == 0:
        changed, said = table.drop_columns([name]), "taken out"
    elif choice == 1:
        columns = {column: pa.array(np.zeros(MANY_ROWS, np.int8)) for column in table.column_names}
        changed, said = pa.table(columns), "and all others: five million zeros"
    elif choice == 2:
        changed, said = table.slice(0, rng.randrange(len(table))), "and all others: rows cut off"
    else:
        rows = table.column(name).to_pylist()
        number = rng.randrange(len(rows))
        value = strange(rows[number], outside, rng)
        mixed = [value if i == number or choice == 3 else row for i, row in enumerate(rows)]
        changed, said = _with_column(table, place, name, mixed, value), f"row {number} := {str(value)[:60]!r}"
    try:
        pq.write_table(changed, path)
    except pa.ArrowNotImplementedError as error:  # an empty struct; the file is then empty too
        return f"{name} {said}, not written: {error}"
    return f"{name} {said}"


def edit_sqlite(path: Path, outside: Path, rng: random.Random) -> str:
    from benchmarks.fuzz.damage import damaged

    with sqlite3.connect(path, isolation_level=None) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice(tables)
        columns = [row[1] for row in file.execute(f'PRAGMA table_info("{table}")')]
        if rng.random() < 0.15:
            file.execute(f'DROP TABLE "{table}"')
            file.execute(f'CREATE VIEW "{table}" AS ' + _ENDLESS.format(columns=", x AS ".join(columns)))
            said = f"{table} := a view without end"
        else:
            column = rng.choice(columns)
            ids = [row for (row,) in file.execute(f'SELECT rowid FROM "{table}"')]
            if not ids:
                return "nothing: no rows"
            row = rng.choice(ids)
            value = file.execute(f'SELECT "{column}" FROM "{table}" WHERE rowid = ?', (row,)).fetchone()[0]
            new = damaged(value, rng) if isinstance(value, bytes) else strange(value, outside, rng)
            try:
                file.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (_storable(new), row))
            except sqlite3.IntegrityError as error:
                return f"nothing: {error}"
            said = f"{table}.{column} row {row} := {str(new)[:40]!r}"
    file.close()
    return said


def edit_tfrecord(path: Path, outside: Path, rng: random.Random) -> str:
    """A record's bytes change and the checksums fit them again."""
    from benchmarks.fuzz.damage import damaged

    content, records = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        records.append(content[12 : 12 + length])
        content = content[16 + length :]
    number = rng.randrange(len(records))
    records[number] = damaged(records[number], rng)
    heads = [struct.pack("<Q", len(record)) for record in records]
    path.write_bytes(
        b"".join(
            head + struct.pack("<I", masked_crc32c(head)) + record + struct.pack("<I", masked_crc32c(record))
            for head, record in zip(heads, records, strict=True)
        )
    )
    return f"record {number}"


def edit_zip(path: Path, outside: Path, rng: random.Random) -> str:
    """A member changes and the archive's checksums fit it again."""
    from benchmarks.fuzz.damage import damaged

    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    kinds = sorted({kind_of(Path(name)) for name in members})
    kind = rng.choice(kinds)
    name = rng.choice(sorted(member for member in members if kind_of(Path(member)) == kind))
    content, packing, said = members.pop(name), zipfile.ZIP_STORED, "taken out"
    match rng.randrange(6):
        case 0:
            pass
        case 1:
            name, said = rng.choice(("../" + name, "/" + name, name + "/..", "x" * 60_000)), "renamed"
            members[name] = content
        case 2 if kind == "json":
            members[name], packing, said = b" " * BOMB_BYTES + content, zipfile.ZIP_DEFLATED, "inflates"
        case 2 | 3 if kind != "json":
            members[name], said = damaged(content, rng) if content else b"x", "bytes"
        case _ if kind == "json":
            changed, said = edited(json.loads(content), outside, rng)
            members[name] = _with_depth(json.dumps(changed)).encode(errors="surrogatepass")
        case _:
            members[name], packing, said = bytes(BOMB_BYTES), zipfile.ZIP_DEFLATED, "inflates"
    with zipfile.ZipFile(path, "w", packing) as file:
        for member, content in members.items():
            file.writestr(member, content)
    return f"{name[:60]} {said}"


def edit_jpeg(path: Path, outside: Path, rng: random.Random) -> str:
    """Another height and width in the frame header (SOF0 or SOF2)."""
    content = bytearray(path.read_bytes())
    place = next((match.start() for match in re.finditer(rb"\xff[\xc0\xc2]\0", bytes(content))), 0)
    sides = [rng.choice((0, 1, 17, 4096, 65500, 65535)) for _ in range(2)]
    content[place + 5 : place + 9] = struct.pack(">HH", *sides)
    path.write_bytes(content)
    return f"declares {sides}"


def edit_png(path: Path, outside: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    sides = [rng.choice((0, 1, 17, 100_000, 2**31 - 1)) for _ in range(2)]
    content[16:24] = struct.pack(">II", *sides)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return f"declares {sides}"


EDITS: dict[str, Edit] = {
    "json": edit_json,
    "jsonl": edit_json_lines,
    "yaml": edit_yaml,
    "csv": edit_csv,
    "txt": edit_text,
    "pkl": edit_pickle,
    "npz": edit_npz,
    "npy": edit_npy,
    "parquet": edit_parquet,
    "db3": edit_sqlite,
    "tfrecord": edit_tfrecord,
    "zip": edit_zip,
    "jpg": edit_jpeg,
    "png": edit_png,
    "hdf5": edit_hdf5,
}
_SAME_KIND = {"pickle": "pkl", "h5": "hdf5", "zarray": "json", "zattrs": "json", "zgroup": "json", "jpeg": "jpg"}


def _with_depth(text: str) -> str:
    return text.replace(f'"{DEEP}"', deep_text())


def _npy_head(values: np.ndarray, rng: random.Random) -> bytes:
    """The head of an .npy file that declares too much."""
    stream = io.BytesIO()
    shape = rng.choice(((10**9, 10**9), (10**9,), (2**62,), (-1,), (10**6, *values.shape), (10**5,) * 6))
    head = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue()


def _with_column(table, place: int, name: str, mixed: list, value: object):
    """The table with that column; where the values have no common type, all of them become `value`."""
    import pyarrow as pa

    for rows in (mixed, [value] * len(mixed), [str(value)] * len(mixed)):
        try:
            return table.set_column(place, name, pa.array(rows))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
            continue
    return table.drop_columns([name])


def _storable(value: object) -> object:
    """What SQLite takes: integers of 64 bits, text without halves of surrogate pairs, no lists."""
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    if value is None or isinstance(value, bytes | float):
        return value
    return str(value).encode("utf-8", "surrogatepass") if "\ud800" in str(value) else str(value)
