"""A contact sheet per camera: one random step of random episodes, and what is known of the camera."""

from oxe_pipeline.inspection.facts import CameraFacts
from oxe_pipeline.inspection.markup import Markup, joined, megabytes, section, share, table, tag
from oxe_pipeline.inspection.report import Report
from oxe_pipeline.inspection.selection import random_steps
from oxe_pipeline.inspection.thumbnails import Thumbnails


def contact_sheets(report: Report, thumbnails: Thumbnails) -> Markup:
    """The sheets, one after another. Raises BudgetSpent."""
    if not report.facts.cameras:
        return section("pictures", "Contact sheets", tag("p", "The data set has no camera.", class_="empty"))
    note = (
        f"One random step of each of up to {report.options.images} random episodes (seed {report.options.seed}), "
        "the same step in every camera. Numbers below are episode and step, from 0."
    )
    sheets = [_sheet(report, thumbnails, camera) for camera in report.facts.cameras]
    return section("pictures", "Contact sheets", sheets, note=note)


def camera_section(report: Report) -> Markup:
    """Where each camera comes from, how its images are stored, and in how many episodes it is missing."""
    manifest, spec = report.manifest, report.spec
    if not report.facts.cameras:
        return Markup("")
    rows = []
    for camera in report.facts.cameras:
        said = spec.cameras.get(camera.camera) if spec else None
        missing = manifest.counts.episodes_out - camera.episodes
        rows.append(
            (
                camera.camera,
                tag("code", said.source) if said else "",
                _sizes(camera),
                f"{camera.bytes_per_image / 1e3:.1f} kB",
                megabytes(camera.bytes_per_image * _images(report, camera.camera)),
                f"{camera.episodes:,}",
                f"{missing:,} ({share(missing, manifest.counts.episodes_out)})",
            )
        )
    head = ("camera", "source key", "stored as", "mean image", "all images", "episodes with it", "missing in")
    return section("cameras", "Cameras", table("Cameras and their images", head, rows, numeric=(3, 4, 5, 6)))


def _sheet(report: Report, thumbnails: Thumbnails, camera: CameraFacts) -> Markup:
    stream, name = report.stream, camera.camera
    candidates = report.selection.episodes
    shown = candidates[stream.episodes.has_camera(name)[candidates]][: report.options.images]
    steps = random_steps(stream, shown, seed=report.options.seed)
    shots = [
        thumbnails.figure(
            *(stream, episode, step, name),
            caption=f"{episode} · {step}",
            alt=f"{name} camera, episode {episode}, step {step}",
        )
        for episode, step in zip(shown.tolist(), steps.tolist(), strict=True)
    ]
    missing = report.manifest.counts.episodes_out - camera.episodes
    about = [_sizes(camera), f"{camera.episodes:,} episodes"]
    about += [f"missing in {missing:,} ({share(missing, report.manifest.counts.episodes_out)})"] if missing else []
    return joined(
        tag("h3", name, tag("span", " · ".join(part for part in about if part), class_="about")),
        tag("div", shots, class_="sheet"),
    )


def _sizes(camera: CameraFacts) -> str:
    return ", ".join(camera.sizes[:4]) + (" …" if len(camera.sizes) > 4 else "")


def _images(report: Report, camera: str) -> int:
    index = report.stream.episodes
    return int(index.length[index.has_camera(camera)].sum())
