"""`tfds build builders/adroit --manual_dir DIR`: human demonstrations of the Adroit hand as unified RLDS."""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import adroit
from schemas.spec import load_spec


class Builder(UnifiedBuilder):
    """Reads the files of the one environment that the spec names as its `published_name`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Clone https://github.com/aravindr93/hand_dapg and give its folder dapg/demonstrations as --manual_dir.
    """
    BUILDER_CONFIGS: ClassVar = [UnifiedConfig(name="adroit_door", description=load_spec("adroit_door").title)]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All episodes under "train"; the files know no split."""
        self._raw_folder = manual_dir
        environment = self.spec.published_name
        episodes = list(adroit.find_episodes(manual_dir, environment))
        if not episodes:
            wanted = f"{environment}_demos.pickle (the spec's published_name is {environment!r})"
            raise BuildStopped(f"error: {manual_dir}: holds no {wanted}; give the folder of the demonstrations")
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(adroit.read_episode, root=self._raw_folder)
