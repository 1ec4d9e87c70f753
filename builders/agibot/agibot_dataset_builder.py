"""`tfds build builders/agibot --config NAME --manual_dir DIR`: AgiBot World's raw files as unified RLDS, an episode a
recording or an episode a sub-task."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import agibot
from schemas.spec import load_spec

CONFIGS = ("agibot_world", "agibot_world_as_joints", "agibot_world_skills", "agibot_world_skills_as_joints")
_VIDEOS = "videos/"


class Builder(UnifiedBuilder):
    """Reads the recordings whose HDF5 file is there; videos are decoded one image at a time."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download AgiBot World (https://huggingface.co/agibot-world), unpack the tar files of the tasks you want, and give
    the folder that holds task_info, observations and proprio_stats as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name=name, description=load_spec(name).title) for name in CONFIGS]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train": the collection has no split, so the spec's hash decides."""
        self._raw_folder = manual_dir
        self._spans = (self.spec.variant_of or self.spec.name) == "agibot_world_skills"
        episodes, absent = agibot.find_episodes(manual_dir, spans=self._spans)
        if not episodes:
            wanted = "proprio_stats/<task>/<episode>/proprio_stats.h5"
            raise BuildStopped(f"error: {manual_dir}: holds no {wanted}; give the folder above proprio_stats")
        self.note(listed_without_data=absent)
        return {"train": episodes}

    def read_episode(self):
        sources = [camera.source for camera in self.spec.cameras.values()]
        cameras = tuple(source.removeprefix(_VIDEOS) for source in sources if source.startswith(_VIDEOS))
        return functools.partial(agibot.read_episode, root=self._raw_folder, cameras=cameras, spans=self._spans)
