"""Each published data set, and each variant of its spec, on episodes of exactly the published structure.

What comes out is compared with the published rule written out in numpy, and the same episode takes the real road
through TFDS's own bytes. The data sets are rows of published_cases; here are the checks that hold for all of them, and
a few of what is particular to one.
"""

import numpy as np
import pytest
import simplejpeg

from builders.oxe.oxe_dataset_builder import published_specs
from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import load_spec, spec_names, variant_names
from tests.ingest.published_case import check_road, check_slots
from tests.ingest.published_cases import ALL_CASES
from tests.ingest.published_structure import read_structure


def test_every_spec_of_published_rlds_is_a_case_here():
    assert set(ALL_CASES) == {name for name in spec_names() if load_spec(name).source_kind == "rlds"}


def test_builders_oxe_has_a_config_for_every_case_and_variant():
    variants = [name for name in variant_names() if load_spec(name).variant_of in ALL_CASES]
    assert published_specs() == sorted((*ALL_CASES, *variants))


@pytest.mark.parametrize("name", sorted(ALL_CASES))
def test_slots_hold_what_the_published_rule_gives(name):
    check_slots(ALL_CASES[name])


@pytest.mark.parametrize("name", sorted(ALL_CASES))
def test_a_record_written_by_tfds_gives_the_same_episode(name, tmp_path):
    check_road(ALL_CASES[name], tmp_path)


@pytest.mark.parametrize("name", sorted(ALL_CASES))
def test_the_structure_says_where_it_was_read(name):
    assert read_structure(name).source.strip()


def episode_of(name: str, variant: str = "", **changes):
    """The episode of a case with steps or metadata replaced."""
    source = ALL_CASES[name].source()
    for key, value in changes.items():
        (source.steps if key in source.steps else source.metadata)[key] = value
    return apply_spec(source, load_spec(f"{name}_as_{variant}" if variant else name))


def test_fractal_success_is_unknown_where_nobody_rated_the_episode():
    rated = {"aspects/has_aspects": np.bool_(True), "aspects/success": np.bool_(True)}
    assert episode_of("fractal20220817_data", **rated).success == 1
    unrated = rated | {"aspects/has_aspects": np.bool_(False)}
    assert episode_of("fractal20220817_data", **unrated).success == -1


@pytest.mark.parametrize(("name", "key"), [("kuka", "success"), ("bc_z", "observation/episode_success")])
def test_outcomes_are_read_from_metadata_and_from_the_last_step(name, key):
    source = ALL_CASES[name].source()
    last = source.steps[key] * 0 if key in source.steps else np.bool_(False)
    assert episode_of(name, **{key: last}).success == 0
    if key in source.steps:
        last[-1] = 1
    assert episode_of(name, **{key: last if key in source.steps else np.bool_(True)}).success == 1


@pytest.mark.parametrize(
    ("path", "success"), [("r2d2/AUTOLab/success/x/trajectory.h5", 1), ("r2d2/AUTOLab/failure/x/trajectory.h5", 0)]
)
def test_droid_outcomes_are_known_from_the_path(path, success):
    assert episode_of("droid", **{"episode_metadata/file_path": path.encode()}).success == success


def test_language_table_labels_are_utf8_bytes():
    assert episode_of("language_table").instruction == "push the blue cube to the café"


def test_taco_has_two_labels_and_published_code_takes_one():
    labels = {"observation/structured_language_instruction": [b"open_drawer"] * 8}
    assert len(episode_of("taco_play", **labels).alternatives) == 1
    assert episode_of("taco_play", "octo", **labels).alternatives == ()


def test_octo_blanks_labels_that_openvla_keeps():
    assert episode_of("toto", "octo").instruction == "" != episode_of("toto", "openvla").instruction
    assert episode_of("kuka").instruction == "" and episode_of("kuka").label_raw


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("berkeley_autolab_ur5", "wrist"),
        ("stanford_hydra_dataset_converted_externally_to_rlds", "primary"),
        ("stanford_hydra_dataset_converted_externally_to_rlds", "wrist"),
    ],
)
def test_cameras_stored_bgr_are_put_right(name, camera):
    pixels = np.full((16, 16, 3), [200, 100, 20], np.uint8)
    key = load_spec(name).cameras[camera].source
    put_right = episode_of(name, **{key: [simplejpeg.encode_jpeg(pixels, quality=95)] * 8}).images[camera][0]
    np.testing.assert_allclose(simplejpeg.decode_jpeg(put_right), pixels[..., ::-1], atol=4)


def test_a_bridge_camera_that_is_black_is_left_out():
    assert set(episode_of("bridge_dataset").images) == {"primary"}
