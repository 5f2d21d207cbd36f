"""A bad wire between two network devices: frames are lost and late. Run as `python -m tests.support.wire`, as root.

Not every kernel has netem (`tc qdisc add … netem`), every one has TAP devices. Two are made here, and what comes in at
one leaves at the other: late by `--delay-s`, or never (`--loss`), by the same rule in both directions. The kernel hands
a TAP device whole frames with their checksums, so nothing is to be repaired. With this process the devices go.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES = 65536


def tap(name: str) -> int:
    """The device's open file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return file


def carry(ends: tuple[int, int], loss: float, delay_s: float, chance: random.Random) -> None:
    """Until the process is ended."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: list[tuple[float, int, int, bytes]] = []
    number = itertools.count()  # frames that are due at once keep their order
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for end in select.select(ends, (), (), wait_s)[0]:
            try:
                frame = os.read(end, FRAME_BYTES)
            except OSError:
                continue  # the device is down at the moment
            if chance.random() >= loss:
                heapq.heappush(under_way, (time.monotonic() + delay_s, next(number), other[end], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(under_way)
            try:
                os.write(end, frame)
            except OSError:
                continue  # likewise: a frame that can't be delivered is lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", nargs=2)
    parser.add_argument("--loss", type=float, required=True, help="share of frames, 0 to 1")
    parser.add_argument("--delay-s", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    first, second = (tap(name) for name in options.devices)
    carry((first, second), options.loss, options.delay_s, random.Random(options.seed))


if __name__ == "__main__":
    main()
