"""`python -m oxe_pipeline.robot_texts`: questions and answers about robot episodes, as image-text examples to train on.

python -m oxe_pipeline.robot_texts --mixture mix.yaml --out texts --questions task,finished
python -m oxe_pipeline.train --mixture mix.yaml --preset palm_e --texts texts --out RUN

The answers come from what a stream already says: the instruction, the success flag and the gripper's commands. They
teach a model to put a scene into words (PaLM-E, arXiv 2303.03378), no more than that: nobody annotated sub-goals.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.loader.decode import ImageError
from oxe_pipeline.loader.stored_image import stored_image
from oxe_pipeline.mixture.counter_rng import RandomStream, integers, name_key
from oxe_pipeline.mixture.mixture import Mixture, MixtureDataset, load_mixture
from oxe_pipeline.quality.image_headers import is_jpeg
from oxe_pipeline.stream.reader import Stream
from oxe_pipeline.terminal import console, table
from schemas.slots import ACTION_GROUPS, CAMERAS
from schemas.spec_parts import nearest

TEXTS = "texts.jsonl"
EPISODES_PER_DATASET = 1000
_GRIPPER = ACTION_GROUPS["arm0.gripper"].start


class Answer(NamedTuple):
    """A question about one step of an episode, and what to answer."""

    step: int
    question: str
    target: str


class Asked(NamedTuple):
    """The episode that is asked about, and what chance has to do with it."""

    stream: Stream
    episode: int
    instruction: str
    draw: Callable[[int], int]
    """A number of range(n), the same for this question about this episode in every run."""

    @property
    def length(self) -> int:
        return int(self.stream.episodes.length[self.episode])


def about_task(asked: Asked) -> Iterator[Answer]:
    """What is going on, at any step."""
    yield Answer(asked.draw(asked.length), "Q: what is the robot doing? A:", asked.instruction)


def about_end(asked: Asked) -> Iterator[Answer]:
    """Whether the task is done: yes at the last step of a success, no somewhere in its first half; else nothing."""
    if asked.stream.episodes.success[asked.episode] == 1 and asked.length > 1:
        question = f"The task is: {asked.instruction}. Q: is it finished? A:"
        yield Answer(asked.draw(asked.length // 2), question, "no")
        yield Answer(asked.length - 1, question, "yes")


def about_gripper(asked: Asked) -> Iterator[Answer]:
    """What the (first) gripper is told to do next, from any step on; nothing where the robot has none."""
    stored_slots = asked.stream.manifest.action_slots
    if _GRIPPER not in stored_slots:
        return
    step = asked.draw(asked.length)
    is_open = asked.stream.vector("action", asked.episode)[step:, stored_slots.index(_GRIPPER)] > 0.5
    changes = np.flatnonzero(is_open != is_open[0])
    target = ("open it" if is_open[changes[0]] else "close it") if len(changes) else "leave it as it is"
    yield Answer(step, f"The task is: {asked.instruction}. Q: what to do next with the gripper? A:", target)


QUESTIONS: dict[str, Callable[[Asked], Iterator[Answer]]] = {
    "task": about_task,
    "finished": about_end,
    "gripper": about_gripper,
}


@dataclass(kw_only=True, slots=True)
class Written:
    """What became of one data set."""

    dataset: str
    episodes: int = 0
    examples: dict[str, int] = field(default_factory=dict)
    """Question to how many examples were written."""
    without_instruction: int = 0
    without_image: int = 0
    unreadable: int = 0
    """Images that do not decode, and so examples that were left out."""


def write_robot_texts(
    mixture: Mixture, out: Path, *, questions: list[str], episodes_per_dataset: int = EPISODES_PER_DATASET
) -> list[Written]:
    """Writes the folder `out`: texts.jsonl, and the images it names as they are stored.

    At most `episodes_per_dataset` of each data set's episodes in the mixture's split, evenly spread. Which steps are
    asked about hangs on the mixture's seed and the episode's id alone. ValueError for a question that is unknown, or an
    `out` that exists; the folder appears whole or not at all.
    """
    for name in questions:
        if name not in QUESTIONS:
            raise ValueError(f"question {name!r} is unknown{nearest(name, QUESTIONS)}")
    if not questions or episodes_per_dataset < 1:
        raise ValueError("nothing to write: give at least one question and one episode per data set")
    if out.exists():
        raise ValueError(f"--out {out} exists; name a new folder")
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    part.mkdir(parents=True)
    try:
        with (part / TEXTS).open("w", encoding="utf-8") as file:
            written = [
                _write_dataset(dataset, mixture, part / f"images_{number}", file, questions, episodes_per_dataset)
                for number, dataset in enumerate(mixture.datasets)
            ]
        os.rename(part, out)
    except BaseException:
        shutil.rmtree(part)
        raise
    return written


def _write_dataset(
    dataset: MixtureDataset, mixture: Mixture, images: Path, texts: TextIO, questions: list[str], most: int
) -> Written:
    images.mkdir()
    written = Written(dataset=dataset.name, examples=dict.fromkeys(questions, 0))
    stream = dataset.stream
    eligible = np.flatnonzero(stream.episodes.split_is(mixture.split) & (stream.episodes.length > 0))
    for place in np.unique(np.linspace(0, len(eligible) - 1, min(most, len(eligible))).round().astype(int)):
        episode = int(eligible[place])
        instruction = stream.instruction(episode)
        camera = next((name for name in CAMERAS if stream.episodes.has_camera(name)[episode]), "")
        written.episodes += 1
        written.without_instruction += not instruction
        written.without_image += bool(instruction) and not camera
        if not instruction or not camera:
            continue
        for question in questions:
            asked = Asked(stream, episode, instruction, _drawing(mixture.seed, stream, episode, question))
            for answer in QUESTIONS[question](asked):
                image = _write_image(images, stream, episode, answer.step, camera)
                if image is None:
                    written.unreadable += 1
                    continue
                written.examples[question] += 1
                example = {"prompt": f"<image>{answer.question}", "images": [image], "target": answer.target}
                texts.write(json.dumps(example, ensure_ascii=False) + "\n")
    return written


def _drawing(seed: int, stream: Stream, episode: int, question: str) -> Callable[[int], int]:
    key = name_key(f"{stream.episodes.episode_id(episode)} {question}")
    return lambda n: int(integers(seed, key, RandomStream.QUESTION, n))


def _write_image(folder: Path, stream: Stream, episode: int, step: int, camera: str) -> str | None:
    """Path of the image from beside `folder`; None for one that does not decode."""
    try:
        stored_image(stream, episode, step, camera)
    except ImageError:
        return None
    data = bytes(stream.image(episode, step, camera))
    ending = "jpg" if is_jpeg(data) else "png"
    path = folder / f"{stream.episodes.episode_id(episode)}_{step}.{ending}"
    path.write_bytes(data)
    return f"{folder.name}/{path.name}"


def main(argv: list[str] | None = None) -> int:
    """Writes the folder and prints what is in it; 0, or 2 after one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        written = write_robot_texts(
            load_mixture(options.mixture, cache=cache_options(options)),
            options.out,
            questions=[name.strip() for name in options.questions.split(",") if name.strip()],
            episodes_per_dataset=options.episodes,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    made = table(str(options.out / TEXTS), texts=["data set"], numbers=["episodes", *written[0].examples])
    for row in written:
        made.add_row(row.dataset, f"{row.episodes:,}", *(f"{count:,}" for count in row.examples.values()))
    console().print(made)
    for row in written:
        for reason in ("without_instruction", "without_image", "unreadable"):
            if count := getattr(row, reason):
                print(f"{row.dataset}: {count} left out, {reason.replace('_', ' ')}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.robot_texts",
        description="Writes questions and answers about robot episodes as image-text examples (JSONL and images).",
    )
    parser.add_argument("--mixture", type=Path, required=True, help="mixture file (python -m oxe_pipeline.mix --out)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--questions",
        default=",".join(QUESTIONS),
        metavar="A,B",
        help=f"of {', '.join(QUESTIONS)}; default: all",
    )
    parser.add_argument(
        "--episodes",
        type=int,
        default=EPISODES_PER_DATASET,
        metavar="N",
        help=f"most episodes per data set, evenly spread (default: {EPISODES_PER_DATASET})",
    )
    add_cache_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
