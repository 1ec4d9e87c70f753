"""Data cards are generated, complete and current."""

import io
from collections import Counter

import pytest
from PIL import Image

from oxe_pipeline.card import main
from oxe_pipeline.cards import render_card
from oxe_pipeline.inspection.facts import stream_facts
from oxe_pipeline.stream.format import Quarantined, read_manifest
from oxe_pipeline.stream.reader import open_stream
from schemas.spec import load_spec, spec_names
from tests.conftest import DEMO_LABS, ROOT

CARDS = ROOT / "data_cards"
REMEDY = "run: python -m oxe_pipeline.card demo_out/streams/* --all-specs (see data_cards/README.md)"


@pytest.mark.parametrize("name", [name for name in spec_names() if name not in DEMO_LABS])
def test_card_of_a_data_set_that_is_not_here_is_current(name):
    assert (CARDS / f"{name}.md").read_text() == render_card(load_spec(name), None), REMEDY


@pytest.mark.parametrize("name", DEMO_LABS)
def test_card_of_a_demo_lab_is_current(name, demo_streams):
    stream = open_stream(demo_streams / name)
    card = render_card(load_spec(name), stream.manifest, stream_facts(stream))
    assert (CARDS / f"{name}.md").read_text() == card, REMEDY


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


@pytest.mark.parametrize("name", DEMO_LABS)
def test_card_shows_lengths_images_and_instructions_of_the_stream(name, demo_streams):
    stream = open_stream(demo_streams / name)
    card = render_card(load_spec(name), stream.manifest, stream_facts(stream))
    lengths = stream.episodes.length
    assert (
        f"| {lengths.min()} | " in card and f" | {lengths.mean():.6g} | " in card and f" | {lengths.max()} | " in card
    )
    first = Counter(stream.instruction(e) for e in range(len(lengths)) if stream.instruction(e)).most_common(1)[0]
    assert f"| {first[0]} | {first[1]} | " in card
    width, height = Image.open(io.BytesIO(stream.image(0, 0, "primary"))).size
    assert f"| {width}x{height} JPEG | " in card


def test_text_of_a_data_set_cannot_break_a_card(demo_streams):
    manifest = read_manifest(demo_streams / "metaworld_bridge")
    bad = Quarantined(episode="a|b", field="x\ny", reason="<script>alert(1)</script>")
    card = render_card(load_spec("metaworld_bridge"), manifest.model_copy(update={"quarantine": [bad]}))
    assert "| a\\|b | x y | &lt;script>alert(1)&lt;/script> |" in card


@pytest.mark.parametrize("name", DEMO_LABS)
def test_card_lists_every_audit_with_its_evidence_faults_first(name, demo_streams):
    manifest = read_manifest(demo_streams / name)
    table = render_card(load_spec(name), manifest).split("## Audits\n\n")[1].split("\n\n")[0].splitlines()[2:]
    verdicts = [row.split(" | ")[0].removeprefix("| ") for row in table]
    order = ["fault", "suspect", "unknown", "ok"]
    assert verdicts == sorted(verdicts, key=order.index) and len(verdicts) == len(manifest.audits) > 20
    assert all(any(audit["evidence"] in row for row in table) for audit in manifest.audits)
    assert "## Audits" not in render_card(load_spec(name), manifest.model_copy(update={"audits": []}))


def test_command_refuses_a_folder_without_a_stream(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "cards")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no stream")
    assert not (tmp_path / "cards").exists()
