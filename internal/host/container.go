package host

import (
	"os"
	"strings"
)

// idLen is the number of hexadecimal digits of a container's ID.
const idLen = 64

// ContainerID returns the ID of the container that this process runs in. It is
// empty outside of one.
func ContainerID() string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo") // only Linux has it, proc(5)
	return containerIn(string(mounts))
}

// containerIn returns the ID of a container in a list of mounts: engines mount
// some of a container's files into it, such as /etc/hostname. Docker's are in
// containers/<ID>, podman's in overlay-containers/<ID>.
func containerIn(mounts string) string {
	for _, after := range strings.Split(mounts, "containers/")[1:] {
		id, _, _ := strings.Cut(after, "/")
		if len(id) == idLen && strings.Trim(id, "0123456789abcdef") == "" {
			return id
		}
	}
	return ""
}
