"""Runs cells in one lasting namespace, for the agent that started this interpreter.

Cells come in and what happened goes out over two private pipes; stdin, stdout and
stderr are the user's alone. Works with Python 3.7 and newer.

A request is a line "<number> <length>" and that many bytes of UTF-8. An event is two
big-endian 32-bit lengths, a header in JSON and a payload.
"""

import ast
import builtins
import io
import json
import linecache
import os
import signal
import struct
import sys
import traceback
import types
import warnings

EVENTS = 4
MAX_TEXT = 64 << 10  # the longest text of a value or an exception, in bytes
MAX_IMAGE = 2 << 20  # the largest picture, in bytes: what the front end passes on
DPI = 100

requests = requests  # noqa: F821 (the agent's bootstrap has opened it)
process = os.getpid()
running = False
sending = False
interrupted = False


def interrupt(_signal, _frame):
    """Ends the cell that runs; between cells there is nothing to end."""
    global interrupted
    if sending:
        interrupted = True  # half an event would be the last one understood
    elif running:
        raise KeyboardInterrupt


def send(header, payload=b""):
    """Sends one event to the agent, behind all output written so far."""
    global sending, interrupted
    flush()
    head = json.dumps(header).encode()
    data = memoryview(struct.pack(">II", len(head), len(payload)) + head + payload)
    interrupted = False
    sending = True
    while data:
        data = data[os.write(EVENTS, data):]
    sending = False
    if interrupted:
        interrupt(None, None)


def flush():
    """Hands on what the streams still hold, even ones the user has put in place."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except Exception:  # closed, None, or something of the user's
            pass


def bounded(text):
    """Text as UTF-8 of a bounded length, which says so where it was cut."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_TEXT:
        cut = data[:MAX_TEXT].decode("utf-8", "ignore")
        data = "{}… ({} bytes in all)".format(cut, len(data)).encode()
    return data


def text_of(make, value):
    """What repr or str make of a value; they are the user's code and may fail."""
    try:
        return make(value)
    except Exception as error:
        return "<{} whose {} raised {}>".format(
            type(value).__name__, make.__name__, type(error).__name__
        )


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


def show_exception(error):
    """Shows an exception with the user's frames only."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception:  # its str raises
        lines = ["Traceback (most recent call last):\n"] + traceback.format_tb(frames)
        lines.append(type(error).__name__ + "\n")
    header = {
        "type": "exception",
        "name": type(error).__name__,
        "value": bounded(text_of(str, error)).decode(),
        "traceback": bounded("".join(lines)).decode(),
    }
    send(header)


def compile_cell(source, name):
    """Compiles a cell whole; its last expression becomes the value of RESULT."""
    # Not ast.parse: its frame would stand in the user's tracebacks.
    tree = compile(source, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        target = ast.Name(RESULT, ast.Store())
        value = ast.Assign([target], last.value)
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(value, last))
    return compile(tree, name, "exec", dont_inherit=True)


def execute(source, name):
    """Runs a cell and shows what it leaves: its value and its figures."""
    namespace = main.__dict__
    try:
        exec(compile_cell(source, name), namespace)
        value = namespace.pop(RESULT, None)
        if value is not None:
            show_result(value)
    except Exception:
        show_figures()  # before the exception, and not in the next cell
        raise
    show_figures()


def run(source, name):
    """Runs a cell, and says whether it ended without an exception."""
    global running
    error = None
    try:
        try:
            running = True
            execute(source, name)
        finally:
            running = False
    except SystemExit:
        raise
    except BaseException as raised:
        running = False  # the interrupt may have come just before it was
        error = raised
    if os.getpid() != process:
        # The user's code has forked and its child came back here: that ends.
        flush()
        os._exit(0 if error is None else 1)
    if error is not None:
        show_exception(error)
    return error is None


def serve():
    """Runs cells until the agent closes the pipe."""
    while True:
        line = requests.readline()
        if not line:
            return
        number, length = (int(word) for word in line.split())
        source = requests.read(length).decode("utf-8-sig")
        name = "<cell {}>".format(number)
        # Where tracebacks find the lines of a cell.
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        succeeded = run(source, name)
        send({"type": "done", "number": number, "succeeded": succeeded})


RESULT = " result"  # no name of the user's can have a space
__file__ = "<driver>"

main = types.ModuleType("__main__")
main.__dict__["__builtins__"] = builtins
sys.modules["__main__"] = main
sys.argv = [""]
# Only now, with everything of ours imported: the workspace may hold a json.py.
sys.path.insert(0, "")
for descriptor in (requests.fileno(), EVENTS):
    os.set_inheritable(descriptor, False)
for standard in (sys.stdout, sys.stderr):
    standard.reconfigure(
        encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
signal.signal(signal.SIGINT, interrupt)
# plt.show() has nothing to do here: figures are shown when the cell ends.
warnings.filterwarnings("ignore", message=".*non-interactive.*cannot be shown")
send({"type": "ready"})
serve()
