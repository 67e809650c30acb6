"""The pieces of which a report page is made, and how figures are written."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its 95% interval, which are not-a-number where it has none."""

    value: float
    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Tell whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""
    """Smaller, on a line of its own: an interval."""
    best: bool = False
    """Printed in bold."""


@dataclass(frozen=True)
class Table:
    """A table with a heading a row and a heading a column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """The first cell of a row is its heading."""
    note: str = ""
    words: bool = False
    """True: cells hold words, set to the left; else numbers, set to the right."""


@dataclass(frozen=True)
class Plot:
    """One drawing."""

    name: str
    """Of its file, without the ending."""
    svg: bytes
    caption: str
    alt: str
    """What it shows, for those who cannot see it."""

    @property
    def uri(self) -> str:
        """Write the drawing as an address that holds all of it."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


@dataclass(frozen=True)
class Part:
    """A stretch of a section: words, then drawings, then tables; a single drawing stands beside its tables."""

    heading: str = ""
    text: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    small: bool = False
    """True: more drawings on a line."""
    tables: Sequence[Table] = ()
    folded: Sequence[tuple[str, str]] = ()
    """Titles and plain texts that open on demand."""


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    anchor: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of the summary."""

    topic: str
    text: str


def format_figure(value: float, decimals: int = 3) -> str:
    """Write a figure, a dash where it is no number."""
    if math.isnan(value):
        return MISSING
    rounded = round(value, decimals) + 0.0  # adding zero takes the sign from a negative zero
    return f"{rounded:.{decimals}f}".replace("-", MINUS)


def format_percent(value: float, decimals: int = 1) -> str:
    """Write a fraction as a percentage without its sign."""
    return format_figure(100 * value, decimals)


def format_error(value: float, decimals: int = 3) -> str:
    """Write a figure that is never below 0, small ones by their order of magnitude."""
    return f"{value:.1e}" if 0 < value < 10**-decimals else format_figure(value, decimals)


def make_error_cell(figure: Interval, best: bool = False) -> Cell:
    """Write an error over its interval, small ones by their order of magnitude."""
    if math.isnan(figure.value):
        return Cell(MISSING)
    detail = f"{format_error(figure.low)} to {format_error(figure.high)}" if figure.is_bounded else ""
    return Cell(format_error(figure.value), detail, best)


def make_cell(figure: Interval, best: bool = False, decimals: int = 3) -> Cell:
    """Write a figure over its interval."""
    text = format_figure(figure.value, decimals)
    if math.isnan(figure.value) or not figure.is_bounded:
        return Cell(text, best=best)
    return Cell(text, f"{format_figure(figure.low, decimals)} to {format_figure(figure.high, decimals)}", best)


def make_percent_cell(figure: Interval, best: bool = False) -> Cell:
    """Write a fraction over its interval, both as percentages without their sign."""
    return make_cell(Interval(100 * figure.value, 100 * figure.low, 100 * figure.high), best, 1)


def join_words(words: Sequence[str]) -> str:
    """List words as prose does: a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
