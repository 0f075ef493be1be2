"""The loop: a cell comes, runs, shows what it leaves, and is over."""

import builtins
import linecache
import os
import signal
import sys
import types
import warnings

OUTDATED = 2  # what has been installed since would not be found

requests = requests  # noqa: F821 (the agent's bootstrap has opened it)


def execute(source, name):
    """Runs a cell and shows what it leaves: its value and its figures."""
    namespace = main.__dict__
    try:
        code = compile_cell(source, name)
        if code.co_flags & COROUTINE:
            run_awaiting(eval(code, namespace))
        else:
            exec(code, namespace)
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


def copy(number, new):
    """Makes a copy, which goes on where we do; a new one only if it starts as others would."""
    if new and found_at_start() != found:
        close(receive())
        send({"type": "done", "number": number, "status": OUTDATED})
        return
    try:
        if fork():
            send({"type": "ready"})
        else:
            send({"type": "done", "number": number, "status": 0})
    except Exception as error:
        show_exception(error)
        send({"type": "done", "number": number, "status": 1})


def serve():
    """Runs cells, and makes copies, until the agent closes the pipe."""
    while True:
        line = requests.readline()
        if not line:
            return
        number, request = line.split()
        number = int(number)
        if request in (b"fork", b"spawn"):
            copy(number, request == b"spawn")
            continue
        source = requests.read(int(request)).decode("utf-8-sig")
        name = "<cell {}>".format(number)
        # Where tracebacks find the lines of a cell.
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        succeeded = run(source, name)
        send({"type": "done", "number": number, "status": 0 if succeeded else 1})


__file__ = "<driver>"

main = types.ModuleType("__main__")
main.__dict__["__builtins__"] = builtins
sys.modules["__main__"] = main
sys.argv = [""]
# Only now, with everything of ours imported: the workspace may hold a json.py.
sys.path.insert(0, "")
for descriptor in (requests.fileno(), EVENTS, FORKS):
    os.set_inheritable(descriptor, False)
for standard in (sys.stdout, sys.stderr):
    standard.reconfigure(
        encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
signal.signal(signal.SIGINT, interrupt)
# plt.show() has nothing to do here: figures are shown when the cell ends.
warnings.filterwarnings("ignore", message=".*non-interactive.*cannot be shown")
found = found_at_start()
send({"type": "ready"})
serve()
