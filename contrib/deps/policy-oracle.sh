#!/bin/sh
# Sees to policy-oracle, a few lines around containers/image: what it says of a policy or of
# registries.conf is what cricket must say, and Debian's skopeo is built without sigstore.
set -eu
cd "$(dirname "$0")"
go=$(./go.sh)
mkdir -p ../../target/tools
tool=$(cd ../../target/tools && pwd)/policy-oracle
[ -x "$tool" ] && [ -z "$(find policy-oracle -newer "$tool")" ] && exit 0
echo "deps: building policy-oracle (about a minute)"
cd policy-oracle
CGO_ENABLED=0 GOTOOLCHAIN=auto "$go" build -tags containers_image_openpgp -o "$tool" .
