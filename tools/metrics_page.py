"""Write the table of docs/metrics.md from the metrics that the program declares.

Run it after a change of gateway/admin/exposition.py; a test compares the two.
"""

from pathlib import Path

from gateway.admin.exposition import reference

PAGE = Path(__file__).parents[1] / "docs/metrics.md"
HEADING = "## Every metric\n\n"

text, _, _ = PAGE.read_text().partition(HEADING)
PAGE.write_text(text + HEADING + reference())
