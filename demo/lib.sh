# Shared by the demo's scripts; sourced, never run.
# shellcheck shell=bash

demo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$demo")
# The namespaces are PREFIX-staging and PREFIX-production: two demos may share a cluster.
PREFIX=${LOCKKEEPER_DEMO_PREFIX:-shop}
STAGING=$PREFIX-staging
PRODUCTION=$PREFIX-production

# heading TEXT: what a stranger reads first. Colour only where somebody watches.
heading() {
  if [ -t 1 ]; then printf '\n\033[1m== %s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi
}
say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# run COMMAND...: shows the command, as one would type it, then its real output.
run() {
  printf '$ %s\n' "$*"
  "$@"
}

# cluster_up: starts or completes the test cluster and speaks to it from here on. ~/.kube is not touched.
cluster_up() {
  KUBECONFIG=$("$root/tests/cluster/up.sh") || exit 1
  export KUBECONFIG
  PATH=$(dirname -- "$KUBECONFIG")/bin:$PATH # its kubectl and helm
}

# build_images: builds what the demo's namespaces run. Afterwards IMAGE[postgres:18], IMAGE[unleash:7.4.1] and so on are
# references by digest.
declare -A IMAGE=()
build_images() {
  local lines name reference
  lines=$("$root/tests/apps/postgres/build.sh" && "$demo/unleash/build.sh") || exit 1
  while read -r name reference; do IMAGE[$name]=$reference; done <<<"$lines"
}

# manifest FILE ENVIRONMENT [NAME=VALUE...]: a file of manifests/ with its @NAMES@ filled in.
manifest() {
  local file=$demo/manifests/$1.yaml environment=$2 pair script
  shift 2
  script="s|@NAMESPACE@|$PREFIX-$environment|g;s|@ENVIRONMENT@|$environment|g;s|@PREFIX@|$PREFIX|g;s|@APP@|unleash|g"
  for pair; do script+=";s|@${pair%%=*}@|${pair#*=}|g"; done
  sed "$script" "$file"
}

apply() { manifest "$@" | kubectl apply -f - >/dev/null; }

# task ENVIRONMENT NAME IMAGE: runs a script of an Unleash image as a Job and prints what it said. An earlier Job of that
# name is replaced: each script may run again.
task() {
  local environment=$1 name=$2 namespace=$PREFIX-$1 completed failed
  kubectl -n "$namespace" delete job "$name" --ignore-not-found --wait >/dev/null
  apply task "$environment" "TASK=$name" "UNLEASH=$3"
  # Whichever comes first; kubectl waits for one condition only.
  kubectl -n "$namespace" wait "job/$name" --for=condition=complete --timeout=120s >/dev/null 2>&1 &
  completed=$!
  kubectl -n "$namespace" wait "job/$name" --for=condition=failed --timeout=120s >/dev/null 2>&1 &
  failed=$!
  wait -n "$completed" "$failed" || true
  kill "$completed" "$failed" 2>/dev/null || true
  wait "$completed" "$failed" 2>/dev/null || true
  kubectl -n "$namespace" logs "job/$name" | sed "s/^/$environment: /"
  [ "$(kubectl -n "$namespace" get job "$name" -o 'jsonpath={.status.succeeded}')" = 1 ] ||
    die "$name failed in $namespace: kubectl -n $namespace describe job $name"
}

# rolled_out ENVIRONMENT DEPLOYMENT
rolled_out() {
  kubectl -n "$PREFIX-$1" rollout status "deployment/$2" --timeout=180s >/dev/null ||
    die "$2 does not become ready in $PREFIX-$1: kubectl -n $PREFIX-$1 describe pods -l app=$2"
}

# install_shop ENVIRONMENT RELEASE: database, schema, application and data of one environment. What runs already stays as
# it is: it may be what a promotion brought.
install_shop() {
  local environment=$1 image=${IMAGE[unleash:$2]} namespace=$PREFIX-$1
  apply namespace "$environment"
  until kubectl -n "$namespace" get serviceaccount default >/dev/null 2>&1; do sleep 0.1; done
  apply postgres "$environment" "POSTGRES=${IMAGE[postgres:18]}"
  rolled_out "$environment" postgres
  if ! kubectl -n "$namespace" get deployment unleash >/dev/null 2>&1; then
    apply "config-$environment" "$environment"
    # The Secrets come with the Deployment; the schema must be there before the server, so both are made, and it starts
    # when the task is done.
    manifest unleash "$environment" "UNLEASH=$image" | sed 's/^  replicas: 1$/  replicas: 0/' | kubectl apply -f - >/dev/null
    task "$environment" migrate "$image"
    apply unleash "$environment" "UNLEASH=$image"
  fi
  rolled_out "$environment" unleash
  task "$environment" seed "$image"
  say "$environment runs $(release_of "$environment")"
}

# release_of ENVIRONMENT: the name of the image that the Deployment names by digest.
release_of() {
  local name image
  image=$(kubectl -n "$PREFIX-$1" get deployment unleash -o 'jsonpath={.spec.template.spec.containers[0].image}')
  for name in "${!IMAGE[@]}"; do
    [ "${IMAGE[$name]}" != "$image" ] || { echo "$name"; return; }
  done
  echo "$image"
}
