"""The listing of specs and mixtures: all of them, by word, and what stands in a row."""

import json
import subprocess
import sys

import pytest

from oxe_pipeline.datasets import main
from oxe_pipeline.mixture.config import mixture_names
from schemas.spec import spec_names, variant_names
from tests.conftest import ROOT


def printed(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_every_spec_and_every_variant_is_listed(capsys):
    rows = json.loads(printed(capsys, "--json"))
    assert [row["data set"] for row in rows] == spec_names()
    assert {f"{row['data set']}_as_{v}" for row in rows for v in row["variants"]} == set(variant_names())


def test_a_row_tells_what_a_newcomer_asks(capsys):
    (row,) = json.loads(printed(capsys, "--json", "fmb"))
    assert row["data set"] == "fmb_dataset" and row["published as"] == "fmb" and row["source"] == "rlds"
    assert (row["robot"], row["Hz"], row["episodes"]) == ("Franka Panda", 10, 8611)
    assert row["cameras"] == ["primary", "secondary", "wrist"]
    assert set(row["variants"]) == {"octo", "openvla"} and row["variants"]["octo"].startswith("What Octo")


def test_words_are_sought_together_and_in_any_case(capsys):
    text = printed(capsys, "FREIBURG", "taco")
    assert "1 data sets" in text and "taco_play" in text and "octo, openvla" in text and "3,603" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["taco_plai"], "error: no data set has taco_plai in it; did you mean taco_play"),
        (["--mixtures", "octo"], "error: --mixtures lists all of them; leave octo out"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(capsys, arguments, said):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_all_mixtures_are_listed_with_weights(capsys):
    rows = {row["mixture"]: row for row in json.loads(printed(capsys, "--mixtures", "--json"))}
    assert sorted(rows) == mixture_names()
    assert rows["octo_oxe_magic_soup"]["weights"]["taco_play"] == 2 and rows["octo_oxe_magic_soup"]["variant"] == "octo"
    assert "taco_play_as_octo" in rows["octo_oxe_magic_soup"]["streams"]
    assert {"roboturk", "viola_as_openvla"} <= set(rows["openvla_rtx"]["streams"])
    assert "openvla_bridge" in printed(capsys, "--mixtures")


def test_it_runs_as_a_command_without_tensorflow():
    code = "import sys, oxe_pipeline.datasets as d; d.main(['taco_play']); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
