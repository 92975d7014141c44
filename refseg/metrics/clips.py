"""Clips handed in a frame at a time: lines with `mask` that say their `video` and `frame` become lines with `masks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refseg.metrics.inputs import Located

Add = Callable[[str, str, str], None]


def join_frames(predictions: list[Located], targets: list[Located], add: Add) -> tuple[list[Located], list[Located]]:
    """Predictions and targets with one record a clip.

    A frame has `video` and `frame`, or an id "<video>/<frame>"; records that have `masks` already pass through. Frames
    are put in order. `add(where, id, message)` hears of frames that come twice or are on one side only.
    """
    clips = [_clips(records, add) for records in (predictions, targets)]
    if not any(clips):
        return predictions, targets
    for video in [*clips[1], *(name for name in clips[0] if name not in clips[1])]:
        frames = [side.get(video, {}) for side in clips]
        if not frames[0] or not frames[1]:
            continue  # told by id, as for any record without its partner
        for frame in frames[1].keys() - frames[0].keys():
            add(frames[1][frame].where, video, f"no prediction for frame {frame}")
        for frame in frames[0].keys() - frames[1].keys():
            add(frames[0][frame].where, video, f"a prediction for frame {frame}, which the target does not have")
        for side in clips:
            side[video] = {key: side[video][key] for key in sorted(frames[0].keys() & frames[1].keys(), key=_order)}
    joined = []
    for records, side in zip((predictions, targets), clips, strict=True):
        whole = [entry for entry in records if not _is_frame(entry)]
        frames_of = [
            Located(
                next(iter(frames.values())).where,
                {**_about(frames), "id": video, "masks": [entry.value["mask"] for entry in frames.values()]},
            )
            for video, frames in side.items()
            if frames
        ]
        joined.append(whole + frames_of)
    return joined[0], joined[1]


def _about(frames: dict[str, Located]) -> dict[str, Any]:
    """What every frame of a clip says of it: its video, and who wrote the expression."""
    fields = next(iter(frames.values())).value
    return {name: fields[name] for name in ("picture", "kind", "protocol") if fields.get(name) is not None}


def _is_frame(entry: Located) -> bool:
    return "masks" not in entry.value and entry.value.get("mask") is not None and _place(entry.value) is not None


def _place(fields: Any) -> tuple[str, str] | None:
    """(video, frame) of a frame's record."""
    if fields.get("video") is not None and fields.get("frame") is not None:
        return str(fields["video"]), str(fields["frame"])
    video, slash, frame = str(fields.get("id", "")).rpartition("/")
    return (video, frame) if slash and video and frame else None


def _clips(records: list[Located], add: Add) -> dict[str, dict[str, Located]]:
    clips: dict[str, dict[str, Located]] = {}
    for entry in records:
        if not _is_frame(entry):
            continue
        video, frame = _place(entry.value) or ("", "")
        frames = clips.setdefault(video, {})
        if frame in frames:
            add(entry.where, video, f"frame {frame} stands at {frames[frame].where} already")
        else:
            frames[frame] = entry
    return clips


def _order(frame: str) -> tuple[int, int, str]:
    return (0, int(frame), "") if frame.isdigit() else (1, 0, frame)
