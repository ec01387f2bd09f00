#!/bin/sh
# make faults: the long forms of all integration tests that write rows (tests/harness/src/faults.rs)
# of a table, a soak, and power cuts of the virtual machine; the table is printed, and written into
# docs/faults.md. With names of tests it is only these, and nothing is written down.
set -eu
cd "$(dirname "$0")/.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-4}"
CRICKET_FAULTS=$(pwd)/target/faults
export CRICKET_FAULTS

cargo build --workspace --locked
rm -rf "$CRICKET_FAULTS"
mkdir -p "$CRICKET_FAULTS"
status=0
# Whatever makes rows; arguments choose some: make faults ARGS=faults_monitor
rows=$(grep -lE 'faults::(\{|Row)' tests/*.rs tests/*/*.rs | sed 's#^tests/##; s#/.*##; s#\.rs$##' | sort -u)
# shellcheck disable=SC2046,SC2086
cargo test --locked --no-fail-fast $(printf -- '--test %s ' ${*:-$rows}) || status=$?
if [ $# -eq 0 ]; then
	target/debug/soak --minutes 10 || status=$?
	PROFILE=debug tests/node/run.sh cuts --cuts 55 --kills 50 || status=$?
fi

table() {
	echo '| fault | times tried | lost | left behind |'
	echo '|---|---|---|---|'
	cat "$CRICKET_FAULTS"/* | LC_ALL=C sort
}
table
# Only a whole run is written down.
if [ $# -eq 0 ]; then
	kernel=$(uname -r | cut -d- -f1)
	{
		sed '/^<!-- the table -->$/q' docs/faults.md
		printf '\nMeasured with %s processors, Linux %s, %s.\n\n' "$(nproc)" "$kernel" "$(runc --version | head -n1)"
		table
	} > "$CRICKET_FAULTS.md"
	cp "$CRICKET_FAULTS.md" docs/faults.md
fi
exit "$status"
