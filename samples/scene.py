"""A Meta-World scene with its scripted expert, stepped at a robot's control rate and seen by chosen cameras.

The simulator takes a command every 1/80 s; robots record far slower. Here the expert decides once per control step and
its command is *held* over the step in equal parts, so the displacement that is recorded is exactly the one that was
commanded, and the same displacement sent again moves the robot the same way. What is given up: an expert slowed down
this much reacts late, and a few tasks (sweep-into) no longer succeed; those are not among ours.

Goal positions guide the expert only. Nothing recorded here holds them, except as the marker that cameras see.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SIMULATION_HZ = 80
FINGER_TRAVEL_M = (0.04, 0.03)
"""Way of the right and left finger from open to closed; their sum is the width of the open gripper."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera looking at the table from outside, or one mounted on the robot."""

    mounted: str = ""
    """Name of a camera in the scene; "" for a free one, which the numbers below place."""
    azimuth_deg: float = 0.0
    elevation_deg: float = 0.0
    distance_m: float = 1.0
    target_m: tuple[float, float, float] = (0.0, 0.65, 0.1)


@dataclass(frozen=True, kw_only=True)
class Control:
    """How a lab drives its robot."""

    hz: int
    """Control rate; must divide 80."""
    max_speed_m_s: float
    """Largest speed along one axis that the expert may command."""
    first_step_still: bool
    """Whether the first command is to stay put with the gripper open (an operator has not begun yet)."""
    steps_after_success: int

    @property
    def hold(self) -> int:
        return SIMULATION_HZ // self.hz


@dataclass(kw_only=True)
class Recording:
    """One successful episode: N commands and the N + 1 observations before, between and after them."""

    seed: int
    hand_position: list[np.ndarray] = field(default_factory=list)
    """[N+1] of float64 [3], metres, world axes with the robot's base at the origin."""
    hand_matrix: list[np.ndarray] = field(default_factory=list)
    """[N+1] of [3, 3]."""
    target_position: list[np.ndarray] = field(default_factory=list)
    """[N+1] of [3]: where the hand is told to be, metres."""
    finger_opening: list[np.ndarray] = field(default_factory=list)
    """[N+1] of [2]: distance of the right and left finger from closed, metres."""
    joint_position: list[np.ndarray] = field(default_factory=list)
    joint_velocity: list[np.ndarray] = field(default_factory=list)
    """[N+1] of [7], radians and radians per second."""
    simulator_state: list[np.ndarray] = field(default_factory=list)
    """[N+1] of [1 + nq + nv]: time, positions, velocities."""
    images: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """View name to [N+1] upright uint8 [H, W, 3], RGB."""
    displacement: list[np.ndarray] = field(default_factory=list)
    """[N] of [3]: commanded displacement over the control step, metres."""
    gripper_open: list[float] = field(default_factory=list)
    """[N]: the gripper command, 1 open or 0 closed."""


