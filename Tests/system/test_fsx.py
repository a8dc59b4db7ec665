# The random tester on a cluster, with kills of the daemon, and on two volumes' worth of directories at once.
import os
import time

import fsx
import storereader
from conftest import length


def test_random_operations_with_kills_show_no_difference(new_cluster, directory):
    cluster = new_cluster()
    seed = int(os.environ.get("SHEEP_TEST_SEED", time.time()))
    # Ten minutes in the test, thirty in the soak.
    seconds = length(600.0, 1800.0)
    saved = directory.parent / f"sheep-fsx-{seed}.json"
    done = fsx.test_target(lambda: fsx.ClusterTarget(cluster), seed, seconds, True, saved)
    print(f"seed {seed}: {done} operations")
    assert done > 10 * seconds
    cluster.quiesce()
    storereader.compare(cluster.stores)
