"""The ledgers of what nodes refuse: what is told on, what counts meanwhile, how much is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control import refusals
from gateway.control.audit import SYSTEM
from gateway.control.plane import ControlPlane
from gateway.control.refusals import Entry, Ledger, entries_in
from gateway.errors import TokenError
from gateway.policy.access_list import AccessList, Refused
from gateway.policy.principal import Kind, Principal

NODE = "11111111-1111-1111-1111-111111111111"
ISSUER = f"gateway:{NODE}"


def one(number: int, value: str = "", kind: str = "subject", at: float | None = 9.0) -> tuple:  # type: ignore[type-arg]
    return number, (kind, value or f"v{number}", ISSUER), at


def refused(control: ControlPlane) -> set[str]:
    return {value for _, value in control.registry.publication().access.elsewhere}


async def test_what_was_heard_is_there_after_a_restart(tmp_path: Path) -> None:
    async with await ControlPlane.offline(tmp_path) as control:
        await control.refusals.hear(NODE, 5, [one(1), one(2), one(3, at=None)], whole=True, edge=True)
        assert refused(control) == {"v1", "v2"}
        assert control.refusals.known() == {NODE: (5, 3)}
    async with await ControlPlane.offline(tmp_path) as control:
        assert refused(control) == {"v1", "v2"}
        assert control.refusals.known() == {NODE: (5, 3)}
        await control.refusals.forget(NODE)
        assert refused(control) == set()
    async with await ControlPlane.offline(tmp_path) as control:
        assert refused(control) == set()


async def test_a_new_life_replaces_the_old_one_when_it_has_been_told_whole(tmp_path: Path) -> None:
    """Nothing that was refused is accepted in between."""
    async with await ControlPlane.offline(tmp_path) as control:
        hear = control.refusals.hear
        await hear(NODE, 5, [one(1, "old"), one(2, "both")], whole=True, edge=True)
        await hear(NODE, 9, [one(1, "both")], whole=False, edge=True)
        assert refused(control) == {"old", "both"}
        assert control.refusals.known() == {NODE: (9, 0)}
        # What comes late of the life before says nothing any more.
        await hear(NODE, 5, [one(3, "late")], whole=True, edge=True)
        await hear(NODE, 9, [one(2, "new")], whole=True, edge=True)
        assert refused(control) == {"both", "new"}


async def test_numbers_only_grow(tmp_path: Path) -> None:
    async with await ControlPlane.offline(tmp_path) as control:
        hear = control.refusals.hear
        await hear(NODE, 5, [one(1, "a"), one(2, "a", at=None)], whole=True, edge=True)
        await hear(NODE, 5, [one(1, "a")], whole=True, edge=True)
        assert refused(control) == set()


def test_what_somebody_lacks() -> None:
    key = ("subject", "a", "")
    ledger = Ledger(
        7, 3, True, {key: Entry(7, 3, 1.0), ("key", "k", ""): Entry(7, 1, None), ("token", "t", ""): Entry(6, 9, 2.0)}
    )
    assert [number for _, (_, number, _) in ledger.since(0, 99)] == [1, 3]
    assert ledger.since(7, 1) == [(key, Entry(7, 3, 1.0))]
    assert ledger.since(7, 3) == []


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_the_oldest_of_too_many_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: int) -> None:
    monkeypatch.setattr(refusals, "MAX_OF_EDGE", 8)
    async with await ControlPlane.offline(tmp_path) as control:
        await control.refusals.hear(NODE, 5, [one(n) for n in range(1, 9 + over)], whole=True, edge=True)
        assert len(refused(control)) == min(8, 8 + over)
        assert ("v1" in refused(control)) == (over <= 0)
        assert control.refusals.dropped == int(over > 0)


async def test_a_nodes_own(tmp_path: Path) -> None:
    """An edge tells of the tokens that it has issued, a central node of everybody's; both begin with what stands."""
    for central, issuer in ((False, ISSUER), (True, "")):
        async with await ControlPlane.offline(tmp_path / str(central)) as control:
            revocations = control.revocations
            await revocations.revoke_subject("before", by=SYSTEM)
            await control.refusals.begin(NODE, ISSUER, central=central)
            told: list[str] = []
            control.refusals.listeners.append(told.append)
            made = await revocations.revoke_token("after", by=SYSTEM)
            await revocations.revoke_key("k", issuer="https://idp.example", by=SYSTEM)
            ledger = control.refusals.ledgers[NODE]
            keys = {("subject", "before", issuer), ("token", "after", issuer)}
            if central:
                keys.add(("key", "k", "https://idp.example"))
            assert ledger.entries.keys() == keys
            assert told == [NODE] * (2 if central else 1)
            await revocations.lift(made.id, by=SYSTEM)
            assert ledger.entries["token", "after", issuer].at is None
            first = ledger.base
            assert not control.registry.publication().access.elsewhere
            # Another life begins later, whatever the clock says.
            control.refusals._wall = lambda: 1.0
            await control.refusals.begin(NODE, ISSUER, central=central)
            assert control.refusals.ledgers[NODE].base == first + refusals.LIFE


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_how_much_of_its_own_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: int) -> None:
    """The oldest entry makes room; after so many that were lifted it is all told anew, without these."""
    monkeypatch.setattr(refusals, "MAX_ENTRIES", 8)
    monkeypatch.setattr(refusals, "MAX_LIFTED", 3)
    async with await ControlPlane.offline(tmp_path) as control:
        await control.refusals.begin(NODE, ISSUER, central=True)
        ledger = control.refusals.ledgers[NODE]
        for number in range(8 + over):
            control.registry.subject_not_before(f"s{number}", 5.0)
        assert len(ledger.entries) == min(8, 8 + over)
        assert (("subject", "s0", "") in ledger.entries) == (over <= 0)
        base = ledger.base
        for number in range(1, 4 + over):
            control.registry.subject_not_before(f"s{number}", None)
        assert (ledger.base > base) == (over > 0)
        assert sum(entry.at is None for entry in ledger.entries.values()) == (0 if over > 0 else 3 + over)
        assert [entry.number for entry in ledger.entries.values()] == sorted(
            entry.number for entry in ledger.entries.values()
        )


