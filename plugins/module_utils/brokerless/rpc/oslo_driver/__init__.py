# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The driver `zmq://` of oslo.messaging, over the same connection to the receiver of this host as everything else.

Only this package imports oslo.messaging, and nothing else of the runtime imports this package. It is entered through the entry points
`oslo.messaging.drivers: zmq` and `oslo.config.opts: oslo.messaging.zmq`. The interface that it implements is private to oslo.messaging (its
contributors' guide, "Driver Development Guide"); the versions it is tested with are 18.2.0 and 18.3.1.
"""

from __future__ import annotations
