"""The page of deviations, made of the `Differs:` marks in the code: `python -m tests.deviations` (make docs) writes it.

A mark ends at the next mark, at an empty line, at a line that opens another part (Source:, Raises: ...), or where its
docstring or run of comment lines ends.
"""

import ast
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "deviations.md"
MARK = "Differs:"
OTHER_PART = re.compile(r"[A-Z]\w+: ")  # Source: Raises: Attributes: ...

HEAD = """\
# Where the code differs from the paper

This page answers what was done otherwise than in the paper, or in the code it builds on, and why.

It is made of the marks `Differs:` in the code (`make docs`), so that each stands beside the lines it speaks of. What
the paper leaves open, and how it is read here, is another list: [ambiguities.md](ambiguities.md).
"""


def page() -> str:
    """Content of docs/deviations.md: one heading a file, one item a mark."""
    parts = [HEAD]
    for path in files():
        items = [
            f"- `{name}`: {text.replace('<', '&lt;')}"  # <eos> is no HTML
            for name, text in marks(path.read_text(encoding="utf-8"))
        ]
        if items:
            name = path.relative_to(ROOT).as_posix()
            wrapped = [textwrap.fill(item, 118, subsequent_indent="  ", break_on_hyphens=False) for item in items]
            parts.append("\n".join([f"## [{name}](../{name})", "", *wrapped, ""]))
    return "\n".join(parts)


def files() -> list[pathlib.Path]:
    """The code that marks may stand in, in the order of the page."""
    return [path for room in ("simgan_tf", "data", "export") for path in sorted((ROOT / room).rglob("*.py"))]


def marks(source: str) -> list[tuple[str, str]]:
    """(name of what is marked, text) of each mark of a file, from top to bottom."""
    lines, tree = source.splitlines(), ast.parse(source)
    found: list[tuple[str, list[str]]] = []
    is_open = in_comment = False  # whether the line before belongs to a mark; whether that mark stands in a comment
    for number, line in enumerate(lines):
        is_comment = line.lstrip().startswith("#")
        text = line.strip().removeprefix("#").strip()
        before, *begun = text.split(MARK)
        is_open = is_open and bool(text) and is_comment == in_comment and not OTHER_PART.match(text)
        if is_open:
            found[-1][1].append(before)
        for words in begun:
            found.append((_place(tree, lines, number), [words]))
            is_open, in_comment = True, is_comment or "#" in before
        is_open = is_open and not text.endswith('"""')
    return [(name, " ".join(" ".join(words).split()).removesuffix('"""').strip()) for name, words in found]


def _place(tree: ast.Module, lines: list[str], number: int) -> str:
    """The class and function around a line; outside of both, the first name in the code after it."""
    around = [
        node.name
        for node in ast.walk(tree)  # outer ones first
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.lineno <= number + 1 <= node.end_lineno
    ]
    if around:
        return ".".join(around)
    code = next(line.strip() for line in lines[number:] if not line.lstrip().startswith("#"))
    return re.search(r"\w+", code)[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
