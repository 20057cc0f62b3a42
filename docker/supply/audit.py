"""Asks for known vulnerabilities of every package in the locks, by pip-audit.

    python -m docker.supply.audit                fails on a vulnerability, and where packages could not be audited
    python -m docker.supply.audit --if-online    as that, but where nobody could be asked it says so and passes

pip-audit calls packages that its service does not know "skipped" and passes. Here they count as not audited, so that
a machine without the service never reads "no vulnerability".
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.supply.locks import LOCKS, ROOT, TORCH

VULNERABLE, NOT_AUDITED = 1, 2
"""Exit statuses."""
TIMEOUT_S = 15


@dataclass
class Audit:
    """What is known of the packages of the locks."""

    audited: set[str] = field(default_factory=set)
    """Each as name and version."""
    vulnerabilities: set[str] = field(default_factory=set)
    not_audited: set[str] = field(default_factory=set)
    """Packages with a reason, or whole locks."""

    def add_report(self, report: dict[str, Any]) -> None:
        """Of pip-audit, in its JSON form."""
        for package in report["dependencies"]:
            if reason := package.get("skip_reason"):
                self.not_audited.add(f"{package['name']}: {reason}")
                continue
            name = f"{package['name']} {package['version']}"
            self.audited.add(name)
            for known in package["vulns"]:
                fixes = ", ".join(known["fix_versions"]) or "no version yet"
                self.vulnerabilities.add(f"{name}: {known['id']}, fixed in {fixes}")

    def status(self) -> int:
        return VULNERABLE if self.vulnerabilities else NOT_AUDITED if self.not_audited else 0

    def lines(self) -> list[str]:
        """For a person to read."""
        lines = [f"VULNERABLE {line}" for line in sorted(self.vulnerabilities)]
        if self.not_audited:
            first = min(self.not_audited)
            lines.append(f"audit: NOT DONE for {len(self.not_audited)} entries, such as {first}")
        return [*lines, f"audit: {len(self.audited)} packages audited, {len(self.vulnerabilities)} vulnerabilities"]


def run_audit(lock: Path, audit: Audit) -> None:
    """Adds what pip-audit says of a lock."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", str(TIMEOUT_S)]
    command += ["--no-deps"] if lock.name == Path(TORCH).name else ["--require-hashes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        audit.add_report(json.loads(done.stdout))
    except json.JSONDecodeError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        audit.not_audited.add(f"{lock.name}: {last[0][:300]}")


def main() -> None:
    audit = Audit()
    for lock in (*LOCKS, TORCH):
        run_audit(ROOT / lock, audit)
    print("\n".join(audit.lines()))
    if audit.status() == NOT_AUDITED and "--if-online" in sys.argv[1:]:
        return
    sys.exit(audit.status())


if __name__ == "__main__":
    main()
