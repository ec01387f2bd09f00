package main

import (
	"encoding/json"
	"os"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// answer is what a pull of a name would do.
type answer struct {
	Name       string      `json:"name"`
	Error      string      `json:"error"`
	Candidates []candidate `json:"candidates"`
}

// candidate is one full reference that the name may mean, and where it is asked for.
type candidate struct {
	Reference string     `json:"reference"`
	Error     string     `json:"error"`
	Endpoints []endpoint `json:"endpoints"`
}

type endpoint struct {
	Reference string `json:"reference"`
	Insecure  bool   `json:"insecure"`
	Blocked   bool   `json:"blocked"`
}

// registries answers for each name what the files of the configuration make of it.
func registries(conf, dropIns, aliases string, names []string) int {
	system := &types.SystemContext{
		SystemRegistriesConfPath:    conf,
		SystemRegistriesConfDirPath: dropIns,
		UserShortNameAliasConfPath:  aliases,
	}
	lines := json.NewEncoder(os.Stdout)
	for _, name := range names {
		if err := lines.Encode(resolve(system, name)); err != nil {
			return say(2, "%v", err)
		}
	}
	return 0
}

func resolve(system *types.SystemContext, name string) answer {
	resolved, err := shortnames.Resolve(system, name)
	if err != nil {
		return answer{Name: name, Error: err.Error()}
	}
	found := answer{Name: name}
	for _, one := range resolved.PullCandidates {
		found.Candidates = append(found.Candidates, places(system, withoutBoth(one.Value)))
	}
	return found
}

// withoutBoth takes the tag from a reference that has a digest too, as CRI-O does.
func withoutBoth(named reference.Named) reference.Named {
	canonical, digested := named.(reference.Canonical)
	if _, tagged := named.(reference.NamedTagged); !tagged || !digested {
		return named
	}
	stripped, err := reference.WithDigest(reference.TrimNamed(named), canonical.Digest())
	if err != nil {
		panic(err) // the digest was good before
	}
	return stripped
}

// places does what docker.newImageSource and docker.newDockerClient do before they connect.
func places(system *types.SystemContext, named reference.Named) candidate {
	found := candidate{Reference: named.String()}
	registry, err := sysregistriesv2.FindRegistry(system, named.Name())
	if err != nil {
		found.Error = err.Error()
		return found
	}
	if registry == nil {
		registry = &sysregistriesv2.Registry{
			Endpoint: sysregistriesv2.Endpoint{Location: named.String()},
			Prefix:   named.String(),
		}
	}
	sources, err := registry.PullSourcesFromReference(named)
	if err != nil {
		found.Error = err.Error()
		return found
	}
	for _, source := range sources {
		physical, err := sysregistriesv2.FindRegistry(system, source.Reference.Name())
		if err != nil {
			found.Error = err.Error()
			return found
		}
		found.Endpoints = append(found.Endpoints, endpoint{
			Reference: source.Reference.String(),
			Insecure:  source.Endpoint.Insecure,
			Blocked:   physical != nil && physical.Blocked,
		})
	}
	return found
}
