"""What counts as audited, and pip-audit itself where it reaches nobody."""

from pathlib import Path

import pytest

from docker.supply.audit import NOT_AUDITED, VULNERABLE, Audit, run_audit

KNOWN = {"name": "click", "version": "8.5.1", "vulns": []}
SKIPPED = {"name": "anyio", "skip_reason": "Dependency not found on PyPI and could not be audited: anyio (4.0)"}
VULNERABLE_PACKAGE = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": [], "description": "."}],
}


def test_packages_without_a_known_vulnerability_pass() -> None:
    audit = Audit()
    audit.add_report({"dependencies": [KNOWN], "fixes": []})
    assert (audit.status(), audit.lines()) == (0, ["audit: 1 packages audited, 0 vulnerabilities"])


def test_a_package_that_was_skipped_is_not_audited() -> None:
    audit = Audit()
    audit.add_report({"dependencies": [KNOWN, SKIPPED], "fixes": []})
    assert audit.status() == NOT_AUDITED
    assert audit.lines()[0].startswith("audit: NOT DONE for 1 entries, such as anyio: ")


def test_a_vulnerability_is_named_and_outweighs_what_was_skipped() -> None:
    audit = Audit()
    audit.add_report({"dependencies": [SKIPPED, VULNERABLE_PACKAGE], "fixes": []})
    assert audit.status() == VULNERABLE
    assert audit.lines()[0] == "VULNERABLE jinja2 2.10: PYSEC-2019-217, fixed in 2.10.1"


def test_nobody_to_ask_is_no_clean_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    lock = tmp_path / "services.lock"
    lock.write_text(f"click==8.5.1 --hash=sha256:{'0' * 64}\n")
    audit = Audit()
    run_audit(lock, audit)
    assert audit.status() == NOT_AUDITED
    assert (len(audit.not_audited), audit.audited) == (1, set())
