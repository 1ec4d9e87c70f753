"""Records the episodes that ship with the project: `python -m samples.record --out FOLDER`.

Meta-World's scripted experts (MIT) play two labs that share no task, no rate and no file format. Only episodes that end
in success are kept. Deterministic in `--seed`; pixels also depend on the OpenGL library (recorded with OSMesa, which
draws without a display: MUJOCO_GL=osmesa PYOPENGL_PLATFORM=osmesa). Needs the extra [sim]; nothing else here does.
"""

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from samples import bridge_layout, libero_layout
from samples.scene import Control, Recording, Scene, View
from samples.tasks import BRIDGE_TASKS, LIBERO_TASKS, Task

BRIDGE, LIBERO, MANIFEST = "metaworld_bridge", "metaworld_libero", "MANIFEST.json"
RECORDED_ON = "2026-11-23_10-00-00"
"""Date in the Bridge folder names, fixed so that a new recording has the same paths."""

BRIDGE_SEED_OFFSET = 100
"""The labs draw their scenes from different seeds."""

EPISODES_WITHOUT_LANGUAGE = {("slide_plate", 3)}
EPISODES_WITHOUT_SECOND_CAMERA = {("open_drawer", 5)}
"""Dirt that the real collection has too: episodes nobody annotated, and a camera that was not plugged in."""


def record_samples(out: Path, *, bridge_episodes: int = 9, libero_episodes: int = 8, seed: int = 0) -> dict:
    """Records both labs into `out`/metaworld_bridge and `out`/metaworld_libero, so many episodes of each task.

    Writes and returns the manifest: for every episode folder and HDF5 file its path, SHA-256, Meta-World task, seeds
    and numbers of actions. FileExistsError if a lab's folder is there already; ImportError names the missing extra.
    """
    for folder in (out / BRIDGE, out / LIBERO):
        if folder.exists():
            raise FileExistsError(f"{folder} exists; remove it or choose another --out")
    content = [
        *(entry for task in BRIDGE_TASKS for entry in _record_bridge(task, out / BRIDGE, bridge_episodes, seed)),
        *(_record_libero(task, out / LIBERO, libero_episodes, seed) for task in LIBERO_TASKS),
    ]
    for entry in content:
        entry["sha256"] = content_hash(out / entry["path"])
    versions = {name: metadata.version(name) for name in ("metaworld", "mujoco", "numpy", "simplejpeg", "h5py")}
    manifest = {"first_seed": seed, "recorded_with": versions, "content": content}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder: of "<hash>  <path in the folder>" lines in order of path."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{content_hash(file)}  {name}\n" for name, file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def successes(
    task: Task, views: dict[str, View], image_px: int, control: Control, *, first_seed: int
) -> Iterator[Recording]:
    """Episodes of one task that end in success, seeds counted upwards from `first_seed`, failures left out."""
    scene = Scene(task.environment, views, image_px)
    try:
        for seed in itertools.count(first_seed):
            recording = scene.record(seed, control)
            if recording is not None:
                yield recording
    finally:
        scene.close()


def _record_bridge(task: Task, lab: Path, episodes: int, seed: int) -> Iterator[dict]:
    control, first_seed = bridge_layout.CONTROL, seed + BRIDGE_SEED_OFFSET
    session = lab / "metaworld" / "tabletop" / task.name / "00" / RECORDED_ON
    bridge_layout.write_session(session, task=task.name, date=RECORDED_ON)
    recordings = successes(task, bridge_layout.VIEWS, bridge_layout.IMAGE_PX, control, first_seed=first_seed)
    for number, recording in enumerate(itertools.islice(recordings, episodes)):
        folder = session / "raw" / "traj_group0" / f"traj{number}"
        bridge_layout.write_episode(
            folder,
            recording,
            cameras=[*bridge_layout.VIEWS][: 1 if (task.name, number) in EPISODES_WITHOUT_SECOND_CAMERA else 2],
            sentences=() if (task.name, number) in EPISODES_WITHOUT_LANGUAGE else _annotations(task, number),
        )
        yield _manifest_entry(folder.relative_to(lab.parent), task, [recording])


def _record_libero(task: Task, lab: Path, episodes: int, seed: int) -> dict:
    recordings = successes(task, libero_layout.VIEWS, libero_layout.IMAGE_PX, libero_layout.CONTROL, first_seed=seed)
    kept = list(itertools.islice(recordings, episodes))
    file = lab / f"{task.name}_demo.hdf5"
    lab.mkdir(parents=True, exist_ok=True)
    libero_layout.write_task(file, kept, environment=task.environment, problem=task.name, sentence=task.sentences[-1])
    return _manifest_entry(file.relative_to(lab.parent), task, kept)


def _manifest_entry(path: Path, task: Task, recordings: list[Recording]) -> dict:
    return {
        "path": path.as_posix(),
        "environment": task.environment,
        "seeds": [recording.seed for recording in recordings],
        "actions": [len(recording.displacement) for recording in recordings],
    }


def _annotations(task: Task, number: int) -> tuple[str, ...]:
    """Between one and three annotators; whose sentence comes first goes round."""
    turned = task.sentences[number % 3 :] + task.sentences[: number % 3]
    return turned[: 1 + number % 3]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m samples.record", description="Record the sample episodes.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="default: the samples folder itself")
    parser.add_argument("--bridge-episodes", type=int, default=9, help="of each task; default 9")
    parser.add_argument("--libero-episodes", type=int, default=8, help="of each task; default 8")
    parser.add_argument("--seed", type=int, default=0, help="first seed; default 0")
    options = parser.parse_args(argv)
    try:
        manifest = record_samples(
            options.out,
            bridge_episodes=options.bridge_episodes,
            libero_episodes=options.libero_episodes,
            seed=options.seed,
        )
    except (FileExistsError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    episodes = sum(len(entry["seeds"]) for entry in manifest["content"])
    print(f"{episodes} episodes in {options.out}; their hashes are in {options.out / MANIFEST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
