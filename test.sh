#!/usr/bin/env bash
# Installs what the tests need, and runs all of them.
# Real servers: redis-server, nginx, nghttpd, tinyproxy; chromium for the report page. Everything runs on loopback, on free ports.
set -euo pipefail
cd "$(dirname "$0")"

declare -A package=([redis-server]=redis-server [nginx]=nginx [nghttpd]=nghttp2-server [tinyproxy]=tinyproxy
    [chromium]=chromium)
# Debian keeps servers where an ordinary user's PATH does not look.
export PATH="$PATH:/usr/sbin:/usr/local/sbin"

missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo -n)
    fi
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo "installing ${missing[*]}"
        "${as_root[@]}" apt-get update -q
        # The tests start their own; the packages' services are not wanted.
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -q --no-install-recommends "${missing[@]}"
    fi
fi
for program in "${!package[@]}"; do
    if ! command -v "$program" >/dev/null; then
        echo "test.sh: $program is missing. Install it (Debian, Ubuntu: apt-get install" \
            "${package[$program]}; macOS: brew install redis nginx nghttp2 tinyproxy, and chromium), then run this again." >&2
        exit 1
    fi
done

# All features but poolbench's `peers`, which builds a dozen other clients: .ci/run tests it.
cargo test --workspace --locked \
    --features pool-common/metrics,pool-common/testing,pool-common/tower,http1-pool/metrics,h2-shared/metrics,resp-pool/metrics,http1-pool/rustls,http1-pool/tower,http1-pool/proxy,h2-shared/rustls,h2-shared/proxy,resp-pool/rustls "$@"
