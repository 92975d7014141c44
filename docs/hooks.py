"""Pages of the site that lie elsewhere in the repository, and links that hold in both places.

A system's page is the README.md of its folder; contributing and changes are the files at the root. Relative links are
written as they hold in the repository: here they become links between pages, or the file's path where it is no page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def outside_pages() -> dict[str, str]:
    """Path in the repository -> page of the site, for pages that lie outside docs/."""
    systems = {
        path.relative_to(ROOT).as_posix(): f"systems/{path.parent.name}.md"
        for path in sorted(ROOT.glob("refseg/models/*/README.md"))
    }
    return {**systems, "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in outside_pages().items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages."""
    pages = outside_pages()
    sources = {target: source for source, target in pages.items()}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")

    def relink(match: re.Match[str]) -> str:
        words, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path == "README.md":
            path = "docs/index.md"
        wanted = pages.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if wanted is None:
            return f"{words} (`{path}`)"
        return f"[{words}]({posixpath.relpath(wanted, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(relink, markdown)
