"""Bundles: documents for the nodes of a federation, as versions, and how each node stands with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, written
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.resources.declarations import FindingView
from gateway.admin.shapes import DryRun, Shown, Taken, Time, moment
from gateway.control.bundle_standing import MAX_LABELS, Bundle, BundleNode, Outcome
from gateway.control.bundles import NewBundle
from gateway.control.held_bundles import HeldState
from gateway.control.roles import Action
from gateway.control.rollout_steps import Phase
from gateway.documents.bundles import MAX_COMMENT, MAX_TRIAL_S, version_of
from gateway.documents.reading import MAX_CHARACTERS

operations = Operations("bundles", "policy")

Version = Annotated[int, Path(ge=1, lt=10**12, examples=[7])]
Percentage = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Failures = Annotated[int, Field(ge=0, le=1_000_000)]
#: So many texts of the largest size are more than a bundle holds.
MAX_TEXTS = 16


class BundleView(Shown):
    """`maker`: id of the central node that made and signed it. `digest`: SHA-256 of the manifest. `documents`: kind and
    name of each. `labels`: what a node must have to be offered it. `nodes`: how many act by it, have rejected it, went
    back from it, or are yet to act by it. `forgiven` failures are not counted. `revision` counts the changes of what
    can change. `reason`: why it is paused or aborted."""

    version: int
    maker: str
    made_at: Time
    made_by: str
    comment: str
    digest: str
    documents: list[str]
    labels: list[str]
    percentage: float
    max_failures: int
    forgiven: int
    state: Phase
    reason: str
    nodes: dict[Outcome, int]
    revision: int
    updated_at: Time


class BundleDetail(BundleView):
    """`bodies`: the documents as they were written, by kind and name, each with its `nodes`."""

    bodies: dict[str, dict[str, Any]]


class BundleText(Taken):
    """`texts`: documents in YAML or JSON, each with `nodes` where it is not for all. `labels`: each `key=value`.
    `trial_s`: for how long a node watches itself after it has begun to act by it; 0: not at all."""

    texts: list[Annotated[str, Field(max_length=MAX_CHARACTERS)]] = Field(max_length=MAX_TEXTS)
    comment: str = Field("", max_length=MAX_COMMENT)
    labels: list[Annotated[str, Field(min_length=3, max_length=255)]] = Field(default=[], max_length=MAX_LABELS)
    percentage: Percentage = 100
    max_failures: Failures = 0
    trial_s: int = Field(60, ge=0, le=MAX_TRIAL_S)


class Published(Shown):
    """`warnings` did not keep it from being made."""

    bundle: BundleView
    warnings: list[FindingView]


class BundleChange(Taken):
    percentage: Percentage | None = None
    max_failures: Failures | None = None


class BundleResume(Taken):
    """`retry`: offer it to those again that have failed."""

    retry: bool = False


class Aborted(Shown):
    """`instead`: the bundle by which all nodes are to act now."""

    aborted: BundleView
    instead: BundleView


class DocumentChange(Shown):
    """`before`, `after`: null where it is not in that bundle."""

    document: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Difference(Shown):
    changes: list[DocumentChange]


class BundleNodeView(Shown):
    """`wanted`: the version that it should act by, `active`: that it acts by; 0 for none. `outcome`: what has come of
    the wanted one. `tried`, `state`, `reason`: the last that it was given, and what it has said of it, at `at`."""

    node: str
    name: str
    role: str
    labels: dict[str, str]
    wanted: int
    active: int
    outcome: Outcome
    tried: int
    state: str
    reason: str
    at: Time


class HeldView(Shown):
    """`state`: how far this node is with it; `trial`: it watches itself. `documents`: those that are for this node."""

    version: int
    state: HeldState
    reason: str
    trial: bool
    documents: list[str]
    at: Time


def _fields(here: Context, bundle: Bundle) -> dict[str, Any]:
    names = BundleView.model_fields.keys() - {"version", "nodes"}
    values = {name: getattr(bundle, name) for name in names}
    return values | {"version": bundle.number, "nodes": here.control.bundles.counts(bundle)}


def _view(here: Context, bundle: Bundle) -> BundleView:
    return BundleView(**_fields(here, bundle))


def _answer(here: Context, response: Response, bundle: Bundle) -> BundleView:
    response.headers["etag"] = etag(bundle.revision)
    return _view(here, bundle)


def _node(here: Context, said: BundleNode) -> BundleNodeView:
    wanted, outcome = here.control.bundles.outcome(said)
    return BundleNodeView(
        node=said.node,
        name=said.name,
        role=said.role,
        labels=said.labels,
        wanted=0 if wanted is None else wanted.number,
        active=version_of(said.active),
        outcome=outcome,
        tried=version_of(said.tried),
        state=said.state,
        reason=said.reason,
        at=moment(said.at),
    )


@operations.get("/bundles", response_model=PageOf[BundleView])
async def list_bundles(here: Here, q: Search = None, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The bundles that this central node knows, whichever has made them, newest first."""
    page = await here.control.bundles.list(cursor=cursor, limit=limit, q=q)
    return await written(page.items, lambda each: _view(here, each), limit, page.next)


