"""Writes the alerts and recording rules of docker/prometheus as an object of the Prometheus operator.

python docker/kubernetes/rules.py

kustomize cannot put a file into the middle of an object, so components/monitoring/rules.yaml is a
copy; a test says when it is out of date.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = FOLDER.parent / "prometheus" / "rules"
TARGET = FOLDER / "components" / "monitoring" / "rules.yaml"
_HEAD = """\
# Written by docker/kubernetes/rules.py from docker/prometheus/rules; edit it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: alignx
spec:
  groups:
"""


def prometheus_rule() -> str:
    """The object, with the text of each file's `groups:` as it stands there."""
    return _HEAD + "".join(_groups(path) for path in sorted(SOURCES.glob("*.yml")))


def _groups(path: Path) -> str:
    _, heading, groups = path.read_text(encoding="utf-8").partition("\ngroups:\n")
    if not heading:
        raise ValueError(f"{path} has no line `groups:`")
    return "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


if __name__ == "__main__":
    TARGET.write_text(prometheus_rule(), encoding="utf-8")
