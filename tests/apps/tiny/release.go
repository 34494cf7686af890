package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Variants: how a release goes wrong. The empty variant does not.
const (
	variantBroken     = "broken"
	variantCrashloop  = "crashloop"
	variantUnverified = "unverified"
	variantSlow       = "slow"
	variantHungry     = "hungry"
)

// release is what TINY_RELEASE names: the schema version that it works on, and how it goes wrong.
type release struct {
	name    string
	schema  int
	variant string
}

// parseRelease reads "2" or "2-broken". A name that it does not know is refused: an image with a misspelt variant would
// otherwise be a good release, and the story that waits for a failure would wait in vain.
func parseRelease(name string) (release, error) {
	number, variant, _ := strings.Cut(name, "-")
	schema, err := strconv.Atoi(number)
	if err != nil || schema < 1 || schema > len(steps) {
		return release{}, fmt.Errorf("TINY_RELEASE is %q; known are 1 to %d", name, len(steps))
	}
	switch variant {
	case "", variantBroken, variantCrashloop, variantUnverified, variantSlow, variantHungry:
		return release{name: name, schema: schema, variant: variant}, nil
	}
	return release{}, fmt.Errorf("TINY_RELEASE is %q; its variant is none of broken, crashloop, unverified, slow, hungry", name)
}

func releaseFromEnv() (release, error) { return parseRelease(os.Getenv("TINY_RELEASE")) }
