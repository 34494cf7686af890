#!/usr/bin/env bash
# Renders deploy/ from charts/lockkeeper, for those who install without helm: kubectl apply --server-side -k deploy
# Usage: hack/render-deploy.sh [DIRECTORY]     HELM names another helm than the one in PATH.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
to=${1:-deploy}
helm=${HELM:-helm}
namespace=lockkeeper-system
mkdir -p "$to"

part() { # TEMPLATE: one template of the chart, without the words that only helm's own installations need
  "$helm" template lockkeeper charts/lockkeeper --namespace $namespace --kube-version 1.35.0 --show-only "templates/$1.yaml" |
    sed -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^# Source: /d' >"$to/$1.yaml"
}
parts=(crds operator rbac people policies bounds network)
for p in "${parts[@]}"; do part "$p"; done

cat >"$to/namespace.yaml" <<Y
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    pod-security.kubernetes.io/enforce: restricted
Y
{
  echo '# Rendered from charts/lockkeeper by hack/render-deploy.sh. Changes here are lost: put a kustomization of your own on top.'
  echo 'apiVersion: kustomize.config.k8s.io/v1beta1'
  echo 'kind: Kustomization'
  echo 'resources:'
  for p in namespace "${parts[@]}"; do echo "  - $p.yaml"; done
} >"$to/kustomization.yaml"
