"""Images of firmware on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gateway.errors import InvalidChange, StorageError
from gateway.storage.images import Images

CONTENT = bytes(range(256)) * 40
NAME = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "firmware", max_bytes=25_000, max_image_bytes=20_000)


def kept(images: Images, content: bytes = CONTENT) -> str:
    upload = images.begin()
    for at in range(0, len(content), 1000):
        upload.write(content[at : at + 1000])
    upload.finish()
    images.keep(upload)
    upload.discard()
    return upload.sha256


def test_what_was_kept_is_read(images: Images) -> None:
    assert kept(images) == NAME
    image = images.open(NAME, len(CONTENT))
    assert image.read(100, 300) == CONTENT[100:400]
    assert image.read(len(CONTENT) - 5, 300) == CONTENT[-5:]
    image.close()
    assert os.stat(images.directory / NAME).st_mode & 0o777 == 0o600


def test_nothing_is_left_of_what_is_discarded(images: Images) -> None:
    upload = images.begin()
    upload.write(b"x" * 15_000)
    upload.discard()
    assert list(images.directory.iterdir()) == []
    kept(images, b"y" * 19_000)


def test_one_may_not_be_too_large(images: Images) -> None:
    upload = images.begin()
    with pytest.raises(InvalidChange, match=r"firmware\.max_image_bytes"):
        upload.write(bytes(20_001))
    upload.discard()


def test_all_together_may_not_be_too_large(images: Images) -> None:
    """Those that are there from before count, and room is made by what is removed."""
    first = kept(images, b"a" * 15_000)
    again = Images(images.directory, max_bytes=25_000)
    upload = again.begin()
    upload.write(bytes(10_000))
    with pytest.raises(StorageError) as refused:
        upload.write(b"1")
    assert refused.value.reason == "storage_full"
    upload.discard()
    again.remove(first)
    again.remove(first)
    kept(again, b"b" * 20_000)


@pytest.mark.parametrize("how", ["changed", "shorter", "longer", "gone", "replaced"])
def test_damage_is_noticed(images: Images, how: str) -> None:
    kept(images)
    path = images.directory / NAME
    if how == "gone":
        path.unlink()
    elif how == "replaced":
        path.unlink()
        path.write_bytes(bytes(len(CONTENT)))
    else:
        path.write_bytes({"changed": CONTENT[:-1] + b"!", "shorter": CONTENT[:-1], "longer": CONTENT + b"!"}[how])
    with pytest.raises(StorageError) as refused:
        images.open(NAME, len(CONTENT)).close()
    assert refused.value.reason == "image_damaged"
    kept(images)
    images.check(NAME, len(CONTENT))


def test_one_that_becomes_shorter_while_it_is_read(images: Images) -> None:
    kept(images)
    image = images.open(NAME, len(CONTENT))
    os.truncate(images.directory / NAME, 100)
    with pytest.raises(StorageError):
        image.read(50, 100)
    image.close()


def test_what_nobody_wants_is_swept(images: Images) -> None:
    kept(images)
    (images.directory / ".upload-1").write_bytes(b"of a process that was killed")
    coming = images.begin()
    (images.directory / "notes.txt").write_text("somebody's own")
    assert images.sweep({NAME}) == [".upload-1"]
    assert {path.name for path in images.directory.iterdir()} == {NAME, "notes.txt", coming.path.name}
    coming.discard()
    assert images.sweep(()) == [NAME]
