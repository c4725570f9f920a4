# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The README's example of a service is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from receiver_process import Receiver, hosts, run_program, runtime_environment

CHECKOUT = Path(__file__).resolve().parents[3]


def parts_of_the_example() -> tuple[str, str, str]:
    """Return the example's preparation, its service and its call."""
    (example,) = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    preparation, service, call = re.split(r"^(?=with |impl_zmq\.call)", example, flags=re.MULTILINE)
    return preparation, service, call


def for_host(code: str, host: Receiver) -> str:
    assert '"/etc/brokerless/brokerless.conf"' in code
    return code.replace('"/etc/brokerless/brokerless.conf"', repr(str(host.config_file)))


def test_the_example_of_a_service_works() -> None:
    preparation, service, call = parts_of_the_example()
    ready = textwrap.indent("print('ready', flush=True)\n", "    ")
    service = service.replace("    connection.wait()\n", ready + "    connection.wait()\n")
    with hosts(["control1", "compute1"], {"compute": ["compute1"]}) as (control, compute):
        command = [sys.executable, "-c", for_host(preparation + service, compute)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=runtime_environment()) as serving:
            assert serving.stdout is not None
            assert serving.stdout.readline() == b"ready\n"
            code = for_host(preparation, control) + f"print({call.split('#')[0].strip()})"
            answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=runtime_environment(), check=True, timeout=60)
            assert answer.stdout == "rebooted i-42\n"
            pinged = run_program("brokerless", "--config-file", control.config_file, "ping", "compute")
            assert "compute1" in pinged.stdout
            serving.terminate()


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets
    assert [target for target in targets if not target.startswith("http") and not Path(CHECKOUT / target).exists()] == []
