"""`tfds build builders/gnm --config NAME --manual_dir DIR`: navigation recordings as unified RLDS.

`gnm` takes folders of images with traj_data.pkl, the form in which GNM, ViNT and NoMaD are trained; `recon` takes
RECON's own HDF5 files. A spec file of your own is read as the one whose keys it names.
"""

import functools
from typing import ClassVar

from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest import gnm, recon
from schemas.spec import load_spec

LAYOUTS = {gnm: gnm.POSES_FILE, recon: ".hdf5 file"}
"""Reader to what the raw folder must hold."""


class Builder(UnifiedBuilder):
    """Reads every recording below the raw folder; images stay the JPEGs that they are."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give the folder of the recordings, or one above it, as --manual_dir. For recon: unpack recon_release
    (https://sites.google.com/view/recon-robot/dataset).
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in ("gnm", "recon")
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, list[str]]:
        """All recordings under "train"; neither layout knows splits."""
        self._raw_folder = manual_dir
        self._reader = recon if self.spec.source_keys() & {*recon.NUMBERS, *recon.CAMERAS} else gnm
        episodes = list(self._reader.find_episodes(manual_dir))
        if not episodes:
            raise BuildStopped(
                f"error: {manual_dir}: holds no {LAYOUTS[self._reader]}; give the folder of the recordings"
            )
        return {"train": episodes}

    def read_episode(self):
        return functools.partial(self._reader.read_episode, root=self._raw_folder)
