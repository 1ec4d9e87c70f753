"""Data cards are generated, complete and current."""

import pytest

from oxe_pipeline.card import main
from oxe_pipeline.cards import render_card
from oxe_pipeline.stream.format import read_manifest
from schemas.spec import load_spec, spec_names
from tests.conftest import DEMO_LABS, ROOT

CARDS = ROOT / "data_cards"
REMEDY = "run: python -m oxe_pipeline.card demo_out/streams/* --all-specs (see data_cards/README.md)"


@pytest.mark.parametrize("name", [name for name in spec_names() if name not in DEMO_LABS])
def test_card_of_a_data_set_that_is_not_here_is_current(name):
    assert (CARDS / f"{name}.md").read_text() == render_card(load_spec(name), None), REMEDY


@pytest.mark.parametrize("name", DEMO_LABS)
def test_card_of_a_demo_lab_is_current(name, demo_streams):
    assert (CARDS / f"{name}.md").read_text() == render_card(load_spec(name), read_manifest(demo_streams / name)), (
        REMEDY
    )


def test_there_is_a_card_for_every_spec_and_none_besides():
    assert {path.stem for path in CARDS.glob("*.md")} - {"README"} == set(spec_names())


@pytest.mark.parametrize("name", DEMO_LABS)
def test_card_shows_what_the_manifest_measured(name, demo_streams):
    manifest = read_manifest(demo_streams / name)
    card = render_card(load_spec(name), manifest)
    counts = manifest.counts
    quarantined = counts.episodes_in - counts.episodes_out
    assert f"{counts.episodes_in} episodes in = {counts.episodes_out} out + {quarantined} quarantined" in card
    assert f"{manifest.statistics['action']['arm0.eef_position_delta.x']['q99']:.4g}" in card


def test_command_refuses_a_folder_without_a_stream(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "cards")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no stream")
    assert not (tmp_path / "cards").exists()
