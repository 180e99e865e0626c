"""The figures of a soak and what is concluded from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

BAD = ("torn", "double", "missing", "unsound", "failed", "growing")
_LEAST_SAMPLES = 30
"""The fewest sizes that distinguish growth from warming up."""


@dataclass(slots=True)
class Figures:
    """What happened in a soak.

    Attributes:
        counts: How often what was done.
        sizes: Size of the long-running process after each of its rounds: bytes, open files, threads.
        loud: How many of these rounds had something new; the lake grows with it, and so does the process.
        findings: What must not be, by kind.
        rows: Rows of the source in the end.
        seconds: How long it took.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    loud: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in BAD})
    rows: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.findings.values())

    def judge_growth(self) -> None:
        """Compare the last third of the quiet rounds with the one before; the first third is settling down."""
        sizes = self.sizes[self.loud :]
        if len(sizes) < _LEAST_SAMPLES:
            return
        third = len(sizes) // 3
        for name, index, share, spare in (
            ("bytes", 0, 1.05, 4_000_000),
            ("open files", 1, 1.0, 1),
            ("threads", 2, 1.0, 1),
        ):
            before = median(size[index] for size in sizes[third : 2 * third])
            after = median(size[index] for size in sizes[-third:])
            if after > before * share + spare:
                self.findings["growing"].append(f"{name}: {before:,.0f}, then {after:,.0f}")

    def lines(self) -> list[str]:
        """The table, and the first findings if there are any."""
        named = (
            "batches",
            "exports started",
            "exports killed",
            "upkeeps started",
            "upkeeps killed",
            "server faults",
        )
        rows = [(name, f"{self.counts[name]:,}") for name in named]
        rows += [
            ("exports that failed and may be repeated", f"{self.counts['passing']:,}"),
            ("rounds of the long-running process", f"{len(self.sizes):,}"),
            ("commits", f"{self.counts['commits']:,}"),
            ("rows in the source", f"{self.rows:,}"),
            ("reader: polls", f"{self.counts['polls']:,}"),
            ("reader: a file was gone", f"{self.counts['interrupted']:,}"),
            ("reader: rows twice in a merge", f"{self.counts['in a merge']:,}"),
        ]
        for name, sizes in (("", self.sizes[: self.loud]), (", nothing new", self.sizes[self.loud :])):
            if sizes:
                quarters = [sizes[min(len(sizes) - 1, len(sizes) * part // 4)] for part in range(5)]
                rows += [
                    (
                        f"memory at 0, 1/4 .. 1{name} (MB)",
                        ", ".join(f"{size[0] / 1e6:.0f}" for size in quarters),
                    ),
                    (f"open files{name}", ", ".join(str(size[1]) for size in quarters)),
                    (f"threads{name}", ", ".join(str(size[2]) for size in quarters)),
                ]
        rows += [(kind, str(len(self.findings[kind]))) for kind in BAD]
        rows.append(("seconds", f"{self.seconds:.0f}"))
        width = max(len(name) for name, _ in rows) + 2
        found = [f"{kind}: {text[-600:]}" for kind in BAD for text in self.findings[kind][:3]]
        return [*(f"{name:{width}}{value}" for name, value in rows), *found]
