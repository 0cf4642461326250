"""The tests of this package fail by what goes wrong in a page; that they do is tested here."""

from __future__ import annotations

from tests.browser.conftest import Visit
from tests.browser.visitor import findings, too_wide

WRONG = """async () => {
  console.error("said so");
  setTimeout(() => { throw new Error("thrown"); });
  document.body.append(Object.assign(document.createElement("script"), { textContent: "0" }));
  await fetch("http://127.0.0.1:9/elsewhere").catch(() => {});
  await fetch("/api/v1/node");
}"""
SEEN = ("console: said so", "exception: ", "forbids inline", "forbids http://127.0.0.1:9", "401: GET")


async def test_what_goes_wrong_in_a_page_is_seen(visit: Visit) -> None:
    page = await visit.stranger()
    assert visit.watch.left() == []
    async with page.expect_response("**/api/v1/node"), page.expect_event("pageerror"):
        await page.evaluate(WRONG)
    for part in SEEN:
        assert [each for each in visit.watch.troubles if part in each], part
    # What Chromium itself says of what its policy forbids.
    visit.allow(*SEEN, "Content Security Policy", "Content-Security-Policy")


async def test_what_is_too_wide_or_unreadable_is_found(visit: Visit) -> None:
    page = await visit.stranger()
    assert await too_wide(page) == []
    assert await findings(page) == []
    await page.evaluate("""() => {
      const wide = document.createElement("div");
      wide.style.width = "3000px";
      wide.append(document.createElement("input"));
      document.querySelector("main").append(wide);
    }""")
    assert await too_wide(page) != []
    assert [each.partition(":")[0] for each in await findings(page)] == ["label"]
