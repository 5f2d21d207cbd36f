"""A group's coordinator that is away, or elsewhere: the lag monitor's questions must not end its process.

In a process of its own, since what it is about is a crash in C.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT
from tests.support.stack import Stack

# Without its topic the broker coordinates no group, and the answer is NOT_COORDINATOR, as after a move to another one.
_ASK = """
import sys, time
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from api.log_positions import LogPositions

kafka, redis_url = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": kafka})
positions = [LogPositions(kafka, redis_url, 4) for _ in range(4)]

def ask(seconds, keep_on):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            for one in positions:
                one.committed()
            if not keep_on:
                return
        except KafkaException:
            time.sleep(0.01)

ask(20, False)
for _ in range(10):
    admin.delete_topics(["__consumer_offsets"])["__consumer_offsets"].result(10)
    ask(0.3, True)
    ask(20, False)
print("answered")
"""


def test_a_coordinator_that_is_away_is_survived(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        stack.start_servers()
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, stack.kafka, stack.redis_url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (asked.returncode, asked.stdout) == (0, "answered\n"), asked.stderr
