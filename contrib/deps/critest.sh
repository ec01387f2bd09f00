#!/bin/sh
# Sees to critest, the CRI's own test suite: always the pinned one, whose specs and images
# tests/harness/src/bin/conformance/ knows.
exec env GO_TOOL_TEST=1 "$(dirname "$0")/go-tool.sh" \
    --build critest sigs.k8s.io/cri-tools/cmd/critest v1.36.0
