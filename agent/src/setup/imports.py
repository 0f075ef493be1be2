"""Installs what the files import that the arguments name: what neither Python nor the image nor their own workspace has."""

import sys

if sys.path[:1] == [""]:
    del sys.path[0]  # the workspace, in which there may be a file with the name of what is needed here

import ast
import os
import re
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

# Where a distribution has another name than what is imported of it.
DISTRIBUTIONS = {
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",  # the other one needs libraries of a display
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",  # the other one has to be compiled
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
NAME = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_]*[A-Za-z0-9])?")
# Before Python 3.10 those that are built in; most of the others are then found.
OWN = getattr(sys, "stdlib_module_names", sys.builtin_module_names)


def imported(tree):
    """The modules that are imported by their whole names, wherever in a tree; but for those that only type checkers import."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module
        elif isinstance(node, ast.If) and is_for_types(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def is_for_types(test):
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def has(directory, name):
    """Whether there is a module or a package of this name in a directory."""
    spec = PathFinder.find_spec(name, [directory])
    if spec is None or spec.origin:
        return spec is not None
    # Any directory could be a package, one with a Dockerfile as well.
    return any(any(Path(place).rglob("*.py")) for place in spec.submodule_search_locations)


def wanted(file):
    """The names of the modules that a file imports and that are not there."""
    try:
        tree = ast.parse(Path(file).read_bytes(), file)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        print(f"{file} was not looked into: {error}", file=sys.stderr)
        return set()
    names = {module.partition(".")[0] for module in imported(tree)}
    # What has been loaded need not be to be found, as `__main__` is not.
    names = {name for name in names if name not in OWN and name not in sys.modules and not find_spec(name)}
    places = {os.getcwd(), os.path.dirname(os.path.abspath(file))}
    return {name for name in names if not any(has(place, name) for place in places)}


distributions = set()
for name in sorted(set().union(*map(wanted, sys.argv[1:]))):
    if NAME.fullmatch(name):
        distributions.add(DISTRIBUTIONS.get(name, name))
    else:
        print(f"{name} is not installed: no distribution can have this name", file=sys.stderr)
if not distributions:
    print("nothing to install")
    sys.exit()
argv = ["python3", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *sorted(distributions)]
print("$", *argv, flush=True)
# Where no file of the workspace can have the name of a module that pip needs.
os.chdir("/")
os.execvp(argv[0], argv)
