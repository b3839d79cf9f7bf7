"""Prints what data.doctor finds, line by line, and collects the problems that must be solved first."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from data import inspection
from simgan_tf.system.commands import escaped

MOST_NAMES = 5  # names of each kind
LEAK, LABELS, TWICE = "in both splits, so that the test is not fair", "in two classes", "twice in one class"


class Report:
    """Prints at once. `problems` has to be mended first; `incomplete` says that files of the data set are missing."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.incomplete = False

    def title(self, text: str) -> None:
        """What the lines that follow are about."""
        print(f"\n{escaped(text)}")

    def line(self, text: str) -> None:
        """Something to know."""
        print(escaped(f"  {text}"))

    def problem(self, text: str) -> None:
        """What has to be mended first, as one line."""
        self.problems.append(" ".join(text.split()))
        print(escaped(f"  PROBLEM  {self.problems[-1]}"))

    def expected(self, state: str, path: str, remark: str, details: str) -> None:
        """A path of the expected tree. state: "ok", "MISSING", or "--" = not there and not needed."""
        self.incomplete |= state == "MISSING"
        said = (f"  ({remark})" if remark else "") + (f": {details}" if details else "")
        print(escaped(f"  {state:<8} {path}{said}"))

    def some(self, title: str, names: Sequence[str]) -> None:
        """How many, and the first few by name."""
        print(escaped(f"  {title}: {len(names):,}"))
        for name in names[:MOST_NAMES]:
            print(escaped(f"      {name}"))
        if len(names) > MOST_NAMES:
            print(f"      and {len(names) - MOST_NAMES:,} more")

    def pictures(self, all_facts: Iterable[inspection.Facts]) -> list[str]:
        """Sizes, unusual pictures, and those that cannot be used, of which a line each is returned."""
        kinds, sides, refused = defaultdict(list), [], []
        for facts in all_facts:
            if facts.refusal:
                refused.append(facts.refusal)
                continue
            sides.append(min(facts.size))
            for remark in facts.remarks:
                kinds[remark].append(f"{facts.name} ({facts.size[0]}x{facts.size[1]})")
        if sides:
            self.line(
                f"{len(sides):,} readable; shorter side: least {min(sides)}, median {statistics.median(sides):g}, "
                f"most {max(sides)} pixels"
            )
        for remark, names in sorted(kinds.items()):
            self.some(f"unusual, but usable: {remark}", names)
        if refused:
            self.some("cannot be used", refused)
        return refused

    def same_pictures(self, all_facts: Sequence[inspection.Facts], owners: Sequence[tuple[str, str]]) -> None:
        """Pictures that are there more than once. owners: split and class of each."""
        pairs, leaks = inspection.same_pictures(all_facts), 0
        for title, of_kind in zip(("same file", "same picture by its looks"), pairs, strict=True):
            groups = {LEAK: [], LABELS: [], TWICE: []}
            for i, j in of_kind:
                other_split, other_class = (owners[i][part] != owners[j][part] for part in (0, 1))
                where = LEAK if other_split else LABELS if other_class else TWICE
                groups[where].append(f"{all_facts[i].name} = {all_facts[j].name}")
            for where, names in groups.items():
                if names:
                    self.some(f"{title} {where}", names)
            leaks += len(groups[LEAK])
        if not leaks and not any(facts.refusal for facts in all_facts):
            self.line("no picture is in both splits, by its bytes or by its looks")
