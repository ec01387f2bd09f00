#!/bin/sh
# Sees to docker-registry, which Arch has no package of.
exec "$(dirname "$0")/go-tool.sh" \
    docker-registry github.com/distribution/distribution/v3/cmd/registry v3.0.0
