"""A stream whose every text is out to break a page."""

from dataclasses import replace
from pathlib import Path

from oxe_pipeline.stream.format import Quarantined, read_manifest, write_manifest
from tests.synthetic import make_episode, write_stream

SCRIPT = "<script>window.broken = true; document.title = 'broken'</script>"
IMAGE = "\"'><img src=x onerror='window.broken = true'>"
ODD = "a & b \u202e right to left \x00 nul \x1b[31m escape \u200b"
TEXTS = (SCRIPT, IMAGE, ODD)


def hostile_stream(folder: Path) -> Path:
    """Six episodes; titles, labels, flags, paths, quarantine, language report and audits are hostile."""
    made = [
        replace(
            make_episode(i),
            instruction=TEXTS[i % 3] + str(i),
            alternatives=(IMAGE, SCRIPT),
            label_raw=f"{SCRIPT}\n{ODD}",
            label_flags=(IMAGE,),
            quality_flags=(SCRIPT,),
            source_path=f"raw/{SCRIPT}/{i}",
            lab=SCRIPT,
            robot=IMAGE,
        )
        for i in range(6)
    ]
    write_stream(folder, made)
    manifest = read_manifest(folder)
    spec = {
        "name": "synthetic",
        "title": f"Title {SCRIPT}",
        "lab": "lab",
        "robot": "robot",
        "control_hz": 10,
        "licence": IMAGE,
        "citation": SCRIPT,
        "homepage": "javascript:window.broken=true",
        "action": [],
        "notes": [SCRIPT, IMAGE],
        "known_faults": [ODD],
    }
    language = {
        "episodes": 6,
        "with_instruction": 6,
        "flags": {SCRIPT: 2},
        "languages": {IMAGE: 6},
        "samples": {SCRIPT: [["0", SCRIPT, IMAGE]]},
    }
    audit = {"audit": SCRIPT, "subject": IMAGE, "verdict": "fault", "evidence": SCRIPT, "remedy": ODD}
    changes = {
        "spec": spec,
        "language": language,
        "source": {"name": SCRIPT, "files_hash": IMAGE},
        "options": {"images": SCRIPT},
        "quarantine": [Quarantined(episode=SCRIPT, field=IMAGE, reason=f"{SCRIPT} {i}") for i in range(3)],
        "audits": [{**audit, "numbers": {SCRIPT: 0.5, "said": IMAGE}}, {**audit, "verdict": SCRIPT, "numbers": {}}],
    }
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder
