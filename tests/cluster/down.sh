#!/usr/bin/env bash
# Ends the cluster and takes away what it left on the machine: processes, mounts, bridge, iptables rules, cgroups, sysctls.
# Kept: etcd's data, volumes and images, so that `up` goes on where it stopped. `--purge` removes these too, but never
# built programs, base images and the registry's content: they are worth minutes.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root
purge=
case "${1:-}" in
  '') ;;
  --purge) purge=1 ;;
  *) die "usage: down.sh [--purge]" ;;
esac
[ -d "$D" ] || exit 0
lock cluster 9
SECONDS=0

# Those who would restart pods or write rules first; the API server and etcd last, as others complain without them.
for n in kubelet volume-provisioner coredns kube-scheduler kube-controller-manager; do end_component $n 5; done
if [ -n "$(pids_of containerd)" ]; then
  # By containerd, so that network addresses and snapshots are given back; killed at once, this is no drain.
  our_ctr --timeout 10s tasks ls -q 2>/dev/null | xargs -r -P 8 -n 1 ctr -a "$D/run/containerd.sock" -n k8s.io tasks rm -f >/dev/null 2>&1 || true
  our_ctr --timeout 10s containers ls -q 2>/dev/null | xargs -r -n 50 ctr -a "$D/run/containerd.sock" -n k8s.io containers rm >/dev/null 2>&1 || true
fi
end_component containerd
for n in kube-proxy kube-apiserver etcd registry; do end_component $n; done
sweep

# clean_tables PREFIX: removes every chain of ours, of kube-proxy, of kubelet and of the port mapping plugin, with all jumps
# to them, in one transaction a table; other people's rules are not touched.
clean_tables() {
  local table save chains c
  command -v "$1-save" >/dev/null || return 0
  for table in filter nat mangle raw; do
    save=$("$1-save" -t $table 2>/dev/null) || continue
    chains=$(sed -nE 's/^:((KUBE-|LOCKKEEPER-|CNI-DN-|CNI-HOSTPORT-)[^ ]*) .*/\1/p' <<<"$save")
    [ -n "$chains" ] || continue
    {
      echo "*$table"
      while read -r c; do echo ":$c - [0:0]"; done <<<"$chains"
      sed -nE '/^-A (KUBE-|LOCKKEEPER-|CNI-DN-|CNI-HOSTPORT-)/d; /-[jg] (KUBE-|LOCKKEEPER-|CNI-DN-|CNI-HOSTPORT-)/s/^-A/-D/p' <<<"$save"
      while read -r c; do echo "-X $c"; done <<<"$chains"
      echo COMMIT
    } | "$1-restore" -w --noflush || die "cannot remove our rules from table $table: $1-save -t $table shows them"
  done
}
clean_tables iptables
clean_tables ip6tables
ip link del "$BRIDGE" 2>/dev/null || true # its route and the pods' ends go with it
# Places that kubelet does not let one choose.
rm -f /var/lib/kubelet/device-plugins/{kubelet.sock,kubelet_internal_checkpoint}
rmdir /var/lib/kubelet/device-plugins /var/lib/kubelet 2>/dev/null || true
find /var/log/containers -maxdepth 1 -lname "$D/*" -delete 2>/dev/null || true

# The image builder keeps its storage mounted. Not under the hands of a build, though: that goes on without a cluster.
if [ -d "$C/buildah" ]; then
  exec 6>"$C/locks/buildah"
  if flock -n 6; then unmount_all "$C/buildah"; else say "an image is being built: its mounts stay"; fi
  exec 6>&-
fi

if [ -e "$D/state/sysctl" ]; then
  while IFS= read -r line; do sysctl -qw "$line" 2>/dev/null || true; done <"$D/state/sysctl"
  rm -f "$D/state/sysctl"
fi

if [ -n "$purge" ]; then
  ! grep -qF " $D/" /proc/self/mounts || die "something is still mounted under $D: not removing it"
  rm -rf --one-file-system "$D"
fi
say "cluster is down after $SECONDS s"
