"""Cells as Python compiles them, and their exceptions as users should read them."""

import ast
import io
import tokenize
import traceback

LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}
RESULT = " result"  # no name of the user's can have a space
AWAIT = getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)  # since Python 3.8
COROUTINE = 0x80  # inspect.CO_COROUTINE, and inspect takes a while to import


def compile_cell(source, name):
    """Compiles a cell whole; its last expression becomes the value of RESULT."""
    tree = parse_magics(source, name)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr) and not ends_quietly(source):
        target = ast.Name(RESULT, ast.Store())
        value = ast.Assign([target], last.value)
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(value, last))
    return compile(tree, name, "exec", AWAIT, dont_inherit=True)


def parse_magics(source, name):
    """The syntax tree of a cell, in which what is not Python has become calls."""
    own = source
    source = of_cell(source) or source
    while True:
        try:
            return parse(source, name)
        except SyntaxError as error:
            source = with_calls(source, error)
            if source is None:
                show_own_line(error, own)
                raise


def show_own_line(error, source):
    """Puts the user's line into an error in the place of what it has become."""
    lines = lines_in(source)
    if error.text and error.lineno and error.lineno <= len(lines):
        if "__magic__(" in error.text:
            error.text = lines[error.lineno - 1]


def parse(source, name):
    """The syntax tree of a cell without magics."""
    try:
        # Not ast.parse: its frame would stand in the user's tracebacks.
        return compile(source, name, "exec", ast.PyCF_ONLY_AST | AWAIT, dont_inherit=True)
    except IndentationError:
        tree = parse_indented(source, name)
        if tree is None:
            raise
        return tree


def parse_indented(source, name):
    """The tree of a snippet that is indented as a whole; None if it is not.

    It gets a block around it, in which nothing has to be cut off: no string changes, and
    no column.
    """
    lines = (line for line in source.splitlines() if line.strip())
    first = next((line for line in lines if not line.lstrip().startswith("#")), "")
    if not first.startswith((" ", "\t")):
        return None
    try:
        flags = ast.PyCF_ONLY_AST | AWAIT
        tree = compile("if 1:\n" + source, name, "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        for line in ("lineno", "end_lineno"):
            if getattr(error, line, None):
                setattr(error, line, getattr(error, line) - 1)
        raise error from None
    block = tree.body[0]
    if len(tree.body) > 1 or block.orelse:
        return None
    tree.body = block.body
    return ast.increment_lineno(tree, -1)


def ends_quietly(source):
    """Whether a cell ends in a semicolon, which asks that its value be not shown."""
    last = ""
    if ";" in source:
        try:
            for token in tokenize.generate_tokens(io.StringIO(source).readline):
                if token.type not in LAYOUT:
                    last = token.string
        except (SyntaxError, tokenize.TokenError):  # not all of it is Python's grammar
            return False
    return last == ";"


def lines_of(error):
    """An exception as Python tells it, with the user's frames only."""
    frames = error.__traceback__
    if frames and frames.tb_frame.f_code.co_filename == __file__:
        # What called the cell: ours, and an event loop's.
        while frames and not frames.tb_frame.f_code.co_filename.startswith("<cell "):
            frames = frames.tb_next
    try:
        told = traceback.TracebackException(type(error), error, frames)
        cut_ours(told)
        return list(told.format())
    except Exception:  # a SyntaxError of the user's own making, for one
        lines = ["Traceback (most recent call last):\n"] + traceback.format_tb(frames)
        return lines + [type(error).__name__ + "\n"]


def cut_ours(told):
    """Cuts what the cell has called of ours, here and in the exceptions behind."""
    told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]
    behind = [told.__cause__, told.__context__] + list(getattr(told, "exceptions", None) or ())
    for other in behind:
        if other is not None:
            cut_ours(other)


def show_exception(error):
    """Shows an exception."""
    header = {
        "type": "exception",
        "name": text(type(error).__name__[:MAX_NAME]).decode(),
        "value": bounded(text_of(str, error)).decode(),
        "traceback": bounded("".join(lines_of(error))).decode(),
    }
    send(header)


def say_failed(what, error):
    """Tells the user on stderr what could not be shown, and why."""
    say(what + "\n" + "".join(lines_of(error)).rstrip())
