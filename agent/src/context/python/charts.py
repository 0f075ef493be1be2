"""What a figure's charts show, as data: for programs, and for who cannot see the picture.

Everything here asks the figure's objects by their names alone, and what it does not know
it calls "other": the picture is there in any case.
"""

import math
import warnings

CHART = "application/vnd.codesandbox.chart+json"
MAX_CHARTS = 20
MAX_SERIES = 50  # of one chart, and ticks of one axis
MAX_POINTS = 5000  # of a whole figure
MAX_LABEL = 200  # of any text, in characters


def charts_of(figure):
    """The charts of a figure, one for each of its axes; called when it has been drawn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of masked values and the like
            axes = [each for each in figure.get_axes() if each.get_label() != "<colorbar>"]
            room = [MAX_POINTS]
            charts = [chart_of(each, room) for each in axes[:MAX_CHARTS]]
            return {"charts": charts, "omitted": len(axes) - len(charts)}
    except Exception as error:
        return {"charts": [], "error": type(error).__name__}


def chart_of(axes, room):
    """One chart; room holds how many points of the figure may still be told."""
    names = names_of(axes.xaxis), names_of(axes.yaxis)
    every = pies_of(axes) + boxes_of(axes, names) + bars_of(axes, names)
    boxed = any(kind == "box" for kind, *_ in every)
    every += points_of(axes, [] if boxed else axes.get_lines())
    kinds = {kind for kind, *_ in every}
    series = []
    for _, label, xs, ys in every[:MAX_SERIES]:
        told = [[plain(x), plain(y)] for x, y in zip(xs[:room[0]], ys[:room[0]])]
        room[0] -= len(told)
        omitted = len(xs) - len(told)
        made_up = str(label).startswith("_")  # by matplotlib, which shows it nowhere
        label = "" if made_up else caption(label)
        series.append({"label": label, "points": told, "omitted": omitted})
    return {
        "type": kinds.pop() if len(kinds) == 1 else "other",
        "title": caption(axes.get_title()),
        "x": axis_of(axes.get_xlabel(), axes.get_xscale(), names[0]),
        "y": axis_of(axes.get_ylabel(), axes.get_yscale(), names[1]),
        "series": series,
        "omitted": len(every) - len(series),
    }


def axis_of(label, scale, names):
    """The label and the scale of an axis; its ticks where they are names."""
    axis = {"label": caption(label), "scale": scale}
    if names and scale == "linear":
        places = sorted(names)[:MAX_SERIES]
        axis["ticks"] = [caption(names[place]) for place in places]
        axis["omitted"] = len(names) - len(places)
    return axis


def names_of(axis):
    """The ticks of an axis that has names and not numbers or dates, by their places."""
    if "Date" in type(axis.get_major_formatter()).__name__:
        return {}
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
    names = {rounded(place): label.get_text() for place, label in ticks}
    return {} if all(numeric(name) for name in names.values()) else names


def pies_of(axes):
    """A pie: what its wedges are called, and which part of the whole they are."""
    wedges = [patch for patch in axes.patches if type(patch).__name__ == "Wedge"]
    labels = [wedge.get_label() for wedge in wedges]
    parts = [(wedge.theta2 - wedge.theta1) / 360 for wedge in wedges]
    return [("pie", "", labels, parts)] if wedges else []


def bars_of(axes, names):
    """Groups of bars: their places, by name if they have one, and their lengths."""
    groups = []
    for group in axes.containers:
        if type(group).__name__ != "BarContainer":
            continue
        lying = getattr(group, "orientation", None) == "horizontal"
        places, lengths = [], []
        for bar in group.patches:
            start, width, length = bar.get_x(), bar.get_width(), bar.get_height()
            if lying:
                start, width, length = bar.get_y(), length, width
            place = start + width / 2
            places.append(names[lying].get(rounded(place), place))
            lengths.append(length)
        groups.append(("bar", group.get_label(), places, lengths))
    return groups


def points_of(axes, lines):
    """Lines and clouds of points."""
    series = []
    for line in lines:
        bare = str(line.get_linestyle()).lower() in ("none", "", " ")
        kind = "scatter" if bare else "line"
        series.append((kind, line.get_label(), line.get_xdata(), line.get_ydata()))
    for cloud in axes.collections:
        if type(cloud).__name__ == "PathCollection":
            places = cloud.get_offsets()
            series.append(("scatter", cloud.get_label(), places[:, 0], places[:, 1]))
    return series


def boxes_of(axes, names):
    """The boxes of a box plot, which matplotlib draws as nothing but lines."""
    lines = [(line.get_xdata(), line.get_ydata()) for line in axes.get_lines()]
    strokes = [(list(xs), list(ys)) for xs, ys in lines if len(xs) in (2, 5)][:MAX_POINTS]
    closed = [stroke for stroke in strokes if len(stroke[0]) == 5]
    for patch in axes.patches:
        if type(patch).__name__ == "PathPatch":
            corners = [list(corner) for corner in patch.get_path().vertices[:5]]
            closed.append(tuple(map(list, zip(*corners))))
    boxes = []
    for box in closed[:MAX_SERIES]:
        for lying in (False, True):
            summary = summary_of(box, strokes, lying)
            if summary is not None:
                place = (min(box[lying]) + max(box[lying])) / 2
                label = names[lying].get(rounded(place), place)
                boxes.append(("box", label, ["min", "q1", "median", "q3", "max"], summary))
                break
    return boxes


def summary_of(box, strokes, lying):
    """The five numbers of one box, from the strokes at its place; None if it is no box."""
    across, along = box[lying], box[not lying]
    left, right, low, high = min(across), max(across), min(along), max(along)
    if len(across) != 5 or set(across) != {left, right} or set(along) != {low, high}:
        return None
    ends, median = [low, high], None
    for stroke in strokes:
        places, values = stroke[lying], stroke[not lying]
        if len(places) == 2 and places[0] == places[1] == (left + right) / 2:
            ends.extend(values)  # a whisker
        elif sorted(places) == [left, right] and low <= values[0] == values[1] <= high:
            median = values[0]
    return None if median is None else [min(ends), low, median, high, max(ends)]


def rounded(place):
    """A place as the ticks have it, too."""
    return round(float(place), 6)


def plain(value):
    """A number or a text, as JSON has them."""
    if isinstance(value, str):
        return caption(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return caption(str(value))  # a date, most often
    return number if math.isfinite(number) else None


def caption(text):
    """A text of a bounded length."""
    text = str(text)
    return text if len(text) <= MAX_LABEL else text[:MAX_LABEL - 1] + "…"


def numeric(name):
    """Whether a tick says a number, with the minus sign that matplotlib writes."""
    try:
        float(name.replace("\u2212", "-") or 0)
    except ValueError:
        return False
    return True
