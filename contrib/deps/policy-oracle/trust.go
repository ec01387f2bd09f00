package main

import (
	"context"
	"fmt"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

// trust says whether a policy accepts an image: 0 yes, 1 no, 2 neither.
func trust(policyPath, registriesDir, name string) int {
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
