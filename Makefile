# Lockkeeper. `make help` says what each target does; `make demo` and `make test` need nothing but Debian, Rust, Go and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-unit test-stories test-apps scale bench instructions seeded lint crds image cluster-up cluster-down

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t16

demo: ## bring up a one-node Kubernetes, install Lockkeeper, promote a real application, and watch a broken release be undone
	@demo/run.sh

demo-down: ## stop what the demo and the tests started; caches stay
	@demo/down.sh

test: ## every test, cluster stories included
	@hack/test.sh all

test-unit: ## tests that need no whole cluster
	@hack/test.sh unit

test-stories: ## stories on the whole cluster
	@hack/test.sh stories

test-apps: ## pretix and Unleash mirrored from Production to Development, with thousands of values looked for; not part of `make test`
	@hack/test.sh apps

scale: ## measure the operator at 200 Environments, 2,000 Promotions and 10,000 pods, and Jobs at 20 GB and 10,000 tables; not part of `make test`
	@hack/test.sh scale

bench: ## measure backup, restore and masked mirrors beside pg_dump, pgcopydb and Greenmask; not part of `make test`
	@hack/bench.sh

instructions: ## count the instructions that codec and masks take a row, and compare with benches/instructions.txt; not part of `make test`
	@hack/instructions.sh

seeded: ## break the operator in each way of tests/seeded and see that the named test or story notices (SEEDS="name …" for some); not part of `make test`
	@hack/seeded.sh $(SEEDS)

lint: ## formatting, clippy, dependencies, shell scripts
	@hack/lint.sh

crds: ## generate crds/, and the chart's copy, from the types
	@cargo run --quiet --bin lockkeeper -- crds --dir crds
	@cp crds/*.yaml charts/lockkeeper/files/crds/
	@hack/render-deploy.sh

image: ## build the image and push it to the cluster's registry
	@cargo build --release --locked --bins
	@tests/cluster/lockkeeper-image.sh

cluster-up: ## start the one-node Kubernetes; prints its kubeconfig
	@tests/cluster/up.sh

cluster-down: ## stop it, and leave nothing but caches
	@tests/cluster/down.sh
