"""Looks for secrets in the files that git tracks, by detect-secrets.

    python -m docker.supply.secret_scan             fails on a finding that is not accepted
    python -m docker.supply.secret_scan --accept    accepts what is found now: read the change before you commit it

Accepted are findings that are no secrets: accepted_findings.json holds their kinds and SHA-1 digests by file, as
detect-secrets writes them. A single line says `pragma: allowlist secret` instead.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from docker.supply.locks import LOCKS, ROOT

ACCEPTED = Path(__file__).with_name("accepted_findings.json")
PLUGINS: list[dict[str, Any]] = [
    {"name": "AlignXKeyDetector", "path": f"file://{Path(__file__).with_name('key_detector.py')}"},
    {"name": "Base64HighEntropyString", "limit": 4.5},
    {"name": "HexHighEntropyString", "limit": 3.0},
    *(
        {"name": name}
        for name in (
            "AWSKeyDetector",
            "BasicAuthDetector",
            "GitHubTokenDetector",
            "GitLabTokenDetector",
            "JwtTokenDetector",
            "KeywordDetector",
            "OpenAIDetector",
            "PrivateKeyDetector",
            "PypiTokenDetector",
            "SlackDetector",
        )
    ),
]
HASHES = frozenset(
    (
        *LOCKS,
        "docker/supply/accepted_findings.json",
        "tests/contract/snapshots/redis.txt",
        "tests/unit/services/prompts/public_renders.json",
    )
)
"""Files of digests, which are random to look at."""
FILTERS = [
    {"path": f"detect_secrets.filters.{name}"}
    for name in (
        "allowlist.is_line_allowlisted",
        "heuristic.is_indirect_reference",
        "heuristic.is_likely_id_string",
        "heuristic.is_lock_file",
        "heuristic.is_not_alphanumeric_string",
        "heuristic.is_potential_uuid",
        "heuristic.is_prefixed_with_dollar_sign",
        "heuristic.is_sequential_string",
        "heuristic.is_templated_secret",
    )
]
NAMES_A_SECRET = r"^\s*-?\s*(?:secretName|secretKeyRef|imagePullSecrets)\b"
"""Lines of manifests that name a Secret and hold none."""


def scan(root: Path, files: Iterable[str]) -> SecretsCollection:
    """What looks like a secret in files of `root`."""
    excluded = {"path": "detect_secrets.filters.regex.should_exclude_line", "pattern": [NAMES_A_SECRET]}
    found = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": PLUGINS, "filters_used": [*FILTERS, excluded]}):
        for file in sorted(set(files) - HASHES):
            found.scan_file(file)
    return found


def find_new(found: SecretsCollection, accepted: Path = ACCEPTED) -> list[str]:
    """Findings that are not accepted, a line each, without the text that was found."""
    by_file: dict[str, list[dict[str, str]]] = json.loads(accepted.read_text(encoding="utf-8"))
    known = {(file, kind["type"], kind["hashed_secret"]) for file, kinds in by_file.items() for kind in kinds}
    return [
        f"{file}:{secret.line_number}: {secret.type}"
        for file, secret in found
        if (file, secret.type, secret.secret_hash) not in known
    ]


def list_tracked(root: Path) -> list[str]:
    """Files that git tracks, by their paths below `root`. Raises CalledProcessError outside a checkout."""
    command = ["git", "-C", str(root), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [file for file in listed if (root / file).is_file()]


def accept(found: SecretsCollection, accepted: Path = ACCEPTED) -> None:
    results: dict[str, list[dict[str, str]]] = {}
    for file, secret in found:
        results.setdefault(file, []).append({"type": secret.type, "hashed_secret": secret.secret_hash})
    ordered = {
        file: sorted(kinds, key=lambda kind: (kind["type"], kind["hashed_secret"])) for file, kinds in results.items()
    }
    accepted.write_text(json.dumps(dict(sorted(ordered.items())), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    files = list_tracked(ROOT)
    found = scan(ROOT, files)
    if "--accept" in sys.argv[1:]:
        accept(found)
    elif new := find_new(found):
        sys.exit(
            "\n".join([*new, "These look like secrets; if they are none: python -m docker.supply.secret_scan --accept"])
        )
    print(f"secrets: none in {len(files)} files beside what is accepted")


if __name__ == "__main__":
    main()
