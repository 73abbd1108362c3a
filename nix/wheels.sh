#!/usr/bin/env bash
# Downloads what requirements.lock names into a folder, for CPython 3.11 on x86-64, and with it
# what the extras `qdrant` and `tracing` need; run in the root of the repository.
set -euo pipefail
target=$1
extras='qdrant-client grpcio portalocker h2 hpack hyperframe opentelemetry-sdk
opentelemetry-semantic-conventions opentelemetry-exporter-otlp-proto-http
opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common
opentelemetry-exporter-http-transport opentelemetry-proto googleapis-common-protos'

lock=$(mktemp)
trap 'rm -f -- "$lock"' EXIT
awk -v names="$extras" '
    BEGIN { split(names, list, /[ \n]+/); for (i in list) wanted[list[i]] }
    /^[^ ]/ { split($1, parts, "=="); on = parts[1] in wanted }
    on
' requirements-dev.lock >"$lock"

# The newest first, as pip on a machine with glibc 2.36 chooses.
platforms=()
for minor in $(seq 36 -1 5); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
for name in manylinux2014 manylinux2010 manylinux1 linux; do platforms+=(--platform "${name}_x86_64"); done

python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
    --prefer-binary "${platforms[@]}" --python-version 3.11 --implementation cp \
    --abi cp311 --abi abi3 --abi none --dest "$target" \
    --requirement requirements.lock --requirement "$lock"
