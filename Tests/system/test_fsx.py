# The random tester on a cluster, with kills of the daemon, and on two volumes' worth of directories at once.
import os
import time

import catalogreader
import fsx
import storereader
from conftest import length


def compare_copies(cluster):
    # The start writes an image of the catalog.
    cluster.stop_and_start()
    cluster.quiesce()
    volumes = catalogreader.read(cluster.stores[0])
    assert all(catalogreader.read(store) == volumes for store in cluster.stores)
    storereader.compare(cluster.stores, volumes)


def test_random_operations_with_kills_show_no_difference(new_cluster, directory):
    cluster = new_cluster()
    seed = int(os.environ.get("SHEEP_TEST_SEED", time.time()))
    # Ten minutes in the test, thirty in the soak.
    seconds = length(600.0, 1800.0)
    saved = directory.parent / f"sheep-fsx-{seed}.json"
    done = fsx.test_target(lambda: fsx.ClusterTarget(cluster), seed, seconds, True, saved)
    print(f"seed {seed}: {done} operations")
    assert done > 10 * seconds
    compare_copies(cluster)


def test_random_operations_while_stores_fail_and_change_show_no_difference(new_cluster, directory):
    cluster = new_cluster()
    seed = int(os.environ.get("SHEEP_TEST_SEED", time.time()))
    saved = directory.parent / f"sheep-fsx-stores-{seed}.json"
    # Clusters that were used up by a difference cannot show it again: nothing is shrunk.
    target = fsx.FailingClusterTarget(cluster, directory)
    done = fsx.test_target(
        lambda: target, seed, length(240.0, 1200.0), True, saved, 0, fsx.FailingClusterTarget.WEIGHTS)
    print(f"seed {seed}: {done} operations")
    target.heal()
    compare_copies(cluster)
