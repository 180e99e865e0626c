"""What happens in a running Dagster: web server, daemon and code location as separate processes."""

from __future__ import annotations

from ksql_lake_tests.defs.dev_server import dagster_dev
from ksql_lake_tests.defs.project import Project


def test_feed_files_appear_without_a_restart(project: Project) -> None:
    """A new file becomes an asset, a broken one an entry that says why, an archived one goes; others stay."""
    active = project.folder / "feeds" / "active"
    with dagster_dev(project) as dagster:
        before = set(dagster.assets())
        (active.parent / "archived").mkdir()
        (active / "refunds.json").rename(active.parent / "archived" / "refunds.json")
        (active / "broken.json").write_text('{"name": "broken",')
        project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01")
        # A tick may come between two of the changes; the next one brings the rest.
        shown = dagster.until(lambda: found if "visits" in (found := dagster.assets()) else None)

    assert {"payments", "refunds", "totals"} <= before
    assert {"payments", "totals", "visits"} <= set(shown)
    assert "refunds" not in shown
    assert "broken.json" in (shown["quarantine/broken"] or "")