@pytest.mark.parametrize(
    ("kind", "value", "at", "refused"),
    [
        ("token", "t-1", 100.0, True),
        ("token", "t-1", 100.1, False),
        ("token", "t-2", 0.0, False),
        ("subject", "thermo", 50.1, True),
        ("subject", "thermo", 50.0, False),
        ("key", "k-1", 0.0, True),
        ("device", "thermo", 0.0, True),
        ("device", "other", 0.0, False),
    ],
)
@pytest.mark.parametrize("issuer", ["", ISSUER, "gateway:other"])
def test_the_judgement(kind: str, value: str, at: float, refused: bool, issuer: str) -> None:
    principal = Principal("thermo", Kind.DEVICE, "t-1", 50.0, 500.0, issuer=ISSUER, key_id="k-1")
    access = AccessList(elsewhere={(kind, value): (Refused("gateway:nobody", at), Refused(issuer, at))})
    if refused and issuer != "gateway:other":
        with pytest.raises(TokenError):
            access.judge(principal, 100.0)
    else:
        assert access.judge(principal, 100.0) is principal


@pytest.mark.parametrize(
    "document",
    [
        {},
        [1],
        [[1, "subject", "a", "b"]],
        [[1, "what", "a", "b", 1]],
        [["1", "subject", "a", "b", 1]],
        [[1, "subject", "a" * 513, "b", 1]],
        [[1, "subject", "a", 5, 1]],
        [[1, "subject", "a", "b", "1"]],
    ],
)
def test_what_is_no_refusal(document: object) -> None:
    with pytest.raises(ValueError, match="no "):
        entries_in(document)


def test_what_is_one() -> None:
    assert entries_in([[1, "subject", "a", "", 5], [2, "key", "k", "i", None]]) == [
        (1, ("subject", "a", ""), 5.0),
        (2, ("key", "k", "i"), None),
    ]
