# Two stages: the second has the program, its C libraries and certificates, and nothing to log in with.
FROM rust:1-bookworm AS build
# The versions are those of the base image's release.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock README.md ./
COPY src ./src
COPY benches ./benches
COPY examples ./examples
COPY tests ./tests
RUN cargo build --release --locked --bin portcullis
COPY packaging/krakend.json ./packaging/
# `krakend` is the same program: `krakend run -c …` in existing files starts this gateway.
RUN mkdir -p /image/usr/bin /image/etc/krakend \
 && cp target/release/portcullis /image/usr/bin/portcullis \
 && ln -s portcullis /image/usr/bin/krakend \
 && cp packaging/krakend.json /image/etc/krakend/krakend.json

FROM gcr.io/distroless/cc-debian12:nonroot
# The commit and the time of its making, if who builds the image names them.
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="Portcullis" \
      org.opencontainers.image.description="An API gateway on Pingora that reads KrakenD files" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The Portcullis maintainers" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image/ /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /etc/krakend
# The home of that user is private to it: the control socket lies there.
ENV XDG_RUNTIME_DIR=/home/nonroot
EXPOSE 8080
# SIGTERM drains; give the container longer than the gateway's own bound (30 s).
STOPSIGNAL SIGTERM
# Asks at the port and path of the file that the container's first process runs.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["/usr/bin/portcullis", "healthcheck", "--container"]
ENTRYPOINT ["/usr/bin/portcullis"]
CMD ["run", "-c", "/etc/krakend/krakend.json"]
