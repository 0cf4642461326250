"""The pages of the mesh, as somebody uses them who looks for what is wrong."""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import Page, Route, expect

from gateway import __version__
from tests.browser.conftest import Seats
from tests.browser.town import CENTRAL, EDGE
from tests.browser.visitor import settled, show

MANY = 300


async def at(seats: Seats, address: str, *, user: str = "ada", node: str = EDGE) -> Page:
    page = await seats(user, node)
    # Whoever is on the page already starts it anew.
    await show(page, "/account")
    await show(page, f"/{address}")
    return page


async def test_the_topology_says_the_same_in_its_drawing_and_its_tables(seats: Seats) -> None:
    page = await at(seats, "topology")
    drawing = page.get_by_role("img", name=re.compile("Topology"))
    await expect(drawing.locator("canvas").first).to_be_visible()
    assert await page.locator("head style").count() == 0, "the policy of content refuses it"
    nodes, links = page.get_by_role("region", name="Nodes"), page.get_by_role("region", name="Links")
    await expect(nodes.get_by_role("row")).to_have_count(4)
    await expect(drawing).to_have_accessible_name(re.compile("3 things, 2 lines"))
    await expect(links.get_by_role("row", name=re.compile(f"{EDGE} – {CENTRAL}.*in use"))).to_be_visible()
    await expect(nodes.get_by_role("row", name=re.compile("MQTT broker.*connected"))).to_be_visible()
    for name in (CENTRAL, EDGE):
        await expect(nodes.get_by_role("row", name=re.compile(f"{name}.*{re.escape(__version__)}"))).to_be_visible()
    await nodes.get_by_role("button", name=CENTRAL).press("Enter")
    details = page.get_by_role("region", name=CENTRAL)
    await details.get_by_role("button", name="Measure").press("Enter")
    await expect(details).to_contain_text(f"{EDGE} → {CENTRAL}")
    await page.get_by_label("Show").select_option("trouble")
    await expect(page.get_by_text("Nothing is in trouble.")).to_be_visible()


async def test_of_many_nodes_the_topology_draws_those_that_matter(seats: Seats) -> None:
    """More than anybody can start for a test: what the node says is what it says, and 300 more."""

    async def with_more(route: Route) -> None:
        answer = await route.fetch()
        said: dict[str, Any] = await answer.json()
        one = next(node for node in said["nodes"] if node["name"] == CENTRAL)
        more = {"role": "edge", "place": "behind", "via": one["id"], "urls": []}
        said["nodes"] += [one | more | {"id": f"id-{number}", "name": f"site-{number}"} for number in range(MANY)]
        said["nodes"][-1] |= {"place": "apart", "down_since": said["at"], "why": "cut"}
        await route.fulfill(response=answer, json=said)

    page = await seats("ada")
    await page.route("**/api/v1/topology", with_more)
    await show(page, "/topology?show=all")
    await expect(page.get_by_role("status").filter(has_text="are not drawn")).to_contain_text(f"{MANY + 3 - 200} more")
    rows = page.get_by_role("region", name="Nodes").get_by_role("row")
    await expect(rows).to_have_count(201)
    await expect(rows.filter(has_text="link lost")).to_have_count(1)
    await page.get_by_label("Find a node").fill("site-29")
    await expect(rows).to_have_count(12)
    await show(page, "/account")
    await page.unroute("**/api/v1/topology")


async def test_a_node_is_let_in_by_a_line(seats: Seats) -> None:
    page = await at(seats, "federation?tab=tokens", node=CENTRAL)
    await page.get_by_role("button", name="New join token").click()
    await page.get_by_role("button", name="Make it").click()
    await expect(page.get_by_role("dialog").locator("pre")).to_have_text(re.compile(r"^gateway join gwj1\.\S+$"))
    await page.get_by_role("button", name="Close").click()
    row = page.get_by_role("row", name=re.compile("can be used"))
    await row.get_by_role("button", name=re.compile("^Revoke")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(row).to_have_count(0)


async def answers(page: Page) -> str:
    await settled(page)
    return await page.locator(".sentences").inner_text()


async def test_three_questions_are_answered_in_sentences(seats: Seats) -> None:
    page = await at(seats, "explain?ask=route&route=historian.add&kind=fireAndForget")
    assert "would wait in the spool history/historian" in await answers(page)
    await page.get_by_label("Route").fill("thermostat-1.get")
    await page.get_by_label("Asked by").fill("thermostat-2")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator(".sentences")).to_contain_text("thermostat-2 may not call thermostat-1.get")
    await page.get_by_role("button", name="Why is a device offline?").click()
    await page.get_by_label("Device").fill("spare")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator(".sentences")).to_contain_text("It is disabled")
    await page.get_by_role("button", name="Why does a policy say no?").click()
    await page.get_by_label("Who").fill("thermostat-2")
    await page.get_by_label("Service").fill("thermostat-1")
    await page.get_by_label("Route").fill("set_target")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator(".sentences")).to_contain_text("Access/operators-only would refuse it, and only counts")


async def test_what_waits_is_thrown_away_by_who_may(seats: Seats) -> None:
    operator = await at(seats, "resilience/spool/history%2Fhistorian", user="olga")
    await expect(operator.get_by_role("button", name="Send now")).to_be_visible()
    assert await operator.get_by_role("button", name=re.compile("Throw")).count() == 0
    page = await at(seats, "resilience?tab=spools")
    await page.get_by_role("link", name="history/historian").click()
    await page.get_by_role("checkbox").first.check()
    await page.get_by_role("button", name="Throw 1 away").click()
    await page.get_by_role("dialog").get_by_role("button", name="Throw away").click()
    await expect(page.get_by_role("status").filter(has_text="1 message thrown away")).to_be_visible()
