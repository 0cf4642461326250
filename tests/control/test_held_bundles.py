"""A node and the bundles that it is given: every step survives a kill, and nothing bad takes the place of what is
good."""

from __future__ import annotations

import json
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.control.archive import DATABASE
from gateway.control.audit import SYSTEM
from gateway.control.held_bundles import KEPT, Held, HeldState, Parcel
from gateway.control.identity import Identity
from gateway.control.members import CENTRAL, EDGE
from gateway.control.plane import ControlPlane
from gateway.documents.bundles import Entry, Facts, Manifest, Nodes, digest_of, signed
from gateway.documents.canonical import canonical
from gateway.documents.model import Site as Volume
from gateway.errors import FederationError, InvalidDocument, StorageError
from tests.control.conftest import Site


class Centre:
    """A central node, as far as it makes bundles."""

    def __init__(self, data: Path) -> None:
        self.identity = Identity.open(data, names=())

    def bundle(self, version: int, *names: str, nodes: Nodes | None = None, attempt: int = 0, **body: Any) -> Parcel:
        bodies = [canonical({"kind": "Spool", "name": name, "match": [{"service": name}], **body}) for name in names]
        return self.of(version, *bodies, nodes=nodes, attempt=attempt)

    def of(self, version: int, *bodies: str, nodes: Nodes | None = None, attempt: int = 0) -> Parcel:
        entries = []
        for body in bodies:
            said = json.loads(body)
            entries.append(Entry(f"{said['kind']}/{said['name']}", digest_of(body), nodes))
        made = Manifest(version, self.identity.node_id, 1_800_000_000_000, "alice", "", 60, tuple(entries))
        return Parcel(made.text, self.sign(made.text), bodies, attempt)

    def sign(self, text: str) -> str:
        return urlsafe_b64encode(self.identity.signing_key.sign(signed(text))).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Centre:
    return Centre(tmp_path_factory.mktemp("centre") / "data")


async def know(control: ControlPlane, centre: Centre, role: str = CENTRAL) -> None:
    """Have the node and the centre be of one federation."""
    await control.members.put(control.members.itself("edge-1", EDGE, (), ""))
    other = control.members.itself("central", role, (), "")
    await control.members.put(
        replace(
            other,
            id=centre.identity.node_id,
            key_id=centre.identity.kid,
            public_key=public_key(centre.identity),
            ca_pem="",
        )
    )


def public_key(identity: Identity) -> str:
    raw = identity.signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def facts(control: ControlPlane, **labels: str) -> Facts:
    return Facts(control.identity.node_id, "edge-1", "edge", labels)


async def act(control: ControlPlane, parcel: Parcel, *, trial: bool = False, node: Facts | None = None) -> Held:
    """All steps, as `activating` takes them."""
    held_bundles = control.held_bundles
    manifest, documents = held_bundles.check(parcel, node or facts(control))
    held = await held_bundles.receive(parcel, manifest, documents)
    examined = held_bundles.examine(documents)
    if not examined.good:
        return await held_bundles.reject(held, str(examined.findings[0]))
    held = await held_bundles.validated(held)
    return await held_bundles.activate(held, manifest, examined.documents, trial=trial)


def names(control: ControlPlane) -> list[str]:
    return [document.name for document in control.documents.standing("Spool")]


async def test_what_is_active_is_there_after_a_restart(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "a", "b"))
    await act(control, centre.bundle(2, "b", "c"))
    for again in (False, True):
        control = await site.open() if again else control
        assert names(control) == ["b", "c"]
        assert control.held_bundles.active is not None
        assert control.held_bundles.active.number == 2
        states = [(held.number, held.state) for held in (await control.held_bundles.list()).items]
        assert states == [(2, HeldState.ACTIVE), (1, HeldState.REPLACED)]
    actions = [entry.action for entry in (await control.audit.list()).items]
    assert actions.count("bundle.activate") == 2


Bad = Callable[[Centre, Parcel], Parcel]


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("bundle_contents", lambda _, it: replace(it, bodies=(it.bodies[0].replace("new", "old"), *it.bodies[1:]))),
        ("bundle_contents", lambda _, it: replace(it, bodies=it.bodies[1:])),
        ("bundle_signature", lambda _, it: replace(it, text=it.text.replace("alice", "alicf"))),
        ("bundle_signature", lambda _, it: replace(it, signature=it.signature[::-1])),
        ("bundle_signature", lambda _, it: replace(it, signature="")),
        ("bundle_signature", lambda _, it: replace(it, signature="ä")),
        ("bundle_malformed", lambda _, it: replace(it, text=it.text.replace('":', '": ', 1))),
        ("bundle_malformed", lambda _, it: replace(it, text="")),
        ("bundle_maker", lambda it, _: Centre(it.identity.directory.parent / "stranger").bundle(3, "new")),
        ("bundle_old", lambda it, _: it.bundle(1, "new")),
        ("bundle_old", lambda it, _: it.bundle(2, "new")),
    ],
)
async def test_what_no_central_node_has_made_changes_nothing(
    site: Site, centre: Centre, reason: str, spoil: Bad
) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(2, "good"))
    before = await control.held_bundles.list()
    with pytest.raises(FederationError) as caught:
        control.held_bundles.check(spoil(centre, centre.bundle(3, "new", "other")), facts(control))
    assert caught.value.reason == reason
    assert names(control) == ["good"]
    assert await control.held_bundles.list() == before


