"""Values as people see them: in several forms."""

import builtins

MAX_IMAGE = 2 << 20  # the largest picture, in bytes: what the front end passes on


def display(forms, result=False):
    """Sends one value in several forms: pairs of a MIME type and bytes."""
    header = {
        "type": "display",
        "result": result,
        "forms": [[mime, len(data)] for mime, data in forms],
    }
    send(header, b"".join(data for _, data in forms))


def show_result(value):
    """Shows the value of a cell's last expression and remembers it as _."""
    builtins._ = value
    forms = [("text/plain", bounded(text_of(repr, value)))]
    try:
        image = getattr(type(value), "_repr_png_", None)
        image = image(value) if image else None
        if isinstance(image, bytes) and len(image) <= MAX_IMAGE:
            forms.append(("image/png", image))
    except Exception:  # a value that cannot be drawn still has its text
        pass
    display(forms, result=True)
