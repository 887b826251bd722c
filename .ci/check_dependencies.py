"""What the four libraries depend on has a licence that their users can live with, and builds with our rust-version.

Reads `cargo metadata` of all features from standard input. Dependencies of tests, benches and poolbench do not count.
"""

import json
import re
import sys

LIBRARIES = {"pool-common", "http1-pool", "h2-shared", "resp-pool"}
# An expression passes when one choice of it is in this list.
LICENCES = {
    "MIT", "MIT-0", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "ISC", "Unicode-3.0", "Zlib", "0BSD", "CC0-1.0", "CDLA-Permissive-2.0", "Unlicense",
}


def passes(expression: str) -> bool:
    """Whether one choice of each part of an SPDX expression is in the list. `a/b` is an old form of `a OR b`."""
    parts = re.sub(r"[()]", " ", expression.replace("/", " OR ")).split(" AND ")
    return all(any(choice.strip() in LICENCES for choice in part.split(" OR ")) for part in parts)


def version(text: str) -> tuple[int, ...]:
    return tuple((list(map(int, text.split("."))) + [0, 0])[:3])


metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
to_visit = [id for id, package in packages.items() if package["name"] in LIBRARIES]
assert len(to_visit) == len(LIBRARIES), to_visit
ours = version(packages[to_visit[0]]["rust_version"])
seen = set(to_visit)
while to_visit:
    for dependency in nodes[to_visit.pop()]["deps"]:
        normal = any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"])
        # The models are built with shuttle, the libraries are not.
        shuttle = all(kind["target"] == "cfg(shuttle)" for kind in dependency["dep_kinds"])
        if normal and not shuttle and dependency["pkg"] not in seen:
            seen.add(dependency["pkg"])
            to_visit.append(dependency["pkg"])

faults = []
for package in (packages[id] for id in seen):
    name = f'{package["name"]} {package["version"]}'
    if not passes(package["license"] or ""):
        faults.append(f'{name}: licence {package["license"]}')
    if package["rust_version"] and version(package["rust_version"]) > ours:
        faults.append(f'{name}: needs Rust {package["rust_version"]}')
for fault in sorted(faults):
    print(fault, file=sys.stderr)
print(f"{len(seen)} packages, {len(faults)} faults")
sys.exit(1 if faults else 0)
