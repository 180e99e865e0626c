"""What MkDocs does besides: links to files outside of docs/ lead to the repository."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: object) -> str:
    """Let relative links that leave docs/ lead to the repository, where their files are."""
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        target = normpath(folder / link[1])
        return link[0] if target.startswith("docs/") else f"]({config.extra['repository']}/blob/main/{target})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", moved, markdown)
