"""These tests need what those of the dashboard need, and are left out where those are."""

from __future__ import annotations

from tests.browser.conftest import collect_ignore_glob as collect_ignore_glob
