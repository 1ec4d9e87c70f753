"""`tfds build builders/oxe --config NAME --manual_dir DIR`: any published RLDS data set that has a spec, as unified
RLDS.

One config per spec of kind `rlds` in schemas/datasets and per variant of one. The source is read without TensorFlow;
images keep their bytes.
"""

from pathlib import Path
from typing import ClassVar

from absl import logging

from builders.oxe.records import Records, read_record
from builders.unified import BuildStopped, UnifiedBuilder, UnifiedConfig
from oxe_pipeline.ingest.features_json import RldsError
from oxe_pipeline.ingest.rlds import RldsDirectory
from schemas.spec import load_spec, spec_names, variant_names
from schemas.spec_parts import nearest


def published_specs() -> list[str]:
    """Names of the shipped specs whose source is published RLDS, and of their variants, sorted."""
    return [name for name in sorted((*spec_names(), *variant_names())) if load_spec(name).source_kind == "rlds"]


class Builder(UnifiedBuilder):
    """Imports a published RLDS directory through its spec."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Copy one version of the published data set, e.g. with
      gsutil -m cp -r gs://gresearch/robotics/taco_play/0.1.0 RLDS/taco_play/
    and give the folder that holds its features.json, or the folder above <name>/<version>, as --manual_dir. A part of
    its shard files is enough.
    """
    BUILDER_CONFIGS: ClassVar = [
        UnifiedConfig(name=name, description=load_spec(name).title) for name in published_specs()
    ]

    def list_episodes(self, manual_dir: str) -> dict[str, Records]:
        """Our split name to the records of the present shard files. A split that is declared but absent, and single
        absent files, are warned about and noted in metadata.json."""
        directory = self._open(Path(manual_dir))
        present = [name for name, split in directory.splits.items() if split.files]
        missing = {name: split.missing for name, split in directory.splits.items() if split.missing}
        for name, files in missing.items():
            logging.warning(
                "%s: split %r: %d of %d declared shard files are absent (first: %s); going on with the rest",
                directory.path, name, len(files), len(directory.splits[name].lengths), files[0],
            )  # fmt: skip
        if not present:
            raise BuildStopped(f"error: {directory.path}: none of the declared shard files is there; copy them again")
        names = self.spec.split.names
        for name in present:
            if name not in names:
                hint = nearest(name, names)
                raise BuildStopped(f"error: {directory.path}: split {name!r} is not in the spec's split.names{hint}")
        # With nothing but train here there is nothing held out; then the hash decides, episode by episode.
        decided_by_source = any(names[name] != "train" for name in present)
        self.note(
            source={"name": directory.name, "version": directory.version, "config": directory.config},
            missing_files=missing,
            split_decided_by="source" if decided_by_source else "hash",
        )
        return {
            ours: Records(directory, [name for name in present if names[name] == ours], keep_split=decided_by_source)
            for ours in sorted({names[name] for name in present})
        }

    def read_episode(self):
        return read_record

    def _open(self, folder: Path) -> RldsDirectory:
        """The directory itself, the data set's own folder in it (under any of its names), or the only one below."""
        named = [folder / name for name in self.spec.names() if (folder / name).is_dir()]
        try:
            directory = RldsDirectory(named[0] if named else folder)
        except RldsError as error:
            raise BuildStopped(f"error: {error}") from None
        if directory.is_unified:
            raise BuildStopped(f"error: {directory.path}: already unified RLDS; give it to `python -m jobs.shard`")
        versions = self.spec.versions
        if versions and directory.version not in versions:
            logging.warning(
                "%s: version %s; the spec was written for %s", directory.path, directory.version, ", ".join(versions)
            )
        return directory
