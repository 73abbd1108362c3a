#!/usr/bin/env bash
# Installs AI Stack from its lock into .venv beside this repository, when needed, and passes
# every verb on to it:  ai-stack-manage.sh up --detach | down | status | logs | import PATH | …
# Two verbs are its own:  ai-stack-manage.sh test    (the checks and all tests)
#                         ai-stack-manage.sh deploy  (all in containers, by podman or docker)
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV

root=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "ai-stack-manage: $*"
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "AI Stack needs Python 3.11 or later, and none of python3.13, python3.12, python3.11" \
        "and python3 on PATH is. Install one (Debian: apt install python3 python3-venv)."
}

has_uv() { uv --version >/dev/null 2>&1; }

make_venv() {
    if is_new_enough "$venv/bin/python"; then return; fi
    local python
    python=$(find_python)
    say "Creating $venv with $("$python" --version)"
    if has_uv; then
        uv venv --quiet --clear --python "$python" "$venv"
    elif ! "$python" -m venv --clear "$venv" >&2; then
        fail "$python cannot create $venv. On Debian: apt install python3-venv."
    fi
}

# Installs into the venv what the arguments say, by uv or by pip.
install() {
    if has_uv; then
        uv pip install --quiet --compile-bytecode --python "$venv/bin/python" "$@"
        return
    fi
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

state_of() { cat -- "$root/pyproject.toml" "$root/$1" | sha256sum; }

# Brings the venv to the state of a lock; does nothing when it is there already.
follow() {
    local lock=$1 stamp=$venv/.installed-$1 state
    state=$(state_of "$lock")
    if [[ -x $venv/bin/ai-stack && -f $stamp && $(<"$stamp") == "$state" ]]; then return; fi
    [[ -w $root ]] || fail "$root cannot be written by this user, so nothing can be installed in it."
    make_venv
    say "Installing $(grep -c '==' "$root/$lock") packages from $lock (once; some minutes at most)"
    install --require-hashes --no-deps --requirement "$root/$lock"
    install --no-deps --no-build-isolation --no-index --editable "$root"
    "$venv/bin/python" -m compileall -q "$root/src"
    printf '%s\n' "$state" >"$stamp"
}

# Only one run installs at a time; the lock is not handed on to what runs afterwards.
prepare() {
    if command -v flock >/dev/null && [[ -w $root ]]; then
        (
            flock 9
            follow "$1"
        ) 9>"$root/.venv.lock"
    else
        (follow "$1")
    fi
}

# What tests need beside Python packages: a browser, the wall that skills run behind, a proxy,
# Prometheus, Nix for the modules, and systemd's judgement of units. No service is to start.
programs() {
    local missing=()
    command -v bwrap >/dev/null || missing+=(bubblewrap)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v haproxy >/dev/null || [[ -x /usr/sbin/haproxy ]] || missing+=(haproxy)
    command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]] || missing+=(nginx-light)
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v nix-instantiate >/dev/null || missing+=(nix-bin)
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    if ((${#missing[@]} == 0)); then return; fi
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        fail "the tests need the programs ${missing[*]}; on Debian: apt install ${missing[*]}"
    fi
    say "Installing ${missing[*]} for the tests"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || say "apt-get update failed; trying with the list that is there"
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install ${missing[*]}"
}

# All checks and tests; with arguments only the tests, and the arguments go to pytest.
run_tests() {
    prepare requirements.lock
    prepare requirements-dev.lock
    cd -- "$root"
    if (($#)); then exec "$venv/bin/python" -m pytest "$@"; fi
    programs
    "$venv/bin/ruff" check
    "$venv/bin/ruff" format --check
    "$venv/bin/mypy"
    "$venv/bin/python" scripts/check_skills.py
    "$venv/bin/lint-imports"
    local all="not plants and not containers" folders=() folder
    for folder in unit contracts integration acceptance reliability; do folders+=("tests/$folder"); done
    "$venv/bin/python" -m pytest -m "$all and not alone and not reliability" --durations=20 \
        -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile "${folders[@]}"
    "$venv/bin/python" -m pytest -m "$all and (alone or reliability)" --durations=20 "${folders[@]}"
}

if [[ ${1:-} == test ]]; then
    shift
    run_tests "$@"
elif [[ ${1:-} == deploy ]]; then
    shift
    python=$(find_python)
    exec "$python" "$root/scripts/deploy" "$@"
else
    prepare requirements.lock
    exec "$venv/bin/ai-stack" "$@"
fi
