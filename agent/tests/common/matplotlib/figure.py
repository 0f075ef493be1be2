import os


class Figure:
    def __init__(self, name="", axes=()):
        self.name, self.axes, self.sizes = name, axes, {}

    def __repr__(self):
        return "<Figure {}>".format(self.name)

    def savefig(self, file, format, dpi, bbox_inches):
        size = self.sizes.get(dpi, 0)
        image = "{} {} {}".format(os.environ["MPLBACKEND"], dpi, self.name)
        file.write(b"x" * size or image.encode())

    def get_axes(self):
        return self.axes
