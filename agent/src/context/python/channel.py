"""Runs cells in one lasting namespace, for the agent that started this interpreter.

Cells come in and what happened goes out over two private pipes; stdin, stdout and
stderr are the user's alone. Works with Python 3.7 and newer.

A request is a line "<number> <length>" and that many bytes of UTF-8. An event is two
big-endian 32-bit lengths, a header in JSON and a payload.

The agent joins the files of this directory to one program: they share a namespace, and
each imports what it needs. This one is the channel: events, and the interrupts that must
not cut one in two.
"""

import _thread
import json
import os
import struct
import sys

EVENTS = 4
MAX_TEXT = 64 << 10  # the longest text of a value or an exception, in bytes
MAX_NAME = 200  # the longest name: of a form, of what is displayed, of an exception

process = os.getpid()
main_thread = _thread.get_ident()
turn = _thread.allocate_lock()  # the user's threads may display something, too
running = False
sending = False
interrupted = False


def interrupt(_signal, frame):
    """Ends the cell that runs; between cells there is nothing to end."""
    global interrupted
    if sending:
        interrupted = True  # half an event would be the last one understood
    elif running and not cancel_awaiting(frame):
        raise KeyboardInterrupt


def send(header, payload=b""):
    """Sends one event to the agent, behind all output written so far."""
    global sending, interrupted
    if os.getpid() != process:
        return  # a fork of the user's: its word is not the cell's
    flush()
    head = json.dumps(header).encode()
    data = struct.pack(">II", len(head), len(payload)) + head + payload
    if _thread.get_ident() != main_thread:
        with turn:
            # Between cells the agent reads nothing: it would come to the next cell.
            if running:
                write(data)
        return
    interrupted = False
    sending = True
    with turn:
        write(data)
    sending = False
    if interrupted:
        interrupt(None, None)


def write(data):
    """Writes an event whole."""
    data = memoryview(data)
    while data:
        data = data[os.write(EVENTS, data):]


def flush():
    """Hands on what the streams still hold, even ones the user has put in place."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except Exception:  # closed, None, or something of the user's
            pass


def say(sentence):
    """Tells the user on stderr what is not shown."""
    try:
        print(sentence, file=sys.stderr)
    except Exception:  # closed, None, or something of the user's
        pass


def text(value):
    """Text as UTF-8, with escapes for what is none."""
    return value.encode("utf-8", "backslashreplace")


def bounded(value):
    """Text as UTF-8 of a bounded length, which says so where it was cut."""
    data = text(value)
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
