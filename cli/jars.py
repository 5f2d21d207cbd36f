"""The jars of the own Kafka node: pinned coordinates with SHA-256 sums in `kafka_jars.txt`, fetched into the user's
Maven cache (`M2_REPO`, or `~/.m2/repository`).

Rules:
- A jar is used only when its sum is the one in the list; another sum refuses, and says which file it is.
- A missing one is fetched beside the cache, checked, and moved in: a broken download never lies in the cache.
- Nothing needs a Java or a Maven on PATH. `jgo.build` is not used: without a java it asks a foreign host for one.

The list is made anew with `python -m cli.jars VERSION > cli/kafka_jars.txt`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from app.errors import ConfigError

LIST = Path(__file__).with_name("kafka_jars.txt")
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TIMEOUT_S = 30

Say = Callable[[str], None]


class Jar(NamedTuple):
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def path_in(self, repository: Path) -> Path:
        return repository.joinpath(*self.group.split("."), self.artifact, self.version, self.name)


def maven_repository() -> Path:
    """The user's Maven cache, where jgo and Maven look too."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def pinned_jars(text: str) -> list[Jar]:
    """The jars of a list: `group:artifact:version sha256` a line, `#` for remarks."""
    lines = (line.replace(":", " ").split() for line in text.splitlines() if not line.startswith("#"))
    return [Jar(*words) for words in lines if words]


def ensure_jars(jars: list[Jar], repository: Path, say: Say) -> list[Path]:
    """The paths of all jars, checked; those that are missing are fetched. Raises ConfigError."""
    missing = [jar for jar in jars if not jar.path_in(repository).exists()]
    if missing:
        _fetch(missing, repository, say)
    with ThreadPoolExecutor(2) as pool:
        sums = list(pool.map(lambda jar: _sha256(jar.path_in(repository)), jars))
    for jar, found in zip(jars, sums, strict=True):
        if found != jar.sha256:
            raise ConfigError(
                "cli/kafka_jars.txt",
                f"{jar.path_in(repository)} is not the pinned one (its SHA-256 is {found}): delete it to fetch it anew",
            )
    return [jar.path_in(repository) for jar in jars]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(jars: list[Jar], repository: Path, say: Say) -> None:
    # Imported here: a third of a second that only the first start needs.
    from jgo.maven import MavenContext

    done = 0
    lock = threading.Lock()

    def fetch(jar: Jar) -> None:
        nonlocal done
        artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        fetched = Path(artifact.resolve())
        if (found := _sha256(fetched)) != jar.sha256:
            raise ConfigError(
                "cli/kafka_jars.txt", f"{jar.name} came with another SHA-256 than pinned: {found}"
            )
        target = jar.path_in(repository)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(target)
        with lock:
            done += 1
            if done % 10 == 0 or done == len(jars):
                say(f"fetched {done} of {len(jars)} jars")

    say(f"fetching {len(jars)} jars of Apache Kafka into {repository} (once)")
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".campaign-reports-", dir=repository) as drafts:
            context = MavenContext(repo_cache=Path(drafts), local_repos=[], timeout=DOWNLOAD_TIMEOUT_S)
            with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
                futures = [pool.submit(fetch, jar) for jar in jars]
                try:
                    for future in futures:
                        future.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    except (OSError, RuntimeError) as error:
        # requests' errors are OSErrors, jgo's own are RuntimeErrors.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(
            "REPORTS_KAFKA", f"is not set, and the jars of the own node can't be fetched: {reason}"
        ) from None


def resolve_list(version: str) -> str:
    """The text of `kafka_jars.txt` for a version of Kafka, by walking the POMs; for the maintainer."""
    import jgo

    # kafka-clients is named too: left to the resolver, an older one once came in.
    kafka = "+".join(f"org.apache.kafka:{artifact}:{version}" for artifact in ("kafka_2.13", "kafka-clients"))
    endpoint = f"{kafka}+org.slf4j:slf4j-simple:1.7.36"
    lines = [
        f"{a.groupId}:{a.artifactId}:{a.version} {_sha256(Path(a.resolve()))}" for a in jgo.resolve(endpoint)
    ]
    return "\n".join(
        [f"# Apache Kafka {version} and what it needs; made by `python -m cli.jars {version}`", *lines, ""]
    )


if __name__ == "__main__":
    sys.stdout.write(resolve_list(sys.argv[1]))
