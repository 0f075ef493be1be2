"""Copies of this interpreter, each under a supervisor of its own.

Memory is shared until one of them writes to it. The copy's parent becomes the agent's
program, which takes no part in what the copy does: it only looks after it.
"""

import os
import signal
import struct
import sys

FORKS = 5  # where the agent sends the ends of a copy's pipes
ENDS = struct.Struct("7i")  # its program, control, stdout, stderr, requests, events, forks
ABOVE = 10  # where they are out of the way of those whose places they take

inherited = []  # event loops of what this is a copy of


def receive():
    """The ends of a copy's pipes, as the agent has sent them."""
    import _socket
    import fcntl

    own = _socket.socket(fileno=FORKS)
    try:
        room = _socket.CMSG_SPACE(ENDS.size)
        received = own.recvmsg(1, room, _socket.MSG_CMSG_CLOEXEC)
    finally:
        own.detach()
    ends = []
    for end in ENDS.unpack(received[1][0][2]):
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, ABOVE))
        os.close(end)
    return ends


def fork():
    """Makes a copy, and says whether this is the copy."""
    ends = receive()
    flush()
    try:
        helper = os.fork()
    except OSError:
        close(ends)
        raise
    if helper:
        close(ends)
        wait_for(helper)
        return False
    try:
        if os.fork():
            os._exit(0)  # what comes next is an orphan, and so the agent's
        os.setsid()
        copy = os.fork()
        if copy:
            supervise(copy, ends)
        take_over(ends)
    except BaseException:
        os._exit(1)  # the agent sees that nobody has taken over
    return True


def close(ends):
    """Closes what belongs to somebody else."""
    for end in ends:
        os.close(end)


def wait_for(helper):
    """Reaps a child of ours, which the user should not come upon."""
    try:
        os.waitpid(helper, 0)
    except ChildProcessError:  # the user has the kernel do it
        pass


def supervise(copy, ends):
    """Becomes the copy's supervisor."""
    program, control = ends[:2]
    null = os.open(os.devnull, os.O_RDWR)
    for end, place in ((control, 0), (null, 1), (null, 2)):
        os.dup2(end, place)
    # Held on to, the user's own pipes would not end before the copy does.
    for descriptor in os.listdir("/proc/self/fd"):
        if int(descriptor) > 2:
            try:
                os.set_inheritable(int(descriptor), False)
            except OSError:  # what the list itself was read by
                pass
    # Ignored, it would have the kernel reap the copy, and nobody would know how it ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.execve(program, ["agent", "supervise", str(copy)], {})


def take_over(ends):
    """Puts this copy's own pipes in the place of those that it has inherited."""
    global process, turn, loop
    os.setpgid(0, 0)  # a group of its own, so that an interrupt finds it and not its supervisor
    for end, place in zip(ends[2:], (1, 2, requests.fileno(), EVENTS, FORKS)):
        os.dup2(end, place, inheritable=place < 3)
    close(ends)
    process = os.getpid()
    turn = _thread.allocate_lock()  # a thread that is not here may have held it
    if loop is not None:
        # What it waits by is shared with the one that this is a copy of. It is kept, and so never
        # closed: that would have the other wait for ever.
        inherited.append(loop)
        loop = None


def found_at_start():
    """What decides which packages a new interpreter finds: the state of where they are installed."""
    site = sys.modules.get("site")
    places = site and site.getsitepackages() + [site.getusersitepackages()]
    return [modified(place) for place in places or ()]


def modified(place):
    """When a directory last changed; None if there is none."""
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return None
