"""RoboMIND's two files of labels: a table of instructions by task, and descriptions of single episodes by path.

Neither covers everything: some tasks have no row, some two that differ, and a few in a hundred episodes are described.
What is dirty in a sentence is left to `oxe_pipeline.language`.
"""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oxe_pipeline.ingest.metadata_file import parsed_file

INSTRUCTIONS_GLOB = "RoboMIND*instr*.csv"


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """Paths below the raw folder."""

    instructions: str = ""
    """"" where there is none."""
    descriptions: tuple[str, ...] = ()


def find_label_files(root: str | Path, embodiments: Iterable[str]) -> LabelFiles:
    """The table of instructions and the descriptions of these embodiments, in `root` or in a folder of it that holds no
    episodes. Opens nothing."""
    root = Path(root)
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("h5_"))]
    tables = [path for folder in folders for path in sorted(folder.glob(INSTRUCTIONS_GLOB))]
    texts = [folder / f"{embodiment}.json" for folder in folders for embodiment in sorted(embodiments)]
    return LabelFiles(
        instructions=tables[0].relative_to(root).as_posix() if tables else "",
        descriptions=tuple(path.relative_to(root).as_posix() for path in texts if path.is_file()),
    )


def labels_of(task: str, episode: str, files: LabelFiles, *, root: str | Path) -> tuple[list[str], list[str]]:
    """(instructions of the task, descriptions of the episode), each a list of sentences as written, often empty.

    `episode` is the path from the embodiment's folder to the folder of the recording. Raises DataError when a file of
    labels is no longer there or not what it should be.
    """
    table = parsed_file(root, files.instructions, _table, episode=episode) if files.instructions else {}
    texts = [parsed_file(root, name, _descriptions, episode=episode) for name in files.descriptions]
    described = [text.get(episode, []) for text in texts]
    return table.get(task, []), [sentence for found in described for sentence in found]


def _table(text: str) -> dict[str, list[str]]:
    """Task to its sentences, in the order of the table, each once."""
    sentences: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        task, sentence = row.get("task"), row.get("instruction")
        if task and sentence and sentence not in sentences.setdefault(task, []):
            sentences[task].append(sentence)
    if not sentences:
        raise ValueError("no columns task and instruction in it")
    return sentences


def _descriptions(text: str) -> dict[str, list[str]]:
    """Path of an episode to the summary of its task. The steps, given by image numbers with gaps and overlaps, are
    left out."""
    content = json.loads(text)
    summaries: dict[str, list[str]] = {}
    for entry in content if isinstance(content, list) else []:
        response = entry.get("response") if isinstance(entry, dict) else None
        summary = response.get("task_summary") if isinstance(response, dict) else None
        if isinstance(summary, str) and isinstance(entry.get("id"), str):
            summaries.setdefault(entry["id"].strip("/"), []).append(summary)
    if not summaries:
        raise ValueError("no entries with id and task_summary in it")
    return summaries
