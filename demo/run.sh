#!/usr/bin/env bash
# The demo: a Kubernetes on this machine, Lockkeeper in it, and a shop with a Development, a Staging and a Production. One
# release goes all the way, Staging becoming a masked mirror of Production before it; and one that fails half way is undone.
# What is there from an earlier run is used; demo/down.sh ends it.
#
# Needs Debian 12 or 13, root, Rust, Go and make. The first time it builds all of Kubernetes, which takes a while.
set -euo pipefail
# shellcheck source=demo/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
SECONDS=0

heading "A Kubernetes with one node"
cluster_up
run kubectl get nodes

heading "Lockkeeper, built here and installed by helm"
install_operator
run kubectl -n lockkeeper-system get pods

heading "The shop: Unleash in Development, in Staging and in Production, each with a database of its own"
build_images
install_shops
run kubectl -n "$PRODUCTION" get deployments,services,configmaps

heading "What Lockkeeper is told about them"
describe_environments
run kubectl get environments -A

if [ "$(release_of staging)" = 6.3.0 ]; then
  heading "What was made in Development goes to Staging, which becomes a mirror of Production first"
  people="SELECT coalesce(name, username) || ', ' || coalesce(email, 'no address') FROM users WHERE id > 1 ORDER BY id"
  say "Staging has $(count staging users) users and $(count staging features) feature flags, made up by somebody. Production has $(count production users) and $(count production features):"
  query production "$people"
  promote "$(unused staging flags-7-4-1)" development staging "Flags 7.4.1, made in Development" Completed
  run kubectl -n "$STAGING" get downalignments,promotions
  say "The release and its migrations ran on what is in Production: $(count staging features) feature flags, $(count staging users) users. Who they are stayed there:"
  query staging "$people"
  task staging check "${IMAGE[unleash:7.4.1]}" user1
fi

if [ "$(release_of production)" = 6.3.0 ]; then
  heading "Alice asks for what runs in Staging, Bob says yes"
  say "Production has the schema of 6.3.0, with $(count production migrations) of Unleash's migrations, and $(count production features) feature flags."
  promote "$(unused production flags-7-4-1)" staging production "Flags 7.4.1, tested in Staging" Completed
  heading "Production runs what ran in Staging"
  run kubectl -n "$PRODUCTION" get promotions
  for environment in staging production; do
    say "$environment: $(kubectl -n "$PREFIX-$environment" get deployment unleash -o 'jsonpath={.spec.template.spec.containers[0].image}')"
  done
  say "The schema is at $(count production migrations) migrations, the $(count production features) feature flags are there, and one can log in:"
  task production check "${IMAGE[unleash:7.4.1]}"
else
  heading "Production runs Unleash $(release_of production) already, from an earlier run of the demo"
  say "To see that promotion too, start afresh: demo/down.sh --purge"
fi

heading "A release that works in Staging and not in Production"
say "7.5.0 cleans up, commits, and then fails on what only Production has: two people of one name. The mask gave each a name of their own."
if [ "$(release_of staging)" != 7.5.0-broken ]; then
  task staging migrate "${IMAGE[unleash:7.5.0-broken]}"
  run kubectl -n "$STAGING" set image deployment/unleash "unleash=${IMAGE[unleash:7.5.0-broken]}"
  rolled_out staging unleash
fi
task staging check "${IMAGE[unleash:7.5.0-broken]}" user1
say "Staging is fine, so it is asked for in Production, and approved."
before=$(count production features)
name=$(unused production flags-7-5-0)
promote "$name" staging production "Flags 7.5.0, tested in Staging" RolledBack

heading "Production is what it was"
run kubectl -n "$PRODUCTION" get promotions
run kubectl -n "$PRODUCTION" get promotion "$name" -o 'jsonpath={.status.failure.step}{": "}{.status.failure.message}{"\n"}'
say
say "Production runs Unleash $(release_of production). Before there were $before feature flags, now there are $(count production features). The failed database is kept aside for a while:"
run kubectl -n "$PRODUCTION" get promotion "$name" -o 'jsonpath={.status.undo}{"\n"}'
say
task production check "${IMAGE[unleash:7.4.1]}"

heading "Done after $SECONDS s"
say "Look around:  export KUBECONFIG=$KUBECONFIG PATH=\"$(dirname -- "$KUBECONFIG")/bin:${CARGO_TARGET_DIR:-$root/target}/release:\$PATH\""
say "End it:       make demo-down"
