#!/usr/bin/env bash
# Makes .venv with everything Braid needs, once; instant when there is nothing to do.
#     scripts/setup.sh                            CPU (requirements/cpu.txt)
#     BRAID_REQUIREMENTS=gpu scripts/setup.sh     CUDA (requirements/gpu.txt)
#     BRAID_PYTHON=/path/to/python3.12 ...        choose the interpreter (3.11, 3.12 or 3.13)
# Safe to interrupt: each stamp is written after the work it stands for, and a .venv without its stamp is built anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=.venv
# Asked for, else what this .venv was made for: a plain `make test` must not turn a GPU environment into a CPU one.
readonly flavour="${BRAID_REQUIREMENTS:-$(cat $venv/flavour 2>/dev/null || echo cpu)}"
readonly requirements="requirements/$flavour.txt"
# What the environment is whole without: one task (some of it is built from source), trackers, Inspect's logs.
readonly optional=(requirements/reasoning_gym.txt requirements/trackers.txt requirements/inspect.txt)
readonly log=.venv/setup.log
readonly need_gb=$([ "$flavour" = gpu ] && echo 16 || echo 6)
readonly torch_cpu_index=https://download.pytorch.org/whl/cpu
unset PYTHONHOME PYTHONPATH # another project's packages must not be seen, neither now nor by pip's children
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

say() { printf 'setup: %s\n' "$*"; }
fail() { # fail WHAT REMEDY
    printf 'setup: %s\n  -> %s\n' "$1" "$2" >&2
    exit 2
}

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() { # every candidate is run: a version manager's shim can be on PATH and still refuse
    local candidate
    # 3.11 first: the set is tested with it most.
    for candidate in ${BRAID_PYTHON:-$(type -aP python3.11 python3.12 python3.13 python3 python)}; do
        if is_supported "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (looked at ${BRAID_PYTHON:-python3.11, python3.12, python3.13, python3 and python on PATH})" \
        "install one (Debian/Ubuntu: apt install python3.11 python3.11-venv; or uv, pyenv, conda), or set BRAID_PYTHON=/path/to/python3.11"
}

# What the environment stands for: the pins, and this place, since a venv cannot be moved.
environment_key() { { pwd -P; cat "$requirements" "${optional[@]}"; } | sha256sum; }
project_key() { sha256sum <pyproject.toml; }
stamped() { [ -f "$venv/$1.stamp" ] && [ "$(<"$venv/$1.stamp")" = "$2" ]; }
is_current() {
    stamped environment "$(environment_key)" && stamped project "$(project_key)" &&
        [ -x $venv/bin/python ] && is_supported $venv/bin/python && [ -x $venv/bin/braid ]
}

check_machine() {
    [ -f "$requirements" ] || fail "BRAID_REQUIREMENTS=$flavour: there is no $requirements" "use cpu or gpu"
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "the pinned engine is built for Linux x86_64, this is $(uname -sm)" "use such a machine, a container or WSL 2"
}

check_disk() { # only before a build: $venv itself, if any, is already gone
    local free_kb
    free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
    [ "$free_kb" -ge $((need_gb * 1024 * 1024)) ] ||
        fail "only $((free_kb / 1024)) MB free on this disk, about $need_gb GB are needed" "free some space and run this again"
}

pip_step() { # pip_step WHAT TOTAL ARGS...: counts what is being collected, keeps the rest in the log
    local what=$1 total=$2
    shift 2
    say "$what"
    $venv/bin/python -m pip install --no-compile "$@" 2>>$log | tee -a $log | awk -v total="$total" -v tty="$([ -t 1 ] && echo 1 || echo 0)" '
        /^Collecting/ { n++; if (tty) printf "\r  %d/%d %-50.50s", n, total, $2; fflush() }
        /^Installing collected/ && total > 1 { if (tty) printf "\r%-70s\r", ""; print "  unpacking (a minute or so)"; fflush() }'
}

pip_failed() {
    tail -n 15 $log >&2
    fail "installing failed, the last lines are above, all of it is in $log" \
        "if a package index could not be reached, see to the network or proxy and run this again: what was downloaded is kept"
}

install_torch_cpu() { # the usual index has only CUDA builds under this version; an index configured for pip may have this one
    local pin
    pin=$(grep '^torch==' "$requirements")
    pip_step "torch for CPUs (190 MB)" 1 --no-deps --only-binary :all: "$pin" ||
        pip_step "torch for CPUs, from PyTorch's own index" 1 --no-deps --only-binary :all: "$pin" --index-url $torch_cpu_index
}

build_environment() {
    local python
    python=$(find_python)
    rm -f $venv/*.stamp # first, lest an interrupted deletion leave a stamp with half an environment
    rm -rf $venv
    check_disk
    say "virtual environment with $("$python" --version) ($python)"
    "$python" -m venv $venv || fail "$python could not make a virtual environment" \
        "its venv module is missing or broken (Debian/Ubuntu: apt install python3-venv, or the one of that version)"
    printf '%s\n' "$flavour" >$venv/flavour
    if [ "$flavour" = cpu ]; then
        install_torch_cpu || pip_failed
        pip_step "the pinned packages (about 1 GB)" "$(grep -c == "$requirements")" --no-deps -r "$requirements" || pip_failed
    else
        pip_step "the pinned packages (several GB)" "$(grep -c == "$requirements")" -r "$requirements" || pip_failed
    fi
    install_optional
    # Pip compiles on one core, which takes as long as all the rest; here it takes all of them. Some packages carry
    # files that are no valid Python.
    $venv/bin/python -m compileall -q -j 0 $venv/lib data rewards rollout rl >>$log 2>&1 || true
    environment_key >$venv/environment.stamp
}

install_optional() {
    local file
    for file in "${optional[@]}"; do
        pip_step "optional: $file" "$(grep -c == "$file")" --no-deps -r "$file" ||
            say "  not installed (a C compiler?): what needs it will say so; the log is $log"
    done
}

install_project() {
    rm -f $venv/project.stamp
    pip_step "braid itself" 1 --no-deps --no-build-isolation -e . || pip_failed
    project_key >$venv/project.stamp
}

check_machine
is_current && exit 0
exec 9<scripts/setup.sh # two `make` at once: the second waits, then finds the work done
flock 9
is_current && exit 0
started=$SECONDS
stamped environment "$(environment_key)" && is_supported $venv/bin/python || build_environment
install_project
say "done in $((SECONDS - started)) s: .venv/bin/braid"
