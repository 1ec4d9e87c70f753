"""`tfds build builders/robomind --config NAME --manual_dir DIR`: RoboMIND's raw HDF5 as unified RLDS, one config for
each kind of robot, because each has columns, cameras and colours of its own."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import robomind
from oxe_pipeline.ingest.robomind_labels import find_label_files
from schemas.spec import load_spec

EMBODIMENTS = {
    "robomind_franka": frozenset({"h5_franka_3rgb", "h5_franka_1rgb"}),
    "robomind_ur": frozenset({"h5_ur_1rgb"}),
    "robomind_agilex": frozenset({"h5_agilex_3rgb"}),
    "robomind_tienkung": frozenset({"h5_tienkung_gello_1rgb", "h5_tienkung_prod1_gello_1rgb"}),
}
"""Data set to the folders that hold its episodes."""
VARIANTS = ("robomind_franka_as_motion", "robomind_ur_as_motion", "robomind_agilex_as_rgb", "robomind_tienkung_as_rgb")


class Builder(UnifiedBuilder):
    """Reads every trajectory.hdf5 of the robot. JPEG bytes in true colours pass through as they are."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack RoboMIND (https://huggingface.co/datasets/x-humanoid-robomind/RoboMIND), put RoboMIND_v1_2_instr.csv and the
    folder language_description_annotation_json beside the h5_<robot> folders, and give their folder as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in (*EMBODIMENTS, *VARIANTS)
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes of the robot under "train"; the folders train and val stand in episode_metadata/split."""
        self._raw_folder = manual_dir
        self._embodiments = EMBODIMENTS[self.spec.variant_of or self.spec.name]
        episodes = robomind.find_episodes(manual_dir, self._embodiments)
        if not episodes:
            folders = " or ".join(sorted(self._embodiments))
            raise BuildStopped(
                f"error: {manual_dir}: holds no trajectory.hdf5 below {folders}; give the folder of those"
            )
        self._labels = find_label_files(manual_dir, self._embodiments)
        self.note(label_files=[name for name in (self._labels.instructions, *self._labels.descriptions) if name])
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(
            robomind.read_episode, root=self._raw_folder, embodiments=self._embodiments, labels=self._labels
        )