@operations.post("/bundles", creates=True, problems=(409,), response_model=Published)
async def publish_bundle(here: Here, by: By, response: Response, body: BundleText, dry_run: DryRun = False) -> Any:
    """Make a bundle of all these documents, and offer it to nodes. What is not in it is in none: it takes the place of
    the bundle before, whole."""
    bundle, warnings = await here.control.bundles.publish(NewBundle(**body.model_dump()), by=by, dry_run=dry_run)
    response.headers["location"] = f"/api/v1/bundles/{bundle.number}"
    response.headers["etag"] = etag(bundle.revision)
    return Published(bundle=_view(here, bundle), warnings=[FindingView.of(each) for each in warnings])


@operations.get("/bundles/nodes", response_model=PageOf[BundleNodeView])
async def list_bundle_nodes(here: Here, q: Search = None, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """How each node stands, as it has said last."""
    page = await here.control.bundles.list_nodes(cursor=cursor, limit=limit, q=q)
    return await written(page.items, lambda each: _node(here, each), limit, page.next)


@operations.get("/bundles/held", response_model=PageOf[HeldView])
async def list_held_bundles(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The bundles that this node itself was given, newest first, and what has come of each."""
    page = await here.control.held_bundles.list(cursor=cursor, limit=limit)

    def view(held: Any) -> HeldView:
        return HeldView(
            version=held.number,
            state=held.state,
            reason=held.reason,
            trial=held.trial != "",
            documents=list(held.documents),
            at=moment(held.at),
        )

    return await written(page.items, view, limit, page.next)


@operations.get("/bundles/{version}", response_model=BundleDetail)
async def get_bundle(here: Here, response: Response, version: Version) -> Any:
    """One bundle, with its documents."""
    bundle = here.control.bundles.get(version)
    response.headers["etag"] = etag(bundle.revision)
    return BundleDetail(**_fields(here, bundle), bodies=await here.control.bundles.documents(version))


@operations.get("/bundles/{version}/diff", response_model=Difference)
async def diff_bundle(
    here: Here,
    version: Version,
    to: Annotated[int, Query(ge=1, lt=10**12, description="The version to compare with.", examples=[8])],
) -> Any:
    """What another bundle says in another way."""
    changes = await here.control.bundles.diff(version, to)
    return Difference(changes=[DocumentChange.of(change) for change in changes])


@operations.patch("/bundles/{version}", problems=(409, 412, 428), response_model=BundleView)
async def change_bundle(
    here: Here,
    by: By,
    response: Response,
    version: Version,
    body: BundleChange,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Change to how many nodes it goes, or how many may fail. Nodes that act by it go on."""
    bundle = await here.control.bundles.update(
        version,
        percentage=body.percentage,
        max_failures=body.max_failures,
        by=by,
        expect=expected(if_match),
        dry_run=dry_run,
    )
    return _answer(here, response, bundle)


@operations.post("/bundles/{version}/rollback", problems=(409,), response_model=BundleView)
async def roll_back_bundle(here: Here, by: By, response: Response, version: Version, dry_run: DryRun = False) -> Any:
    """Make a new bundle with the documents of this one, for all nodes."""
    bundle = await here.control.bundles.roll_back(version, by=by, dry_run=dry_run)
    response.headers["location"] = f"/api/v1/bundles/{bundle.number}"
    return _answer(here, response, bundle)


@operations.post("/bundles/{version}/pause", Action.OPERATE, problems=(409,), response_model=BundleView)
async def pause_bundle(here: Here, by: By, response: Response, version: Version, dry_run: DryRun = False) -> Any:
    """Offer it to no further node for now."""
    return _answer(here, response, await here.control.bundles.pause(version, by=by, dry_run=dry_run))


@operations.post("/bundles/{version}/resume", Action.OPERATE, problems=(409,), response_model=BundleView)
async def resume_bundle(
    here: Here, by: By, response: Response, version: Version, body: BundleResume | None = None, dry_run: DryRun = False
) -> Any:
    """Let it go on. What has failed until now is not counted any more."""
    retry = body is not None and body.retry
    return _answer(here, response, await here.control.bundles.resume(version, retry=retry, by=by, dry_run=dry_run))


@operations.post("/bundles/{version}/abort", Action.OPERATE, problems=(409,), response_model=Aborted)
async def abort_bundle(here: Here, by: By, version: Version, dry_run: DryRun = False) -> Any:
    """End it for good: all nodes act by what was for all before it, as a new bundle."""
    aborted, instead = await here.control.bundles.abort(version, by=by, dry_run=dry_run)
    return Aborted(aborted=_view(here, aborted), instead=_view(here, instead))
