// Command policy-oracle answers what containers/image itself says about an image and a policy: the
// tests compare cricket's verdicts with it, because Debian's skopeo is older than the manual page.
//
//	policy-oracle check POLICY REGISTRIES.D IMAGE   exit status 0: accepted, 1: refused, 2: neither
//	policy-oracle keys PREFIX                       writes PREFIX.key (its passphrase is "passphrase") and PREFIX.pub
package main

import (
	"context"
	"fmt"
	"os"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/signature/sigstore"
	"go.podman.io/image/v5/types"
)

const passphrase = "passphrase"

func main() {
	if len(os.Args) == 5 && os.Args[1] == "check" {
		os.Exit(check(os.Args[2], os.Args[3], os.Args[4]))
	}
	if len(os.Args) == 3 && os.Args[1] == "keys" {
		os.Exit(keys(os.Args[2]))
	}
	fmt.Fprintln(os.Stderr, "usage: policy-oracle check POLICY REGISTRIES.D IMAGE | keys PREFIX")
	os.Exit(2)
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
	system := &types.SystemContext{
		RegistriesDirPath:           registriesDir,
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	}
	source, err := reference.NewImageSource(ctx, system)
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

func keys(prefix string) int {
	pair, err := sigstore.GenerateKeyPair([]byte(passphrase))
	if err != nil {
		return say(2, "keys: %v", err)
	}
	for name, content := range map[string][]byte{"key": pair.PrivateKey, "pub": pair.PublicKey} {
		if err := os.WriteFile(prefix+"."+name, content, 0o600); err != nil {
			return say(2, "keys: %v", err)
		}
	}
	return 0
}

func say(status int, format string, what ...any) int {
	fmt.Printf(format+"\n", what...)
	return status
}
