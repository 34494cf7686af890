# Shared by the demo's scripts; sourced, never run.
# shellcheck shell=bash

demo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$demo")
# The namespaces are PREFIX-staging and PREFIX-production: two demos may share a cluster.
PREFIX=${LOCKKEEPER_DEMO_PREFIX:-shop}
STAGING=$PREFIX-staging
PRODUCTION=$PREFIX-production

# heading TEXT: what a stranger reads first, with the time. Bold only where somebody watches.
heading() {
  local text
  text="== $(date +%T)  $*"
  if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$text"; else printf '\n%s\n' "$text"; fi
}
say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# run COMMAND...: shows the command, as one would type it, then its real output.
run() {
  printf '\n$ %s\n' "$*"
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

# task ENVIRONMENT NAME IMAGE [USERNAME]: runs a script of an Unleash image as a Job and prints what it said. An earlier Job of
# that name is replaced: each script may run again. It logs in as admin, who is user1 in a mirror.
task() {
  local environment=$1 name=$2 namespace=$PREFIX-$1 completed failed
  kubectl -n "$namespace" delete job "$name" --ignore-not-found --wait >/dev/null
  apply task "$environment" "TASK=$name" "UNLEASH=$3" "LOGIN=${4:-admin}"
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
  # Once: later it would be in the way of whoever tries things out, and of a promotion that is under way.
  [ "$(kubectl -n "$namespace" get job seed -o 'jsonpath={.status.succeeded}' 2>/dev/null)" = 1 ] || task "$environment" seed "$image"
  say "$environment runs Unleash $(release_of "$environment")"
}

# install_shops: the environments side by side. A failure of any is one.
install_shops() {
  local pids=() pid failed=
  install_shop development 7.4.1 &
  pids+=($!)
  install_shop staging 6.3.0 &
  pids+=($!)
  install_shop production 6.3.0 &
  pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  [ -z "$failed" ]
}

# release_of ENVIRONMENT: which release of Unleash answers there, asked of the running container.
release_of() {
  kubectl -n "$PREFIX-$1" exec deployment/unleash -- node -p \
    "process.env.EXTRA_MIGRATION ? '7.5.0-broken' : require('./node_modules/unleash-server/package.json').version"
}

# install_operator: builds Lockkeeper and installs it, or upgrades what is there. The plugin is the one just built.
install_operator() {
  local image target=${CARGO_TARGET_DIR:-$root/target}/release
  (cd "$root" && cargo build --release --locked --bins)
  PATH=$target:$PATH # kubectl finds its plugin there
  image=$("$root/tests/cluster/lockkeeper-image.sh" "$target") || exit 1
  kubectl apply -f "$root/deploy/namespace.yaml" >/dev/null
  helm upgrade --install lockkeeper "$root/charts/lockkeeper" --namespace lockkeeper-system \
    --set "image.repository=${image%@*},image.digest=${image#*@}" --wait --timeout 3m >/dev/null
}

# share_exchange: a volume that both Production and Staging have, by which masked data goes from one to the other.
share_exchange() {
  local name path second=$STAGING-exchange
  ! kubectl -n "$STAGING" get persistentvolumeclaim exchange >/dev/null 2>&1 || return 0
  apply exchange production "VOLUME="
  until name=$(kubectl -n "$PRODUCTION" get persistentvolumeclaim exchange -o 'jsonpath={.spec.volumeName}') && [ -n "$name" ]; do sleep 0.2; done
  path=$(kubectl get persistentvolume "$name" -o 'jsonpath={.spec.hostPath.path}')
  kubectl apply -f - >/dev/null <<EOF
apiVersion: v1
kind: PersistentVolume
metadata: {name: $second}
spec:
  accessModes: [ReadWriteMany]
  capacity: {storage: 1Gi}
  storageClassName: ""
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: $path}
  claimRef: {namespace: $STAGING, name: exchange}
EOF
  apply exchange staging "VOLUME=storageClassName: \"\"\n  volumeName: $second"
}

