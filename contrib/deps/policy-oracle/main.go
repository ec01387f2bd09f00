// Command policy-oracle answers what containers/image itself says about an image and a policy: the
// tests compare cricket's verdicts with it, because Debian's skopeo has sigstore disabled.
//
//	policy-oracle check POLICY REGISTRIES.D IMAGE   exit status 0: accepted, 1: refused, 2: neither
//	policy-oracle sign KEY REGISTRIES.D FROM TO     copies an image and signs it, as skopeo copy does
//	policy-oracle keys PREFIX                       writes PREFIX.key (its passphrase is "passphrase") and PREFIX.pub
package main

import (
	"context"
	"fmt"
	"os"

	"go.podman.io/image/v5/copy"
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
	if len(os.Args) == 6 && os.Args[1] == "sign" {
		os.Exit(sign(os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	if len(os.Args) == 3 && os.Args[1] == "keys" {
		os.Exit(keys(os.Args[2]))
	}
	fmt.Fprintln(os.Stderr, "usage: see the head of main.go")
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

func sign(keyPath, registriesDir, from, to string) int {
	source, err := docker.ParseReference("//" + from)
	if err != nil {
		return say(2, "from: %v", err)
	}
	target, err := docker.ParseReference("//" + to)
	if err != nil {
		return say(2, "to: %v", err)
	}
	anything := []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}
	decision, err := signature.NewPolicyContext(&signature.Policy{Default: anything})
	if err != nil {
		return say(2, "context: %v", err)
	}
	system := systemOf(registriesDir)
	_, err = copy.Image(context.Background(), decision, target, source, &copy.Options{
		SourceCtx:                        system,
		DestinationCtx:                   system,
		SignBySigstorePrivateKeyFile:     keyPath,
		SignSigstorePrivateKeyPassphrase: []byte(passphrase),
	})
	if err != nil {
		return say(2, "sign: %v", err)
	}
	return 0
}

func systemOf(registriesDir string) *types.SystemContext {
	return &types.SystemContext{
		RegistriesDirPath:           registriesDir,
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	}
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
