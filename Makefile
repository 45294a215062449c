# One vocabulary: make demo test test-ops test-long fuzz lint fmt bench guard quality docs deb rpm sbom clean. Each target sets up what it needs; nothing runs twice.

export PATH := $(PATH):$(HOME)/.cargo/bin
DEMO_ARGS ?=
CASES ?= 2400000
SEED ?= 1
STAGE ?=
ARGS ?=

.PHONY: help demo test test-ops test-long fuzz lint fmt bench guard quality docs deb rpm sbom clean
.DEFAULT_GOAL := help

help: ## Says what there is
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Builds strayd and shows it at work on a simulated plant (DEMO_ARGS="--duration 45s --seed 2")
	@.ci/setup.sh build
	cargo build --locked
	@cargo run --locked --quiet -- demo $(DEMO_ARGS)

test: ## Runs every test, on a real Kafka too, and counts (ARGS="--test broker" for some)
	@.ci/setup.sh test
	@.ci/test.sh $(ARGS)

test-ops: ## Runs the shipped unit on a machine with systemd, the console in Chromium, checks dashboards' types and packages; takes root and minutes
	@.ci/setup.sh ops
	@STRAYD_COUNTS=target/test-counts-ops .ci/test.sh --test ops_systemd --test ops_dashboards --test ops_console --test ops_packages $(ARGS)

fuzz: ## Tries every reader of foreign bytes on ten million broken inputs (CASES=N for each of them, SEED=N)
	@.ci/setup.sh build
	STRAYD_FUZZ_CASES=$(CASES) STRAYD_FUZZ_SEED=$(SEED) OPENBLAS_NUM_THREADS=1 cargo test --locked --test fuzz -- --nocapture

test-long: ## Ten minutes of faults in each delivery mode, half an hour of soak (STRAYD_ORACLE_SECONDS, _SEED, _RATE, STRAYD_SOAK_SECONDS)
	@.ci/setup.sh test
	@STRAYD_ORACLE_SECONDS=$${STRAYD_ORACLE_SECONDS:-600} STRAYD_ORACLE_SEED=$${STRAYD_ORACLE_SEED:-$$(date +%s)} \
		STRAYD_COUNTS=target/test-counts-long .ci/test.sh --release --test oracle --test soak $(ARGS) -- --test-threads 1

lint: ## Checks formatting, lints and documentation
	@.ci/setup.sh lint
	@.ci/lint.sh

fmt: ## Formats the code
	cargo fmt

bench: ## Measures strayd beside its limits, 12 minutes (ARGS="--only stages,peers --rounds 5"; STAGE=score for one stage's bench)
	@.ci/setup.sh build
	@cargo bench --locked --quiet $(if $(STAGE),--bench $(STAGE) --,--bench throughput -- run) $(ARGS)

guard: ## Holds the instructions of each stage to what is recorded (ARGS=record to record them)
	@.ci/setup.sh test
	@.ci/guard.sh $(ARGS)

quality: ## Ranks labelled streams, baselines beside (STRAYD_DATA_DIR=folder ARGS="--seeds 3 --sets cardio")
	@.ci/setup.sh build
	@cargo bench --locked --quiet --bench quality -- run $(ARGS)

docs: ## Writes the tables of keys in docs/CONFIGURATION.md from the code
	@.ci/setup.sh build
	STRAYD_WRITE_DOCS=1 cargo test --locked --quiet --test docs the_tables_of_keys

deb: ## Makes a Debian package of a release build in target/debian
	@.ci/setup.sh build
	cargo build --release --locked
	@deploy/debian/build.sh target/release/strayd target/debian

rpm: ## Makes an RPM package of a release build in target/rpm; takes rpmbuild
	@.ci/setup.sh build
	cargo build --release --locked
	@deploy/rpm/build.sh target/release/strayd target/rpm

sbom: ## Writes what is linked into strayd, as CycloneDX, to target/strayd.cdx.json
	@python3 deploy/sbom.py target/strayd.cdx.json && echo target/strayd.cdx.json

clean: ## Removes what was built
	cargo clean
