# One vocabulary: make demo test lint fmt bench guard quality clean. Each target sets up what it needs; nothing runs twice.

export PATH := $(PATH):$(HOME)/.cargo/bin
DEMO_ARGS ?=
ARGS ?=

.PHONY: help demo test lint fmt bench guard quality clean
.DEFAULT_GOAL := help

help: ## Says what there is
	@sed -n 's/^\([a-z]*\): ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Builds strayd and shows it at work on a simulated plant (DEMO_ARGS="--duration 45s --seed 2")
	@.ci/setup.sh build
	cargo build --release --locked
	@cargo run --release --locked --quiet -- demo $(DEMO_ARGS)

test: ## Runs every test, on a real Kafka too, and counts (ARGS="--test broker" for some)
	@.ci/setup.sh test
	@.ci/test.sh $(ARGS)

lint: ## Checks formatting, lints and documentation
	@.ci/setup.sh lint
	@.ci/lint.sh

fmt: ## Formats the code
	cargo fmt

bench: ## Measures (ARGS="--bench score" for one bench)
	@.ci/setup.sh build
	cargo bench --locked $(ARGS)

guard: ## Holds the instructions of each stage to what is recorded (ARGS=record to record them)
	@.ci/setup.sh test
	@.ci/guard.sh $(ARGS)

quality: ## Ranks labelled streams, baselines beside (STRAYD_DATA_DIR=folder ARGS="--seeds 3 --sets cardio")
	@.ci/setup.sh build
	@cargo bench --locked --quiet --bench quality -- run $(ARGS)

clean: ## Removes what was built
	cargo clean
