# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What the modules of the collection have in common, one fragment per fact."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
  platform:
    description: Target OS or families that can be operated against.
    platforms: linux
    support: full
  action_group:
    description: Use C(group/brokerless.openstack.openstack) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - brokerless.openstack.openstack
requirements:
  - Python 3.11 or newer on the target.
"""

    READS_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action changes nothing, so it does the same in check mode.
  diff_mode:
    support: N/A
    details:
      - This action changes nothing.
  idempotent:
    support: full
    details:
      - This action changes nothing.
"""
