"""The files of the dashboard: where they are, what goes with them, and what cannot be had through them."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from gateway.admin.static import FOLDER, Static
from tests.admin.api import Api

STRICT = re.compile(
    r"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
)
TEXTS = re.compile(r"""\bt\(\s*(?:"([^"]+)"|`([^`$]+))""")
#: Texts chosen by a condition within the call.
CHOSEN = re.compile(r"""\bt\(\s*[^"`,)]+\?\s*"([^"]+)"\s*:\s*"([^"]+)\"""")
KEYS = re.compile(r"""^\s*"([\w.-]+)":""", re.MULTILINE)


@pytest.fixture
def browser(api: Api) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=api.url)


async def test_the_page_and_what_it_loads(browser: httpx.AsyncClient) -> None:
    async with browser:
        page = await browser.get("/")
        assert page.status_code == 200
        assert STRICT.match(page.headers["content-security-policy"])
        assert page.headers["cache-control"] == "no-cache"
        loaded = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
        assert any(path.endswith("/app/main.js") for path in loaded)
        for path in loaded:
            answer = await browser.get(path)
            assert answer.status_code == 200, path
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        again = await browser.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_page_from_before_an_upgrade_is_told_so(browser: httpx.AsyncClient) -> None:
    async with browser:
        answer = await browser.get("/ui/000000000000/app/main.js")
    assert answer.status_code == 404
    assert "upgraded" in answer.text


async def test_files_have_a_rate_of_their_own(api: Api) -> None:
    """A browser asks for more files at once than the API takes requests a second."""
    async with httpx.AsyncClient(base_url=api.url) as browser:
        page = await browser.get("/")
        path = re.findall(r'src="(/ui/[^"]+)"', page.text)[0]
        assert [(await browser.get(path)).status_code for _ in range(60)] == [200] * 60
        assert (await browser.post("/")).status_code in (404, 405)


def test_what_is_packed_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<script src='/ui/-/a.js'>" + "x" * 5000)
    static = Static(tmp_path)
    page = static.file("/")
    assert page is not None
    assert page.packed is not None
    assert gzip.decompress(page.packed) == page.body
    assert f"/ui/{static.digest}/a.js".encode() in page.body


@pytest.mark.parametrize(
    "name", ["../static.py", "..%2fstatic.py", "app/../../static.py", "/etc/passwd", "app", "", "a\0b", "nothing.js"]
)
def test_nothing_outside_of_the_folder(name: str) -> None:
    static = Static()
    assert static.file(f"/ui/{static.digest}/{name}") is None
    assert static.file(f"/phone/{name}") is None or name == ""


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    one = Static(tmp_path).digest
    (tmp_path / "a.js").write_text("2")
    two = Static(tmp_path).digest
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({one, two, Static(tmp_path).digest}) == 3


def test_each_vendored_file_is_the_one_described() -> None:
    vendor = FOLDER / "vendor"
    described = {each["file"]: each["sha256"] for each in json.loads((vendor / "VENDOR.json").read_text("utf-8"))}
    there = {path.name for path in vendor.iterdir()} - {"VENDOR.json", "LICENSES.txt"}
    assert there == described.keys()
    for name, digest in described.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name


def test_nothing_is_from_elsewhere_or_inline() -> None:
    """Offline hosts load it, and the policy refuses what is inline."""
    for path in (*FOLDER.rglob("*.html"), *FOLDER.rglob("*.js"), *FOLDER.rglob("*.css")):
        if "vendor" in path.parts:
            continue
        text = path.read_text("utf-8")
        assert not re.search(r"""(?:src|href|from|url\()\s*[=(]?\s*["']?https?:""", text), path
        if path.suffix == ".html":
            assert not re.search(r"\sstyle=|<style|<script(?![^>]*src=)|\son\w+=", text), path


def test_each_text_is_there_and_none_is_left_over() -> None:
    keys: dict[str, Path] = {}
    for path in (FOLDER / "app" / "words").glob("*.js"):
        for key in KEYS.findall(path.read_text("utf-8")):
            assert key not in keys, f"{key} is in {path.name} and in {keys[key].name}"
            keys[key] = path
    used, begun = set(), set()
    for path in (FOLDER / "app").rglob("*.js"):
        if path.parent.name == "words":
            continue
        text = path.read_text("utf-8")
        # Keys that are put together at run time are used where their beginning is.
        for whole, beginning in TEXTS.findall(text):
            (used if whole else begun).add(whole or beginning)
        used.update(key for pair in CHOSEN.findall(text) for key in pair)
        used.update(key for key in keys if f'"{key}"' in text)
    missing = sorted(key for key in used if key not in keys)
    assert missing == []
    assert sorted(b for b in begun if not any(key.startswith(b) for key in keys)) == []
    unused = sorted(key for key in keys if key not in used and not any(key.startswith(b) for b in begun))
    assert unused == []


def test_the_phone_page_can_be_kept() -> None:
    """Its service worker names each file that it is made of, and no other; each is at that path."""
    worker = (FOLDER / "phone" / "service-worker.js").read_text()
    named = set(re.findall(r'"([\w./-]+)"', worker.split("FILES = [")[1].split("]")[0]))
    own = {path.name for path in (FOLDER / "phone").iterdir()} - {"index.html", "service-worker.js"}
    client = {f"client/{path.name}" for path in (FOLDER / "client").glob("*.js")}
    assert named == own | client | {"./", "vendor/jsqr.js"}
    given = {path for path, _ in Static().below("/phone/")}
    assert {f"/phone/{name.removeprefix('./')}" for name in named} <= given
