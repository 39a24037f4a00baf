"""Any log becomes a dataset: named columns, roles, checked arrays, transitions."""

from qss_offline.data.importing.names import ColumnNames as ColumnNames
from qss_offline.data.importing.plan import ImportPlan as ImportPlan
from qss_offline.data.importing.report import Role as Role
from qss_offline.data.importing.report import RoleReport as RoleReport
from qss_offline.data.importing.rules import ImportRules as ImportRules
from qss_offline.data.importing.sources import plan_arrays as plan_arrays
from qss_offline.data.importing.sources import plan_file as plan_file
from qss_offline.data.importing.sources import plan_frame as plan_frame
from qss_offline.data.importing.sources import plan_minari as plan_minari
from qss_offline.data.importing.sources import plan_replay_buffer as plan_replay_buffer
from qss_offline.data.importing.store import NOTHING_KNOWN as NOTHING_KNOWN
from qss_offline.data.importing.store import About as About
from qss_offline.data.importing.store import flattening as flattening
from qss_offline.data.importing.store import store as store
