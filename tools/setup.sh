# shellcheck shell=bash
# Installs what is missing, and says what and why. Each need_* is idempotent and quick when there is nothing to do.

apt_install() { # why package...
  local why=$1 sudo=(); shift
  have apt-get || die "$why: please install: $* (this is no system with apt-get, so mill cannot)"
  if [ "$(id -u)" != 0 ]; then
    have sudo || die "$why: please run as root: apt-get install $*"
    sudo=(sudo)
  fi
  say "installing $* ($why)"
  local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  # The package lists of a fresh machine may be absent or too old: update only when the first try fails.
  "${install[@]}" >"$CACHE/apt.log" 2>&1 </dev/null && return
  "${sudo[@]}" apt-get update -q >"$CACHE/apt.log" 2>&1 </dev/null || say "apt-get update failed: $(tail -1 "$CACHE/apt.log")"
  "${install[@]}" >"$CACHE/apt.log" 2>&1 </dev/null || { tail -20 "$CACHE/apt.log" >&2; die "could not install $*"; }
}

apt_has() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Headers are asked for through a compile of one line, not by package name: a machine may have them from elsewhere.
header() { echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1; }

any_file() { # pattern...
  local pattern
  for pattern in "$@"; do
    if compgen -G "$pattern" >/dev/null; then return; fi
  done
  return 1
}

# The library and the compiler's own headers: bindgen wants both, and distributions package them apart.
libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  any_file '/usr/lib*/libclang[-.]*so*' '/usr/lib/*/libclang[-.]*so*' '/usr/lib*/llvm*/lib*/libclang[-.]*so*' || return 1
  any_file '/usr/lib*/clang/*/include/stddef.h' '/usr/lib*/llvm*/lib*/clang/*/include/stddef.h'
}

need_native() {
  mkdir -p "$CACHE"
  local missing=()
  have cc && have c++ && have make || missing+=(build-essential)
  have pkg-config || missing+=(pkg-config)
  if have cc; then
    header openssl/ssl.h || missing+=(libssl-dev)
    header zlib.h || missing+=(zlib1g-dev)
  else
    missing+=(libssl-dev zlib1g-dev)
  fi
  libclang || missing+=(libclang-dev)
  [ ${#missing[@]} = 0 ] || apt_install "to compile librdkafka and RocksDB" "${missing[@]}"
}

need_rust() {
  have cargo || PATH=$HOME/.cargo/bin:$PATH # rustup was just installed, and the shell has not been started anew
  have rustup || die "rustup is not installed: see https://rustup.rs, then run this again"
  local want have_toolchain
  want=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$MILL_HOME/rust-toolchain.toml")
  have_toolchain=$(rustup toolchain list 2>/dev/null)
  if ! grep -q "^$want" <<<"$have_toolchain"; then
    say "installing the Rust toolchain $want"
    rustup toolchain install "$want" --profile minimal </dev/null || die "could not install the Rust toolchain $want"
  fi
  if ! rustup target list --installed --toolchain "$want" | grep -qx wasm32-wasip2; then
    say "installing the Rust target wasm32-wasip2 (to compile modules)"
    rustup target add wasm32-wasip2 --toolchain "$want" </dev/null || die "could not install the target wasm32-wasip2"
  fi
}

need_lint() {
  local c
  for c in rustfmt clippy; do
    rustup component list --installed | grep -q "^$c" || rustup component add $c </dev/null || die "could not install $c"
  done
  have shellcheck || (apt_install "to check the shell scripts" shellcheck) || say "going on without shellcheck"
}

# It counts instructions: virtual machines seldom let the processor's own counters be read.
need_valgrind() {
  mkdir -p "$CACHE"
  have valgrind || apt_install "to count the instructions of a call of the module" valgrind
}

# A browser, and what drives it. Playwright's own download of browsers is not needed.
PLAYWRIGHT_VERSION=1.64.1
PLAYWRIGHT=$CACHE/playwright-$PLAYWRIGHT_VERSION

need_browser() {
  mkdir -p "$PLAYWRIGHT"
  have chromium || apt_install "to look at the web page" chromium
  have npm || apt_install "to drive the browser" nodejs npm
  [ -d "$PLAYWRIGHT/node_modules/playwright-core" ] ||
    npm install --prefix "$PLAYWRIGHT" --no-audit --no-fund --silent "playwright-core@$PLAYWRIGHT_VERSION" </dev/null
}

# A program from PyPI in an environment of its own, which is named by the program and its version.
need_python() { # directory program why
  mkdir -p "$CACHE"
  [ ! -x "$1/bin/$2" ] || return 0
  python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install "$3" python3-venv
  say "installing $2 to $1 (once)"
  rm -rf "$1" "$1.new"
  python3 -m venv "$1.new" || return
  "$1.new/bin/pip" install -q --disable-pip-version-check "$2==${1##*-}" >&2 || return
  # It names the interpreter by its path.
  sed -i "1s|.*|#!$1/bin/python|" "$1.new/bin/$2"
  mv "$1.new" "$1"
}

# Asks what the OpenAPI document describes, and what it does not.
SCHEMATHESIS=$CACHE/schemathesis-4.32.5
need_schemathesis() { need_python "$SCHEMATHESIS" schemathesis "to test the HTTP interface"; }

java_major() { "$1" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p;s/^javac \([0-9]*\).*/\1/p' | head -1; }

need_java() {
  mkdir -p "$CACHE"
  local missing=() p
  if ! have javac || [ "$(java_major java)" -lt 17 ] || [ "$(java_major javac)" -lt 17 ]; then
    # The default of older distributions is Java 11, and Kafka 4 wants 17.
    for p in openjdk-17-jdk-headless openjdk-21-jdk-headless default-jdk-headless; do
      if apt-cache show "$p" >/dev/null 2>&1; then break; fi
    done
    missing+=("$p")
  fi
  [ ${#missing[@]} = 0 ] || apt_install "to run Apache Kafka and Kafka Streams, which the tests compare with" "${missing[@]}"
}

setup() {
  need_native
  need_rust
  need_java
  need_valgrind
  need_browser
  need_schemathesis
  kafka_jars
  judge_jars
  say "all is there: Rust $(rustc --version | cut -d' ' -f2), Java $(java_major java), Kafka $KAFKA_VERSION in $KAFKA_LIBS"
}
