# The developer's whole interface. Everything these verbs make lies in ignored folders of the checkout; `make clean` takes it away.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

RUNTIME_SOURCES := $(shell find plugins/module_utils/brokerless -name '*.py' 2>/dev/null)
NEUTRON_LAB := PYTHONPATH=tests/functional:tests/soak .venv/bin/python tests/neutron_lab/run_lab.py
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet --quiet

# Programs of the virtual environment go first, and no tool writes into a home directory.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
export XDG_CACHE_HOME := $(CURDIR)/.cache
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_REMOTE_TMP := $(CURDIR)/.ansible/remote_tmp
# An activated environment, or a user's own packages, must not leak into ours.
unexport PYTHONHOME
unexport PYTHONPATH
export PYTHONNOUSERSITE := 1

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

.PHONY: deps
deps: .venv/.complete .cache/wheelhouse/.complete ## make .venv, the wheelhouse and the links that Ansible needs, with pinned versions
	@.venv/bin/python tools/link_collection.py

.venv/.libraries: requirements/runtime.txt requirements/tools.txt tools/find_python.sh
	@python=$$(sh tools/find_python.sh "$(PYTHON)") && echo "deps: .venv with $$python" && "$$python" -m venv .venv
	@echo "deps: pinned libraries and tools (a minute or two the first time)"
	@$(PIP) install -r requirements/runtime.txt -r requirements/tools.txt
	@touch $@

.venv/.complete: .venv/.libraries pyproject.toml plugins/module_utils/brokerless/version.py
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

.cache/wheelhouse/.libraries: .venv/.libraries
	@echo "deps: wheelhouse of the runtime's libraries"
	@rm -rf .cache/wheelhouse && mkdir -p .cache/wheelhouse
	@$(PIP) wheel --no-deps --wheel-dir .cache/wheelhouse -r requirements/runtime.txt
	@touch $@

.cache/wheelhouse/.complete: .cache/wheelhouse/.libraries pyproject.toml README.md LICENSE $(RUNTIME_SOURCES)
	@echo "deps: wheel of the runtime"
	@rm -f .cache/wheelhouse/brokerless_openstack-*.whl
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir .cache/wheelhouse .
	@touch $@

.PHONY: demo
demo: deps ## three hosts on this machine: deploy them, call between them, kill one (KEEP=1 leaves them up)
	@.venv/bin/python demo/run.py

.PHONY: test
test: deps ## everything below; the one command that decides
	@.venv/bin/python tools/run_checks.py

.PHONY: lint types unit functional playbooks sanity docs packaging
lint: deps ## ruff, ansible-lint (production), yamllint, shellcheck, changelog
	@.venv/bin/python tools/run_checks.py lint
types: deps ## mypy, strict
	@.venv/bin/python tools/run_checks.py types
unit: deps ## tests of single files (tests/unit)
	@.venv/bin/python tools/run_checks.py unit
functional: deps ## the cores under seeded faults (tests/simulation), then real receivers and processes (tests/functional)
	@.venv/bin/python tools/run_checks.py simulation functional
playbooks: deps ## modules, roles and whole sites on hosts of this machine (tests/playbooks)
	@.venv/bin/python tools/run_checks.py playbooks
sanity: deps ## ansible-test sanity over a real copy of the tree
	@.venv/bin/python tools/run_checks.py sanity
docs: deps ## check the documentation and build it into docs/_build
	@.venv/bin/python tools/run_checks.py docs
packaging: deps ## build the wheel and the tarball, install and use them (tests/packaging)
	@.venv/bin/python tools/run_checks.py packaging

.PHONY: bench
bench: deps ## what the transport costs, beside its rivals (ROUNDS=3 DURATION=1 ONLY= SIZES=300,3000 OTHERS=1)
	@PYTHONPATH=tests/functional:tests/simulation:tests/upstream .venv/bin/python bench/run.py

.PHONY: fuzz besiege
fuzz: deps ## mutated bytes for every parser and both cores, guided by coverage (EXECS=200000 ONLY=frames,bodies INPUT=file)
	@.venv/bin/python fuzz/run.py
besiege: deps ## hostile frames for a real receiver, over TCP and its UNIX socket (FRAMES=1000000 SEED=1)
	@.venv/bin/python fuzz/hostile_frames.py

