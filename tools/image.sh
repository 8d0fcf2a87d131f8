# shellcheck shell=bash
# The root file system of the container image: the Dockerfile runs this, and so do the tests, which have no container
# engine. Everything comes from the machine it runs on, so that what is in the image was tested with that machine's libc.

IMAGE_USER=10001
# For a look around in a pod: `kubectl exec POD -- ls -lrt /data/count-store/counts-app`.
IMAGE_APPLETS=(cat date df du env find free grep head hostname id kill less ls nslookup ps pwd sh sleep sort stat tail tar top wc wget)

need_image() {
  mkdir -p "$CACHE"
  local missing=()
  have jq || missing+=(jq)
  have strip || missing+=(binutils)
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static)
  [ -f /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  [ ${#missing[@]} = 0 ] || apt_install "to put the container image together" "${missing[@]}"
}

# The files of the image that are Debian's: the loader and the libraries of the binary, a shell, certificates.
image_system_files() { # binary
  ldd "$1" | sed -n 's/^.* => \(\/[^ ]*\) .*$/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*$/\1/p'
  printf '%s\n' /bin/busybox
}

# The package a file is from. A library may be known by its path before /usr was merged, or after.
image_package() { # file
  local path
  for path in "$1" "$(readlink -f "$1")" "/usr$1" "${1#/usr}"; do
    if dpkg -S "$path" 2>/dev/null | sed 's/:.*//;q'; then return; fi
  done
  die "$1 is of no package: the image could not say what it is made of"
}

image_root() { # root
  local root=$1 file package applet
  mkdir -p "$root"/{bin,etc/millrace,etc/ssl/certs,proc,sys,dev,tmp,usr/lib/ssl,usr/local/bin,opt/millrace,data/count-store} \
    "$root"/{usr/share/doc/millrace,var/lib/dpkg/status.d}
  strip -o "$root/usr/local/bin/millrace" "$MILLRACE_BIN"
  cp "$WASM_DIR/guest_wordcount.wasm" "$root/opt/millrace/"
  cp "$MILL_HOME/k8s/base/counts.toml" "$root/etc/millrace/"
  cp "$MILL_HOME/LICENSE" "$root/usr/share/doc/millrace/"
  for file in $(image_system_files "$MILLRACE_BIN"); do
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
    package=$(image_package "$file")
    image_say_package "$root" "$package"
  done
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  image_say_package "$root" ca-certificates
  # Where OpenSSL looks when it is not told where.
  ln -s /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
  for applet in "${IMAGE_APPLETS[@]}"; do ln -s busybox "$root/bin/$applet"; done
  cp -L /etc/os-release "$root/etc/"
  echo "root:x:0:0:root:/:/bin/sh
millrace:x:$IMAGE_USER:$IMAGE_USER:millrace:/data:/bin/sh" >"$root/etc/passwd"
  echo "root:x:0:
millrace:x:$IMAGE_USER:" >"$root/etc/group"
  chmod 1777 "$root/tmp"
  [ "$(id -u)" != 0 ] || chown "$IMAGE_USER:$IMAGE_USER" "$root/data/count-store"
}

# As Debian's "distroless" images have it: scanners look for known flaws by these files. The licences go with the files.
image_say_package() { # root package
  [ ! -e "$1/var/lib/dpkg/status.d/$2" ] || return 0
  dpkg-query -s "$2" >"$1/var/lib/dpkg/status.d/$2"
  mkdir -p "$1/usr/share/doc/$2"
  cp -L "/usr/share/doc/$2/copyright" "$1/usr/share/doc/$2/" 2>/dev/null || say "no copyright file of $2 on this machine"
}

image_crates() { # package target: lines "name version licence"
  in_project cargo tree --locked -p "$1" --target "$2" -e normal --prefix none -f '{p}|{l}|' |
    sed -n '/(proc-macro)/d; s/^\([^ ]*\) v\([^ |]*\)[^|]*|\([^|]*\)|.*/\1 \2 \3/p' | LC_ALL=C sort -u
}

# CycloneDX, without times or random numbers: the same image has the same list.
image_sbom() { # root
  local root=$1 package
  {
    image_crates millrace-runtime "$(rustc -vV | sed -n 's/^host: //p')"
    image_crates guest-wordcount wasm32-wasip2
  } | LC_ALL=C sort -u | jq -R -s --arg name millrace '
    split("\n") | map(select(. != "") | split(" ") | {
      type: "library", name: .[0], version: .[1], purl: "pkg:cargo/\(.[0])@\(.[1] | @uri)",
      licenses: (.[2:] | join(" ") | gsub("/"; " OR ") | if . == "" then [] else [{expression: .}] end)})' >"$root.crates"
  for package in "$root"/var/lib/dpkg/status.d/*; do
    dpkg-query -W -f '${binary:Package} ${Version} ${Architecture}\n' "$(basename "$package")"
  done | jq -R -s '
    split("\n") | map(select(. != "") | split(" ") | {
      type: "library", name: (.[0] | split(":")[0]), version: .[1],
      purl: "pkg:deb/debian/\(.[0] | split(":")[0])@\(.[1] | @uri)?arch=\(.[2])"})' >"$root.packages"
  jq -n --slurpfile crates "$root.crates" --slurpfile packages "$root.packages" \
    --arg version "$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$MILL_HOME/Cargo.toml")" '
    {bomFormat: "CycloneDX", specVersion: "1.6", version: 1,
     metadata: {component: {type: "container", name: "kstreams-count", version: $version}},
     components: ($crates[0] + $packages[0])}' >"$root/usr/share/doc/millrace/sbom.cdx.json"
  rm "$root.crates" "$root.packages"
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# Runs the binary in the image as a container would, without rights and with no other file: what is missing shows here.
image_try() { # root args...
  local root=$1; shift
  chroot --userspec="$IMAGE_USER:$IMAGE_USER" "$root" /usr/local/bin/millrace "$@"
}

image_report() { # root
  local root=$1 before after
  say "binary $(du -h --apparent-size "$root/usr/local/bin/millrace" | cut -f1), module $(du -h --apparent-size "$root/opt/millrace/guest_wordcount.wasm" | cut -f1)"
  say "image $(du -sh --apparent-size "$root" | cut -f1), compressed $(tar -C "$root" -c . | gzip -1 | wc -c | numfmt --to=iec)," \
    "$(jq '.components | length' "$root/usr/share/doc/millrace/sbom.cdx.json") components in the bill of materials"
  [ "$(id -u)" = 0 ] || return 0
  before=$(milliseconds)
  image_try "$root" --version >&2 || die "the binary does not run in the image"
  after=$(milliseconds)
  say "start of the binary: $((after - before)) ms"
  before=$(milliseconds)
  KAFKA_BROKER=127.0.0.1:9092 image_try "$root" check -c /etc/millrace/counts.toml >/dev/null || die "the image's configuration is not sound"
  after=$(milliseconds)
  say "start of the module (read, compiled, described): $((after - before)) ms"
}

image() { # directory
  local root=${1:-}
  [ -n "$root" ] || die "image: which directory shall it be written to?"
  [ ! -e "$root" ] || [ -d "$root/opt/millrace" ] || die "$root is there, and is no image: choose another directory"
  need_image
  build
  rm -rf "$root"
  image_root "$root"
  image_sbom "$root"
  image_report "$root"
  say "the image's root file system is in $root"
}
