package host

import (
	"strings"
	"testing"
)

func TestContainerID(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for mounts, want := range map[string]string{
		"536 530 254:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw\n":         id,
		"99 1 0:40 /containers/overlay-containers/" + id + "/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw\n":            id,
		"22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n":                    "",
		"22 1 254:1 /var/lib/docker/containers/" + id[:12] + "/hostname /etc/hostname rw,relatime shared:1 - ext4 /dev/vda1\n": "",
		"": "",
	} {
		if got := containerIn(mounts); got != want {
			t.Errorf("%s: got %q; want %q", mounts, got, want)
		}
	}
}
