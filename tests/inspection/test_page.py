"""The page holds what the stream holds, loads nothing, stays in its limit, and is the same every time."""

import base64
import io
from dataclasses import replace

import pytest
from PIL import Image

from oxe_pipeline.inspection.page import PageTooLarge, render_page
from oxe_pipeline.inspection.report import InspectOptions
from oxe_pipeline.stream.format import Quarantined, read_manifest, write_manifest
from oxe_pipeline.stream.reader import open_stream
from schemas.spec import load_spec
from tests.inspection.hostile import ODD, SCRIPT, hostile_stream
from tests.inspection.html_reading import PageReader
from tests.synthetic import make_episode, make_stream, write_stream

SMALL = InspectOptions(episodes=3, images=5, frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine episodes in three shards, with the spec of a real data set, findings, and two episodes set aside."""
    folder = make_stream(tmp_path_factory.mktemp("page"), "alpha", episodes=7, held_out=2, image_px=48)
    manifest = read_manifest(folder)
    finding = {"subject": "arm0.gripper", "evidence": "closes at 1", "numbers": {"correlation": -0.5}, "remedy": "turn"}
    audits = [{"audit": f"audit_{verdict}", "verdict": verdict, **finding} for verdict in ("ok", "suspect", "fault")]
    quarantine = [Quarantined(episode=f"e{i}", field="action", reason=f"NaN at step {i}") for i in range(2)]
    counts = manifest.counts.model_copy(update={"episodes_in": manifest.counts.episodes_in + 2})
    changes = {
        "audits": audits,
        "quarantine": quarantine,
        "counts": counts,
        "spec": load_spec("bridge_dataset").model_dump(by_alias=True, exclude_defaults=True),
    }
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return render_page(open_stream(folder), SMALL)


@pytest.fixture(scope="module")
def reader(page):
    return PageReader(page)


def test_elements_are_nested_and_anchors_lead_somewhere(reader):
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = {link["href"] for link in reader.all("a") if link["href"].startswith("#")}
    assert links and links <= {f"#{name}" for name in ids}
    assert reader.all("html")[0]["lang"] == "en" and len(reader.all("h1")) == 1 and len(reader.all("main")) == 1


def test_nothing_is_loaded_from_anywhere(reader, page):
    assert reader.loaded() and all(address.startswith("data:image/jpeg;base64,") for address in reader.loaded())
    assert not reader.all("script") and not reader.all("link") and b"url(" not in page and b"@import" not in page
    (policy,) = (meta["content"] for meta in reader.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_image_is_a_small_picture_with_a_text_for_those_who_do_not_see_it(reader):
    images = reader.all("img")
    assert len(images) == 2 * 5 + 2 * 3 * 4
    for image in images:
        assert "camera, episode" in image["alt"]
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.format == "JPEG" and picture.size == (int(image["width"]), int(image["height"])) == (48, 48)


def test_charts_and_tables_say_what_they_are(reader):
    assert all(chart["aria-label"] and chart["role"] == "img" for chart in reader.all("svg"))
    assert len(reader.all("caption")) == len(reader.all("table")) > 4


def test_counts_identity_and_choices_are_there(reader, folder):
    manifest, spec = read_manifest(folder), load_spec("bridge_dataset")
    for said in (
        "11 episodes in = 9 out + 2 quarantined. Splits: train 7 (73 steps), val 2 (",
        f"steps {manifest.counts.steps_out}",
        manifest.identity(),
        spec.content_hash(),
        spec.title,
        spec.licence,
        spec.notes[0],
        spec.known_faults[0],
        "NaN at step N",
        "push block 3",
    ):
        assert said in reader.text


def test_the_worst_verdict_comes_first(reader):
    places = [reader.text.index(f"audit_{verdict}") for verdict in ("fault", "suspect", "ok")]
    assert places == sorted(places)
    assert "1 fault" in reader.text and "correlation \N{MINUS SIGN}0.5" in reader.text


def test_statistics_shown_are_those_of_the_manifest(reader, folder):
    q99 = read_manifest(folder).statistics["action"]["arm0.eef_position_delta.y"]["q99"]
    assert f"q99 {q99:.3g}" in reader.text


def test_the_only_link_out_is_the_homepage(reader):
    (link,) = [link for link in reader.all("a") if not link["href"].startswith("#")]
    assert link == {"href": load_spec("bridge_dataset").homepage, "rel": "noreferrer"}


def test_a_stream_that_holds_out_everything_has_a_page(tmp_path):
    stream = open_stream(make_stream(tmp_path, "alpha", episodes=0, held_out=3, image_px=16))
    reader = PageReader(render_page(stream, SMALL))
    assert f"Bars: {stream.num_steps} steps, evenly spaced over the whole stream." in reader.text


def test_the_same_stream_gives_the_same_bytes_wherever_it_lies(page, folder, tmp_path):
    (tmp_path / "elsewhere").symlink_to(folder, target_is_directory=True)
    assert render_page(open_stream(tmp_path / "elsewhere"), SMALL) == page
    assert render_page(open_stream(folder), replace(SMALL, seed=1)) != page


def test_a_page_keeps_its_limit_by_smaller_images_and_says_when_it_cannot(tmp_path):
    stream = open_stream(make_stream(tmp_path, "alpha", episodes=6, image_px=256))
    whole = render_page(stream, SMALL)
    smaller = render_page(stream, replace(SMALL, most_bytes=len(whole) * 3 // 4))
    assert len(smaller) <= len(whole) * 3 // 4
    assert len(PageReader(smaller).all("img")) == len(PageReader(whole).all("img"))
    with pytest.raises(PageTooLarge, match=r"do not fit a page of 20\.0 kB; ask for fewer --episodes"):
        render_page(stream, replace(SMALL, most_bytes=20_000))


def test_hostile_texts_are_shown_and_do_nothing(tmp_path):
    stream = open_stream(hostile_stream(tmp_path))
    reader = PageReader(render_page(stream, SMALL))
    assert not reader.all("script")
    assert all(image["src"].startswith("data:image/jpeg") for image in reader.all("img"))
    assert not [key for _, attributes in reader.tags for key in attributes if key.startswith("on")]
    assert not [link for link in reader.all("a") if not link["href"].startswith("#")]
    assert reader.text.count(SCRIPT) > 20
    assert " ".join(ODD.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").split()) in reader.text


def test_a_lost_camera_and_an_unreadable_image_are_named_not_shown(tmp_path):
    lost = replace(make_episode(1), images={"primary": make_episode(1).images["primary"]})
    broken = make_episode(2)
    broken.images["wrist"] = [b"\xff\xd8 no image"] * len(broken)
    stream = open_stream(write_stream(tmp_path, [make_episode(0), lost, broken]))
    reader = PageReader(render_page(stream, SMALL))
    assert "wrist: not in this episode" in reader.text and "missing in 1 (33 %)" in reader.text
    assert reader.text.count("unreadable") >= 4


def test_a_data_set_without_cameras_or_slots_shows_its_raw_vectors(tmp_path):
    bare = make_episode(0, cameras=())
    bare.action_mask[:] = False
    bare.state_mask[:] = False
    bare.instruction, bare.alternatives = "", ()
    reader = PageReader(render_page(open_stream(write_stream(tmp_path, [bare])), SMALL))
    assert "The data set has no camera." in reader.text and "no instruction" in reader.text
    assert "The source's own action vector: 7 wide" in reader.text
    assert {"open": None} in reader.all("details")
    assert len(reader.all("polyline")) == 7 + 8
