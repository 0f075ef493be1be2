"""Figures of matplotlib, which nobody here imports."""

import io
import sys
import traceback

DPI = 100


def show_figures():
    """Shows and closes what matplotlib has open, if the user has loaded it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    try:
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            try:
                display([draw(figure)])
            finally:
                pyplot.close(figure)
    except Exception:
        print("the figures could not be drawn:", file=sys.stderr)
        traceback.print_exc()


def draw(figure):
    """A figure as PNG, coarser if it would be too large."""
    for dpi in (DPI, DPI // 2, DPI // 4):
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=dpi, bbox_inches="tight")
        if image.tell() <= MAX_IMAGE:
            return "image/png", image.getvalue()
    return "text/plain", b"(a figure too large to show: save it to a file)"