async def test_an_edge_makes_no_bundles(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre, EDGE)
    with pytest.raises(FederationError, match="no central node"):
        control.held_bundles.check(centre.bundle(1, "a"), facts(control))


@pytest.mark.parametrize(
    "body",
    [
        '{"kind":"Pool","name":"x"}',
        '{"kind":"Spool","name":"x"}',
        '{"kind":"Spool","match":[{"service":"x"}],"maxBytes":"9000TiB","name":"x"}',
    ],
)
async def test_what_the_validator_refuses_changes_nothing(site: Site, centre: Centre, body: str) -> None:
    """An unknown kind, a document that is none, one that is none on this node: its disk is smaller."""
    control = await site.open()
    control.documents.site = lambda: Volume(2**40, 2**41)
    await know(control, centre)
    await act(control, centre.bundle(1, "good"))
    held = await act(control, centre.of(2, body))
    assert held.state is HeldState.REJECTED
    assert "GW01" in held.reason
    control = await site.open()
    assert names(control) == ["good"]
    assert control.held_bundles.active is not None
    assert control.held_bundles.active.number == 1
    # It is offered again when an operator says so.
    with pytest.raises(FederationError, match="older"):
        control.held_bundles.check(centre.of(2, body), facts(control))
    control.held_bundles.check(centre.bundle(2, "good", attempt=1), facts(control))


@pytest.mark.parametrize("step", ["receive", "activate"])
async def test_a_full_disk_changes_nothing(site: Site, centre: Centre, step: str) -> None:
    control = await site.open(max_bytes=1024 * 1024)
    await know(control, centre)
    await act(control, centre.bundle(1, "good"))
    held_bundles = control.held_bundles
    parcel = centre.bundle(2, *(f"s{n:03}" for n in range(100)))
    manifest, documents = held_bundles.check(parcel, facts(control))

    async def fill() -> None:
        size = 512 * 1024
        while size:
            try:
                await control.config_history.append("x" * min(size, 200_000), by=SYSTEM)
            except StorageError:
                size //= 2

    if step == "receive":
        await fill()
        with pytest.raises(StorageError):
            await held_bundles.receive(parcel, manifest, documents)
    else:
        held = await held_bundles.validated(await held_bundles.receive(parcel, manifest, documents))
        await fill()
        with pytest.raises(StorageError):
            await held_bundles.activate(held, manifest, held_bundles.examine(documents).documents, trial=True)
        # Where there is no room to go on, there still is room to say no.
        await held_bundles.reject(held, "it cannot be stored")
    assert names(control) == ["good"]
    control = await site.open()
    assert names(control) == ["good"]
    # Then there is room again.
    await act(control, centre.bundle(2, "new", attempt=1))
    assert names(control) == ["new"]


async def test_a_kill_at_every_step_leaves_one_whole_bundle(site: Site, centre: Centre, tmp_path: Path) -> None:
    """After each step the files are taken as a kill leaves them: whoever starts from them acts by the bundle before or
    by the new one, and gets to the new one in the end."""
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "old"))
    copies: list[tuple[str, Path]] = []

    def copy(held: Held) -> None:
        to = tmp_path / f"killed-{len(copies)}"
        shutil.copytree(site.data, to)
        copies.append((held.state, to))

    control.held_bundles.on_step = copy
    await act(control, centre.bundle(2, "new"), trial=True)
    await control.held_bundles.roll_back("it got worse")
    await site.close()
    assert [state for state, _ in copies] == ["received", "validated", "active", "rolled_back"]
    for state, data in copies:
        assert (data / f"{DATABASE}-wal").stat().st_size > 0
        async with await ControlPlane.open(data, site.identity, wall=site.clock) as killed:
            assert names(killed) == (["new"] if state == "active" else ["old"])
            left = await killed.held_bundles.resume()
            assert (left is not None) == (state in ("received", "validated"))
            if left is None:
                continue
            manifest, documents = await killed.held_bundles.stored(left)
            examined = killed.held_bundles.examine(documents)
            await killed.held_bundles.activate(left, manifest, examined.documents, trial=False)
            assert names(killed) == ["new"]


