"""`python -m oxe_pipeline.overlay`, as typed."""

import json
import subprocess
import sys

import pytest

from oxe_pipeline.mixture.config import MixtureConfig
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.overlay import main
from oxe_pipeline.overlays.overlay import overlay_path, read_overlay
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream


@pytest.fixture
def stream(tmp_path):
    return make_stream(tmp_path / "alpha", "alpha", episodes=6)


def run_json(capsys, *words):
    assert main([str(word) for word in words] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_it_writes_is_what_a_mixture_draws(stream, tmp_path, capsys):
    (tmp_path / "w.csv").write_text(f"{1:016x},2\n")
    words = ["--stream", stream, "--name", "clean", "--success", "--min-steps", 10, "--weights", tmp_path / "w.csv"]
    said = run_json(capsys, *words)
    entry = {"name": "alpha", "path": str(stream), "overlay": "clean"}
    mixture = load_mixture(MixtureConfig.model_validate({"datasets": [entry]}))
    # Episodes of 12, 11, 10, 9, 8 and 12 steps; the second comes twice.
    assert mixture.datasets[0].num_steps == said["windows"]["train"] == 12 + 2 * 11 + 10 + 12
    assert said["steps_left"]["train"] == 12 + 11 + 10 + 12
    assert [rule["rule"] for rule in said["rules"]] == ["success", "min_steps", "weights"]
    assert said["path"] == str(overlay_path(stream, "clean"))


def test_the_table_shows_what_each_rule_removed_and_how_to_use_it(stream, capsys):
    assert main(["--stream", str(stream), "--name", "long", "--min-steps", "10", "--drop-label-flag", "x"]) == 0
    printed = capsys.readouterr().out
    assert "overlay long of alpha: 73 steps in 7 episodes" in printed
    assert "drop x (carried by 0)" in printed and "min_steps" in printed
    assert "steps left (windows per epoch): train 45 (45), val 11 (11)" in printed
    assert "mix --overlay alpha=long" in printed


def test_a_list_shows_every_overlay_and_says_which_are_of_another_stream(stream, tmp_path, capsys):
    assert main(["--stream", str(stream), "--list"]) == 0
    assert "no overlay yet" in capsys.readouterr().out
    for name, steps in (("b", 10), ("a", 11)):
        run_json(capsys, "--stream", stream, "--name", name, "--min-steps", steps)
    assert [header["name"] for header in run_json(capsys, "--stream", stream, "--list")] == ["a", "b"]
    other = make_stream(tmp_path / "other", "alpha", episodes=5)
    (stream / "overlays").rename(other / "overlays")
    assert main(["--stream", str(other), "--list"]) == 0
    assert capsys.readouterr().out.count("of another stream") == 2


def test_idle_options_reach_the_rule(tmp_path, capsys):
    stream = make_stream(tmp_path / "alpha", "alpha", episodes=6)
    words = ["--stream", str(stream), "--name", "n", "--drop-idle"]
    assert main(words) == 2
    assert "does not state the unit of arm0.eef_position_delta.x" in capsys.readouterr().err
    said = run_json(capsys, *words, "--idle-source-per-s", 0.5, "--idle-min-s", 0.2, "--idle-before-s", 0.1)
    parameters = said["rules"][0]["parameters"]
    assert (parameters["source_per_s"], parameters["min_s"], parameters["before_s"]) == (0.5, 0.2, 0.1)


def test_the_same_command_writes_the_same_bytes(stream, tmp_path, capsys):
    contents = []
    for place in ("one.arrow", "two.arrow"):
        run_json(capsys, "--stream", stream, "--name", "n", "--success", "--out", tmp_path / place)
        contents.append((tmp_path / place).read_bytes())
    assert contents[0] == contents[1]
    opened = open_stream(stream)
    read_overlay(tmp_path / "one.arrow", opened.identity, opened.episodes.length)
    assert not (stream / "overlays").exists()


def test_an_overlay_is_replaced_only_when_told(stream, capsys):
    words = ["--stream", str(stream), "--name", "n"]
    run_json(capsys, *words, "--min-steps", 10)
    before = overlay_path(stream, "n").read_bytes()
    assert main([*words, "--min-steps", "11"]) == 2
    assert "is there already; choose another --name, or give --overwrite" in capsys.readouterr().err
    assert overlay_path(stream, "n").read_bytes() == before
    assert run_json(capsys, *words, "--min-steps", 11, "--overwrite")["rules"][0]["parameters"] == {"steps": 11}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--success", "say what the overlay is called"),
        ("--name n", "no rule given"),
        ("--name a/b --success", "'a/b' is no name of an overlay"),
        ("--name n --success --out n.txt", "an overlay's file ends in .arrow"),
        ("--name n --min-steps 0", "--min-steps 0: give 1 or more"),
        ("--name n --min-steps 99", "leaves nothing to draw"),
        ("--name n --success --idle-min-s 1", "--idle-min-s says what is idle; give --drop-idle too"),
        ("--name n --drop-idle --idle-m-per-s 0", "--idle-m-per-s 0: Input should be greater than 0"),
        ("--name n --drop-idle --idle-min-s inf", "--idle-min-s inf: Input should be a finite number"),
        ("--name n --language klingon", "language 'klingon' is not among"),
        ("--name n --weights none.csv", "none.csv: cannot be read"),
        ("--name n --success --stream nowhere", "nowhere"),
    ],
)
def test_bad_input_gets_one_line_and_status_2_and_writes_nothing(stream, capsys, words, message):
    assert main(["--stream", str(stream), *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert not printed.out and not (stream / "overlays").exists()


def test_importing_it_loads_neither_rich_nor_any_framework():
    code = "import sys, oxe_pipeline.overlay; print({'rich', 'torch', 'tensorflow', 'scipy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
