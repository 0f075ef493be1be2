"""Figures of matplotlib, which nobody here imports: pictures with the data of their charts."""

import io
import sys

DPI = 100

drawn = {}  # what the cell that runs has displayed itself: figures and their pictures


def figure_bundle(value):
    """The forms of a figure; of any other value, none."""
    figures = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    if not isinstance(figures, type) or not isinstance(value, figures):
        return {}
    try:
        bundle = picture(value)
    except Exception as error:
        say_failed("a figure could not be drawn:", error)
        return {}
    drawn[id(value)] = value, bundle.get("image/png")
    return bundle


def show_figures():
    """Shows and closes what matplotlib has open, if the user has loaded it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    try:
        for number in pyplot.get_fignums() if pyplot else ():
            figure = pyplot.figure(number)
            try:
                bundle = picture(figure)
                # Once is enough, unless it has changed since.
                if drawn.get(id(figure)) != (figure, bundle.get("image/png")):
                    show(bundle)
            except Exception as error:
                say_failed("a figure could not be drawn:", error)
            finally:
                pyplot.close(figure)
    except Exception as error:
        say_failed("the figures could not be drawn:", error)
    finally:
        drawn.clear()


def picture(figure):
    """A figure as PNG, coarser if it would be too large, and its charts."""
    for dpi in (DPI, DPI // 2, DPI // 4):
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=dpi, bbox_inches="tight")
        if image.tell() <= MAX_IMAGE:
            bundle = {"text/plain": text_of(repr, figure), "image/png": image.getvalue()}
            bundle[CHART] = charts_of(figure)
            return bundle
    return {"text/plain": "(a figure too large to show: save it to a file)"}
