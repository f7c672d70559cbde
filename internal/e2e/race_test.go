//go:build race

package e2e

// hasRace says whether the tests are built with the race detector.
const hasRace = true
