package host

import (
	"os"
	"regexp"
)

// ofContainer matches the files of a container that engines mount into it, such
// as /etc/hostname: Docker's are in containers/<ID>, podman's in overlay-containers/<ID>.
var ofContainer = regexp.MustCompile(`containers/([0-9a-f]{64})/`)

// ContainerID returns the ID of the container that this process runs in. It is
// empty outside of one.
func ContainerID() string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo") // only Linux has it, proc(5)
	return containerIn(string(mounts))
}

// containerIn returns the ID of a container in a list of mounts.
func containerIn(mounts string) string {
	if found := ofContainer.FindStringSubmatch(mounts); found != nil {
		return found[1]
	}
	return ""
}
