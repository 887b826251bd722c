"""Every test that docs/promises.md names exists, and every promise names one."""

import pathlib
import re
import sys

PAGE = "docs/promises.md"
root = pathlib.Path(__file__).resolve().parent.parent
faults = []
for line in (root / PAGE).read_text().splitlines():
    if not re.match(r"\| \d+ \|", line):
        continue
    named = re.findall(r"`([\w/-]+\.rs)(?:::(\w+))?`", line)
    if not named:
        faults.append(f"no test is named: {line[:60]}")
    for file, test in named:
        path = root / file
        if not path.is_file():
            faults.append(f"{file} does not exist")
        elif not re.search(rf"fn {test}\b" if test else r"#\[(tokio::)?test\b|fn \w+", path.read_text()):
            faults.append(f"{file} has no test {test or 'at all'}")
for fault in faults:
    print(f"{PAGE}: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
