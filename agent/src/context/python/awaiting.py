"""Cells that await something: one event loop stays from one to the next."""

import os
import sys

PATIENCE = 1  # how long a cell may take to be cancelled, in seconds: the agent waits for two

loop = None  # made when the first cell awaits, since asyncio takes a while to import
awaiting = None  # what runs of the cell that runs, if it awaits


def run_awaiting(coroutine):
    """Runs a cell that awaits to its end, and ends it when it is interrupted."""
    global loop, awaiting
    import asyncio

    if loop is None or loop.is_closed():
        loop = asyncio.new_event_loop()
    # The user's asyncio.run may have taken it away.
    asyncio.set_event_loop(loop)
    own = loop.create_task(coroutine)
    awaiting = own
    try:
        loop.run_until_complete(own)
    except asyncio.CancelledError as cancelled:
        if awaiting is not None:
            raise
        raise KeyboardInterrupt().with_traceback(cancelled.__traceback__) from None
    except BaseException:
        if not own.done():  # it came out of another task
            own.cancel()
            loop.run_until_complete(asyncio.wait([own], timeout=PATIENCE))
        raise
    finally:
        awaiting = None


def cancel_awaiting(frame):
    """Cancels the cell if it waits, which is in asyncio's hands, and says whether it did.

    An exception there would lose the task that the loop has just taken off its queue, or
    is about to put there. Code of the user's takes the exception; frame is what runs.
    """
    global awaiting
    own = awaiting
    if own is None or own.done():
        return False
    asyncio = sys.modules["asyncio"]
    theirs = frame and frame.f_code.co_filename.startswith(os.path.dirname(asyncio.__file__))
    if asyncio.current_task(loop) is not None and not theirs:
        return False
    awaiting = None
    own.cancel()
    loop.call_soon_threadsafe(int)  # it sleeps until something comes
    return True
