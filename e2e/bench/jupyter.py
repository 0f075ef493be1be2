"""Milliseconds of each `1+1` in a bare IPython kernel, as a JSON list: until the result is there and the kernel idle."""

import json
import sys
import time

from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")
try:
    times = []
    # The first is not counted.
    for index in range(int(sys.argv[1]) + 1):
        results = []
        began = time.perf_counter()
        client.execute_interactive("1+1", output_hook=results.append, timeout=30)
        took = (time.perf_counter() - began) * 1e3
        assert [m["content"]["data"]["text/plain"] for m in results if m["msg_type"] == "execute_result"] == ["2"]
        if index:
            times.append(took)
    print(json.dumps(times))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
