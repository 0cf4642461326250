"""Records of requests on disk: lines of JSON in a few files of bounded size, the oldest of which goes when one is full.

All work on files is done by one thread of its own. What it has not written yet is bounded: when the disk is slow, full
or gone, records are left out, that is counted, and the files say how many (`LOST`) as soon as they can be written.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.observe.flow_fields import LOST, VERDICTS, Record
from gateway.observe.flow_filter import FlowFilter

if TYPE_CHECKING:
    from gateway.flows.log import FlowLog, Viewing
    from gateway.policy.telemetry import FlowFile

#: Below the node's data.
DIRECTORY: Final = "flows"
NAME: Final = "flows.jsonl"
#: Bytes that may wait to be written.
WAITING_BYTES: Final = 1024 * 1024
#: Records that are taken at a time.
AT_ONCE: Final = 256


Submit = Callable[[Callable[[], None], Callable[[BaseException | None], None]], None]


class History:
    """Keeps what the log keeps, as `rules` say. `lost`: records that were not written; `errors`: writes that failed;
    `why`: the last of them, "" while all is well."""

    def __init__(
        self, log: FlowLog, directory: Path, rules: FlowFile, submit: Submit, *, last: int | None = None
    ) -> None:
        """`submit` runs a function in the thread, and then calls the other in the loop with what it has raised. `last`:
        the number of the record behind which to begin."""
        self._file = Files(directory, rules.max_bytes, rules.keep)
        self._viewing: Viewing = log.view(fields=rules.fields, last=last)
        self._submit = submit
        self._waiting = 0
        self._left_out = 0
        self.lost = self.errors = 0
        self.why = ""
        self._viewing.when_more(self._more)

    def close(self) -> int:
        """Write what is there, and no more. Returns the number of the last record that was taken."""
        self._take()
        self._viewing.close()
        self._submit(self._file.close, self._closed)
        return self._viewing.last

    def _more(self) -> None:
        self._take()
        self._viewing.when_more(self._more)

    def _take(self) -> None:
        records = self._viewing.take(AT_ONCE)
        if not records:
            return
        if self._waiting > WAITING_BYTES:
            self._leave_out(sum(int(record.get("lost", 1)) for record in records))
            return
        if self._left_out:
            records.insert(0, _loss(records[0], self._left_out))
        lines = [json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n" for record in records]
        text = "".join(lines).encode(errors="replace")
        self._waiting += len(text)
        told, self._left_out = self._left_out, 0
        count = sum(int(record.get("lost", 1)) for record in records)
        self._submit(lambda: self._file.write(text), lambda error: self._written(len(text), count, told, error))

    def _written(self, size: int, count: int, told: int, error: BaseException | None) -> None:
        self._waiting -= size
        if error is None:
            self.why = ""
            return
        self.errors += 1
        self.why = str(error)
        self._left_out += told
        self._leave_out(count - told)

    def _leave_out(self, count: int) -> None:
        self.lost += count
        self._left_out += count

    def _closed(self, error: BaseException | None) -> None:
        if error is not None:
            self.errors += 1


def _loss(beside: Record, count: int) -> Record:
    return {"number": beside["number"], "time": beside["time"], "verdict": VERDICTS[LOST], "reason": "file",
            "lost": count}  # fmt: skip


class Files:
    """`keep` files of `max_bytes`: `flows.jsonl`, the latest, then `flows.1.jsonl` and so on. Used by one thread."""

    def __init__(self, directory: Path, max_bytes: int, keep: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._keep = keep
        self._open: int | None = None
        self._size = 0

    def write(self, text: bytes) -> None:
        """Append whole lines. Raises OSError, with nothing of them left behind."""
        if self._open is not None and self._size + len(text) > self._max_bytes:
            self._turn()
        if self._open is None:
            self._begin()
        assert self._open is not None
        done = 0
        try:
            while done < len(text):
                done += os.write(self._open, text[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._open, self._size)
            self.close()
            raise
        self._size += done

    def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            os.close(opened)

    def _begin(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / NAME
        self._open = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._open).st_size
        if self._size >= self._max_bytes:
            self._turn()
            self._begin()
        self._drop()

    def _turn(self) -> None:
        """The latest file is full: each becomes the next older one."""
        self.close()
        for number in range(self._keep - 2, -1, -1):
            path = file_of(self._directory, number)
            if path.exists():
                path.replace(file_of(self._directory, number + 1))
        if self._keep == 1:
            file_of(self._directory, 0).unlink(missing_ok=True)

    def _drop(self) -> None:
        """What fewer files than before do not hold."""
        for path in files(self._directory):
            if _number(path) >= self._keep:
                path.unlink(missing_ok=True)


def file_of(directory: Path, number: int) -> Path:
    return directory / (f"flows.{number}.jsonl" if number else NAME)


def _number(path: Path) -> int:
    text = path.name.removeprefix("flows.").removesuffix("jsonl").rstrip(".")
    return int(text) if text.isdecimal() else 0


def files(directory: Path) -> list[Path]:
    """Those that are there, the oldest first."""
    found = [path for path in directory.glob("flows*.jsonl") if path.name == NAME or _number(path)]
    return sorted(found, key=_number, reverse=True)


def records(directory: Path, since: float = 0.0) -> Iterator[Record]:
    """What the files hold, oldest first, from a Unix time on. A line that is damaged is passed over."""
    first = "" if since <= 0 else datetime.fromtimestamp(since, UTC).isoformat(timespec="microseconds")[:26]
    for path in files(directory):
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and str(record.get("time", "")) >= first:
                    yield record


def latest(directory: Path, since: float, wanted: FlowFilter | None, limit: int) -> list[Record]:
    """The last `limit` records that fit, newest first. Reads files: for a thread."""
    found: deque[Record] = deque(maxlen=limit)
    found.extend(record for record in records(directory, since) if wanted is None or wanted.fits(record))
    return list(found)[::-1]
