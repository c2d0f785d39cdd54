"""Lists as GitHub reads them, written as Python-Markdown wants them.

GitHub nests by where the text of an item begins, and lets a list follow a paragraph. The site's
Python-Markdown nests by four columns, and wants a blank line between the two.
"""

import re

_NESTED = 4
_FENCE = re.compile(r" *(```+|~~~+)")
_ITEM = re.compile(r"( *)([-*+]|\d+\.)( +)(?=\S)")


def site_lists(text: str) -> str:
    """Return Markdown of GitHub with its lists in Python-Markdown's form."""
    page = _Page()
    for line in text.split("\n"):
        page.add(line)
    return "\n".join(page.written)


class _Page:
    """What is written of a page, and where in it the next line stands."""

    def __init__(self) -> None:
        self.written: list[str] = []
        # The columns at which the text of the open items begins, the outermost first.
        self._items: list[int] = []
        self._fence = ""
        # How deep the item is that the lines since the last blank one begin with.
        self._first: int | None = None

    def add(self, line: str) -> None:
        """Write a line of GitHub's."""
        if self._fence:
            self._write(line)
            if line.strip() == self._fence:
                self._fence = ""
        elif not line.strip():
            self.written.append("")
        elif (item := _ITEM.match(line)) and self._begins(item):
            self._add_item(line, item)
        else:
            # A number there is none of an item: the line of a paragraph happens to begin with it.
            self._add_text(line.replace(".", "\\.", 1) if item else line)

    @property
    def _is_after_blank(self) -> bool:
        return not self.written or not self.written[-1].strip()

    def _begins(self, item: re.Match[str]) -> bool:
        """Return whether it is an item: in a paragraph only ``1.`` or a bullet begins a list."""
        is_beside = bool(self._items) and len(item[1]) < self._items[-1]
        return self._is_after_blank or is_beside or item[2] in {"-", "*", "+", "1."}

    def _add_item(self, line: str, item: re.Match[str]) -> None:
        self._close(len(item[1]))
        depth = len(self._items)
        if not self._is_after_blank and (self._first is None or self._first > depth):
            self.written.append("")
        if self._is_after_blank:
            self._first = depth
        self.written.append(" " * (_NESTED * depth) + line.lstrip())
        self._items.append(item.end())

    def _add_text(self, line: str) -> None:
        fence = _FENCE.match(line)
        if self._is_after_blank:
            self._first = None
        if self._is_after_blank or fence:
            self._close(len(line) - len(line.lstrip()))
        if fence:
            self._fence = fence[1]
        self._write(line)

    def _close(self, column: int) -> None:
        """Leave the items whose text begins behind a column."""
        self._items = [one for one in self._items if one <= column]

    def _write(self, line: str) -> None:
        """Write a line at four columns for each open item, and what it was indented beyond."""
        if self._items and line.strip():
            beyond = max(0, len(line) - len(line.lstrip()) - self._items[-1])
            line = " " * (_NESTED * len(self._items) + beyond) + line.lstrip()
        self.written.append(line)
