"""Colours and number format shared by all pictures."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of series, in their order: Okabe and Ito's palette, safe for common kinds of colour blindness."""
ROOT_COLOUR = "#00568A"
THREAD_COLOURS = ("#007A5A", "#A8450A", "#8A3F77", "#2B6CB0", "#6B6100", "#5B4B9A")
"""Colours of the root thread and of the others, in turn: dark enough for text on white, and under white."""
INK, LIGHT, GREY = "#222222", "#B8BEC6", "#7A828C"
"""Colours of text and emphasis, of frames, and of secondary elements."""
FAULT, MARK = "#B00020", "#FFE58A"
"""Colours of fault texts, and of the background of marked text."""


def number(value: float) -> str:
    """At most one decimal: 3 for 3.0, 2.5 for 2.46."""
    return f"{value:.1f}".removesuffix(".0")


def thread_colour(thread: int) -> str:
    """Colour of a thread, by its index."""
    return ROOT_COLOUR if thread == 0 else THREAD_COLOURS[(thread - 1) % len(THREAD_COLOURS)]
