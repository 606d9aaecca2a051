# Builds every program from this source tree, then keeps the programs only.
#
#   docker build -t vouchsafe .
#   docker run --rm vouchsafe                    plays the demo: simulated, nothing leaves the container
#   docker run --rm vouchsafe verify --help
#
# Both base images are arguments: name them by digest for a release. The first needs Rust 1.95, a C compiler and Python 3
# with pip; the second needs glibc of the same Debian release or newer. Tried with buildah on bases given as arguments;
# `docker build` with the default bases has not been run.
ARG BUILD_BASE=rust:1.95-bookworm
ARG RUN_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
RUN command -v pip3 >/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3 python3-pip)
WORKDIR /src
COPY . .
RUN cargo xtask build

FROM ${RUN_BASE}
COPY --from=build \
    /src/target/release/vouchsafe \
    /src/target/release/vouchsafe-enclave \
    /src/target/release/vouchsafe-launch \
    /src/target/release/vouchsafe-simulator \
    /src/target/release/libonnxruntime.so \
    /usr/local/bin/
COPY LICENSE SECURITY.md /usr/share/doc/vouchsafe/
# Nobody: no program here needs a right that an ordinary user lacks.
USER 65534:65534
ENTRYPOINT ["vouchsafe"]
CMD ["demo"]
