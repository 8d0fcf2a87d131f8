# syntax=docker/dockerfile:1
# The host with the reference module. Its own module, and others' configuration: docs/aks.md.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# Everything that is done here is in tools/image.sh, which the tests run as it is.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/root/.cache/millrace \
    ./mill image /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kstreams-count" \
      org.opencontainers.image.description="Millrace with the reference topology: counts records by key" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
USER 10001:10001
WORKDIR /data
VOLUME /data/count-store
ENV PATH=/usr/local/bin:/bin MILLRACE_CONFIG=/etc/millrace/counts.toml
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/millrace"]
CMD ["run"]
