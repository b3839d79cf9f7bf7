"""Early warnings that a GAN is dying, read from the rows of its log; docs/training.md says more on each.
What the terms of a method mean is said by the method: see `warnings` in simgan_tf/methods/__init__.py."""

from collections.abc import Callable

PATIENCE = 300  # steps that a condition must hold without a break: one batch, or the first steps, say nothing
ROWS = 5  # logged rows that it must hold in, at the least
UNCHANGED = 0.995  # correlation of an edit and its source

Conditions = dict[str, tuple[bool, str]]  # name -> whether it holds in this row, and the words to say


def of_all(terms: dict[str, float]) -> Conditions:
    """The conditions that every method can run into."""
    correlation = terms.get("source_correlation", 0.5)
    return {
        "inverted": (
            correlation < 0,
            f"source_correlation is below 0 ({correlation:.2f}): G inverts the pictures. Start again with another "
            "--seed; docs/training.md says what else holds G to the picture.",
        ),
        "unchanged": (
            correlation > UNCHANGED,
            f"the edits equal their sources (source_correlation {correlation:.4f}): G does not hear the text. Start "
            "again with a lower weight of the term that holds G to the picture, or a larger --phi_scale of phi.",
        ),
    }


class Watch:
    """Remembers since when each condition holds.

    own: the method's warnings(terms).
    """

    def __init__(self, own: Callable[[dict[str, float]], Conditions]) -> None:
        self.own = own
        self.since: dict[str, tuple[int, int]] = {}  # condition -> first step, rows
        self.warned: set[str] = set()

    def see(self, step: int, terms: dict[str, float]) -> list[str]:
        """One line for each condition that has just held for long; again only after it was gone.

        terms: one row of the log: the weighted terms, D's scores, source_correlation; what is missing is not judged.
        """
        lines = []
        for name, (holds, line) in {**of_all(terms), **self.own(terms)}.items():
            if not holds:
                self.since.pop(name, None)
                self.warned.discard(name)
                continue
            first, rows = self.since.get(name, (step, 0))
            self.since[name] = first, rows + 1
            if step - first >= PATIENCE and rows + 1 >= ROWS and name not in self.warned:
                self.warned.add(name)
                lines.append(f"step {step}: since step {first} {line}")
        return lines