# describe_environments: gives the operator its rights in the namespaces, people theirs, and says what is in them. What
# Production grants bears the hash of the policy as it is now: a policy that is changed takes nothing out.
describe_environments() {
  local environment hash newer=
  share_exchange
  for environment in development staging production; do
    helm upgrade --install "$PREFIX" "$root/charts/lockkeeper-environment" --namespace "$PREFIX-$environment" \
      --values "$demo/manifests/values-$environment.yaml" >/dev/null
  done
  # What only a newer Unleash has is in the policy once Production has that.
  [ "$(release_of production)" = 6.3.0 ] || newer='s/# 7[.]4: //'
  manifest masking production | sed "$newer" | kubectl apply -f - >/dev/null
  until hash=$(kubectl -n "$PRODUCTION" get maskingpolicy shop -o 'jsonpath={.status.hash}') && [ -n "$hash" ]; do sleep 0.2; done
  for environment in development staging production; do
    apply "environment-$environment" "$environment" "UNLEASH_CHECK=${IMAGE[unleash:7.4.1]}" "MASKING_HASH=$hash"
  done
  for environment in development staging production; do
    kubectl -n "$PREFIX-$environment" wait "environment/$environment" --for=condition=Ready --timeout=60s >/dev/null || {
      kubectl lockkeeper doctor -n "$PREFIX-$environment" || true
      die "the Environment $environment is not Ready; the lines above say why"
    }
  done
}

# Two people of the demo, and the groups that their organisation put them in.
ALICE=(--as alice --as-group shop-developers)
BOB=(--as bob --as-group shop-operators)

# say_answers ENVIRONMENT: from here to hush, says by itself what its users get, whenever that changes: asked ten times a
# second from outside the cluster's pods, over new connections.
say_answers() {
  local tiny address
  tiny=$("$root/tests/apps/tiny/build.sh" --binary)
  address=$(kubectl -n "$PREFIX-$1" get service unleash -o 'jsonpath={.spec.clusterIP}')
  "$tiny" poll --say "$1" --url "http://$address/health" &
  poller=$!
  trap hush EXIT
}
hush() {
  [ -z "${poller:-}" ] || kill "$poller" 2>/dev/null || true
  [ -z "${poller:-}" ] || wait "$poller" 2>/dev/null || true
  poller=
}

# promote NAME FROM TO DESCRIPTION PHASE: alice asks, bob approves where Production asks for that, all watch it end, as it
# should, in PHASE.
promote() {
  local name=$1 from=$2 to=$3 description=$4 phase=$5 namespace=$PREFIX-$3 ended
  run kubectl lockkeeper promote -n "$namespace" "${ALICE[@]}" --from "$PREFIX-$from/$from" --name "$name" --description "$description" --yes
  [ "$to" != production ] || run kubectl lockkeeper approve "$name" -n "$namespace" "${BOB[@]}" --yes
  say_answers "$to"
  # Through a pipe: one line a change, between which the poller's lines fit. Its exit code tells how the run ended, and
  # one of the runs is meant to end badly.
  printf '\n$ %s\n' "kubectl lockkeeper watch $name -n $namespace"
  kubectl lockkeeper watch "$name" -n "$namespace" | cat || true
  sleep 1 # for the poller's last word
  hush
  ended=$(kubectl -n "$namespace" get promotion "$name" -o 'jsonpath={.status.phase}')
  [ "$ended" = "$phase" ] || die "$name ended as $ended, not as $phase: kubectl -n $namespace describe promotion $name"
}

# unused ENVIRONMENT NAME: NAME, or where there is a Promotion of that name already, NAME-2 and so on: a run is never run again.
unused() {
  local name=$2 n=1
  while kubectl -n "$PREFIX-$1" get promotion "$name" >/dev/null 2>&1; do
    n=$((n + 1))
    name=$2-$n
  done
  echo "$name"
}

# query ENVIRONMENT SQL: asked of the database itself.
query() {
  kubectl -n "$PREFIX-$1" exec deployment/postgres -- psql -h /tmp -U postgres -d unleash -Atc "$2"
}

# count ENVIRONMENT TABLE: how many rows.
count() { query "$1" "SELECT count(*) FROM $2"; }
