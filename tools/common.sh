# shellcheck shell=bash
# Paths, messages, and processes that are ended by the pid that was written down. Sourced by ./mill.

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
MILLRACE_BIN=$CARGO_TARGET_DIR/release/millrace
WASM_DIR=$CARGO_TARGET_DIR/wasm32-wasip2/module

say() { echo "mill: $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A pid file holds "pid start-ticks": a pid that was given to another process since is not ours.
start_ticks() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

write_pid() { # file pid
  echo "$2 $(start_ticks "$2")" >"$1.new" && mv "$1.new" "$1"
}

live_pid() { # file: prints the pid if the process that was started still runs
  [ -s "$1" ] || return 1
  local pid ticks
  read -r pid ticks <"$1" || true
  [ -n "$pid" ] && [ "$(start_ticks "$pid")" = "$ticks" ] || return 1
  case $(sed 's/^.*) //' "/proc/$pid/stat" 2>/dev/null) in Z* | '') return 1 ;; esac
  echo "$pid"
}

end_pid() { # file signal seconds
  local pid tries=0
  pid=$(live_pid "$1") || { rm -f "$1"; return 0; }
  kill "-$2" "$pid" 2>/dev/null || true
  while live_pid "$1" >/dev/null; do
    tries=$((tries + 1))
    [ $tries -gt $(($3 * 20)) ] && return 1
    sleep 0.05
  done
  rm -f "$1"
}

port_open() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; } # port [host]

all_free() { # port count
  local p
  for p in $(seq "$1" $(($1 + $2 - 1))); do ! port_open "$p" || return 1; done
}

free_ports() { # count: the first of so many that are free; below the range the kernel hands out by itself
  local p tries
  for tries in $(seq 1 100); do
    p=$((15000 + (RANDOM % 8000) * 2))
    if all_free "$p" "$1"; then echo "$p"; return; fi
  done
  die "no $1 free ports in a row after $tries tries"
}
