"""Any log becomes a dataset: named columns, roles, checked arrays, transitions."""

from qss_offline.data.importing.names import ColumnNames
from qss_offline.data.importing.plan import ImportPlan
from qss_offline.data.importing.report import Role, RoleReport
from qss_offline.data.importing.rules import ImportRules
from qss_offline.data.importing.sources import (
    from_arrays,
    from_file,
    from_frame,
    from_minari,
    from_replay_buffer,
    plan_arrays,
    plan_file,
    plan_frame,
    plan_minari,
    plan_replay_buffer,
)
from qss_offline.data.importing.store import NOTHING_KNOWN, About, flattening, store

__all__ = [
    "NOTHING_KNOWN",
    "About",
    "ColumnNames",
    "ImportPlan",
    "ImportRules",
    "Role",
    "RoleReport",
    "flattening",
    "from_arrays",
    "from_file",
    "from_frame",
    "from_minari",
    "from_replay_buffer",
    "plan_arrays",
    "plan_file",
    "plan_frame",
    "plan_minari",
    "plan_replay_buffer",
    "store",
]
