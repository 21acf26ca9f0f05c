# Shared by tools/env, tools/underlay/setup and tools/distro_setup; sourced, with $root set to the checkout,
# $base to the folder of builds and $log to the log file.
# shellcheck shell=bash

say() { printf '%s\n' "vos_ros set-up: $*" >&2; }
fail() {
    printf '%s\n' "vos_ros set-up failed: $*" >&2
    exit 1
}

# The versions with wheels of everything we need (rclpy, torch, open3d).
supported_pythons="3.11 3.12"

# Fails where $PYTHON is tools/env, which would wait for itself.
refuse_own_python() {
    [[ ! ${PYTHON:-} -ef $root/tools/env ]] ||
        fail "PYTHON names tools/env itself, which would wait for itself: name a Python, PYTHON=python3.12 make demo"
}

# Prints the first usable Python: $PYTHON where it is given, else python3, python3.12, python3.11 of the PATH.
find_python() {
    local candidate version seen=""
    refuse_own_python
    for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if [[ " $supported_pythons " == *" $version "* ]]; then
            printf '%s\n' "$candidate"
            return 0
        fi
        seen+=" $candidate is $version;"
    done
    fail "needs Python ${supported_pythons/ / or } and found${seen:- none;} install one (Debian, Ubuntu: sudo apt install" \
        "python3.12 python3.12-venv python3.12-dev) and name it: PYTHON=python3.12 make demo"
}

# The tools the message build needs; $1 is the Python.
check_compilers() {
    local tool
    for tool in cc c++ make; do
        command -v "$tool" >/dev/null || fail "found no '$tool', which the message build needs: sudo apt install build-essential"
    done
    "$1" - <<'PY' || fail "the headers of $1 (Python.h) are missing: sudo apt install python3-dev (or the -dev package of that Python)"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
}

# Makes .venv afresh unless a finished one of this Python in this place is there. $1: the Python; the rest: venv options.
make_venv() {
    local python=$1 want
    shift
    want="$root $("$python" -c 'import sys; print(sys.version, sys.prefix)') $*"
    if [[ -f $root/.venv/.made && $(<"$root/.venv/.made") == "$want" ]] && "$root/.venv/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    say "making .venv with $("$python" --version)"
    rm -rf "$root/.venv" "$base/build" "$base/install" # built files hold the paths of the old one
    "$python" -m venv "$@" "$root/.venv" >>"$log" 2>&1 ||
        fail "'$python -m venv' did not work (see $log): sudo apt install python3-venv (or the -venv package of that Python), then run this again"
    printf '%s\n' "$want" >"$root/.venv/.made"
}

# An interrupted pip leaves packages that look installed: pip writes INSTALLER and RECORD after everything else.
forget_half_installed() {
    local info
    for info in "$root"/.venv/lib/python3*/site-packages/*.dist-info; do
        [[ -d $info && (! -f $info/INSTALLER || ! -f $info/RECORD) ]] || continue
        say "forgetting the half-installed $(basename "$info" .dist-info)"
        rm -rf "$info"
    done
}

# pip install with the arguments given; a failure ends in one sentence that names the cause where pip's output tells it. Python
# compiles what it imports: to compile all that is installed would be a quarter of the set-up's time.
pip_install() {
    local start
    start=$(wc -l <"$log")
    if "$root/.venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --retries 3 "$@" >>"$log" 2>&1; then
        return 0
    fi
    local output
    output=$(tail -n "+$start" "$log")
    case $output in
    *"No space left on device"*) fail "the disk is full: about 4 GB are needed under $root; make room and run this again, it resumes" ;;
    *NewConnectionError* | *"name resolution"* | *ConnectTimeout* | *ReadTimeout* | *"Connection refused"* | *ProxyError* | *"Network is unreachable"* | *SSLError*)
        fail "pip could not reach the package index: check the network (or PIP_INDEX_URL, PIP_PROXY, PIP_CERT) and run this again, it resumes"
        ;;
    *) fail "pip could not install '$*' ($(grep -m1 '^ERROR' <<<"$output" || echo "see the log")); the whole output is in $log; run this again after the repair, it resumes" ;;
    esac
}

# Hash of the contents and names of the files given (folders: all files in them).
fingerprint() {
    find "$@" -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

# Builds our package, and those in the folders given, with colcon into $1/install. $1: base folder; $2: the Python; the rest: folders.
# The sources are a view of links: CMake refuses to export an include folder (.venv's NumPy) that lies below the source folder.
colcon_build() {
    local base=$1 python=$2 start entry
    shift 2
    rm -rf "$base/src"
    mkdir -p "$base/src/vos_ros"
    for entry in package.xml CMakeLists.txt LICENSE msg srv launch config scripts vos_ros; do
        ln -s "$root/$entry" "$base/src/vos_ros/$entry"
    done
    start=$(wc -l <"$log")
    (cd "$base" && colcon --log-base "$base/log" build --base-paths "$base/src" "$@" --build-base "$base/build" \
        --install-base "$base/install" --merge-install --symlink-install --event-handlers console_direct+ \
        --cmake-args -DPython3_EXECUTABLE="$python" -DBUILD_TESTING=OFF -Wno-dev) >>"$log" 2>&1 && return 0
    tail -n "+$start" "$log" | grep -iE -m5 -A6 'error' >&2 || tail -n 20 "$log" >&2
    rm -rf "$base/build" # so that the next try starts clean
    return 1
}

# What the message build depends on, as one hash.
overlay_fingerprint() {
    {
        cat "$root/.venv/.installed"
        fingerprint "$root/msg" "$root/srv" "$root/CMakeLists.txt" "$root/package.xml" "$@"
        (cd "$root" && find launch config scripts -type f -not -name '*.pyc' | sort)
    } | sha256sum | cut -d' ' -f1
}

# One set-up at a time: a second one says so, waits for the first and then finds its work done.
take_lock() {
    command -v flock >/dev/null || return 0
    exec {lock_fd}>"$1"
    flock -n "$lock_fd" && return 0
    say "waiting for another set-up of $root, which holds $1 (half an hour at most; Ctrl-C ends the wait)"
    flock -w 1800 "$lock_fd" || fail "another set-up of $root has held $1 for half an hour: end it and run this again"
}
