# Truecopy's image. Built with any engine since 20.10 (BuildKit): no syntax line, heredoc or --link.
#   docker build --tag truecopy:local .
# Published images say when and from which commit they were built:
#   docker build --tag truecopy:0.1.0 --label org.opencontainers.image.created="$(date --utc +%FT%TZ)" \
#     --label org.opencontainers.image.revision="$(git rev-parse HEAD)" .
#
# The base is named by its digest, so that the same base is built on everywhere. To renew it, see CONTRIBUTING.md:
#   docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
# It stands in a FROM line, since Dependabot renews no ARG. With another PYTHON_IMAGE this stage is not used, nor pulled.
ARG PYTHON_IMAGE=base
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base


FROM ${PYTHON_IMAGE} AS build

# Only a hash that stands in requirements.lock is installed, and nothing is compiled or run from a source package.
COPY requirements.lock /build/
RUN python -m venv /build/venv \
 && /build/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-compile --no-deps \
      --require-hashes --only-binary :all: --target /app --requirement /build/requirements.lock \
 && rm -rf /app/bin

COPY job /app/job
COPY LICENSE /app/licenses/

# Bytecode by hash, not by time: the root is read-only, so it is now or never, and the health check starts every 30 s.
# Any uid may be given with `user:`, so logs and state are open to all, like /tmp. The mirror is not: without a mount
# there, a copy would go into the container and vanish with it, so it has to fail instead.
# A checkout made with a strict umask is readable here all the same.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app \
 && chmod -R a+rX /app \
 && printf '%s\n' '#!/usr/bin/env python' 'import sys' 'from job.cli.main import main' 'sys.exit(main())' >/build/truecopy \
 && chmod 0755 /build/truecopy \
 && mkdir -p /truecopy/config /truecopy/data/source /truecopy/data/mirror /truecopy/data/logs /truecopy/state \
 && chmod 1777 /truecopy/data/logs /truecopy/state


FROM ${PYTHON_IMAGE}

COPY --from=build /app /app
COPY --from=build /build/truecopy /usr/local/bin/truecopy
COPY --from=build /truecopy /truecopy
COPY --chmod=0644 config/backup_config.json /truecopy/config/backup_config.json

# PYTHONSAFEPATH: a folder named `job` in the working directory must not be taken for the program.
ENV PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TRUECOPY_CONFIG=/truecopy/config/backup_config.json \
    TRUECOPY_STATE_DIR=/truecopy/state \
    TRUECOPY_METRICS_ADDRESS=0.0.0.0

WORKDIR /truecopy
EXPOSE 9477
USER 10001:10001
STOPSIGNAL SIGTERM

# Healthy means that the loop is alive and not overdue, never that the last backup was a success.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "job", "healthcheck"]

ENTRYPOINT ["python", "-m", "job"]
CMD ["run"]

# Last, so that a new version does not rebuild what is above. The version is that of job/__init__.py (a test compares them).
# Creation time and revision are labels of published images only: see the top.
LABEL org.opencontainers.image.title="Truecopy" \
      org.opencontainers.image.description="Plain-file backups that prove themselves: a scheduled, verified mirror with JSON logs and Prometheus metrics" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
