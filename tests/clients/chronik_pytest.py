"""A pytest plugin that gives a test run a Chronik broker of its own.

Load it with `pytest -p chronik_pytest`; a test that takes the argument `bootstrap` gets the broker's address.
"""

import json
import os
import subprocess
import time
import uuid

import pytest


class Chronik:
    """A broker on a free port, with data that goes with it; it ends when this process does."""

    def __init__(self, binary, log=None, listen="127.0.0.1:0", flags=()):
        self.process = subprocess.Popen(
            [binary, "standalone", "--ephemeral", "--listen", listen, "--until-stdin-closes", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        ready = self.process.stdout.readline()
        if not ready:
            raise RuntimeError(f"{binary} ended with exit code {self.process.wait()} before it was ready")
        self.bootstrap = json.loads(ready)["bootstrap"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def bootstrap():
    if "BOOTSTRAP" in os.environ:
        yield os.environ["BOOTSTRAP"]
        return
    with open(os.environ.get("BROKER_LOG", os.devnull), "a") as log:
        broker = Chronik(os.environ["BROKER"], log)
        yield broker.bootstrap
        broker.close()


@pytest.fixture
def name(request):
    """A name for this test's topics and groups that no other run has used."""
    test = request.node.name.removeprefix("test_").split("[")[0]
    return f"{test}-{uuid.uuid4().hex[:8]}"


def until(what, attempt, seconds=30.0):
    """Calls `attempt` until it returns something true, and returns that; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = attempt()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not true: {what}")
        time.sleep(0.01)
