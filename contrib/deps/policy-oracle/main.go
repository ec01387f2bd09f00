// Command policy-oracle answers what containers/image itself says about an image and a policy: the
// tests compare cricket's verdicts with it, because Debian's skopeo has sigstore disabled.
//
//	policy-oracle POLICY REGISTRIES.D IMAGE   exit status 0: accepted, 1: refused, 2: neither
package main

import (
	"context"
	"fmt"
	"os"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: policy-oracle POLICY REGISTRIES.D IMAGE")
		os.Exit(2)
	}
	os.Exit(check(os.Args[1], os.Args[2], os.Args[3]))
}

func check(policyPath, registriesDir, name string) int {
	policy, err := signature.NewPolicyFromFile(policyPath)
	if err != nil {
		return say(1, "policy: %v", err)
	}
	decision, err := signature.NewPolicyContext(policy)
	if err != nil {
		return say(2, "context: %v", err)
	}
	reference, err := docker.ParseReference("//" + name)
	if err != nil {
		return say(2, "reference: %v", err)
	}
	ctx := context.Background()
	source, err := reference.NewImageSource(ctx, systemOf(registriesDir))
	if err != nil {
		return say(2, "source: %v", err)
	}
	defer source.Close()
	allowed, err := decision.IsRunningImageAllowed(ctx, image.UnparsedInstance(source, nil))
	if !allowed {
		return say(1, "%v", err)
	}
	fmt.Println("accepted")
	return 0
}

func systemOf(registriesDir string) *types.SystemContext {
	return &types.SystemContext{
		RegistriesDirPath:           registriesDir,
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	}
}

func say(status int, format string, what ...any) int {
	fmt.Printf(format+"\n", what...)
	return status
}
