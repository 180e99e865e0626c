"""The generated parts of the pages.

python -m ksql_lake_tests.site.generated        writes them into docs/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ksql_lake_tests.site.command_pages import commands
from ksql_lake_tests.site.key_tables import feed_keys, settings
from ksql_lake_tests.site.message_lists import message_list

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("cli.md", "feeds.md", "settings.md", "troubleshooting.md")
PARTS: dict[str, Callable[[str], str]] = {
    "commands": lambda _: commands(),
    "settings": lambda _: settings(),
    "feed-keys": feed_keys,
    "messages": message_list,
}
_PART = re.compile(r"(<!-- generated: ([\w-]+) ?(\w*) -->\n).*?(<!-- end -->)", re.DOTALL)


def current(page: str) -> str:
    """A page with every generated part as it should be now.

    Args:
        page: Its file's name below `docs/`.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    return _PART.sub(
        lambda part: f"{part[1]}\n{PARTS[part[2]](part[3]).strip()}\n\n{part[4]}",
        text,
    )


def main() -> None:
    """Write the parts into the pages."""
    for page in PAGES:
        (DOCS / page).write_text(current(page), encoding="utf-8")


if __name__ == "__main__":
    main()
