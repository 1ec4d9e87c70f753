"""What --strict lets pass, and what the job prints."""

import pytest

from oxe_pipeline.stream.verdicts import AuditFailed, refuse_verdicts, verdict_lines


def audit(verdict: str, subject: str = "arm0.gripper") -> dict:
    return {
        "audit": "gripper_polarity",
        "subject": subject,
        "verdict": verdict,
        "evidence": f"evidence of {verdict}.",
        "numbers": {},
        "remedy": "Invert it.",
    }


ALL = [audit(verdict) for verdict in ("ok", "suspect", "fault", "unknown")]


@pytest.mark.parametrize(
    ("strict", "audits"), [("", ALL), ("fault", ALL[:2] + ALL[3:]), ("suspect", [ALL[0], ALL[3]]), ("suspect", [])]
)
def test_what_may_pass_passes(strict, audits):
    refuse_verdicts(audits, strict, "out")


@pytest.mark.parametrize(("strict", "refused"), [("fault", 1), ("suspect", 2)])
def test_what_may_not_is_told_with_what_where_and_remedy_in_one_line(strict, refused):
    with pytest.raises(AuditFailed) as failure:
        refuse_verdicts(ALL, strict, "s3://out")
    told = str(failure.value)
    assert told.startswith(f"s3://out: --strict refuses {refused} verdict") and "\n" not in told
    assert "fault gripper_polarity of arm0.gripper: evidence of fault. Invert it." in told
    assert "unknown" not in told


def test_a_stream_that_is_there_is_not_said_to_be_missing():
    with pytest.raises(AuditFailed, match=r"Invert it\. The stream stays as it is$"):
        refuse_verdicts(ALL, "fault", "out", is_committed=True)


def test_many_refused_verdicts_are_counted():
    with pytest.raises(AuditFailed, match=r"refuses 9 verdicts: .*\[4\].* And 5 more\."):
        refuse_verdicts([audit("fault", f"camera{i}") for i in range(9)], "fault", "out")


def test_the_table_names_faults_first_and_what_is_unknown():
    lines = verdict_lines(ALL)
    assert lines[0] == "audits      1 ok, 1 suspect, 1 fault, 1 unknown"
    assert [line.split()[0] for line in lines[1:]] == ["fault", "suspect", "unknown"]
    assert lines[1] == "fault       gripper_polarity of arm0.gripper: evidence of fault. Invert it."
    assert verdict_lines(ALL[:1]) == ["audits      1 ok, 0 suspect, 0 fault, 0 unknown"]
