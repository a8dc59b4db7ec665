# Fixtures of the system tests. Every cluster, mount and scratch directory ends with its test, also when the run is
# interrupted.
import os
import re
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, binaries  # noqa: E402
from system import SCALE, scratch  # noqa: E402
from watchdog import Watchdog  # noqa: E402

# Seconds that a test may take, its fixtures not counted; @pytest.mark.limit(seconds) says otherwise. A soak is long.
LIMIT_SECONDS = 600
FIXTURE_LIMIT_SECONDS = 300
LONGER_SECONDS = {"test_fsx.py": 1500}
watchdog = None


def pytest_configure(config):
    # pytest tears its fixtures down on KeyboardInterrupt; a plain SIGTERM would leave the mounts behind.
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    config.addinivalue_line("markers", "limit(seconds): how long the test may take")
    global watchdog
    watchdog = Watchdog()


def guarded(seconds):
    watchdog.guard(seconds * max(SCALE, 1))
    yield
    watchdog.release()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    yield from guarded(FIXTURE_LIMIT_SECONDS)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    mark = item.get_closest_marker("limit")
    yield from guarded(mark.args[0] if mark else LONGER_SECONDS.get(item.path.name, LIMIT_SECONDS))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    yield from guarded(FIXTURE_LIMIT_SECONDS)


def length(normal, soak):
    """How long or how often: `normal` in contrib/test (less with a smaller scale), `soak` in contrib/soak."""
    if SCALE >= 2:
        return soak
    return type(normal)(max(normal * SCALE, 1))


@pytest.fixture
def directory(request):
    """A scratch directory of this test; its name is short, because a socket's path is limited to 107 bytes."""
    with scratch(request.node.name.split("[")[0].removeprefix("test_")[:14]) as path:
        yield path


def _require_build():
    if not (binaries() / "sheep").exists():
        pytest.fail(f"there is no build in {binaries()}: contrib/build", pytrace=False)


@pytest.fixture
def new_cluster(directory):
    """Makes clusters in the test's directory: new_cluster(**options of Cluster) -> a running Cluster."""
    _require_build()
    made = []

    def make(name="cluster", **options):
        cluster = Cluster(directory / name, **options)
        made.append(cluster)
        return cluster.__enter__()
    yield make
    for cluster in reversed(made):
        cluster.clean_up()


@pytest.fixture(scope="module")
def cluster(request):
    """One cluster of three stores for all tests of a module that do no harm to it."""
    _require_build()
    with scratch(Path(request.node.name).stem.removeprefix("test_")[:14]) as path:
        with Cluster(path) as running:
            yield running
            # A daemon that crashed and was not noticed would spoil every later test silently.
            assert running.process.poll() is None, running.log_text()[-3000:]


@pytest.fixture
def folder(cluster, request):
    """A directory of its own on the shared cluster's mount: (path, the name inside the mount)."""
    # No odd characters, and as many directories as there are tests.
    name = re.sub("[^a-z0-9_]+", "-", request.node.name)[:60]
    path = cluster.mount / f"{name}-{len(os.listdir(cluster.mount))}"
    os.mkdir(path)
    return path
