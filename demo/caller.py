# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A process of a host that calls for another: one request a line in, as JSON, one answer a line out.

    {"kind": "call" | "fanout_cast", "topic": …, "method": …, "args": {…}, "timeout": seconds}
    {"value": …, "milliseconds": …}   or   {"error": class, "classes": [its class and those above it], "message": …, "milliseconds": …}

It ends with its input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from brokerless.rpc import impl_zmq
from brokerless.rpc.options import load_options

FUNCTIONS: dict[str, Callable[..., Any]] = {"call": impl_zmq.call, "fanout_cast": impl_zmq.fanout_cast}


def answer(conf: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what the request says and return what came of it, with the time that it took."""
    message = {"method": request["method"], "args": request.get("args", {})}
    started = time.perf_counter()
    try:
        result = {"value": FUNCTIONS[request["kind"]](conf, None, request["topic"], message, timeout=request["timeout"])}
    except Exception as error:  # noqa: BLE001 - whatever the other side raised is the answer
        result = {"error": type(error).__name__, "classes": [cls.__name__ for cls in type(error).__mro__], "message": str(error)}
    return result | {"milliseconds": (time.perf_counter() - started) * 1000}


def main() -> int:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    conf = load_options([parser.parse_args().config_file])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(conf, json.loads(line))) + "\n")
        sys.stdout.flush()
    impl_zmq.cleanup()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
