"""One published data set as a test case: valid values where random ones mean nothing, and what must come out, computed
by published_rules from the source columns. A few lines a data set; the checks are the same for all.

    CASES = Cases()

    @CASES.add("jaco_play", filled=lambda rng, steps: {"action/gripper_closedness_action": COMMANDS})
    def jaco_play(s):
        return {"": Expected(action=..., state=...), "octo": Expected(...), "openvla": Expected(...)}

The function gets the step columns and returns what each variant must hold; "" is the data set's own spec.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from builders.oxe.records import Records, read_record
from oxe_pipeline.episode import Episode, SourceEpisode
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.rlds import RldsDirectory
from schemas.slots import ACTION_NAMES, STATE_NAMES
from schemas.spec import DatasetSpec, load_spec, variant_names
from schemas.spec_parts import slot_indices
from tests.ingest.published_rules import numbers
from tests.ingest.published_structure import STEPS, make_episode, write_directory

POSITION, TURN, GRIPPER, JOINTS = "eef_position_delta", "eef_rotation_delta", "gripper", "joint_position"
PLACE, ORIENTATION = "eef_position", "eef_rotation_6d"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Slots ("gripper", "arm1.gripper", "joint_position[0:6]"; arm0 where no arm is named) to values [T', k].

    Exactly these slots must be filled, with these numbers. `kept` says which of the source's observations remain.
    """

    action: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    kept: slice = field(default_factory=lambda: slice(None))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    filled: Callable
    expected: Callable[[Mapping], dict[str, Expected]]

    def source(self, seed: int = 0) -> SourceEpisode:
        """An episode of exactly the published structure."""
        return make_episode(self.name, self.filled(np.random.default_rng(seed + 1), STEPS), seed=seed)


class Cases(dict[str, Case]):
    """Name of a data set to its case."""

    def add(self, *names: str, filled: Callable = lambda rng, steps: {}):
        """Decorator: the decorated function gives what is expected of each of the named data sets."""

        def register(expected):
            for name in names:
                self[name] = Case(name=name, filled=filled, expected=expected)
            return expected

        return register


def eef(vector) -> dict[str, np.ndarray]:
    """The published seven numbers: position, angles as they are, gripper."""
    vector = numbers(vector)
    assert vector.shape[1] == 7
    return {POSITION: vector[:, :3], TURN: vector[:, 3:6], GRIPPER: vector[:, 6:]}


def joint_action(vector) -> dict[str, np.ndarray]:
    """The published eight numbers: seven joints, gripper."""
    vector = numbers(vector)
    assert vector.shape[1] == 8
    return {JOINTS: vector[:, :7], GRIPPER: vector[:, 7:]}


def pos_euler(proprio) -> dict[str, np.ndarray]:
    """Published POS_EULER: position, angles (in the first three slots of the rotation), then a gripper where there is
    one."""
    return _pose(proprio, 3)


def pos_quat(proprio) -> dict[str, np.ndarray]:
    """Published POS_QUAT: position, quaternion (in the first four slots of the rotation), then a gripper."""
    return _pose(proprio, 4)


def _pose(proprio, width: int) -> dict[str, np.ndarray]:
    proprio = numbers(proprio)
    state = {PLACE: proprio[:, :3], f"{ORIENTATION}[0:{width}]": proprio[:, 3 : 3 + width]}
    return state | ({GRIPPER: proprio[:, 3 + width :]} if proprio.shape[1] > 3 + width else {})


def check_slots(case: Case) -> None:
    """The spec and each variant fill exactly the expected slots with the expected numbers, and images keep their
    bytes."""
    expected = case.expected(case.source().steps)
    shipped = {name.removeprefix(f"{case.name}_as_") for name in variant_names() if name.startswith(f"{case.name}_as_")}
    assert set(expected) - {""} == shipped, f"{case.name}: variants {sorted(shipped)} ship"
    for variant, wanted in expected.items():
        spec = load_spec(f"{case.name}_as_{variant}" if variant else case.name)
        source = case.source()
        episode = apply_spec(source, spec)
        _check_vector(spec.name, "action", episode.action, episode.action_mask, wanted.action, ACTION_NAMES)
        _check_vector(spec.name, "state", episode.state, episode.state_mask, wanted.state, STATE_NAMES)
        _check_images(spec, source, episode, wanted.kept)


def _check_vector(name, what, vector, mask, wanted: Mapping[str, np.ndarray], slot_names) -> None:
    filled = np.zeros(len(mask), bool)
    for slots, values in wanted.items():
        named = slots if slots.startswith(("arm", "base_", "reserved", "terminate")) else f"arm0.{slots}"
        indices = slot_indices(named, what)
        filled[indices] = True
        difference = f"{name}: {what} {named}"
        np.testing.assert_allclose(vector[:, indices], numbers(values), atol=5e-6, rtol=1e-5, err_msg=difference)
    missing = [slot_names[i] for i in np.flatnonzero(filled & ~mask)]
    beyond = [slot_names[i] for i in np.flatnonzero(mask & ~filled)]
    assert not missing and not beyond, f"{name}: {what} slots missing {missing}, filled besides {beyond}"
    assert not vector[:, ~mask].any(), f"{name}: a masked {what} slot is not zero"


def _check_images(spec: DatasetSpec, source: SourceEpisode, episode: Episode, kept: slice) -> None:
    for name, images in episode.images.items():
        camera = spec.cameras[name]
        bare_pixels = isinstance(source.steps[camera.source], np.ndarray)
        if camera.colour == "rgb" and camera.flip == "none" and not bare_pixels:
            stored = source.steps[camera.source][kept]
            assert len(images) == len(stored) and all(a is b for a, b in zip(images, stored, strict=True)), name
    assert {*spec.cameras} - {*episode.images} <= {n for n, c in spec.cameras.items() if c.missing != "never"}


def check_road(case: Case, folder: Path) -> None:
    """A record that TFDS wrote with the published features, read by builders/oxe, gives the very same episodes."""
    source = case.source()
    directory = RldsDirectory(write_directory(folder, case.name, source))
    (record,) = Records(directory, ["train"], keep_split=True)
    read = read_record(record)
    for variant in case.expected(source.steps):
        spec = load_spec(f"{case.name}_as_{variant}" if variant else case.name)
        _assert_same(apply_spec(read, spec), apply_spec(source, spec))


def _assert_same(got: Episode, wanted: Episode) -> None:
    got = replace(got, source_path=wanted.source_path)
    for part in fields(Episode):
        mine, theirs = getattr(got, part.name), getattr(wanted, part.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(mine, theirs, err_msg=part.name)
        else:
            assert mine == theirs, part.name
