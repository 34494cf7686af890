# Both binaries and PostgreSQL's client tools, run by a number without a name's rights.
#
#   docker build -t lockkeeper .                                      compiles in a container
#   docker build -t lockkeeper --build-arg BINARIES=prebuilt DIR      takes DIR/lockkeeper and DIR/kubectl-lockkeeper,
#                                                                     for machines that compiled already
# The runtime's glibc is newer than that of any machine that is likely to have compiled them.
ARG BINARIES=build

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin lockkeeper --bin kubectl-lockkeeper \
 && mkdir /out \
 && for b in lockkeeper kubectl-lockkeeper; do strip -o "/out/$b" "target/release/$b" || exit 1; done

FROM scratch AS prebuilt
COPY lockkeeper kubectl-lockkeeper /out/

FROM ${BINARIES} AS binaries

# forky is the first Debian with PostgreSQL 18, whose pg_dump reads all older servers. Only three programs are taken from
# its package: by its dependencies it would bring the whole of Perl for wrappers that choose between installed versions.
# They are called once here, so that a missing library fails this build and no backup.
FROM debian:forky-slim AS runtime
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libpq5 libreadline8t64 liblz4-1 libzstd1 zlib1g \
 && cd /tmp \
 && apt-get download postgresql-client-18 \
 && dpkg-deb -x postgresql-client-18_*.deb /tmp/client \
 && for p in pg_dump pg_restore psql; do \
      install -m 755 "/tmp/client/usr/lib/postgresql/18/bin/$p" /usr/local/bin/ && "/usr/local/bin/$p" --version || exit 1; \
    done \
 && echo 'lockkeeper:x:65532:65532::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'lockkeeper:x:65532:' >> /etc/group \
 && rm -rf /tmp/* /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*

FROM runtime
COPY --from=binaries /out/ /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/lockkeeper"]
