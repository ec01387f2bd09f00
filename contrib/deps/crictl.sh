#!/bin/sh
# Sees to crictl, which Debian has no package of.
exec "$(dirname "$0")/go-tool.sh" crictl sigs.k8s.io/cri-tools/cmd/crictl v1.36.0
