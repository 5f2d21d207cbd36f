"""`reports api` in a process where Amazon's certificate is one of our own, so that SNS' signatures can be measured.

`python -m bench.sns_api PEM`: what would be fetched from Amazon is the file PEM. All else, the certificates' store and
the check of each signature, is the product's own: it has no switch for this, and needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from api.outgoing import Outgoing
from cli.main import run


def main() -> int:
    pem = Path(sys.argv[1]).read_bytes()

    async def get(self: Outgoing, url: str, parameters: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        return 200, pem

    Outgoing.get = get  # type: ignore[method-assign]
    return run(["api"])


if __name__ == "__main__":
    sys.exit(main())
