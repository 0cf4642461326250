"""Documents at rest: what is applied stands, is told, is audited, and is there after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.audit import Actor
from gateway.control.plane import ControlPlane
from gateway.documents.model import Document, Site
from gateway.errors import InvalidDocument, NotFound, StaleVersion

BY = Actor("user", "root")
ONE = "kind: Spool\nname: a\nmatch: [{service: historian}]\n"
TWO = ONE + "---\nkind: Spool\nname: b\nmatch: [{service: archive}]\n"


@pytest.fixture
def told(control: ControlPlane) -> list[list[str]]:
    """What a subscriber has been told, newest last."""
    heard: list[list[str]] = []

    def listen(documents: tuple[Document, ...]) -> None:
        heard.append([document.name for document in documents])

    control.documents.subscribe("Spool", listen)
    return heard


async def test_apply_and_change_and_delete(control: ControlPlane, told: list[list[str]]) -> None:
    done = await control.documents.apply(TWO, by=BY)
    assert [(each.document.id, each.outcome) for each in done.applied] == [
        ("Spool/a", "created"),
        ("Spool/b", "created"),
    ]
    changed = await control.documents.apply(ONE + "priority: 2\n", by=BY)
    assert (changed.applied[0].outcome, changed.applied[0].document.version) == ("changed", 2)
    same = await control.documents.apply(ONE + "priority: 2\n", by=BY)
    assert (same.applied[0].outcome, same.applied[0].document.version) == ("unchanged", 2)
    await control.documents.delete("Spool", "a", by=BY)
    assert [document.name for document in control.documents.standing("Spool")] == ["b"]
    assert told[0] == []
    assert told[1] == ["a", "b"]
    assert told[-1] == ["b"]
    with pytest.raises(NotFound):
        await control.documents.get("Spool", "a")
    actions = [entry.action for entry in (await control.audit.list()).items]
    assert actions[:2] == ["document.delete", "document.apply"]


async def test_what_another_document_needs_stays(control: ControlPlane) -> None:
    rule = "{pattern: t, direction: in, spool: a, route: historian}"
    needs = f"kind: Bridge\nname: b\nmqtt: {{address: mqtt://x}}\ntopics: [{rule}]\n"
    await control.documents.apply(f"{ONE}---\n{needs}", by=BY)
    with pytest.raises(InvalidDocument, match="GW0125"):
        await control.documents.delete("Spool", "a", by=BY)
    with pytest.raises(InvalidDocument, match="GW0125"):
        await control.documents.apply(ONE.replace("historian", "archive"), by=BY)
    await control.documents.delete("Bridge", "b", by=BY)
    await control.documents.delete("Spool", "a", by=BY)
    assert control.documents.standing("Spool") == ()


async def test_all_or_nothing(control: ControlPlane, told: list[list[str]]) -> None:
    with pytest.raises(InvalidDocument) as refused:
        await control.documents.apply(TWO + "maxAge: 0\n", by=BY)
    assert "GW0112" in str(refused.value)
    assert (await control.documents.list()).items == ()
    assert told == [[]]


async def test_a_dry_run_changes_nothing(control: ControlPlane, told: list[list[str]]) -> None:
    done = await control.documents.apply(ONE, by=BY, dry_run=True)
    assert done.applied[0].outcome == "created"
    assert (await control.documents.list()).items == ()
    assert told == [[]]


async def test_versions(control: ControlPlane) -> None:
    body = {"match": [{"service": "historian"}]}
    await control.documents.put("Spool", "a", body, by=BY, expect=0)
    with pytest.raises(StaleVersion):
        await control.documents.put("Spool", "a", body | {"priority": 1}, by=BY, expect=0)
    await control.documents.put("Spool", "a", body | {"priority": 1}, by=BY, expect=1)
    with pytest.raises(InvalidDocument, match="by its path"):
        await control.documents.put("Spool", "a", body | {"name": "b"}, by=BY, expect=None)
    with pytest.raises(StaleVersion):
        await control.documents.delete("Spool", "a", by=BY, expect=1)


async def test_the_node_s_disk_is_a_part_of_the_check(control: ControlPlane) -> None:
    control.documents.site = lambda: Site(free=1 << 20, total=1 << 30)
    with pytest.raises(InvalidDocument, match="GW0111"):
        await control.documents.apply(ONE, by=BY)


async def test_after_a_restart(tmp_path: Path) -> None:
    from gateway.control.identity import Identity

    identity = Identity.open(tmp_path)
    async with await ControlPlane.open(tmp_path, identity) as control:
        await control.documents.apply(TWO, by=BY)
    async with await ControlPlane.open(tmp_path, identity) as control:
        assert [document.name for document in control.documents.standing("Spool")] == ["a", "b"]


async def test_a_document_of_a_newer_program_does_not_stop_the_node(tmp_path: Path) -> None:
    from gateway.control.identity import Identity

    identity = Identity.open(tmp_path)
    async with await ControlPlane.open(tmp_path, identity) as control:
        await control.documents.apply(TWO, by=BY)
        await control.database.write(
            lambda connection: (
                connection.execute("UPDATE documents SET body = replace(body, 'historian', '') WHERE name = 'a'")
                and None
            )
        )
    async with await ControlPlane.open(tmp_path, identity) as control:
        assert [document.name for document in control.documents.standing("Spool")] == ["b"]
        assert [alarm.slug for alarm in control.alarms] == ["document_not_understood"]
