class Answers:
    """An object with methods get_<name> for what it is made with, and those names."""

    def __init__(self, **answers):
        self.__dict__.update(answers)

    def __getattr__(self, name):
        if not name.startswith("get_") or name[4:] not in self.__dict__:
            raise AttributeError(name)
        return lambda **_: self.__dict__[name[4:]]


class Numbers(Answers):
    pass


class DateFormatter(Answers):
    pass


class Line2D(Answers):
    pass


class Wedge(Answers):
    pass


class Rectangle(Answers):
    pass


class PathPatch(Answers):
    pass


class BarContainer(Answers):
    pass


class QuadMesh(Answers):
    pass


class Offsets(list):
    def __getitem__(self, key):
        return [point[key[1]] for point in self]


class PathCollection(Answers):
    pass


def axis(ticks=("0", "\u22121"), formatter=Numbers()):
    labels = [Answers(text=text) for text in ticks]
    places = list(range(len(labels)))
    return Answers(majorticklocs=places, majorticklabels=labels, major_formatter=formatter)


def axes(x=axis(), y=axis(), **parts):
    chart = dict(
        label="", title="", xlabel="", ylabel="", xscale="linear", yscale="linear",
        patches=[], containers=[], collections=[], lines=[], xaxis=x, yaxis=y,
    )
    chart.update(parts)
    return Answers(**chart)


def line(x, y, label="_child0", style="-"):
    return Line2D(xdata=x, ydata=y, label=label, linestyle=style)


def bar(place, length, lying=False):
    if lying:
        return Rectangle(x=0, y=place - 0.25, width=length, height=0.5)
    return Rectangle(x=place - 0.25, y=0, width=0.5, height=length)
