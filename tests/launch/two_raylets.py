"""A Ray cluster of two raylets of one core each: `python -m tests.launch.two_raylets`.

Prints its address and the id of the second raylet's process, and ends with its standard input.
"""

import os
import sys

# Ray's own are 15, which a busy machine starves.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

if __name__ == "__main__":
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        second = cluster.add_node(num_cpus=1)
        (raylet,) = second.all_processes["raylet"]
        print(cluster.address, raylet.process.pid, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()
