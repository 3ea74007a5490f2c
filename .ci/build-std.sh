# Sourced by the checks that build the standard library for another target or with other flags: the system's compiler,
# whose sources Debian packages, driven by a nightly cargo. On Debian: apt-get install rustc-web rust-web-src.
skip() {
  echo "skipped: $1"
  exit 0
}
need() {
  command -v "$1" >/dev/null || skip "$1 is not installed (package $2)"
}
need /usr/bin/rustc rustc-web
[ -e /usr/lib/rustlib/src/rust/library/std ] || skip "the sources of the standard library are not installed (package rust-web-src)"
cargo +nightly --version >/dev/null 2>&1 || skip "no nightly cargo"
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
