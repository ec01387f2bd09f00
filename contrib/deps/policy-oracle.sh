#!/bin/sh
# Sees to policy-oracle, a few lines around containers/image: what it says about an image and a
# policy is what cricket must say, and Debian's skopeo is built without sigstore.
set -eu
cd "$(dirname "$0")"
go=$(./go.sh)
mkdir -p ../../target/tools
tool=$(cd ../../target/tools && pwd)/policy-oracle
[ -x "$tool" ] && [ "$tool" -nt policy-oracle/main.go ] && [ "$tool" -nt policy-oracle/go.mod ] && exit 0
echo "deps: building policy-oracle (about a minute)"
cd policy-oracle
CGO_ENABLED=0 GOTOOLCHAIN=auto "$go" build -tags containers_image_openpgp -o "$tool" .
