"""The dataclasses say what they are, stay as they are, and the errors say what to do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, is_dataclass

import pytest

from gateway.errors import FrameError
from gateway.wire import shapes
from gateway.wire.header import FrameType

from .vectors import FRAMES


def test_one_dataclass_a_frame_type() -> None:
    assert [cls.frame_type for cls in FRAMES.values()] == list(FrameType)
    assert all(is_dataclass(cls) and "__slots__" in vars(cls) for cls in FRAMES.values())


def test_frames_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        shapes.Cancel(1).stream_id = 3  # type: ignore[misc]


def test_malformed_frames_end_the_connection_unless_ignored() -> None:
    """P24: CONNECTION_ERROR, but not with the I flag."""
    assert issubclass(shapes.MalformedFrame, FrameError)
    assert shapes.MalformedFrame("cut short").ignore is False
    assert shapes.MalformedFrame("cut short").code == 0x101
    assert shapes.MalformedFrame("cut short", ignore=True).ignore is True


def test_unknown_frames_name_their_type() -> None:
    """P23."""
    error = shapes.UnknownFrame(0x20, True)
    assert (error.type, error.ignore, error.reason, str(error)) == (
        0x20,
        True,
        "unknown_frame",
        "unknown frame type 0x20",
    )
