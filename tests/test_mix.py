"""`python -m oxe_pipeline.mix`, as typed."""

import json
import subprocess
import sys

import pytest
import yaml

from oxe_pipeline.mix import main
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.overlay import main as make_overlay
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    make_stream(root / "alpha", "alpha", episodes=6)
    make_stream(root / "beta", "beta", episodes=3)
    return root


def run_json(capsys, *words) -> dict:
    assert main([str(word) for word in words] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_table_shows_every_data_set_and_a_real_draw(root, capsys):
    assert main(["--root", str(root), "--weights", "alpha=1,beta=0.5", "--draw", "3200"]) == 0
    printed = capsys.readouterr().out
    assert "66.6667%" in printed and "33.3333%" in printed and "a draw of 3,200 samples" in printed
    assert "shares are exact" in printed


def test_the_shuffle_quality_is_shown_and_explained(root, capsys):
    assert main(["--root", str(root), "--weights", "alpha=1,beta=1", "--batch-size", "8"]) == 0
    printed = capsys.readouterr().out
    found = run_json(capsys, "--root", root, "--weights", "alpha=1,beta=1", "--batch-size", 8)["shuffle_quality"]
    assert f"shuffle quality {found['score']:.3f}, over 160 batches of 8" in printed
    assert f"{found['episodes_per_batch']['uniform']:.1f}" in printed and "ratio 1: as mixed as if" in printed
    assert 0.95 < found["score"] < 1.1 and found["batch_size"] == 8
    assert run_json(capsys, "--root", root, "--weights", "alpha=1")["shuffle_quality"]["batch_size"] == 256


def test_shuffling_within_shards_is_named_and_goes_into_the_file(root, tmp_path, capsys):
    out = tmp_path / "mix.yaml"
    asked = ["--root", str(root), "--weights", "alpha=1,beta=1", "--pool-shards", "1", "--batch-size", "4"]
    assert main([*asked, "--out", str(out)]) == 0
    assert "shuffled within 1 shards at a time" in capsys.readouterr().out
    pooled = run_json(capsys, "--mixture", out, "--batch-size", 4)["shuffle_quality"]
    assert pooled["score"] < run_json(capsys, *asked[:4], "--batch-size", 4)["shuffle_quality"]["score"]


def test_an_overlay_is_named_with_what_it_leaves_and_goes_into_the_file(root, tmp_path, capsys):
    assert make_overlay(["--stream", str(root / "alpha"), "--name", "long", "--min-steps", "11", "--overwrite"]) == 0
    capsys.readouterr()
    out = tmp_path / "mix.yaml"
    asked = ["--root", str(root), "--weights", "alpha=1,beta=1", "--overlay", "alpha=long", "--out", str(out)]
    alpha, beta = run_json(capsys, *asked)["segments"][0]["datasets"]
    # Six episodes of 12, 11, 10, 9, 8 and 12 steps.
    assert (alpha["overlay"], alpha["episodes"], alpha["steps"], alpha["split_steps"]) == ("long", 3, 35, 62)
    assert (beta["overlay"], beta["steps"], beta["split_steps"]) == ("", 33, 33)
    assert load_mixture(out).datasets[0].num_steps == 35
    assert main(["--mixture", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "alpha + long" in printed and "35 of 62" in printed and "steps: those it leaves" in printed


def test_an_overlay_given_as_a_file_is_found_from_where_the_command_runs(root, tmp_path, capsys, monkeypatch):
    file = tmp_path / "elsewhere.arrow"
    assert (
        make_overlay(["--stream", str(root / "alpha"), "--name", "full", "--out", str(file), "--min-steps", "12"]) == 0
    )
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    found = run_json(capsys, "--root", root, "--weights", "alpha", "--overlay", "alpha=elsewhere.arrow")
    assert found["segments"][0]["datasets"][0]["steps"] == 24


def test_tiny_shares_are_not_shown_as_nothing(root, capsys):
    assert main(["--root", str(root), "--weights", "alpha=1,beta=2e-6"]) == 0
    assert "0.0002%" in capsys.readouterr().out


def test_json_says_the_same_for_machines(root, capsys):
    found = run_json(capsys, "--root", root, "--weights", "alpha=3,beta=1", "--draw", 3200, "--seed", 9)
    alpha, beta = found["segments"][0]["datasets"]
    assert (alpha["share"], beta["share"], found["seed"]) == (0.75, 0.25, 9)
    assert [row["samples"] for row in found["draw"]] == [2400, 800]


def test_what_it_writes_is_what_training_opens(root, tmp_path, capsys):
    out = tmp_path / "mix.yaml"
    asked = ["--root", root, "--schedule", "0: alpha=1,beta=1; 64: alpha=1", "--seed", 3, "--out", out]
    from_options = run_json(capsys, *asked)
    mixture = load_mixture(out)
    assert mixture.identity == from_options["identity"] and mixture.seed == 3
    assert mixture.schedule.shares_at(64) == {"alpha": 1.0, "beta": 0.0}
    assert run_json(capsys, "--mixture", out)["segments"] == from_options["segments"]


def test_options_go_over_what_a_mixture_file_says(root, tmp_path, capsys):
    out = tmp_path / "mix.yaml"
    run_json(capsys, "--root", root, "--weights", "alpha,beta", "--out", out)
    found = run_json(capsys, "--mixture", out, "--balance", "--seed", 4)
    shares = [row["steps"] for row in found["segments"][0]["datasets"]]
    assert [row["share"] for row in found["segments"][0]["datasets"]] == [s / sum(shares) for s in shares]
    assert found["seed"] == 4 and not yaml.safe_load(out.read_text())["balance"]


def test_a_published_mixture_leaves_out_what_is_not_there_only_when_told(root, tmp_path, capsys):
    make_stream(tmp_path / "bridge_orig", "bridge_orig")
    assert main(["--root", str(tmp_path), "--mixture", "openvla_bridge_rt_1"]) == 2
    assert "there is no data set 'fractal20220817_data'; there are bridge_orig" in capsys.readouterr().err
    found = run_json(capsys, "--root", tmp_path, "--mixture", "openvla_bridge_rt_1", "--skip-missing")
    assert found["skipped"] == ["fractal20220817_data"]
    assert [row["dataset"] for row in found["segments"][0]["datasets"]] == ["bridge_orig"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--weights alpha=1,betta=1", "there is no data set 'betta'; did you mean beta?"),
        ("--weights alpha=-1", "weight -1 of data set alpha is negative"),
        ("--weights alpha=0,beta=0", "weights of alpha, beta are zero in total"),
        ("--weights alpha=much", "weight 'much' of data set alpha is not a number"),
        ("--weights alpha=1,beta=1e-13", "weight 1e-13 of data set beta is 1e-13 of the total"),
        ("--weights alpha=1 --mixture octo_rtx", "give one of them"),
        ("--weights alpha=1 --temperature -1", "temperature: Input should be greater than 0 (value: -1.0)"),
        ("--weights alpha=1 --draw -5", "--draw -5 is negative"),
        ("--weights alpha=1 --batch-size 0", "--batch-size 0 is not a number of samples"),
        ("--weights alpha=1 --overlay alpha", "write dataset=overlay"),
        ("--weights alpha=1 --overlay alhpa=long", "no data set 'alhpa'; did you mean alpha?"),
        ("--weights beta=1 --overlay beta=nope", "nope.arrow: no such overlay"),
        ("--weights unfinished=1", "unfinished stream"),
        ("--schedule 64:alpha=1", "say what to mix"),
        ("--mixture bridge", "did you mean octo_bridge, openvla_bridge?"),
        ("", "say what to mix"),
    ],
)
def test_bad_input_gets_one_line_and_status_2_and_writes_nothing(root, tmp_path, capsys, words, message):
    (root / "unfinished" / "shards").mkdir(parents=True, exist_ok=True)
    assert main(["--root", str(root), "--out", str(tmp_path / "mix.yaml"), *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert not printed.out and not list(tmp_path.iterdir())


def test_importing_it_loads_neither_rich_nor_any_framework():
    code = "import sys, oxe_pipeline.mix; print({'rich', 'torch', 'tensorflow', 'scipy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
