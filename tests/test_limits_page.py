"""docs/limits.md: complete, current, and true: every limit is counted by what it says, and a test names it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gateway.config import KindLimits, settings
from gateway.forwarding.closing import CloseReason
from gateway.transport import admission

ROOT = Path(__file__).parents[1]
#: Settings that bound nothing a peer does.
NO_LIMITS = {"loopback", "drain_grace_s", "drain_spread_s"}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("limits_doc", ROOT / "tools/limits_doc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


page = _load()
SOURCES = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
TESTS = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)


def test_it_is_current() -> None:
    assert page.PAGE.read_text() == page.page(), "run tools/limits_doc.py"


def test_every_setting_has_one_row() -> None:
    of_node = {setting.path[1] for setting in settings() if setting.path[0] == "limits" and len(setting.path) == 2}
    assert sorted(limit.setting for limit in page.NODE) == sorted(of_node - NO_LIMITS)
    assert sorted(limit.setting for limit in page.KINDS) == sorted(KindLimits.model_fields)


@pytest.mark.parametrize("limit", [*page.NODE, *page.KINDS], ids=lambda limit: limit.setting)
def test_its_counter_exists_and_a_test_names_it(limit: page.Limit) -> None:  # type: ignore[name-defined]
    closes = {reason.label for reason in CloseReason}
    refusals = {each.reason for each in vars(admission).values() if isinstance(each, admission.Refusal)}
    for reason in limit.counted:
        assert reason in closes | refusals or f'"{reason}"' in SOURCES, reason
    kinds = r"(?:(?:device|service|user|<kind>)\.)?"
    assert re.search(rf"limits\.{kinds}{limit.setting}\b", TESTS), f"no test names limits.{limit.setting}"
