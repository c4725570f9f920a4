# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""One target under atheris, in a process of its own, as libFuzzer ends it: `python fuzz/target_process.py TARGET [LIBFUZZER ARGUMENT]...`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

with atheris.instrument_imports(include=["brokerless"]):
    import core_states
    import parsers

TARGETS = {**parsers.PARSERS, "receiver-core": core_states.receiver_core, "driver-session": core_states.driver_session}

if __name__ == "__main__":
    parsers.quiet()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
