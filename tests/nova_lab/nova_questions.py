# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Questions to a Nova, asked by Nova's own libraries in its own virtual environment: `python nova_questions.py NOVA_CONF QUESTION [ARGUMENT]...`.

The answer is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

warnings.simplefilter("ignore")
import nova.conf  # noqa: E402
import oslo_messaging  # noqa: E402
from nova import block_device, config, context, objects, rpc, servicegroup  # noqa: E402
from nova.compute import api as compute_api  # noqa: E402
from nova.compute import rpcapi as compute_rpcapi  # noqa: E402
from nova.objects import host_mapping  # noqa: E402
from oslo_utils import uuidutils  # noqa: E402


def services() -> list[dict[str, Any]]:
    """All services of all cells, and whether Nova calls them up."""
    group = servicegroup.API()
    found = []
    for cell in objects.CellMappingList.get_all(context.get_admin_context()):
        with context.target_cell(context.get_admin_context(), cell) as inside:
            found += [
                {"cell": cell.name, "host": service.host, "binary": service.binary, "up": group.service_is_up(service)}
                for service in objects.ServiceList.get_all(inside)
            ]
    return found


def ping(cell: str, topic: str, server: str) -> str:
    """What a server says to `oslo_rpc_server_ping` on the bus of a cell, or of the control host if `cell` is empty."""
    url = next((mapping.transport_url for mapping in objects.CellMappingList.get_all(context.get_admin_context()) if mapping.name == cell), None)
    target = oslo_messaging.Target(topic=topic, server=server or None)
    client = oslo_messaging.get_rpc_client(rpc.create_transport(url) if url else rpc.TRANSPORT, target, timeout=6)
    try:
        answer: str = client.call({}, "oslo_rpc_server_ping")
    except oslo_messaging.MessagingTimeout:
        return "MessagingTimeout"
    return answer


def power(cell: str, host: str, action: str) -> str:
    """What a compute of a cell answers to a power action on its host, asked as Nova's API asks; the fake driver answers with the action."""
    mapping = next(mapping for mapping in objects.CellMappingList.get_all(context.get_admin_context()) if mapping.name == cell)
    with context.target_cell(context.get_admin_context(), mapping) as inside:
        answer: str = compute_rpcapi.ComputeAPI().host_power_action(inside, host, action)
    return answer


def uptime(cell: str, host: str) -> str:
    """What a compute says of its uptime; the fake driver knows none, and the answer is then the class of the error that came."""
    mapping = next(mapping for mapping in objects.CellMappingList.get_all(context.get_admin_context()) if mapping.name == cell)
    with context.target_cell(context.get_admin_context(), mapping) as inside:
        try:
            answer: str = compute_rpcapi.ComputeAPI().get_host_uptime(inside, host)
        except Exception as error:  # noqa: BLE001 - whichever it is, is what is asked
            return type(error).__name__
    return answer


def discover() -> int:
    """Map computes that are new to their cells; how many there are."""
    return len(objects.HostMappingList.get_all(context.get_admin_context())) or len(host_mapping.discover_hosts(context.get_admin_context()))


def build(cell: str, name: str) -> str:
    """Have an instance built by the computes of a cell, from where Nova's API hands over to the conductor above the cells; return its UUID.

    It has no network, and its image is never fetched: Neutron and Glance have no part in it.
    """
    admin = context.RequestContext("user", "project", is_admin=True)
    flavor = objects.Flavor(admin, name=name, flavorid=name, memory_mb=64, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0)
    flavor.is_public, flavor.disabled, flavor.extra_specs, flavor.vcpu_weight, flavor.description = True, False, {}, 0, None
    flavor.create()
    image = {"id": uuidutils.generate_uuid(), "status": "active", "properties": {}, "min_ram": 0, "min_disk": 0, "size": 0, "container_format": "raw"}
    options = {
        "reservation_id": "r-1", "image_ref": image["id"], "kernel_id": "", "ramdisk_id": "", "power_state": 0, "config_drive": "",
        "user_id": admin.user_id, "project_id": admin.project_id, "instance_type_id": flavor.id, "memory_mb": 64, "vcpus": 1, "root_gb": 1,
        "ephemeral_gb": 0, "display_name": name, "display_description": name, "user_data": None, "key_name": None, "key_data": None, "locked": False,
        "metadata": {}, "access_ip_v4": None, "access_ip_v6": None, "availability_zone": None, "root_device_name": "/dev/vda", "progress": 0,
        "pci_requests": objects.InstancePCIRequests(requests=[]), "numa_topology": None, "system_metadata": {}, "port_resource_requests": [],
        "request_level_params": objects.RequestLevelParams(),
    }  # fmt: skip
    disk = {"source_type": "image", "destination_type": "local", "boot_index": 0, "delete_on_termination": True, "image_id": image["id"]}
    disks = objects.block_device.block_device_make_list_from_dicts(admin, [block_device.BlockDeviceDict(disk | {"device_type": "disk"})])
    api = compute_api.API()
    provisioned = api._provision_instances(
        admin, flavor, 1, 1, options, image, [], disks, None, False, {}, None, objects.TagList(objects=[]), None, False, requested_host=cell
    )
    requests, specs, mappings = (list(kind) for kind in zip(*((spec, request, mapping) for spec, request, mapping in provisioned), strict=True))
    assert mappings
    api.compute_task_api.schedule_and_build_instances(
        admin,
        build_requests=specs,
        request_spec=requests,
        image=image,
        admin_password="",
        injected_files=[],
        requested_networks=objects.NetworkRequestList(objects=[objects.NetworkRequest(network_id="none")]),
        block_device_mapping=disks,
        tags=objects.TagList(objects=[]),
    )
    return str(specs[0].instance_uuid)


def instances(cell: str) -> list[dict[str, Any]]:
    """The instances of a cell, with the host that each is on."""
    mapping = next(mapping for mapping in objects.CellMappingList.get_all(context.get_admin_context()) if mapping.name == cell)
    with context.target_cell(context.get_admin_context(), mapping) as inside:
        found = objects.InstanceList.get_by_filters(inside, {})
        return [{"uuid": found.uuid, "host": found.host, "state": found.vm_state, "task": found.task_state} for found in found]


def main() -> int:
    """Ask."""
    file, question, *arguments = sys.argv[1:]
    config.parse_args(["nova-questions", "--config-file", file])
    nova.conf.CONF.set_override("use_stderr", True)
    objects.register_all()
    questions: dict[str, Callable[..., Any]] = {
        function.__name__: function for function in (services, ping, power, uptime, discover, build, instances)
    }
    answer = questions[question](*arguments)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
