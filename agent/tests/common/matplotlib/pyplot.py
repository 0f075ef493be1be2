import warnings

from matplotlib.figure import Figure

figures = {}


def figure(number=None, *arguments):
    if number not in figures:
        number = len(figures) + 1
        figures[number] = Figure(*arguments)
    return figures[number]


def get_fignums():
    return sorted(figures)


def close(figure):
    for number in [number for number in figures if figures[number] is figure]:
        del figures[number]


def show():
    warnings.warn("FigureCanvasAgg is non-interactive, and thus cannot be shown")
