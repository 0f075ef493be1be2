"""What people type in every notebook and is not Python: shell lines and the commonest magics.

IPython need not be there. Only what Python cannot parse is looked at, at the line where it gives up: what
stands in a string, or behind an operator, is never taken for one.
"""

import builtins
import os
import sys


def with_calls(source, error):
    """The cell with a call in place of the line at which Python gave up; None if that is neither."""
    lines = lines_in(source)
    at = (error.lineno or 0) - 1
    if not 0 <= at < len(lines):
        return None
    while at and lines[at - 1].endswith("\\"):
        at -= 1  # what goes on over several lines may be no Python in any of them
    bare = lines[at].lstrip()
    if not (bare.startswith("!") or bare[:1] == "%" and bare.strip("%")[:1].isalpha()):
        return None
    indent = lines[at][: len(lines[at]) - len(bare)]
    last = at
    while bare.endswith("\\") and last + 1 < len(lines):
        last += 1
        bare = bare[:-1] + lines[last]
        lines[last] = ""  # so that every other line keeps its number
    name = "!" if bare[0] == "!" else bare.split()[0]
    rest = bare[len(name) :].strip()
    if name not in MAGICS:
        known = " ".join(MAGICS)
        raise refused(error, "{} is one of IPython's, and here there are {}; write it in Python".format(name, known))
    if of_cells(name):
        raise refused(error, "{} is for whole cells: alone in the first line".format(name))
    lines[at] = "{}__magic__({!r}, {!r})".format(indent, name, rest)
    return "\n".join(lines)


def of_cell(source):
    """The call that a cell is whose first line is a magic for all of it; None for other cells."""
    lines = lines_in(source.lstrip())
    words = lines[0].split()
    if len(words) != 1 or words[0] not in MAGICS or not of_cells(words[0]):
        return None
    return "__magic__({!r}, {!r})".format(words[0], "\n".join(lines[1:]))


def of_cells(name):
    """Whether a magic is for all of a cell."""
    return name.startswith("%%")


def lines_in(source):
    """The lines of a cell as Python counts them."""
    return source.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def refused(error, why):
    """The error of a cell with a magic that cannot be."""
    error.msg = why
    return error


def shell(line, program="sh"):
    """Runs a shell line, whose output is the cell's."""
    import subprocess

    flush()
    code = subprocess.call([program, "-c", line], stdin=subprocess.DEVNULL)
    if code:
        say("exit code {}: {}".format(code, line.split("\n")[0]))


def pip(arguments):
    """Installs into this interpreter, and not into another that is found first."""
    import shlex

    shell("{} -m pip {}".format(shlex.quote(sys.executable), arguments))


def cd(directory):
    """Goes to a directory, and says where that is."""
    os.chdir(os.path.expanduser(directory.strip("'\"") or "~"))
    print(os.getcwd())


MAGICS = {
    "!": shell,
    "%pip": pip,
    "%cd": cd,
    "%matplotlib": lambda _: None,  # figures are shown anyway
    "%%bash": lambda lines: shell(lines, "bash"),
    "%%sh": shell,
}

builtins.__magic__ = lambda name, rest: MAGICS[name](rest)
