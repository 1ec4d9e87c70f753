"""Writes a small bag of one arm as ROS 1, ROS 2 (sqlite3) or MCAP, with the habits that readers have to meet.

Six topics at rates of their own: a compressed camera, a raw camera whose rows are padded and blue-green-red, joint
states whose names are in no order and whose gripper comes in messages of its own, poses, target poses sent between two
observations, and a gripper command that is sent only when it changes. Receipt is a few milliseconds after the stamp.
The motion is written out in closed form, so that a test can compute what every step must hold.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from samples.layout_command import layout_parser, write_layout

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
LATE_NS = 4_000_000
"""From stamp to receipt."""
JOINTS = ("joint3", "joint1", "joint2", "joint7", "joint5", "joint6", "joint4")
IMAGE_PX = 32
GRIPPER_CLOSES_S = 0.8

Kind = Literal["ros1", "sqlite3", "mcap"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    camera_hz: float = 15
    wrist_hz: float = 12.5
    joints_hz: float = 50
    pose_hz: float = 100
    target_hz: float = 40


def position_at(time_s: float) -> np.ndarray:
    """Where the hand is, metres [3]."""
    return np.array([0.3 + 0.1 * time_s, 0.05 * np.sin(time_s), 0.2])


def joints_at(time_s: float) -> dict[str, float]:
    """Joint name to angle, radians."""
    return {name: 0.1 * int(name[-1]) + 0.01 * time_s for name in JOINTS}


def picture_at(time_s: float, *, wrist: bool = False) -> np.ndarray:
    """uint8 [H, W, 3], RGB: red tells the time (10 a tenth of a second), green and blue the place, from the far end for
    the camera on the wrist."""
    ramp = np.linspace(0, 120, IMAGE_PX).astype(np.uint8)[:: -1 if wrist else 1]
    red = np.uint8(min(round(100 * time_s), 255))
    return np.stack(np.broadcast_arrays(red, ramp[:, None], ramp[None, :]), axis=2)


def write_bag(
    path: Path, kind: Kind, *, seconds: float = 2.0, rates: Rates | None = None, without: tuple[str, ...] = ()
) -> None:
    """One bag: a file `path` for ros1, a folder for the others. Topics in `without` are left out."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

    ros1 = kind == "ros1"
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    plugins = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}
    serialise = store.serialize_ros1 if ros1 else store.serialize_cdr
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer1(path) if ros1 else Writer2(path, version=9, storage_plugin=plugins[kind]) as writer:
        connections = {}
        for received_ns, topic, message in sorted(
            _messages(store, ros1, seconds, rates or Rates()), key=lambda m: m[0]
        ):
            if topic in without:
                continue
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], received_ns, serialise(message, message.__msgtype__))


def _messages(store, ros1: bool, seconds: float, rates: Rates) -> Iterator[tuple[int, str, Any]]:
    """(time of receipt, topic, message) of every topic, topic by topic."""
    make = _Maker(store, ros1)
    for time_s in _times(seconds, rates.camera_hz):
        yield make.received(time_s), "/camera/color/image_raw/compressed", make.compressed(time_s)
    for time_s in _times(seconds, rates.wrist_hz):
        yield make.received(time_s), "/wrist_camera/image_raw", make.raw_image(time_s)
    for number, time_s in enumerate(_times(seconds, rates.joints_hz)):
        fingers = {"finger_joint": 0.08 if time_s < GRIPPER_CLOSES_S else 0.0}
        values = fingers if number % 5 == 0 else joints_at(time_s)
        yield make.received(time_s), "/joint_states", make.joints(time_s, values)
    for time_s in _times(seconds, rates.pose_hz):
        yield make.received(time_s), "/eef_pose", make.pose(time_s, position_at(time_s))
    for time_s in _times(seconds, rates.target_hz):
        yield make.received(time_s), "/target_pose", make.pose(time_s, position_at(time_s + 0.1))
    for time_s, is_open in ((0.0, 1.0), (GRIPPER_CLOSES_S, 0.0)):
        yield make.received(time_s), "/gripper/command", make.number(is_open)
    yield START_NS, "/task", make.text("put the cup on the plate")


def _times(seconds: float, rate_hz: float) -> np.ndarray:
    return np.arange(int(seconds * rate_hz) + 1) / rate_hz


class _Maker:
    """Makes messages with the classes of one ROS generation."""

    def __init__(self, store, ros1: bool):
        self._types, self._ros1 = store.types, ros1

    def received(self, time_s: float) -> int:
        return START_NS + round(time_s * NS) + LATE_NS

    def _new(self, message_type: str, **fields):
        return self._types[message_type](**fields)

    def _header(self, time_s: float):
        stamp_ns = START_NS + round(time_s * NS)
        stamp = self._new("builtin_interfaces/msg/Time", sec=stamp_ns // NS, nanosec=stamp_ns % NS)
        sequence = {"seq": 0} if self._ros1 else {}
        return self._new("std_msgs/msg/Header", stamp=stamp, frame_id="base", **sequence)

    def compressed(self, time_s: float):
        import simplejpeg

        data = np.frombuffer(simplejpeg.encode_jpeg(picture_at(time_s), quality=95), np.uint8)
        return self._new("sensor_msgs/msg/CompressedImage", header=self._header(time_s), format="jpeg", data=data)

    def raw_image(self, time_s: float):
        step = IMAGE_PX * 3 + 8
        rows = np.full((IMAGE_PX, step), 255, np.uint8)
        rows[:, : IMAGE_PX * 3] = picture_at(time_s, wrist=True)[..., ::-1].reshape(IMAGE_PX, -1)
        size = {"height": IMAGE_PX, "width": IMAGE_PX, "step": step}
        header = self._header(time_s)
        return self._new(
            "sensor_msgs/msg/Image", header=header, encoding="bgr8", is_bigendian=0, data=rows.ravel(), **size
        )

    def joints(self, time_s: float, values: dict[str, float]):
        nothing = np.zeros(0)
        return self._new(
            "sensor_msgs/msg/JointState",
            header=self._header(time_s),
            name=list(values),
            position=np.array(list(values.values())),
            velocity=nothing,
            effort=nothing,
        )

    def pose(self, time_s: float, position: np.ndarray):
        x, y, z = position.tolist()
        place = self._new("geometry_msgs/msg/Point", x=x, y=y, z=z)
        turn = self._new(
            "geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=float(np.sin(time_s / 2)), w=float(np.cos(time_s / 2))
        )
        pose = self._new("geometry_msgs/msg/Pose", position=place, orientation=turn)
        return self._new("geometry_msgs/msg/PoseStamped", header=self._header(time_s), pose=pose)

    def number(self, value: float):
        return self._new("std_msgs/msg/Float64", data=value)

    def text(self, value: str):
        return self._new("std_msgs/msg/String", data=value)


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)
    parser.add_argument("--kind", choices=get_args(Kind), default="mcap", help="container (default: %(default)s)")

    def write(options: argparse.Namespace) -> None:
        for number in range(options.episodes):
            name = f"take_{number}.bag" if options.kind == "ros1" else f"take_{number}"
            write_bag(options.out / name, options.kind, seconds=2.0 + 0.2 * number)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
