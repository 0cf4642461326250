"""Getting in, staying in and going: by password, by the code of a link, with a token that has run out."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.async_api import Route, expect

from tests.browser.conftest import Visit
from tests.browser.town import PASSWORD, Town
from tests.browser.visitor import settled, show


async def test_a_wrong_password_is_said_and_a_right_one_lets_in(visit: Visit) -> None:
    visit.allow("401: POST")
    page = await visit.stranger()
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill("correct horse")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_role("navigation")).to_have_count(0)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("navigation")).to_be_visible()


async def test_a_link_with_a_code_logs_in_once(visit: Visit, town: Town) -> None:
    visit.allow("401: POST")
    async with town.api() as api:
        code = (await api.post("/auth/codes", json={"user": "ada"})).json()["code"]
    page = await visit.stranger()
    await page.goto(f"{town.admin()}/#/login?code={code}")
    await page.reload()
    await expect(page.get_by_role("navigation")).to_be_visible()
    assert "code" not in page.url
    again = await visit.stranger()
    await again.goto(f"{town.admin()}/#/login?code={code}")
    await again.reload()
    await expect(again.get_by_role("alert")).to_contain_text("has been used")
    assert "code" not in again.url


async def test_who_logs_out_is_out_in_every_tab(visit: Visit) -> None:
    # What was just being asked when the login ended.
    visit.allow("401: GET")
    page = await visit("events")
    other = await page.context.new_page()
    await other.goto(page.url)
    await settled(other)
    await page.locator("details.person > summary").click()
    await page.get_by_role("button", name="Log out").click()
    for tab in (page, other):
        await expect(tab.get_by_label("Password")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Password")).to_be_visible()


async def test_a_token_that_has_run_out_is_renewed_unseen(visit: Visit) -> None:
    """The node refuses it once; the page asks for another and goes on."""
    visit.allow("401: GET")
    page = await visit()
    refused = 0

    async def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        if refused == 1:
            await route.fulfill(status=401, json={"type": "/problems/unauthorized", "title": "no", "status": 401})
        else:
            await route.continue_()

    await page.route("**/api/v1/config*", refuse)
    async with page.expect_response("**/api/v1/auth/refresh"):
        await show(page, "/settings")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert refused > 1
    assert urlsplit(page.url).fragment == "/settings"
