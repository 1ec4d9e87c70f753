"""A browser opens the page as it is and says what it made of it: images, width, requests, scripts, complaints."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from oxe_pipeline.inspection.page import render_page
from oxe_pipeline.inspection.report import InspectOptions
from oxe_pipeline.stream.reader import open_stream
from tests.inspection.hostile import SCRIPT, hostile_stream
from tests.inspection.html_reading import PageReader

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS_PX = (1280, 390)
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
_QUESTIONS = """
window.onload = () => {
  const answers = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow, images = [...page.images];
    const style = selector => view.getComputedStyle(page.querySelector(selector));
    return {
      images: images.length,
      loaded: images.filter(image => image.complete && image.naturalWidth > 0).length,
      shown: images.filter(image => image.getBoundingClientRect().width > 20).length,
      charts: [...page.querySelectorAll("svg")].filter(chart => chart.getBoundingClientRect().height > 20).length,
      text: page.body.innerText,
      title: page.title,
      wide: page.scrollingElement.scrollWidth, room: page.scrollingElement.clientWidth, view: view.innerWidth,
      requests: view.performance.getEntriesByType("resource").map(entry => entry.name),
      scripts: page.scripts.length, broken: Boolean(view.broken || window.broken),
      heading: parseFloat(style("h1").fontSize),
      columns: style(".film").gridTemplateColumns.split(" ").length,
    };
  });
  document.body.textContent = "ANSWERS" + JSON.stringify(answers) + "END";
};
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to open the page with: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> bytes:
    """Of a stream all whose texts are hostile: what holds for it holds for others."""
    stream = open_stream(hostile_stream(tmp_path_factory.mktemp("stream")))
    return render_page(stream, InspectOptions(episodes=2, images=6))


@pytest.fixture(scope="module")
def opened(browser, page, tmp_path_factory) -> tuple[list[dict], str]:
    """What the browser answers for each width, and everything it complained about.

    The page stands unchanged, its own policy in force, in frames of a page whose script asks the questions.
    """
    frames = [
        f'<iframe srcdoc="{html.escape(page.decode())}" style="width:{width}px;height:3000px;border:0"></iframe>'
        for width in WIDTHS_PX
    ]
    folder = tmp_path_factory.mktemp("browser")
    asking = folder / "asking.html"
    asking.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(frames)}<script>{_QUESTIONS}</script>")
    done = _dump(browser, asking, folder / "profile")
    answers = re.search("ANSWERS(.*)END", html.unescape(done.stdout), re.DOTALL)
    assert answers, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(answers[1]), done.stderr


def _dump(browser: str, page: Path, profile: Path) -> subprocess.CompletedProcess:
    """The document as the browser has it in the end on stdout, its log on stderr."""
    words = [browser, *_QUIET, "--enable-logging=stderr", f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_every_image_is_loaded_and_shown_at_every_width(opened, page):
    expected = len(PageReader(page).all("img"))
    for answer in opened[0]:
        assert answer["loaded"] == answer["shown"] == answer["images"] == expected > 20


def test_charts_are_shown(opened, page):
    for answer in opened[0]:
        assert answer["charts"] >= len(PageReader(page).all("polyline")) / 7


def test_the_page_is_as_wide_as_the_screen_and_lays_itself_out_for_it(opened):
    desktop, phone = opened[0]
    assert (desktop["view"], phone["view"]) == WIDTHS_PX
    assert desktop["wide"] <= desktop["room"] and phone["wide"] <= phone["room"]
    assert desktop["columns"] == 8 and phone["columns"] == 4
    assert desktop["heading"] > phone["heading"]


def test_nothing_is_requested(opened):
    assert [name for answer in opened[0] for name in answer["requests"] if not name.startswith("data:")] == []


def test_the_browser_has_nothing_to_complain_about(opened):
    assert not [line for line in opened[1].splitlines() if "CONSOLE" in line]


def test_no_label_became_a_script(opened):
    for answer in opened[0]:
        assert not answer["broken"] and answer["scripts"] == 0
        assert answer["title"] == "synthetic: stream report"
        assert SCRIPT in answer["text"]


def test_a_complaint_would_be_heard(browser, tmp_path):
    loud = tmp_path / "loud.html"
    loud.write_text("<!doctype html><script>console.error('heard')</script>")
    words = [
        browser,
        *_QUIET,
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'p'}",
        "--dump-dom",
        loud.as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line and "heard" in line]
