"""Values as people see them: each in all the forms it has, every one of them bounded."""

import binascii
import builtins
import json
import os

MAX_FORM = 512 << 10  # the longest form in which a text is left whole, in bytes
MAX_IMAGE = 2 << 20  # the largest picture, in bytes: what the front end passes on
MAX_FORMS = 4 << 20  # all forms of one value together: what the agent takes
MAX_KINDS = 32
BINARY = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)

clear_first = False


def ask(value, method, **arguments):
    """What one of a value's own methods makes of it, without the metadata; None if nothing."""
    # The class is asked, as for __repr__: a mock has every attribute.
    if not hasattr(type(value), method):
        return None
    try:
        made = getattr(value, method)(**arguments)
    except Exception as error:
        say("{} of {} raised {}: {}".format(
            method, type(value).__name__, type(error).__name__, text_of(str, error)
        ))
        return None
    return made[0] if isinstance(made, tuple) and made else made


def bundle_of(value):
    """All forms of a value by their MIME types, as its author made them."""
    bundle = figure_bundle(value)
    own = ask(value, "_repr_mimebundle_", include=None, exclude=None)
    bundle.update(own if isinstance(own, dict) else {})
    for mime, method in METHODS:
        if mime not in bundle:
            bundle[mime] = ask(value, method)
    if not isinstance(bundle.get("text/plain"), str):
        bundle["text/plain"] = text_of(repr, value)
    return bundle


def encoded(mime, data):
    """A form as bytes."""
    if isinstance(data, str) and mime in BINARY:
        return binascii.a2b_base64(data)  # as Jupyter's messages have it
    if isinstance(data, str):
        return text(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if mime.endswith("json"):
        return json.dumps(data, allow_nan=False).encode()
    raise TypeError("it is of type {}".format(type(data).__name__))


def forms_of(bundle):
    """The forms that are shown, the text first, and a word on each that is not."""
    order = sorted(bundle.items(), key=lambda form: form[0] != "text/plain")
    forms = []
    room = MAX_FORMS
    for mime, data in order:
        if data is None:
            continue
        try:
            if not (isinstance(mime, str) and mime.isascii() and len(mime) <= MAX_NAME):
                raise ValueError("it is no MIME type")
            data = encoded(mime, data)
            if mime == "text/plain":
                data = bounded(data.decode())
            most = MAX_IMAGE if mime in BINARY else MAX_FORM
            if len(data) > min(most, room) or len(forms) == MAX_KINDS:
                raise ValueError("{} bytes are too many, save it to a file".format(len(data)))
        except Exception as error:
            say("[{} is left out: {}]".format(text_of(str, mime)[:MAX_NAME], text_of(str, error)))
            continue
        room -= len(data)
        forms.append((mime, data))
    return forms


def show(bundle, result=False, id="", update=False):
    """Sends one value in its forms."""
    global clear_first
    if clear_first:
        clear_output()
    forms = forms_of(bundle)
    header = {
        "type": "display",
        "result": result,
        "id": id,
        "update": update,
        "forms": [[mime, len(data)] for mime, data in forms],
    }
    send(header, b"".join(data for _, data in forms))


def show_result(value):
    """Shows the value of a cell's last expression and remembers it as _."""
    builtins._ = value
    show(bundle_of(value), result=True)


def checked(display_id):
    """A display_id, made up if it is True; empty if there is none."""
    if display_id is None or display_id is False:
        return ""
    if display_id is True:
        return binascii.hexlify(os.urandom(16)).decode()
    if not isinstance(display_id, str) or not 0 < len(text(display_id)) <= MAX_NAME:
        raise TypeError("a display_id is a str of 1 to {} bytes".format(MAX_NAME))
    return text(display_id).decode()


def display(
    *objects, include=None, exclude=None, display_id=None, raw=False, clear=False,
    update=False, **_others
):
    """Shows objects in all the forms they have, as in IPython."""
    display_id = checked(display_id)
    if update and not display_id:
        raise TypeError("update_display needs a display_id")
    if clear:
        clear_output(wait=True)
    for value in objects:
        if os.getpid() != process:
            print(text_of(repr, value))  # a fork of the user's has stdout alone
            continue
        bundle = dict(value) if raw else bundle_of(value)
        for mime in list(bundle):
            unwanted = include and mime not in include or exclude and mime in exclude
            if unwanted and mime != "text/plain":
                del bundle[mime]
        show(bundle, id=display_id, update=update)
    return DisplayHandle(display_id) if display_id and not update else None


def update_display(value, *, display_id, **options):
    """Shows something else in the place of what was shown under this id."""
    display(value, display_id=display_id, update=True, **options)


def publish_display_data(data, metadata=None, source=None, *, transient=None, **options):
    """Shows forms that are there already, by their MIME types."""
    display_id = (transient or {}).get("display_id")
    display(data, raw=True, display_id=display_id, update=options.get("update", False))


def clear_output(wait=False):
    """Takes back what the cell has displayed so far: now, or when it displays something else."""
    global clear_first
    clear_first = wait
    if not wait:
        send({"type": "display", "result": False, "id": "", "update": True, "forms": []})


class DisplayHandle:
    """The place of something shown, where something else can be."""

    def __init__(self, display_id=None):
        self.display_id = display_id or checked(True)

    def __repr__(self):
        return "<DisplayHandle display_id={}>".format(self.display_id)

    def display(self, value, **options):
        display(value, display_id=self.display_id, **options)

    def update(self, value, **options):
        update_display(value, display_id=self.display_id, **options)


builtins.display = display
builtins.update_display = update_display
