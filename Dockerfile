# strayd as an image: built on Debian, run on a small Debian as nobody in particular, with nothing but the program and the
# libraries that it links. docs/OPERATING.md says how to build it; tests/image.rs holds it to the program.

FROM rust:1.95.0-bookworm AS build
# The archive keeps one version of each package; the release is what pins them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libopenblas-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin strayd \
    && install -D -m 755 target/release/strayd /out/usr/bin/strayd \
    && install -d -m 750 -o 65532 -g 65532 /out/var/lib/strayd

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libopenblas0-pthread libssl3 zlib1g ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /
LABEL org.opencontainers.image.title="strayd" \
      org.opencontainers.image.description="A streaming anomaly detector for Kafka" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Two BLAS threads are slower than one for strayd's sizes. Probes and Prometheus come from outside the container.
ENV OPENBLAS_NUM_THREADS=1 \
    STRAYD_CONFIG=/etc/strayd/strayd.toml \
    STRAYD__REGISTRY__PATH=/var/lib/strayd/models \
    STRAYD__ADMIN__LISTEN=0.0.0.0:8790
USER 65532:65532
WORKDIR /var/lib/strayd
EXPOSE 8790
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/strayd", "healthcheck"]
ENTRYPOINT ["/usr/bin/strayd"]
CMD ["run"]
