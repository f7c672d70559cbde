#!/usr/bin/env bash
# Tries dnsdock.service and the package under a systemd of its own as PID 1, in
# Debian 12 and 13, and what the manual says of other resolvers:
#
#   scripts/host.sh [DIRECTORY]
#
# It makes a root for each by debootstrap in DIRECTORY, from the mirror that this
# machine's apt uses, or takes those that are there. It needs root, debootstrap,
# systemd-nspawn, and what scripts/release.sh needs. The machine itself is not changed.
# Without DIRECTORY the roots are removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=${1:-$(mktemp -d)}
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 debian)
include=systemd,systemd-sysv,systemd-resolved,libnss-resolve,dbus,iproute2,iptables,ca-certificates,procps,docker.io
leader=
mkdir -p "$work"

end() {
  stop_machine
  [ -n "${1:-}" ] || rm -rf "$work"
}
trap 'end "$@"' EXIT

# inside runs a command in the machine.
inside() { nsenter -t "$leader" -m -u -i -n -p -C -- "$@"; }

stop_machine() {
  [ -z "$leader" ] || inside systemctl poweroff 2>/dev/null || true
  [ -z "$leader" ] || wait "$nspawn" || true
  leader=
}

# soon waits until a command succeeds.
soon() {
  local try
  for ((try = 0; try < 200; try++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "FAIL: $*"
  return 1
}

# check asks for a container and for a foreign name, as programs do.
check() {
  local web foreign
  foreign=$(inside timeout 20 getent ahostsv4 example.org | head -n 1) || true
  web=$(inside timeout 20 getent hosts web.docker) || true
  printf '%-34s web.docker: %-28s example.org: %s\n' "$1" "${web:-none}" "${foreign:-none}"
  [[ $foreign == 192.0.2.80* ]] || failed=yes
  if [ "${2:-yes}" = no ]; then
    [ -z "$web" ] || failed=yes
  else
    [[ $web == 172.17.0.* ]] || failed=yes
  fi
}

# boot starts the machine in a root. The unit is enabled and the engine is not.
boot() {
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn -q --register=no --keep-unit --private-network --capability=all \
    --system-call-filter='@keyring bpf' \
    -D "$1" -M "dnsdock-$$" -b >"$work/console" 2>&1 &
  nspawn=$!
  soon pgrep -P "$nspawn"
  leader=$(pgrep -P "$nspawn" | head -n 1)
  soon inside systemctl is-active systemd-resolved
  # A link with a nameserver for all other names.
  inside ip link add up0 type veth peer name up1
  inside ip link set up1 up
  inside ip address add 10.9.9.1/24 dev up0
  inside ip link set up0 up
  inside systemd-run -q /usr/local/bin/peer serve 10.9.9.1:53
  inside resolvectl dns up0 10.9.9.1
  inside resolvectl default-route up0 yes
}

# make_root makes a root of a release.
make_root() {
  debootstrap --variant=minbase --include="$include$([ "$1" = bookworm ] || echo ,docker-cli)" "$1" "$2" "$mirror"
  systemd-nspawn -q --register=no --keep-unit --resolv-conf=off -E DEBIAN_FRONTEND=noninteractive \
    --bind-ro=/etc/resolv.conf:/run/systemd/resolve/stub-resolv.conf -D "$2" \
    sh -c 'apt-get update && apt-get install -y --no-install-recommends network-manager dnsmasq-base'
  systemctl -q --root="$2" mask NetworkManager
}

try_release() {
  local root=$work/$1
  printf '\n== Debian %s\n' "$1"
  if ! [ -e "$root/usr/sbin/NetworkManager" ]; then
    make_root "$1" "$root" >"$work/log" 2>&1 </dev/null || { tail "$work/log"; exit 1; }
  fi
  install -m 755 "$work/dnsdock" "$work/peer" "$root/usr/local/bin/"
  cp dnsdock.service "$root/etc/systemd/system/"
  systemctl -q --root="$root" enable dnsdock
  systemctl -q --root="$root" mask docker.service docker.socket
  boot "$root"
  try_unit
  try_hosts_file "$root"
  inside systemctl -q disable --now dnsdock
  rm "$root/etc/systemd/system/dnsdock.service" "$root/usr/local/bin/dnsdock"
  inside systemctl daemon-reload
  try_package "$root"
  try_other_resolvers "$root"
  stop_machine
}

try_unit() {
  local pid
  inside systemctl --version | head -n 1
  inside systemd-analyze security --no-pager dnsdock.service | tail -n 1
  check 'no engine yet' no
  inside systemctl -q unmask docker.service docker.socket
  inside systemctl start docker
  inside tar -C /usr/local/bin -c dnsdock | inside docker import - web:1 >/dev/null
  inside docker rm -f web >/dev/null 2>&1 || true
  inside docker run -d --restart=always --name web web:1 \
    /dnsdock -dns=127.0.0.1:5300 -http= -docker=unix:///none >/dev/null
  soon inside systemctl is-active dnsdock
  soon inside getent hosts web.docker
  check 'engine up later'
  inside systemctl restart docker
  soon inside docker exec web /dnsdock -version
  check 'engine restarted'
  pid=$(inside systemctl show -P MainPID dnsdock)
  inside kill -KILL "$pid"
  check 'dnsdock killed'
  inside systemctl reload dnsdock
  check 'reloaded'
  inside systemctl restart dnsdock
  check 'restarted'
  silence 5s inside systemctl restart dnsdock
  parts
  inside systemctl stop dnsdock
  check 'stopped' no
  [[ $(inside resolvectl dns docker0) != *172.17.0.1* ]] || failed=yes
  inside systemctl start dnsdock
  check 'started'
}

# silence runs a command that restarts dnsdock, and shows how long clients wait meanwhile.
silence() {
  inside /usr/local/bin/peer ask 172.17.0.1:53 "$1" >"$work/silence" &
  local asking=$!
  sleep 0.5
  "${@:2}" >"$work/log" 2>&1 || { cat "$work/log"; failed=yes; }
  wait "$asking" || failed=yes
  printf '%-34s %s\n' "silence of ${*:3:2}" "$(cat "$work/silence")"
}

# parts shows what of the last restart was systemd's, from the end of one dnsdock to the first line in the
# log of the next, and how long that one took until it answered.
parts() {
  local ended
  ended=$(inside systemctl show -P InactiveEnterTimestampMonotonic dnsdock)
  inside journalctl -u dnsdock -o short-monotonic -n 100 --no-pager | awk -F '[][]' -v ended="$ended" '
    /dnsdock starts/ { begun = $2 } /for=dns/ { answers = $2 }
    END { printf "%34s systemd %.0f ms, dnsdock %.0f ms\n", "", (begun - ended / 1e6) * 1e3, (answers - begun) * 1e3 }'
}

# try_hosts_file has the unit keep names in /etc/hosts, as docs/host.md says.
try_hosts_file() {
  cp "$1/etc/hosts" "$work/hosts"
  mkdir -p "$1/etc/systemd/system/dnsdock.service.d"
  printf '[Service]\nDynamicUser=no\nUser=root\nReadWritePaths=/etc/hosts\n' \
    >"$1/etc/systemd/system/dnsdock.service.d/hosts.conf"
  echo 'FLAGS="-dns=172.17.0.1:53 -http=127.0.0.1:8053 -hosts=/etc/hosts"' >"$1/etc/default/dnsdock"
  inside systemctl daemon-reload
  inside systemctl restart dnsdock
  soon inside grep -q web.web.docker /etc/hosts
  printf '%-34s %s\n' 'hosts file' "$(inside getent -s hosts:files hosts web.web.docker || echo none)"
  [ -n "$(inside getent -s hosts:files hosts web.web.docker)" ] || failed=yes
  inside systemctl stop dnsdock
  cmp "$1/etc/hosts" "$work/hosts" || failed=yes
  rm -r "$1/etc/systemd/system/dnsdock.service.d" "$1/etc/default/dnsdock"
  inside systemctl daemon-reload
  inside systemctl start dnsdock
}

# try_package installs, upgrades, removes and purges the package.
try_package() {
  local root=$1 left version shortest load
  cp "$work"/v0.0.1/*.deb "$work"/v0.0.2/*.deb "$root/root/"
  inside dpkg -i /root/dnsdock_0.0.1_amd64.deb >/dev/null
  soon inside systemctl is-active dnsdock
  check 'package installed'
  inside sh -c 'echo "FLAGS=\"-dns=172.17.0.1:53 -http=127.0.0.1:8053 -state=/var/lib/dnsdock/state.json\"" \
    >>/etc/default/dnsdock && systemctl restart dnsdock'
  for version in 2 1 2; do
    silence 10s inside dpkg -i /root/dnsdock_0.0.${version}_amd64.deb
    shortest=$({ echo "${shortest:-9999}"; sed 's/.* //' "$work/silence"; } | sort -n | head -n 1)
  done
  # Other programs may have disturbed two of the three, and on a busy machine all.
  load=$(cut -d . -f 1 /proc/loadavg)
  if [ "$load" -ge "$(nproc)" ]; then
    printf '%34s the load is %s: not judged\n' '' "$load"
  elif [ "${shortest%.*}" -ge 50 ]; then
    failed=yes
  fi
  check 'package upgraded'
  [[ $(inside dnsdock -version) == 'dnsdock v0.0.2 '* ]] || failed=yes
  inside sh -c 'tr "\0" " " <"/proc/$(systemctl show -P MainPID dnsdock)/cmdline"' | grep -q state.json || failed=yes
  inside dpkg -r dnsdock >/dev/null
  check 'package removed' no
  [[ $(inside resolvectl dns docker0) != *172.17.0.1* ]] || failed=yes
  grep -q state.json "$root/etc/default/dnsdock" || failed=yes
  inside dpkg -P dnsdock >/dev/null
  left=$(find "$root" -xdev -path "$root/var/lib/docker" -prune -o -path "$root/root/dnsdock*.deb" -prune -o \
    -name '*dnsdock*' -print)
  printf '%-34s left: %s\n' 'package purged' "${left:-nothing}"
  [ -z "$left" ] || failed=yes
}

# try_other_resolvers does what docs/host.md says of NetworkManager's dnsmasq and a plain resolv.conf.
try_other_resolvers() {
  local root=$1
  inside systemctl -q mask --now systemd-resolved
  rm "$root/etc/resolv.conf"
  mkdir -p "$root/etc/NetworkManager/dnsmasq.d"
  printf '[main]\ndns=dnsmasq\n[global-dns-domain-*]\nservers=10.9.9.1\n' >"$root/etc/NetworkManager/conf.d/test.conf"
  printf 'server=/docker/172.17.0.1\nrev-server=172.17.0.0/16,172.17.0.1\n' \
    >"$root/etc/NetworkManager/dnsmasq.d/dnsdock.conf"
  inside dpkg -i /root/dnsdock_0.0.2_amd64.deb >/dev/null
  inside systemctl -q unmask NetworkManager
  inside systemctl start NetworkManager
  soon inside systemctl is-active dnsdock
  soon inside getent hosts web.docker
  check "NetworkManager's dnsmasq"
  inside getent hosts 172.17.0.2
  inside systemctl -q mask --now NetworkManager
  echo 'FLAGS="-dns=172.17.0.1:53 -http= -nameserver=10.9.9.1"' >>"$root/etc/default/dnsdock"
  inside systemctl restart dnsdock
  echo 'nameserver 172.17.0.1' >"$root/etc/resolv.conf"
  check 'plain resolv.conf'
  inside dpkg -P dnsdock >/dev/null
  rm "$root/etc/NetworkManager/dnsmasq.d/dnsdock.conf" "$root/etc/NetworkManager/conf.d/test.conf"
  ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
  inside systemctl -q unmask systemd-resolved
}

# A nameserver for example.org, and a client that asks for web.docker 500 times a
# second and tells how many answers came and the longest wait for one.
cat >"$work/peer.go" <<'GO'
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if os.Args[1] == "serve" {
		pc, err := net.ListenPacket("udp", os.Args[2])
		if err != nil {
			panic(err)
		}
		for b := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(b)
			if err != nil || n < 17 {
				continue
			}
			end := 12
			for b[end] != 0 {
				end += 1 + int(b[end])
			}
			end += 5
			reply := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, b[12:end]...)
			switch {
			case string(b[12:end-4]) != "\x07example\x03org\x00":
				reply[3] = 0x83 // NXDOMAIN
			case b[end-3] == 1:
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 80)
			}
			pc.WriteTo(reply, from)
		}
	}
	lasts, _ := time.ParseDuration(os.Args[3])
	begin, sent := time.Now(), make(map[uint16]time.Time)
	c, err := net.Dial("udp", os.Args[2])
	if err != nil {
		panic(err)
	}
	asked, good, longest, b := 0, 0, time.Duration(0), make([]byte, 1500)
	for time.Since(begin) < lasts+3*time.Second && (time.Since(begin) < lasts || good < asked) {
		if time.Since(begin) < lasts {
			asked++
			id := uint16(asked)
			sent[id] = time.Now()
			c.Write(append([]byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03web\x06docker\x00\x00\x01\x00\x01"...))
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if n > 12 && b[3]&15 == 0 && b[7] > 0 {
				good++
				longest = max(longest, time.Since(sent[uint16(b[0])<<8|uint16(b[1])]))
			}
		}
	}
	fmt.Printf("%d queries, %d answers, the longest wait in ms %.1f\n", asked, good, longest.Seconds()*1000)
	if good != asked {
		os.Exit(1)
	}
}
GO
CGO_ENABLED=0 go build -o "$work/peer" "$work/peer.go"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/dnsdock" .
for version in v0.0.1 v0.0.2; do
  rm -rf "${work:?}/$version"
  PLATFORMS=linux-amd64 scripts/release.sh "$version" "$work/$version" >/dev/null
done
failed=
for release in ${RELEASES:-bookworm trixie}; do
  try_release "$release"
done
[ -z "$failed" ] || { printf '\nFAIL\n'; exit 1; }
printf '\nall is well\n'
