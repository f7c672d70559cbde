package dnstest

import (
	"flag"
	"runtime"
	"strconv"
)

// Parallel lets so many tests of a package run side by side for each processor,
// for tests that mostly wait. TestMain calls it. The flag -parallel is stronger.
func Parallel(perProcessor int) {
	_ = flag.Set("test.parallel", strconv.Itoa(perProcessor*runtime.GOMAXPROCS(0))) // the flag exists in tests
}