async def test_who_dies_twice_on_trial_goes_back(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "good"))
    await act(control, centre.bundle(2, "deadly"), trial=True)
    for deaths in (1, 2):
        control = await site.open()
        assert names(control) == ["deadly"]
        await control.held_bundles.resume()
        assert names(control) == (["deadly"] if deaths == 1 else ["good"])
    last = control.held_bundles.last
    assert last is not None
    assert (last.state, last.reason) == (HeldState.ROLLED_BACK, "the node has died 2 times while it was on trial")
    control = await site.open()
    assert names(control) == ["good"]


async def test_an_orderly_stop_is_no_death(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "slow"), trial=True)
    for _ in range(3):
        await control.held_bundles.interrupted()
        control = await site.open()
        assert await control.held_bundles.resume() is None
        assert control.held_bundles.active is not None
        assert (control.held_bundles.active.trial, control.held_bundles.active.deaths) == ("running", 0)
    await control.held_bundles.passed()
    control = await site.open()
    await control.held_bundles.resume()
    assert control.held_bundles.active is not None
    assert control.held_bundles.active.trial == ""


async def test_the_first_bundle_goes_back_to_none(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "a"), trial=True)
    await control.held_bundles.roll_back("it got worse")
    assert names(control) == []
    control = await site.open()
    assert names(control) == []
    assert control.held_bundles.active is None


async def test_damage_on_disk_is_not_acted_by(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "before"))
    await act(control, centre.bundle(2, "damaged"))
    await control.database.write(
        lambda connection: connection.execute(
            "UPDATE held_bundles SET bodies = replace(bodies, 'damaged', 'damagee') WHERE state = 'active'"
        )
    )
    control = await site.open()
    assert names(control) == ["before"]
    assert site.alarms == ["bundle_damaged"]


async def test_the_bundle_goes_before_what_a_node_has_of_its_own(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    own = "kind: Spool\nname: both\nmatch: [{service: mine}]\n---\nkind: Spool\nname: local\nmatch: [{service: l}]"
    await control.documents.apply(own, by=SYSTEM)
    heard: list[list[str]] = []
    control.documents.subscribe("Spool", lambda documents: heard.append([each.name for each in documents]))
    await act(control, centre.bundle(1, "both", "above"))
    assert heard == [["both", "local"], ["above", "both", "local"]]

    async def shown() -> dict[str, tuple[str, bool, str]]:
        page = await control.documents.list()
        return {each.name: (each.origin, each.shadows, each.body["match"][0]["service"]) for each in page.items}

    assert await shown() == {
        "above": ("bundle", False, "above"),
        "both": ("bundle", True, "both"),
        "local": ("local", False, "l"),
    }
    for name in ("both", "above"):
        with pytest.raises(InvalidDocument, match="GW0194"):
            await control.documents.apply(f"kind: Spool\nname: {name}\nmatch: [{{service: x}}]", by=SYSTEM)
        with pytest.raises(InvalidDocument, match="GW0194"):
            await control.documents.delete("Spool", name, by=SYSTEM)
    await act(control, centre.bundle(2, "above"))
    assert (await shown())["both"] == ("local", False, "mine")
    assert heard[-1] == ["above", "both", "local"]


async def test_what_a_nodes_own_documents_need_is_not_taken_away(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    await act(control, centre.bundle(1, "above"))
    topics = "[{pattern: a, direction: in, route: above.t, spool: above}]"
    bridge = f"kind: Bridge\nname: b\nmqtt: {{address: mqtt://127.0.0.1, clientId: c}}\ntopics: {topics}"
    await control.documents.apply(bridge, by=SYSTEM)
    held = await act(control, centre.bundle(2, "other"))
    assert held.state is HeldState.REJECTED
    assert "Bridge/b" in held.reason
    assert names(control) == ["above"]


async def test_what_is_for_it_goes_by_its_labels_now(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    parcel = centre.bundle(1, "north", nodes=Nodes(labels={"site": "north"}))
    south, north = facts(control, site="south"), facts(control, site="north")
    await act(control, replace(parcel, bodies=()), node=south)
    assert names(control) == []
    assert control.held_bundles.place(south) == (control.held_bundles.active.id, 0)  # type: ignore[union-attr]
    assert control.held_bundles.place(north) == ("", 0)
    await act(control, parcel, node=north)
    assert names(control) == ["north"]
    control = await site.open()
    assert names(control) == ["north"]
    assert control.held_bundles.place(north) != ("", 0)


async def test_how_much_is_remembered(site: Site, centre: Centre) -> None:
    control = await site.open()
    await know(control, centre)
    for version in range(1, KEPT + 5):
        await act(control, centre.bundle(version, "a"))
    kept = (await control.held_bundles.list(limit=200)).items
    assert [held.number for held in kept] == list(range(KEPT + 4, 4, -1))
    rows = await control.database.read(
        lambda connection: connection.execute("SELECT count(*) FROM held_bundles WHERE bodies <> ''").fetchone()
    )
    assert rows[0] == 2
