#!/usr/bin/env bash
# The end-to-end tests with other Nix clients: those of newer Debians, each in a folder that debootstrap makes (540 MB and a
# minute each, once). narswarm itself runs outside; loopback and one temporary folder are shared.
# Usage: run.sh [--fresh] [suite...]     --fresh sets the folders up anew; suites: trixie (Nix 2.26), sid (Nix 2.34)
set -euo pipefail
cd "$(dirname "$0")/../.."

mirror=${NARSWARM_DEBIAN_MIRROR:-http://deb.debian.org/debian}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/narswarm/clients

skip() {
  echo "skipped: $*"
  exit 0
}
[ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ] || skip 'needs root on Linux, to change the root folder and to mount'
command -v debootstrap >/dev/null || skip 'no debootstrap on PATH (Debian: apt-get install debootstrap)'
unshare --mount true 2>/dev/null || skip 'this machine allows no mount namespace'

fresh=
if [ "${1:-}" = --fresh ]; then
  fresh=1
  shift
fi
[ $# -gt 0 ] || set -- trixie sid

# Makes $cache/<suite>; a folder under that name is always a whole one.
set_up() {
  local suite=$1 root=$cache/$1.part
  rm -rf --one-file-system "$root"
  mkdir -p "$cache"
  # It mounts things in the folder, and leaves them there when it fails.
  unshare --mount --propagation private \
    debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$cache/$suite.log" 2>&1 || return
  # Named in --include, nix-bin's virtual Perl dependency would end debootstrap with an error.
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    nix-bin xz-utils >>"$cache/$suite.log" 2>&1 || return
  chroot "$root" apt-get clean
  mv -T "$root" "$cache/$suite"
}

# A mount namespace with the folder as its root, for as long as somebody holds our end of the pipe: nothing is left mounted,
# however this script ends. Not chroot, in which the kernel allows no user namespace, so that Nix has no sandbox.
hold_root() {
  exec unshare --mount --propagation private bash -euc '
    root=$1 shared=$2
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -sfn pts/ptmx "$root/dev/ptmx"
    mkdir -p "$root$shared" "$root/mnt/before"
    mount --bind "$shared" "$root$shared"
    cd "$root"
    pivot_root . mnt/before
    umount --lazy /mnt/before
    echo ready
    exec cat' hold_root "$@"
}

TMPDIR=$(mktemp -d --tmpdir narswarm-clients.XXXXXX)
export TMPDIR
trap 'chmod -R u+w "$TMPDIR"; rm -rf --one-file-system "$TMPDIR"' EXIT
node=$PWD/node_modules/.bin/node
failed=0
summary=
for suite; do
  root=$cache/$suite
  [ -z "$fresh" ] || rm -rf --one-file-system "$root"
  if [ ! -d "$root" ]; then
    echo "== $suite: setting up $root"
    if ! set_up "$suite"; then
      summary+="$suite: skipped, it could not be had from $mirror: $(tail -n1 "$cache/$suite.log")"$'\n'
      continue
    fi
  fi
  coproc holder { hold_root "$root" "$TMPDIR"; }
  if ! read -r _ <&"${holder[0]}"; then
    summary+="$suite: skipped, this machine does not let us mount what it needs"$'\n'
    continue
  fi
  export NARSWARM_E2E_NIX="nsenter --mount=/proc/$holder_PID/ns/mnt"
  client=$($NARSWARM_E2E_NIX nix --version)
  echo "== $suite: $client"
  "$node" --test --test-concurrency=1 --test-reporter=spec 'test/e2e/**/*.e2e.ts' | tee "$TMPDIR/report" || failed=1
  summary+="$suite, $client: $(sed -nE 's/^ℹ (pass|fail|skipped) ([0-9]+)$/\1 \2/p' "$TMPDIR/report" | paste -sd ' ')"$'\n'
  exec {holder[1]}>&-
  wait "$holder_PID" || true
  rmdir "$root$TMPDIR" || true
done
printf '\n%s' "$summary"
exit $failed
