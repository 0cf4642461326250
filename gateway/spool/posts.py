"""What has come of what devices post, as works of the storage layer: a post that comes again is not taken again.

A device sends one post after the other, so of each of its epochs one number says all. It is written in the transaction
that stores the message, and nowhere else: nobody can be told that a post was taken that was not.

What is remembered is bounded: the last few epochs of a device, because it is done with one before it begins the next,
and the devices that posted last.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.spool.message import Post

EPOCHS: Final = 4
#: Epochs of all devices together.
REMEMBERED: Final = 100_000
_MINUTE_MS: Final = 60_000


def has_come(connection: sqlite3.Connection, post: Post) -> bool:
    rows = connection.execute("SELECT seq FROM posts WHERE subject = ? AND epoch = ?", (post.subject, post.epoch))
    return any(post.seq <= row[0] for row in rows.fetchall())


def remember(connection: sqlite3.Connection, post: Post, running: int) -> None:
    """`running`: for how long the store has run, in ms."""
    subject, epoch, seq = post
    # Whole minutes, so that the index stays as it is for most posts.
    used = running // _MINUTE_MS
    known = connection.execute(
        "UPDATE posts SET seq = ?, used = ? WHERE subject = ? AND epoch = ?", (seq, used, subject, epoch)
    )
    if known.rowcount:
        return
    connection.execute("INSERT INTO posts VALUES (?, ?, ?, ?)", (subject, epoch, seq, used))
    connection.execute(
        "DELETE FROM posts WHERE subject = ?1 AND epoch <> ?2 AND epoch NOT IN "
        "(SELECT epoch FROM posts WHERE subject = ?1 AND epoch <> ?2 ORDER BY used DESC LIMIT ?3)",
        (subject, epoch, EPOCHS - 1),
    )


def forget(connection: sqlite3.Connection, keep: int = REMEMBERED) -> None:
    """All but those that were used last."""
    connection.execute(
        "DELETE FROM posts WHERE used < (SELECT used FROM posts ORDER BY used DESC LIMIT 1 OFFSET ?)", (keep,)
    )
