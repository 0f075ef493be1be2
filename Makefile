# Bare `make` says what there is. Longer logic is in hack/.
#
# CLUSTER=embedded  (default) the one-node Kubernetes of e2e/cluster, on this machine
# CLUSTER=current   the cluster of your kubeconfig; asks first (CONFIRM=yes: does not), and gets images by
#                   REGISTRY=host/path (pushed with docker, podman or buildah) or
#                   LOAD="kind load image-archive" (a command that is given each archive)
# RELEASE, NAMESPACE, SANDBOXES: the Helm release, its namespace and the one of sandboxes. The e2e tests
# know these defaults only. They take the release off and put it on again, and what they kill is on this
# machine: on a cluster of your own they kill nothing, and say so.

export CLUSTER ?= embedded
export RELEASE ?= codesandbox
export NAMESPACE ?= codesandbox
export SANDBOXES ?= codesandbox-sandboxes
export CONFIRM REGISTRY LOAD HELM_ARGS BINARIES ENGINE BASE MINUTES CYCLES SEED RUNTIMES

ifeq ($(CLUSTER),current)
ifneq ($(filter-out help lint fmt unit fuzz crds images venv node languages clean,$(or $(MAKECMDGOALS),help)),)
# (Written out, since make before 4.4 passes no exported variables to $(shell).)
override CONFIRM := $(shell CLUSTER='$(CLUSTER)' NAMESPACE='$(NAMESPACE)' SANDBOXES='$(SANDBOXES)' CONFIRM='$(CONFIRM)' hack/confirm.sh >&2 && echo yes)
ifneq ($(CONFIRM),yes)
$(error nothing was done)
endif
endif
endif

# A tree that is built once gains nothing from it, and it is a third of what the tree takes on disk.
ifdef CI
export CARGO_INCREMENTAL ?= 0
endif

STEP := @hack/step
# ARGS: passed on to the tests, as in `make e2e ARGS=leaks`.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt unit fuzz crds e2e bench gpu soak images images-load install uninstall \
        cluster-up cluster-down cluster-status leaks connect venv node languages clean
.NOTPARALLEL:

help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## From nothing to code running in a sandbox, on this machine
	@hack/demo.sh

test: lint unit e2e ## Everything: lint, unit tests, then a cluster with the release and the e2e tests

lint: ## rustfmt, clippy, shellcheck, the chart
	$(STEP) "cargo fmt --check" cargo fmt --all --check
	$(STEP) "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	$(STEP) "scripts" hack/lint.sh scripts
	$(STEP) "chart" hack/lint.sh chart

fmt: ## Formats the Rust code
	cargo fmt --all

unit: languages ## Tests that need no cluster
	$(STEP) "unit tests" cargo test --workspace --exclude e2e --locked $(ARGS)

fuzz: ## Drives what reads bytes of others with libFuzzer, each target for FUZZ_SECONDS (600); TARGETS takes some
	$(STEP) "fuzz" hack/fuzz.sh

crds: ## Writes crds/ and docs/reference/ from api/
	UPDATE_CRDS=1 cargo test --locked -p api --test crd --test reference

e2e: export E2E = yes
e2e: install venv node languages ## Tests against the cluster, in Rust and with the official MCP clients
	$(STEP) "gVisor" hack/cluster.sh gvisor
	$(STEP) "the agent's tests under gVisor" hack/gvisor-tests.sh
	$(STEP) "kwok" hack/cluster.sh build kwok
	$(STEP) "e2e tests" hack/with-cluster.sh cargo test --locked --no-fail-fast -p e2e $(ARGS)
	$(STEP) "e2e tests with the official MCP clients" hack/with-cluster.sh pytest -q e2e
	$(STEP) "rights, as all these tests used them" hack/with-cluster.sh cargo test --locked -p e2e --test rights -- --include-ignored
	$(STEP) "images of the first version" hack/upgrade.sh images
	$(STEP) "upgrade, rollback, reinstall" hack/with-cluster.sh pytest -q -s e2e/mcp/upgrade.py
	@hack/with-cluster.sh kubectl delete namespace e2e-open --ignore-not-found --wait=false
	@hack/with-cluster.sh kubectl delete rolebinding e2e-editor -n $(SANDBOXES) --ignore-not-found

bench: install ## Measures the figures of docs/benchmarks.md, and writes it
	$(STEP) "gVisor" hack/cluster.sh gvisor
	$(STEP) "a Jupyter kernel to compare with" hack/venv.sh .venv-bench e2e/bench/requirements.txt
	$(STEP) "bench" env JUPYTER_PYTHON=$(CURDIR)/.venv-bench/bin/python hack/with-cluster.sh cargo run --release --locked -p e2e --bin bench $(ARGS)

gpu: install ## Tests that take a real GPU, under runc and gVisor (RUNTIMES); no part of `make test`
	$(STEP) "a real GPU" hack/real-gpu.sh

soak: install ## Kills every part again and again for MINUTES (60), then makes and deletes CYCLES sandboxes; docs/soak.md, docs/cycles.md
	$(STEP) "soak" hack/with-cluster.sh cargo run --release --locked -p e2e --bin soak $(ARGS)

images: ## Builds the images into archives, once per content
	$(STEP) "images" hack/images.sh

images-load: images cluster-up ## Takes the images to the cluster
	$(STEP) "images into the cluster" hack/load.sh

install: images-load ## Installs or upgrades the release (HELM_ARGS adds to it)
	$(STEP) "helm install" hack/install.sh

uninstall: ## Takes the release off the cluster
	@hack/uninstall.sh

cluster-up: ## Brings up the one-node Kubernetes; says first what it changes on this machine
	$(STEP) "cluster" hack/cluster.sh up

cluster-down: ## Takes it off this machine again
	@hack/cluster.sh down

cluster-status: ## Processes, node and pods
	@hack/cluster.sh status

leaks: ## Lists what has outlived its sandbox, changes nothing; fails where there is any
	@hack/leaks.sh

connect: ## Prints {"url": …, "token": …} for an MCP client (make -s connect)
	@hack/connect.sh

venv: ## The Python of the e2e tests, in .venv
	$(STEP) "python client" hack/venv.sh

node: ## The Node, TypeScript client and Inspector of the e2e tests, in e2e/mcp/typescript
	$(STEP) "node clients" hack/node.sh

languages: ## What the agent's tests run code in, where it is missing
	$(STEP) "languages" hack/languages.sh

clean: ## Removes what was built in this clone; caches of the machine stay in ~/.cache/codesandbox
	@hack/connect.sh stop
	cargo clean
	rm -rf .venv .venv-bench e2e/mcp/typescript/node_modules demo-output bench-output
