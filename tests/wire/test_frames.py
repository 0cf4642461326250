"""``gateway.wire.frames`` gives the whole vocabulary from one place."""

from __future__ import annotations

from gateway.wire import codec, fragments, frames, header, shapes


def test_everything_listed_is_there_and_comes_from_the_modules_behind_it() -> None:
    for name in frames.__all__:
        owners = [module for module in (header, shapes, codec, fragments) if hasattr(module, name)]
        assert owners, name
        assert all(getattr(owner, name) is getattr(frames, name) for owner in owners), name


def test_every_frame_and_every_peek_is_listed() -> None:
    public = {name for name, value in vars(shapes).items() if getattr(value, "__module__", "") == shapes.__name__}
    public |= {name for name, value in vars(header).items() if getattr(value, "__module__", "") == header.__name__}
    assert public <= set(frames.__all__)


def test_a_frame_crosses_by_the_one_import() -> None:
    frame = frames.RequestResponse(1, None, b"hello")
    assert frames.decode(frames.encode(frame)) == frame
    assert frames.fragment(frame, 64) == [frames.encode(frame)]
