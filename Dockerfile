# Builds every program from this source tree, and keeps the programs and what they load: no shell, no package manager, no user database.
#
#   docker build -t vouchsafe .
#   docker run --rm vouchsafe                    plays the demo: simulated, nothing leaves the container
#   docker run --rm vouchsafe verify --help
#
# The base of the first stage is an argument: name it by digest for a release. It needs Rust 1.95, a C compiler, Python 3 with pip, and
# apt, since the C libraries come from the packages that enclave/image/image.lock names, whatever the base has. Nothing of the
# base is in the result.
#
# Two builds give the same image when the file times are fixed too: `docker build --build-arg SOURCE_DATE_EPOCH=… --output
# type=image,rewrite-timestamp=true`, or `buildah bud --isolation chroot --timestamp …`. docs/operations.md says which of these were run.
ARG BUILD_BASE=rust:1.95-bookworm

FROM ${BUILD_BASE} AS build
RUN command -v pip3 >/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3 python3-pip)
WORKDIR /src
COPY . .
# Without a value the guest image's own time is taken.
ARG SOURCE_DATE_EPOCH
RUN cargo xtask container

FROM scratch
# /usr/bin: vouchsafe, vouchsafe-enclave (the guest image's /init), vouchsafe-launch, vouchsafe-simulator, libonnxruntime.so. Beside them the
# loader and the C libraries, licences, and /usr/share/doc/vouchsafe/sbom.cdx.json with the digest and origin of every file.
COPY --from=build /src/target/container/root/ /
# Nobody, by number: no program here needs a name or a right that an ordinary user lacks.
USER 65534:65534
ENTRYPOINT ["/usr/bin/vouchsafe"]
CMD ["demo"]
