"""Checks the results of a short run: every contestant ran, and nothing was mixed up or left over."""

import json
import sys

FIELDS = {
    "protocol", "scenario", "contestant", "kind", "policy", "rounds", "requests", "errors",
    "mismatches", "duplicates", "leaked", "opened", "reused_ratio", "high_water_open", "waits",
    "throughput_per_s", "cpu_us_per_request", "latency_us", "acquire_us", "lateness_us",
    "vs_limit", "safety", "timeline",
}

with open(sys.argv[1], encoding="utf-8") as file:
    results = json.load(file)

assert results["schema"] == 1, results["schema"]
protocols = set()
for row in results["results"]:
    name = f'{row["protocol"]} {row["scenario"]} {row["contestant"]}'
    missing = FIELDS - row.keys()
    assert not missing, f"{name}: no {sorted(missing)}"
    assert row["requests"] > 0, f"{name}: no request"
    for field in ("errors", "mismatches", "duplicates", "leaked"):
        assert row[field] == 0, f"{name}: {row[field]} {field}"
    protocols.add(row["protocol"])
assert protocols == {"http1", "http2", "resp", "framed"}, protocols
print(f'{len(results["results"])} results, nothing mixed up or left over')