class Scene:
    """One task's simulator, expert and renderer. Same seed, same episode (pixels: with the same OpenGL library too)."""

    def __init__(self, environment: str, views: dict[str, View], image_px: int):
        """`views` may be empty: then nothing is rendered and no OpenGL is needed. ImportError names the extra."""
        try:
            import metaworld
            from metaworld import policies
        except ImportError as error:
            raise ImportError("recording needs Meta-World: pip install 'oxe-pipeline[sim]'") from error
        benchmark = metaworld.MT1(environment, seed=42)
        self._env = benchmark.train_classes[environment]()
        self._env.set_task(benchmark.train_tasks[0])
        # Only with these two set does a seed decide the scene; reset(seed=) alone is ignored by Meta-World.
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        words = "".join(word.capitalize() for word in environment.split("-"))
        self._expert = getattr(policies, f"Sawyer{words}Policy")()
        self._views = views
        self._renderer: Any = self._make_renderer(image_px) if views else None

    def close(self) -> None:
        """Frees the OpenGL context; a second one alive in the same process draws other scenes' frames."""
        if self._renderer is not None:
            self._renderer.close()

    def record(self, seed: int, control: Control) -> Recording | None:
        """One episode of the expert, or None if it does not end in success within Meta-World's horizon of 500 ticks."""
        observation = self._reset(seed)
        recording = Recording(seed=seed, images={name: [] for name in self._views})
        self._observe(recording)
        limit = control.max_speed_m_s / SIMULATION_HZ / self._env.action_scale
        max_steps = last = self._env.max_path_length // control.hold
        for step in range(max_steps):
            if step == 0 and control.first_step_still:
                direction, gripper_open = np.zeros(3), 1.0
            else:
                direction, gripper_open = self._decide(observation, limit)
            observation, success = self._command(direction, gripper_open, control.hold, recording)
            self._observe(recording)
            if success and last == max_steps:
                last = step + control.steps_after_success
            if step >= last:
                return recording if success else None
        return None

    def replay(self, seed: int, displacement: np.ndarray, gripper_open: np.ndarray, control: Control) -> Recording:
        """Drives the scene by recorded commands, [N, 3] metres and [N], instead of by the expert."""
        self._reset(seed)
        recording = Recording(seed=seed, images={name: [] for name in self._views})
        self._observe(recording)
        for metres, is_open in zip(displacement, gripper_open, strict=True):
            self._command(metres / control.hold / self._env.action_scale, is_open, control.hold, recording)
            self._observe(recording)
        return recording

    def _reset(self, seed: int) -> np.ndarray:
        self._env.seed(seed)
        return self._env.reset(seed=seed)[0]

    def _decide(self, observation: np.ndarray, limit: float) -> tuple[np.ndarray, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Constant(s) may be too high": the expert relies on clipping
            wanted = self._expert.get_action(observation)
        return np.clip(wanted[:3].astype(np.float64), -1, 1) * limit, 0.0 if wanted[3] > 0 else 1.0

    def _command(self, direction: np.ndarray, gripper_open: float, hold: int, recording: Recording):
        before = self._env.data.mocap_pos[0].copy()
        effort = 1.0 - 2.0 * gripper_open
        for _ in range(hold):
            observation, _, _, _, info = self._env.step(np.append(direction, effort))
        # What was really commanded: the walls of the workspace may have cut it short.
        recording.displacement.append(self._env.data.mocap_pos[0] - before)
        recording.gripper_open.append(float(gripper_open))
        return observation, bool(info["success"])

    def _observe(self, recording: Recording) -> None:
        data = self._env.data
        hand = data.body("hand")
        recording.hand_position.append(hand.xpos.copy())
        recording.hand_matrix.append(hand.xmat.reshape(3, 3).copy())
        recording.target_position.append(data.mocap_pos[0].copy())
        right, left = data.joint("r_close").qpos[0], -data.joint("l_close").qpos[0]
        recording.finger_opening.append(np.array(FINGER_TRAVEL_M) - (right, left))
        recording.joint_position.append(data.qpos[:7].copy())
        recording.joint_velocity.append(data.qvel[:7].copy())
        recording.simulator_state.append(np.concatenate([[data.time], data.qpos, data.qvel]))
        for name, view in self._views.items():
            recording.images[name].append(self._render(view))

    def _make_renderer(self, image_px: int):
        import mujoco

        model = self._env.model
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0  # eight times the rest in software rendering
        for texture in range(model.ntex):  # plain colours: wood grain alone would make the samples twice as large
            channels, start = model.tex_nchannel[texture], model.tex_adr[texture]
            stop = start + model.tex_width[texture] * model.tex_height[texture] * channels
            pixels = model.tex_data[start:stop].reshape(-1, channels)
            pixels[:] = pixels.mean(axis=0)
        return mujoco.Renderer(model, image_px, image_px)

    def _render(self, view: View) -> np.ndarray:
        import mujoco

        # Meta-World's own corner cameras stand on their heads; free ones are upright.
        camera: mujoco.MjvCamera | str = view.mounted
        if not view.mounted:
            camera = mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FREE
            camera.azimuth, camera.elevation, camera.distance = view.azimuth_deg, view.elevation_deg, view.distance_m
            camera.lookat[:] = view.target_m
        self._renderer.update_scene(self._env.data, camera=camera)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "FOG", "HAZE"):
            self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        return self._renderer.render().copy()