.PHONY: soak
soak: deps ## real hosts under fire for minutes, every message accounted for (CASTS= CALLS= KILLS= CUTS= SECONDS= OUTAGE= LONG_OUTAGE= TTL= SEED=)
	@PYTHONPATH=tests/functional .venv/bin/python tests/soak/run.py

.PHONY: upstream
upstream: deps ## oslo.messaging's own tests on zmq:// and on RabbitMQ, and a table (SUITE=functional TRANSPORT=zmq THREADS=native VERSION=18.3.1)
	@PYTHONPATH=tests/functional .venv/bin/python tests/upstream/upstream_suite.py $(if $(SUITE),--suite $(SUITE)) $(if $(TRANSPORT),--transport $(TRANSPORT)) \
	  $(if $(THREADS),--threads $(THREADS)) $(if $(VERSION),--version $(VERSION))

.PHONY: simulate
simulate: deps ## the cores under seeded faults: SEEDS=20000 of them from FIRST=0 on, or SEED=123 alone, with its story
	@.venv/bin/python tests/simulation/simulate.py $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0))

.PHONY: neutron-lab neutron-lab-down neutron-lab-figures neutron-lab-test
neutron-lab: deps ## a real Neutron on loopback with simulated network nodes, for trying rpcdaemon (NODES=3 ROUTERS=0 AGENT_DOWN_TIME=10)
	@$(NEUTRON_LAB) up $(if $(NODES),--nodes $(NODES)) $(if $(ROUTERS),--routers $(ROUTERS)) $(if $(AGENT_DOWN_TIME),--agent-down-time $(AGENT_DOWN_TIME))
neutron-lab-down: deps ## end it, and take away what it made
	@$(NEUTRON_LAB) down
neutron-lab-figures: deps ## how fast Neutron itself moves the routers of a dead agent, and what its API takes (ROUTERS=60 AGENT_DOWN_TIME=10)
	@$(NEUTRON_LAB) figures $(if $(ROUTERS),--routers $(ROUTERS)) $(if $(AGENT_DOWN_TIME),--agent-down-time $(AGENT_DOWN_TIME))
neutron-lab-test: deps ## rpcdaemon against a real Neutron: all tests, long outages, 60 routers, and a table of its figures (30 minutes)
	@rm -f .cache/neutron-lab/figures.txt
	@SIZE=full .venv/bin/python -m pytest --quiet --timeout=1800 tests/neutron_lab; code=$$?; cat .cache/neutron-lab/figures.txt; exit $$code

.PHONY: openstack
openstack: deps ## real Neutron 29 and real Nova 34 on zmq://, with no broker; Neutron on rabbit:// as well, for comparison
	@.venv/bin/python tools/run_checks.py openstack

.PHONY: lab lab-shell lab-down molecule
HOST_LAB := PYTHONPATH=tools .venv/bin/python tests/host_lab
lab: deps ## real hosts to play with: Debian with systemd, addresses, DNS and a stranger, on a network that leads nowhere (SUITE=trixie; root)
	@$(HOST_LAB)/run_hosts.py $(if $(SUITE),--suite $(SUITE)) up
lab-shell: ## a shell in that network, in which ansible-playbook and podman mean those hosts (RUN='ansible all -m ping' runs one command)
	@$(HOST_LAB)/run_hosts.py shell $(if $(RUN),-- sh -c "$(RUN)")
lab-down: ## end the hosts; their image stays in .cache
	@$(HOST_LAB)/run_hosts.py down
molecule: deps ## the roles on real hosts, scenario by scenario, with a table (ONLY='default firewall' SUITE=trixie ANSIBLE=2.21; root)
	@$(HOST_LAB)/run_scenarios.py $(if $(SUITE),--suite $(SUITE)) $(if $(ANSIBLE),--ansible $(ANSIBLE)) $(if $(FIRST),--first $(FIRST)) $(ONLY)

.PHONY: dist
dist: deps ## build what a release consists of: the wheel and the collection's tarball
	@.venv/bin/python tools/build_artifacts.py dist

.PHONY: lock
lock: deps ## resolve requirements/*.in anew into the pinned requirements/*.txt
	@.venv/bin/python tools/lock_requirements.py

.PHONY: clean
clean: ## take away everything these verbs made
	rm -rf .venv .cache .ansible .demo collections dist docs/_build tests/output .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
