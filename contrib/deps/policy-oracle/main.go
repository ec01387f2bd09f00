// Command policy-oracle answers what containers/image itself makes of an image and of configuration:
// the tests compare cricket with it, because Debian's skopeo has sigstore disabled and says nothing of
// registries.
//
//	policy-oracle trust POLICY REGISTRIES.D IMAGE     exit status 0: accepted, 1: refused, 2: neither
//	policy-oracle registries CONF CONF.D ALIASES NAME…   a line of JSON for each name
package main

import (
	"fmt"
	"os"
)

func main() {
	switch args := os.Args[1:]; {
	case len(args) == 4 && args[0] == "trust":
		os.Exit(trust(args[1], args[2], args[3]))
	case len(args) > 4 && args[0] == "registries":
		os.Exit(registries(args[1], args[2], args[3], args[4:]))
	}
	fmt.Fprintln(os.Stderr, "usage: policy-oracle trust POLICY REGISTRIES.D IMAGE")
	fmt.Fprintln(os.Stderr, "       policy-oracle registries CONF CONF.D ALIASES NAME...")
	os.Exit(2)
}

func say(status int, format string, what ...any) int {
	fmt.Printf(format+"\n", what...)
	return status
}
